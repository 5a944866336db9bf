package revoke_test

import (
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// The later of two ends holds, in whatever order they come; an entry is gone
// an hour after its end at the latest.
func TestLaterEndHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := revoke.NewList()
		start := time.Now() // a full hour
		for _, after := range []time.Duration{150 * time.Minute, 30 * time.Minute} {
			mustRevoke(t, l, sealed.Revocation{ID: id(1), Until: start.Add(after)})
			mustRevoke(t, l, sealed.Revocation{Subject: "a", Before: start, Until: start.Add(after)})
		}
		mustRevoke(t, l, sealed.Revocation{ID: id(2), Until: start.Add(30 * time.Minute)})
		time.Sleep(90 * time.Minute)
		want(t, l, "not due", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
		want(t, l, "subject not due", sealed.Info{ID: id(3), Subject: "a", Created: start}, sealed.ErrRevoked)
		if l.Len() != 2 {
			t.Errorf("Len %d an hour after an entry's end, want 2", l.Len())
		}
		time.Sleep(2 * time.Hour)
		want(t, l, "due", sealed.Info{ID: id(1)}, nil)
		if l.Len() != 0 {
			t.Errorf("Len %d, want 0", l.Len())
		}
	})
}
