package keystore_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

func TestTwoInstancesBecomeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		wrapping := newWrapping()
		a, b := mustOpen(t, &store, wrapping, quick), mustOpen(t, &store, wrapping, quick)
		if diff := cmp.Diff(a.Status().Keys, b.Status().Keys); diff != "" {
			t.Errorf("keys of two instances:\n%s", diff)
		}
		id, err := a.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(ids(a, sealed.KeyPending), id) {
			t.Error("the new key is not in the ring of who made it")
		}
		time.Sleep(2 * quick.Poll)
		if !slices.Contains(ids(b, sealed.KeyPending), id) {
			t.Error("the new key has not reached the other instance")
		}
		time.Sleep(quick.Lead)
		if primary(t, a) != id || primary(t, b) != id {
			t.Errorf("after the lead %s and %s seal, want %s", primary(t, a), primary(t, b), id)
		}
	})
}

// saving counts the writes of a store.
type saving struct {
	keystore.Memory
	saves atomic.Int32
}

func (s *saving) Save(ctx context.Context, document []byte, version string) (string, error) {
	s.saves.Add(1)
	return s.Memory.Save(ctx, document, version)
}

// Two policies in one fleet, as while a new version is rolled out, do not write in turns.
func TestTwoPoliciesConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store saving
		wrapping := newWrapping()
		var conflicts atomic.Int32
		blue, green := quick, quick
		blue.Retain, green.Retain = 20*time.Hour, 90*time.Minute
		blue.Observe = func(e keystore.Event) {
			if e.Kind == keystore.EventConflict {
				conflicts.Add(1)
			}
		}
		a, b := mustOpen(t, &store, wrapping, blue), mustOpen(t, &store, wrapping, green)
		defer a.Close()
		defer b.Close()
		m := manager(t, a)
		token, err := m.Seal("alice")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Hour)
		before := store.saves.Load()
		time.Sleep(6 * time.Hour)
		// A rotation an hour is two writes, the new key and the old one that goes, and a
		// few more until one has yielded.
		if n := store.saves.Load() - before; n > 6*8 {
			t.Errorf("%d writes in six hours, with six rotations", n)
		}
		if conflicts.Load() == 0 {
			t.Error("nobody was told that the policies differ")
		}
		if got, _, err := m.Open(t.Context(), token); err != nil || got != "alice" {
			t.Errorf("where keys are kept for twenty hours, after eighteen: %q, %v", got, err)
		}
		if a.Status().Err != nil || b.Status().Err != nil {
			t.Errorf("%v, %v", a.Status().Err, b.Status().Err)
		}
	})
}
