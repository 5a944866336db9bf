package keystore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// The keys outlive the process; a second wrapping key, and a wrong one.
func TestOpenAgain(t *testing.T) {
	var store keystore.Memory
	wrapping := newWrapping()
	a := mustOpen(t, &store, wrapping, quick)
	token, err := manager(t, a).Seal("alice")
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	b := mustOpen(t, &store, wrapping, quick)
	if got, _, err := manager(t, b).Open(t.Context(), token); err != nil || got != "alice" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	before, _, _ := store.Load(t.Context())
	if _, err := keystore.Open(t.Context(), &store, newWrapping(), quick); err == nil || !strings.Contains(err.Error(), wrapping[0].ID()) {
		t.Errorf("with a wrong wrapping key: %v, want an error that names the right one's ID", err)
	}
	if after, _, _ := store.Load(t.Context()); string(after) != string(before) {
		t.Error("an instance that cannot read the document has written it")
	}
}

// An instance does not start without keys.
func TestOpenFails(t *testing.T) {
	var store gate
	store.shut.Store(true)
	if _, err := keystore.Open(t.Context(), &store, newWrapping(), quick); !errors.Is(err, errShut) {
		t.Errorf("with the store down: %v", err)
	}
	store.shut.Store(false)
	key := sealed.GenerateKey()
	for name, wrapping := range map[string][]sealed.Key{"none": nil, "the zero key": {{}}, "one twice": {key, key}} {
		if _, err := keystore.Open(t.Context(), &store, wrapping, quick); err == nil || !strings.HasPrefix(err.Error(), "keystore: ") {
			t.Errorf("with %s for wrapping: %v", name, err)
		}
	}
	if _, err := keystore.Open(t.Context(), nil, newWrapping(), quick); err == nil {
		t.Error("without a store: no error")
	}
}

// A mistyped name, or a store that has lost its data, makes no second fleet.
func TestEmptyStoreIsAnError(t *testing.T) {
	var store keystore.Memory
	wrapping := newWrapping()
	policy := quick
	policy.CreateIfEmpty = false
	if _, err := keystore.Open(t.Context(), &store, wrapping, policy); !errors.Is(err, keystore.ErrEmpty) || !strings.Contains(err.Error(), "sealed keys init") {
		t.Errorf("Open: %v, want ErrEmpty", err)
	}
	if document, _, err := store.Load(t.Context()); document != nil || err != nil {
		t.Errorf("Open has written to it: %v", err)
	}
	id, err := keystore.Init(t.Context(), &store, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	s, err := keystore.Open(t.Context(), &store, wrapping, policy)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if keys := s.Keyring().Keys(); len(keys) != 2 || keys[1].ID != id || keys[1].State != sealed.KeyPrimary { // and its successor
		t.Errorf("%+v, want %s", keys, id)
	}
	if _, err := keystore.Init(t.Context(), &store, wrapping); err == nil || errors.Is(err, keystore.ErrEmpty) {
		t.Errorf("Init of a store with keys: %v", err)
	}
	// One that runs gives an emptied store its keys back.
	version := ""
	if _, version, err = store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(t.Context(), nil, version); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Errorf("Refresh of an emptied store: %v", err)
	}
	if d, err := keystore.Read(t.Context(), &store, wrapping); err != nil || len(d.Keys) != 2 {
		t.Errorf("the store has %d keys, %v", len(d.Keys), err)
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
