package keystore_test

import (
	"errors"
	"fmt"
	"strings"
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
