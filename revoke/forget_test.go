package revoke_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Entries are kept until they are due, also if that moved, and then forgotten,
// without a call and without a goroutine. The later of two ends holds, in whatever
// order they come.
func TestListForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := revoke.NewList()
		start := time.Now() // a full hour
		for _, after := range []time.Duration{30 * time.Minute, 150 * time.Minute, 30 * time.Minute} {
			mustRevoke(t, l, sealed.Revocation{ID: id(1), Until: start.Add(after)})
			mustRevoke(t, l, sealed.Revocation{Subject: "a", Before: start, Until: start.Add(after)})
		}
		mustRevoke(t, l, sealed.Revocation{ID: id(2), Until: start.Add(30 * time.Minute)})
		mustRevoke(t, l, sealed.Revocation{Subject: "b", Before: start, Until: start.Add(30 * time.Minute)})
		time.Sleep(30*time.Minute - time.Second)
		want(t, l, "not due", sealed.Info{ID: id(2)}, sealed.ErrRevoked)
		want(t, l, "subject not due", sealed.Info{ID: id(3), Subject: "b", Created: start}, sealed.ErrRevoked)
		time.Sleep(time.Hour)
		if got := l.Len(); got != 2 {
			t.Errorf("Len %d an hour after two entries' end, want 2", got)
		}
		want(t, l, "extended", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
		want(t, l, "extended subject", sealed.Info{ID: id(3), Subject: "a", Created: start}, sealed.ErrRevoked)
		time.Sleep(2 * time.Hour)
		want(t, l, "due", sealed.Info{ID: id(1)}, nil)
		want(t, l, "subject due", sealed.Info{ID: id(3), Subject: "a", Created: start}, nil)
		if got := l.Len(); got != 0 {
			t.Errorf("Len %d, want 0", got)
		}
		mustRevoke(t, l, sealed.Revocation{ID: id(3), Until: start})
		if got := l.Len(); got != 0 {
			t.Errorf("Len %d with an entry that was due before it came, want 0", got)
		}
		mustRevoke(t, l, sealed.Revocation{ID: id(3), Until: time.Now().Add(time.Minute)})
		want(t, l, "after it was empty", sealed.Info{ID: id(3)}, sealed.ErrRevoked)
	})
}

// Beside a map, for a year: none is missed, none is made up, and none is kept for
// much longer than it must be.
func TestListIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		random := func() (id sealed.ID) {
			binary.LittleEndian.PutUint64(id[:], rng.Uint64())
			binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
			return id
		}
		type entry struct{ added, until time.Time }
		l, entries, most := revoke.NewList(), map[sealed.ID]entry{}, 0
		lifetimes := []time.Duration{time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 400 * 24 * time.Hour}
		for range 365 {
			now := time.Now()
			for range rng.IntN(100) {
				id, until := random(), now.Add(lifetimes[rng.IntN(4)]-time.Duration(rng.IntN(3600))*time.Second)
				mustRevoke(t, l, sealed.Revocation{ID: id, Until: until})
				entries[id] = entry{now, until}
			}
			time.Sleep(time.Duration(rng.IntN(48)) * time.Hour)
			now = time.Now()
			kept := 0
			for id, e := range entries {
				if rng.IntN(10) > 0 && !now.After(e.until) {
					kept++
					continue
				}
				// What the session says of its own end is no more than a hint.
				info := sealed.Info{ID: id, Expires: e.until.Add(-5*time.Minute + time.Duration(rng.IntN(3)-1)*100*time.Hour)}
				if now.Before(e.until) {
					want(t, l, "revoked", info, sealed.ErrRevoked)
				}
				if now.After(e.until.Add(time.Hour + e.until.Sub(e.added)/8)) {
					want(t, l, "due", info, nil)
					delete(entries, id)
					continue
				}
				kept++
			}
			if got := l.Len(); got > kept {
				t.Fatalf("%d entries, and %d should be there at most", got, kept)
			}
			most = max(most, kept)
			for range 200 {
				id := random()
				want(t, l, "another", sealed.Info{ID: id, Expires: now}, nil)
			}
		}
		if most < 3000 {
			t.Errorf("only %d entries at once", most)
		}
	})
}

// The halves of an ID have no meaning of their own.
func TestListHalves(t *testing.T) {
	l := revoke.NewList()
	until := time.Now().Add(time.Hour)
	half := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	first := sealed.ID(append(half[:], make([]byte, 8)...))
	second := sealed.ID(append(make([]byte, 8), half[:]...))
	both := sealed.ID(append(half[:], half[:]...))
	want(t, l, "the zero ID", sealed.Info{}, nil)
	mustRevoke(t, l, sealed.Revocation{ID: first, Until: until})
	want(t, l, "first half", sealed.Info{ID: first}, sealed.ErrRevoked)
	want(t, l, "second half", sealed.Info{ID: second}, nil)
	want(t, l, "both", sealed.Info{ID: both}, nil)
	want(t, l, "the zero ID", sealed.Info{}, nil)
	mustRevoke(t, l, sealed.Revocation{ID: second, Until: until})
	want(t, l, "second half", sealed.Info{ID: second}, sealed.ErrRevoked)
	want(t, l, "both", sealed.Info{ID: both}, nil)
	if l.Len() != 2 {
		t.Errorf("Len %d, want 2", l.Len())
	}
}
