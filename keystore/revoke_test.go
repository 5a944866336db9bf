package keystore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		wrapping := newWrapping()
		a, b := mustOpen(t, &store, wrapping, quick), mustOpen(t, &store, wrapping, quick)
		time.Sleep(90 * time.Minute) // so that there is a retiring key
		stolen, old := primary(t, a), ids(a, sealed.KeyRetiring)[0]
		token, err := manager(t, a).Seal("alice")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Revoke(t.Context(), stolen); err != nil {
			t.Fatal(err)
		}
		if _, _, err := manager(t, a).Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("a token under a revoked key: %v, want ErrInvalid", err)
		}
		fresh := primary(t, a)
		if fresh == stolen || fresh == old {
			t.Errorf("%s seals after the revocation of %s, want a new key", fresh, stolen)
		}
		token, err = manager(t, a).Seal("alice again")
		if err != nil {
			t.Fatal(err)
		}
		// The other one has not read the store yet. It asks.
		if got, _, err := manager(t, b).Open(t.Context(), token); err != nil || got != "alice again" {
			t.Errorf("a token under the new key, elsewhere: %q, %v", got, err)
		}
		if !slices.Contains(ids(b, sealed.KeyRevoked), stolen) {
			t.Error("the other instance does not know of the revocation")
		}

		err = a.Revoke(t.Context(), fresh, "ffffffff", "sealed-key-1-something")
		if err == nil || !strings.Contains(err.Error(), "ffffffff") || strings.Contains(err.Error(), "something") {
			t.Errorf("unknown IDs: %v, want an error with the ID, not with what may be a key", err)
		}
		if primary(t, a) != fresh {
			t.Error("a call that failed has revoked a key")
		}
		// All at once, the successor too.
		var all []string
		for _, k := range a.Status().Keys {
			all = append(all, k.ID)
		}
		if err := a.Revoke(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
		if got := primary(t, a); slices.Contains(all, got) {
			t.Errorf("%s seals, which was revoked", got)
		}
	})
}

// The new key seals at once also where the clock is behind that of who made it.
// Else a key would seal there that is older than the one revoked.
func TestFreshKeyAndASlowClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		wrapping := newWrapping()
		a := mustOpen(t, &store, wrapping, quick)
		slow, err := keystore.OpenSkewed(t.Context(), &store, wrapping, quick, -4*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(slow.Close)
		time.Sleep(90 * time.Minute) // so that there is an older key
		if err := a.Revoke(t.Context(), primary(t, a)); err != nil {
			t.Fatal(err)
		}
		fresh := primary(t, a)
		time.Sleep(2 * quick.Poll)
		if got := primary(t, slow); got != fresh {
			t.Errorf("with a slow clock %s seals, want the new %s", got, fresh)
		}
		time.Sleep(2 * time.Hour)
		if primary(t, slow) != primary(t, a) {
			t.Error("the instances disagree for good")
		}
	})
}

// A revocation holds here at once, whatever the store does, and reaches it later.
func TestRevokeWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		wrapping := newWrapping()
		a := mustOpen(t, &store, wrapping, quick)
		m := manager(t, a)
		stolen := primary(t, a)
		token, err := m.Seal("alice")
		if err != nil {
			t.Fatal(err)
		}
		store.shut.Store(true)
		if err := a.Revoke(t.Context(), stolen); !errors.Is(err, errShut) {
			t.Errorf("Revoke: %v, want the store's error", err)
		}
		if _, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("a token under a revoked key: %v, want ErrInvalid", err)
		}
		if token, err = m.Seal("bob"); err != nil {
			t.Errorf("with the successor left to seal: %v", err)
		}
		// And with no key left: nothing can be told, nothing is accepted.
		if err := a.Revoke(t.Context(), ids(a, sealed.KeyPrimary)...); !errors.Is(err, errShut) {
			t.Errorf("Revoke: %v, want the store's error", err)
		}
		if _, err := m.Seal("bob"); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("Seal without a key: %v, want ErrUnverified", err)
		}
		if _, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("Open without a key: %v, want ErrUnverified", err)
		}
		store.shut.Store(false)
		time.Sleep(2 * quick.Poll)
		if _, err := m.Seal("bob"); err != nil {
			t.Errorf("after the store has come back: %v", err)
		}
		d, err := keystore.Read(t.Context(), &store, wrapping)
		if err != nil {
			t.Fatal(err)
		}
		revoked := 0
		for _, k := range d.Keys {
			if k.Revoked {
				revoked++
			}
		}
		if revoked != 2 {
			t.Errorf("the store knows of %d revoked keys, want 2", revoked)
		}
	})
}

// A way is one instance's way to a store that it shares.
type way struct {
	keystore.Store
	shut atomic.Bool
}

func (w *way) Load(ctx context.Context) ([]byte, string, error) {
	if w.shut.Load() {
		return nil, "", errShut
	}
	return w.Store.Load(ctx)
}

// A key that is taken back before it has sealed is no reason to seal with one that
// nobody knows: its successor has the usual lead, and the time that was planned.
func TestRevokeBeforeItSeals(t *testing.T) {
	for name, tc := range map[string]struct {
		revoke func(t *testing.T, a *keystore.Syncer) // 50 minutes after the start
		within time.Duration                          // when the next key seals, from then on
	}{
		"the successor": {func(t *testing.T, a *keystore.Syncer) {
			if err := a.Revoke(t.Context(), ids(a, sealed.KeyPending)...); err != nil {
				t.Error(err)
			}
		}, 11 * time.Minute},
		"one made by hand": {func(t *testing.T, a *keystore.Syncer) {
			id, err := a.Rotate(t.Context())
			if err == nil {
				err = a.Revoke(t.Context(), id)
			}
			if err != nil {
				t.Error(err)
			}
		}, 11 * time.Minute},
		"all of them": {func(t *testing.T, a *keystore.Syncer) {
			var all []string
			for _, k := range a.Status().Keys {
				all = append(all, k.ID)
			}
			if err := a.Revoke(t.Context(), all...); err != nil {
				t.Error(err)
			}
		}, 12 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store keystore.Memory
				wrapping := newWrapping()
				toB := &way{Store: &store}
				a, b := mustOpen(t, &store, wrapping, quick), mustOpen(t, toB, wrapping, quick)
				time.Sleep(50 * time.Minute)
				tc.revoke(t, a)
				if err := b.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				sealing := primary(t, a)
				if primary(t, b) != sealing {
					t.Fatal("the instances disagree")
				}
				ma, mb := manager(t, a), manager(t, b)
				// b is cut off for nearly nine minutes of ten, again and again. The rest
				// is longer than Poll and its spread, so that b reads once in it.
				for range 40 {
					for _, cut := range []bool{true, false} {
						toB.shut.Store(cut)
						time.Sleep(map[bool]time.Duration{true: 530 * time.Second, false: 70 * time.Second}[cut])
						token, err := ma.Seal("alice")
						if err != nil {
							t.Fatal(err)
						}
						if _, _, err := mb.Open(t.Context(), token); err != nil {
							t.Fatalf("an instance that may be cut off for so long rejects what the other seals: %v", err)
						}
					}
				}
				for _, k := range a.Status().Keys {
					if k.ID != sealing && k.Created.Equal(k.Activates) && k.Created.After(time.Now().Add(-6*time.Hour)) {
						t.Errorf("%s seals with no lead, although %s was good", k.ID, sealing)
					}
				}
			})
		})
	}
}

// It holds at once, whatever a reconciliation waits for, and however soon the caller
// has to go.
func TestRevokeWhileTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		s := mustOpen(t, &store, newWrapping(), quick)
		m := manager(t, s)
		stolen := primary(t, s)
		token, err := m.Seal("mallory")
		if err != nil {
			t.Fatal(err)
		}
		store.delay.Store(int64(time.Hour))
		go s.Refresh(context.Background())
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Revoke(ctx, stolen); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Revoke: %v, want the caller's deadline", err)
		}
		if _, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("under the revoked key: %v, want ErrInvalid", err)
		}
		store.delay.Store(0)
		time.Sleep(3 * quick.Poll)
		if got := s.Status(); got.Err != nil || !slices.Contains(ids(s, sealed.KeyRevoked), stolen) {
			t.Errorf("after the store has come back: %+v", got)
		}
	})
}

// With every key revoked and the store down, nothing is shown as if it sealed.
func TestStatusWhenAllAreRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		s := mustOpen(t, &store, newWrapping(), quick)
		store.shut.Store(true)
		var all []string
		for _, k := range s.Status().Keys {
			all = append(all, k.ID)
		}
		if err := s.Revoke(t.Context(), all...); !errors.Is(err, errShut) {
			t.Errorf("Revoke: %v, want the store's error", err)
		}
		if got := ids(s, sealed.KeyRevoked); len(got) != len(all) {
			t.Errorf("keys %+v, want all revoked", s.Status().Keys)
		}
		store.shut.Store(false)
		time.Sleep(2 * quick.Poll)
		if primary(t, s) == "" {
			t.Error("no key seals")
		}
	})
}

// An operator has just seen the ID, and this instance has not read it yet.
func TestRevokeWhatAnotherHasMade(t *testing.T) {
	var store keystore.Memory
	wrapping := newWrapping()
	s := mustOpen(t, &store, wrapping, quick)
	id, err := keystore.Rotate(t.Context(), &store, wrapping, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), id); err != nil {
		t.Error(err)
	}
	if !slices.Contains(ids(s, sealed.KeyRevoked), id) {
		t.Error("it is not revoked here")
	}
}
