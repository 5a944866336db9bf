package keystore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

func TestPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		policy keystore.Policy
		want   []string
	}{
		"defaults":           {keystore.Policy{}, nil},
		"short":              {keystore.Policy{RotateEvery: time.Second, Lead: 600 * time.Millisecond, Retain: 20 * time.Second, Poll: 200 * time.Millisecond}, nil},
		"negative":           {keystore.Policy{RotateEvery: -1, Lead: -1, Retain: -1, Poll: -1}, []string{"RotateEvery", "Lead", "Retain", "Poll"}},
		"lead too short":     {keystore.Policy{Lead: 2 * time.Minute}, []string{"Lead", "miss"}},
		"retains nothing":    {keystore.Policy{Retain: time.Hour, RotateEvery: 48 * time.Hour}, []string{"Retain", "Lead"}},
		"rotates in between": {keystore.Policy{RotateEvery: time.Hour, Retain: time.Hour}, []string{"RotateEvery", "Lead"}},
		"too many keys":      {keystore.Policy{RotateEvery: time.Hour, Lead: time.Hour}, []string{"Retain", "keys"}},
		"stale at once":      {keystore.Policy{MaxStale: time.Minute}, []string{"MaxStale"}},
		"all of it":          {keystore.Policy{Lead: time.Second, Poll: time.Minute, RotateEvery: time.Millisecond, MaxStale: -1}, []string{"Lead", "RotateEvery", "MaxStale", "Retain"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.policy.CreateIfEmpty = true
			s, err := keystore.Open(t.Context(), new(keystore.Memory), newWrapping(), tc.policy)
			if err == nil {
				s.Close()
			}
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// Tools change a store without a Syncer, and without a schedule.
func TestTools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		wrapping := newWrapping()
		if _, err := keystore.Read(t.Context(), &store, wrapping); err == nil {
			t.Error("Read of an empty store: no error")
		}
		if err := keystore.Revoke(t.Context(), &store, wrapping, "00000000"); err == nil {
			t.Error("Revoke in an empty store: no error")
		}
		if err := keystore.Prune(t.Context(), &store, wrapping, time.Hour); err == nil {
			t.Error("Prune of an empty store: no error")
		}
		if _, err := keystore.Rotate(t.Context(), &store, wrapping, time.Hour); !errors.Is(err, keystore.ErrEmpty) {
			t.Errorf("Rotate in an empty store: %v", err)
		}
		first, err := keystore.Init(t.Context(), &store, wrapping)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		second, err := keystore.Rotate(t.Context(), &store, wrapping, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		describe := func() (got []string) {
			t.Helper()
			d, err := keystore.Read(t.Context(), &store, wrapping)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range d.Keys {
				got = append(got, fmt.Sprintf("%s %v %v", k.Key.ID(), k.Activates.Sub(k.Created), k.Revoked))
			}
			return got
		}
		if diff := cmp.Diff([]string{first + " 0s false", second + " 1h0m0s false"}, describe()); diff != "" {
			t.Errorf("after two rotations (-want +got):\n%s", diff)
		}
		if err := keystore.Revoke(t.Context(), &store, wrapping, second, "11111111"); err == nil || !strings.Contains(err.Error(), "11111111") {
			t.Errorf("Revoke of an unknown key: %v", err)
		}
		if err := keystore.Revoke(t.Context(), &store, wrapping, first); err != nil {
			t.Fatal(err)
		}
		got := describe()
		if len(got) != 3 || got[0] != first+" 0s true" || got[2] != second+" 1h0m0s false" || !strings.HasSuffix(got[1], " 0s false") {
			t.Errorf("after the revocation of the key that seals: %q, want a fresh one", got)
		}
		time.Sleep(4 * time.Hour)
		if err := keystore.Prune(t.Context(), &store, wrapping, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := describe(); len(got) != 1 || !strings.HasPrefix(got[0], second) {
			t.Errorf("after Prune: %q, want the last key", got)
		}
		if err := keystore.Prune(t.Context(), &store, wrapping, 0); err == nil {
			t.Error("Prune without a time: no error")
		}
		if _, err := keystore.Rotate(t.Context(), &store, wrapping, -1); err == nil {
			t.Error("Rotate with a negative lead: no error")
		}
	})
}

func TestParseWrapping(t *testing.T) {
	a, b := sealed.GenerateKey(), sealed.GenerateKey()
	got, err := keystore.ParseWrapping(" " + a.Text() + ",\n" + b.Text() + "\n")
	if err != nil || len(got) != 2 || got[0].ID() != a.ID() || got[1].ID() != b.ID() {
		t.Errorf("two keys: %v, %v", got, err)
	}
	for _, text := range []string{"", " ,\n", "secret", a.Text() + " sealed-key-1-secret"} {
		if _, err := keystore.ParseWrapping(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d bytes: %v, want an error that does not repeat them", len(text), err)
		}
	}
}

// mounted is a folder as the kubelet makes it for a secret: the file is a link into a
// folder that is a link, which is replaced.
type mounted struct {
	t      *testing.T
	folder string
	n      int
}

func (m *mounted) replace(document []byte) {
	m.t.Helper()
	m.n++
	generation := filepath.Join(m.folder, fmt.Sprintf("..%d", m.n))
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	must(os.Mkdir(generation, 0o755))
	must(os.WriteFile(filepath.Join(generation, "keys"), document, 0o660))
	must(os.Symlink(filepath.Base(generation), filepath.Join(m.folder, "..data_tmp")))
	must(os.Rename(filepath.Join(m.folder, "..data_tmp"), filepath.Join(m.folder, "..data")))
	if m.n == 1 {
		must(os.Symlink(filepath.Join("..data", "keys"), filepath.Join(m.folder, "keys")))
	} else {
		must(os.RemoveAll(filepath.Join(m.folder, fmt.Sprintf("..%d", m.n-1))))
	}
}

// Instances follow a secret that somebody else rotates, and write nothing.
func TestMountedSecret(t *testing.T) {
	ctx := t.Context()
	wrapping := newWrapping()
	var source keystore.Memory
	first, err := keystore.Init(ctx, &source, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(m *mounted) {
		t.Helper()
		document, _, err := source.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m.replace(document)
	}
	m := &mounted{t: t, folder: t.TempDir()}
	store := keystore.NewMounted(filepath.Join(m.folder, "keys"))
	if _, err := keystore.Open(ctx, store, wrapping, quick); !errors.Is(err, keystore.ErrReadOnly) && !errors.Is(err, keystore.ErrEmpty) {
		t.Errorf("before there is a secret: %v", err)
	}
	publish(m)
	var failed atomic.Int32
	policy := quick
	policy.Observe = func(e keystore.Event) {
		if e.Kind == keystore.EventFailed || e.Kind == keystore.EventCreated {
			failed.Add(1)
		}
	}
	s, err := keystore.Open(ctx, store, wrapping, policy)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if keys := s.Keyring().Keys(); len(keys) != 1 || keys[0].ID != first {
		t.Errorf("%+v, want %s alone", keys, first)
	}
	second, err := keystore.Rotate(ctx, &source, wrapping, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 { // replaced while it is read
		publish(m)
		if err := s.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if keys := s.Keyring().Keys(); len(keys) != 2 || keys[0].ID != second || keys[0].State != sealed.KeyPrimary {
		t.Errorf("after a rotation: %+v, want %s to seal", keys, second)
	}
	if st := s.Status(); st.Err != nil || st.Health != nil || failed.Load() != 0 {
		t.Errorf("%+v, %d failures", st, failed.Load())
	}
	if _, err := s.Rotate(ctx); !errors.Is(err, keystore.ErrReadOnly) {
		t.Errorf("Rotate: %v, want ErrReadOnly", err)
	}
	if err := s.Revoke(ctx, second); !errors.Is(err, keystore.ErrReadOnly) {
		t.Errorf("Revoke: %v, want ErrReadOnly: others do not hear of it", err)
	}
	for _, k := range s.Keyring().Keys() {
		if k.ID == second && k.State != sealed.KeyRevoked {
			t.Errorf("%s is %s here", second, k.State)
		}
	}
}

// An instance starts while the store is down: it waits, or takes its copy.
func TestStartWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var store gate
		wrapping := newWrapping()
		policy := quick
		policy.Cache = filepath.Join(t.TempDir(), "copy")
		first := mustOpen(t, &store, wrapping, policy)
		id := first.Keyring().Keys()[0].ID
		first.Close()
		if text, err := os.ReadFile(policy.Cache); err != nil || strings.Contains(string(text), "sealed-key") {
			t.Errorf("the copy shows a key, or is not there: %v", err)
		}
		if info, err := os.Stat(policy.Cache); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the copy has mode %v, %v", info.Mode(), err)
		}

		store.shut.Store(true)
		var cached atomic.Int32
		policy.Observe = func(e keystore.Event) {
			if e.Kind == keystore.EventCached {
				cached.Add(1)
			}
		}
		s, err := keystore.Open(ctx, &store, wrapping, policy)
		if err != nil {
			t.Fatal(err)
		}
		if keys := s.Keyring().Keys(); len(keys) == 0 || keys[0].ID != id || cached.Load() != 1 {
			t.Errorf("from the copy: %+v, %d events", keys, cached.Load())
		}
		s.Close()
		if _, err := keystore.Open(ctx, &store, newWrapping(), policy); err == nil {
			t.Error("the copy opens under another wrapping key")
		}

		// The copy's age counts.
		policy.MaxStale = 10 * time.Minute
		time.Sleep(6 * time.Minute)
		if s, err = keystore.Open(ctx, &store, wrapping, policy); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		if err := s.Health(); err != nil {
			t.Errorf("nine minutes after the store was read: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if err := s.Health(); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("eleven minutes after: %v", err)
		}
		s.Close()
		if _, err := keystore.Open(ctx, &store, wrapping, policy); err == nil || !strings.Contains(err.Error(), "MaxStale") {
			t.Errorf("with a copy that is too old: %v", err)
		}

		// Or it waits, for so long and no longer.
		policy.Cache, policy.Wait = "", time.Minute
		start := time.Now()
		if _, err := keystore.Open(ctx, &store, wrapping, policy); err == nil || time.Since(start) < time.Minute || time.Since(start) > 2*time.Minute {
			t.Errorf("Open with Wait: %v after %v", err, time.Since(start))
		}
		go func() { time.Sleep(20 * time.Second); store.shut.Store(false) }()
		start = time.Now()
		if s, err = keystore.Open(ctx, &store, wrapping, policy); err != nil || time.Since(start) > 40*time.Second {
			t.Fatalf("Open while the store comes back: %v after %v", err, time.Since(start))
		}
		s.Close()
	})
}
