package faulttest

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Follow starts a replica, and waits until it is ready. It ends with the test, and hands
// nothing over.
func Follow(t *testing.T, log revoke.Log, policy revoke.Policy) *revoke.Replica {
	t.Helper()
	r, err := revoke.Follow(log, policy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(r) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Ready(ctx); err != nil {
		t.Fatalf("%v; %+v", err, r.Status())
	}
	return r
}

// Later has a program of a later version add entries of kinds that this one does not know,
// beside a replica that revokes: what may be passed over stops nobody, and what must not
// be stops the reader alone, with an error that names it.
func Later(t *testing.T, log revoke.Log, add func(entry string)) {
	policy := revoke.Policy{Poll: 100 * time.Millisecond, Timeout: time.Second, MaxStale: 2 * time.Second}
	r := Follow(t, log, policy)
	revokes := func(n byte, beside string) {
		t.Helper()
		if err := r.Revoke(t.Context(), sealed.Revocation{ID: sealed.ID{n, 1}, Until: time.Now().Add(time.Hour)}); err != nil {
			t.Errorf("Revoke beside an entry that %s: %v", beside, err)
		}
	}
	revokes(1, "is known")
	add("\xc8\x03new")
	revokes(2, "may be passed over")
	if err := r.Refresh(t.Context()); err != nil || r.Health() != nil {
		t.Errorf("reading one: %v, %v", err, r.Health())
	}
	add("\x03\x03new")
	revokes(3, "must not be passed over")
	if err := r.Refresh(t.Context()); !errors.Is(err, revoke.ErrNewer) {
		t.Errorf("reading one: %v, want ErrNewer", err)
	}
	time.Sleep(policy.MaxStale)
	if s := r.Status(); !errors.Is(s.Health, sealed.ErrUnverified) || !errors.Is(s.Err, revoke.ErrNewer) {
		t.Errorf("after MaxStale: %+v", s)
	}
}
