package keystore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// A key is published before it seals, seals for RotateEvery, opens for Retain
// after that, and is gone.
func TestLifeOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var events recorder
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, new(keystore.Memory), newWrapping(), policy)
		first, successors := primary(t, s), ids(s, sealed.KeyPending)
		if len(successors) != 1 {
			t.Fatalf("%d successors, want one: %+v", len(successors), s.Status().Keys)
		}
		if diff := cmp.Diff([]string{"created " + first, "created " + successors[0]}, events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		activates := s.Status().Keys[0].Activates
		if late := activates.Sub(start) - quick.RotateEvery; late < 0 || late > time.Second {
			t.Errorf("the successor is due %v after the start, want %v and at most a second", activates.Sub(start), quick.RotateEvery)
		}
		time.Sleep(time.Until(activates) - time.Millisecond)
		if got := primary(t, s); got != first {
			t.Errorf("a millisecond before it is due %s seals, want still %s", got, first)
		}
		time.Sleep(time.Millisecond)
		if got := primary(t, s); got != successors[0] {
			t.Errorf("when it is due %s seals, want %s", got, successors[0])
		}
		time.Sleep(2 * quick.Poll)
		if n := len(ids(s, sealed.KeyPending)); n != 1 {
			t.Errorf("%d successors after the rotation, want the next one", n)
		}
		time.Sleep(time.Until(activates.Add(quick.Retain)) - time.Second)
		if !slices.Contains(ids(s, sealed.KeyRetiring), first) {
			t.Error("the first key is gone before its sessions have ended")
		}
		time.Sleep(2 * quick.Poll)
		if slices.Contains(ids(s, sealed.KeyRetiring), first) || !slices.Contains(events.all(), "removed "+first) {
			t.Error("the first key is still there")
		}
		// Counted half way between two rotations: around one, how many there are
		// depends on whether the store was last read before it or after it.
		time.Sleep(100 * time.Hour)
		newest := s.Status().Keys[0].Activates
		time.Sleep(time.Until(newest.Add(quick.RotateEvery / 2)))
		if n := len(s.Status().Keys); n != 5 {
			t.Errorf("%d keys after a hundred hours, want 5: three to retain, one that seals, its successor", n)
		}
	})
}

// Changing the wrapping key: first every instance can open with the new one, then
// each seals with it, then the old one goes.
func TestChangeOfTheWrappingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		before, after := sealed.GenerateKey(), sealed.GenerateKey()
		underOf := func() string {
			d, err := keystore.Read(t.Context(), &store, []sealed.Key{before, after})
			if err != nil {
				t.Fatal(err)
			}
			return d.WrappingKeyID
		}
		var instances [3]*keystore.Syncer
		restart := func(i int, wrapping ...sealed.Key) {
			if instances[i] != nil {
				instances[i].Close()
			}
			var err error
			if instances[i], err = keystore.Open(t.Context(), &store, wrapping, quick); err != nil {
				t.Fatalf("instance %d: %v", i, err)
			}
			time.Sleep(3 * quick.Poll)
			for i, s := range instances {
				if s != nil && s.Status().Err != nil {
					t.Fatalf("instance %d, under %s: %v", i, underOf(), s.Status().Err)
				}
			}
		}
		for i := range instances {
			restart(i, before)
		}
		id := primary(t, instances[0])
		for i := range instances {
			restart(i, before, after)
		}
		if got := underOf(); got != before.ID() {
			t.Errorf("after the first step the document is under %s, want still %s", got, before.ID())
		}
		for i := range instances {
			restart(i, after, before)
			// Those that still have the old one first do not change it back.
			if got := underOf(); got != after.ID() {
				t.Errorf("in the second step, with %d instances changed, the document is under %s, want %s", i+1, got, after.ID())
			}
		}
		for i, s := range instances {
			if got := s.Status().WrappingKeyID; got != after.ID() {
				t.Errorf("instance %d reports %s, want %s", i, got, after.ID())
			}
		}
		for i := range instances {
			restart(i, after)
		}
		for i, s := range instances {
			if got := primary(t, s); got != id {
				t.Errorf("instance %d seals with %s, want %s as ever", i, got, id)
			}
			s.Close()
		}
	})
}

// A store that is down changes nothing until a key is due; then that goes on, and
// somebody is told. With MaxStale it is another matter.
func TestStoreDown(t *testing.T) {
	for _, maxStale := range []time.Duration{0, 20 * time.Minute} {
		t.Run(fmt.Sprint("MaxStale ", maxStale), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store gate
				var events recorder
				policy := quick
				policy.MaxStale = maxStale
				policy.Observe = events.observe
				s := mustOpen(t, &store, newWrapping(), policy)
				m := manager(t, s)
				token, err := m.Seal("alice")
				if err != nil {
					t.Fatal(err)
				}
				store.shut.Store(true)
				open := func() error {
					_, _, err := m.Open(t.Context(), token)
					return err
				}
				time.Sleep(18 * time.Minute)
				if err := open(); err != nil {
					t.Errorf("after 18 minutes: %v", err)
				}
				if n := events.count(keystore.EventFailed); n < 15 || s.Status().Err == nil {
					t.Errorf("%d failures were reported, status %v", n, s.Status().Err)
				}
				time.Sleep(2 * time.Minute)
				if err := open(); maxStale > 0 && !errors.Is(err, sealed.ErrUnverified) || maxStale == 0 && err != nil {
					t.Errorf("after 20 minutes: %v", err)
				}
				time.Sleep(45 * time.Minute)
				if maxStale == 0 {
					if ids(s, sealed.KeyPending) != nil {
						t.Error("the successor does not seal, although the store is down")
					}
					if events.count(keystore.EventLate) != 0 {
						t.Error("told that a key is late, which is not")
					}
				}
				time.Sleep(75 * time.Minute)
				if events.count(keystore.EventLate) == 0 {
					t.Error("not told that a key is late")
				}
				store.shut.Store(false)
				time.Sleep(2 * quick.Poll)
				if err := open(); err != nil {
					t.Errorf("after the store has come back: %v", err)
				}
				if s.Status().Err != nil || len(ids(s, sealed.KeyPending)) != 1 {
					t.Errorf("after the store has come back: %+v", s.Status())
				}
			})
		})
	}
}

// Close ends a reconciliation that is under way, and leaves no goroutine, which
// synctest would report.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		s := mustOpen(t, &store, newWrapping(), quick)
		store.delay.Store(int64(time.Hour))
		time.Sleep(2 * quick.Poll)
		start := time.Now()
		s.Close()
		s.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if _, err := manager(t, s).Seal("alice"); err != nil {
			t.Errorf("the keyring of a closed Syncer: %v", err)
		}
	})
}

// A document that goes back in time is healed, and reported.
func TestRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(keystore.Memory)
		wrapping := newWrapping()
		var events recorder
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, store, wrapping, policy)
		old, _, _ := store.Load(t.Context())
		id, err := s.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Revoke(t.Context(), primary(t, s)); err != nil {
			t.Fatal(err)
		}
		want := s.Status().Keys
		_, version, _ := store.Load(t.Context())
		if _, err := store.Save(t.Context(), old, version); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * quick.Poll)
		if n := events.count(keystore.EventRolledBack); n != 1 {
			t.Errorf("told %d times of an old document, want once", n)
		}
		d, err := keystore.Read(t.Context(), store, wrapping)
		if err != nil || len(d.Keys) != len(want) || d.Revision != s.Status().Revision {
			t.Errorf("the store has %d keys at revision %d, %v, want %d", len(d.Keys), d.Revision, err, len(want))
		}
		if diff := cmp.Diff(want, s.Status().Keys); diff != "" || !slices.Contains(ids(s, sealed.KeyPending), id) {
			t.Errorf("keys (-before +after):\n%s", diff)
		}
	})
}

// A key that somebody has dated far ahead is no successor: rotation goes on.
func TestKeyDatedFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		var events recorder
		wrapping := newWrapping()
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, &store, wrapping, policy)
		if _, err := keystore.Rotate(t.Context(), &store, wrapping, 365*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		// An instance whose clock is a month ahead, for a moment.
		ahead, err := keystore.OpenSkewed(t.Context(), &store, wrapping, quick, 30*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ahead.Close()
		for range 10 {
			before := primary(t, s)
			time.Sleep(quick.RotateEvery + quick.Lead)
			if primary(t, s) == before {
				t.Fatalf("%s seals on", before)
			}
		}
		if n := len(s.Status().Keys); n > 8 {
			t.Errorf("%d keys", n)
		}
		if n := events.count(keystore.EventLate); n > 0 {
			t.Errorf("told %d times that a key is late", n)
		}
	})
}

// A deploy is no failure of the store.
func TestCloseInAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		var events recorder
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, &store, newWrapping(), policy)
		store.delay.Store(int64(5 * time.Second))
		for n := store.loads.Load(); store.loads.Load() == n; {
			time.Sleep(time.Second)
		}
		s.Close()
		if n := events.count(keystore.EventFailed); n > 0 || s.Status().Err != nil {
			t.Errorf("told of %d failures, status %v", n, s.Status().Err)
		}
	})
}
