package revoke_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func TestSessionWithAFromIsRefusedFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := revoke.NewList()
		until := time.Now().Add(time.Hour)
		s := sealed.Info{ID: id(1), Created: time.Now(), Expires: until}
		mustRevoke(t, l, sealed.Revocation{ID: id(1), From: time.Now().Add(time.Second), Until: until})
		want(t, l, "before", s, sealed.ErrRenewed)
		time.Sleep(time.Second - time.Nanosecond)
		want(t, l, "right before", s, sealed.ErrRenewed)
		time.Sleep(time.Nanosecond)
		want(t, l, "then", s, sealed.ErrRevoked)
		mustRevoke(t, l, sealed.Revocation{ID: id(1), From: time.Now().Add(time.Second), Until: until})
		want(t, l, "revoked a second time, from later on", s, sealed.ErrRevoked)
		time.Sleep(2 * time.Hour) // the list's timer ends with its entries
	})
}

// Entries of several instances arrive in any order.
func TestTheEarliestFromCounts(t *testing.T) {
	const atOnce, soon, later = 0, time.Second, 4 * time.Second
	for name, c := range map[string]struct {
		from   []time.Duration // of each entry
		longer time.Duration   // by which each is kept longer than the one before
		wanted [2]error        // now, and in two seconds
	}{
		"at once, then later": {from: []time.Duration{atOnce, later}, wanted: [2]error{sealed.ErrRevoked, sealed.ErrRevoked}},
		"later, then at once": {from: []time.Duration{later, atOnce}, wanted: [2]error{sealed.ErrRevoked, sealed.ErrRevoked}},
		"soon, then later":    {from: []time.Duration{soon, later}, wanted: [2]error{sealed.ErrRenewed, sealed.ErrRevoked}},
		"later, then soon":    {from: []time.Duration{later, soon}, wanted: [2]error{sealed.ErrRenewed, sealed.ErrRevoked}},
		"twice":               {from: []time.Duration{later, later}, longer: 240 * time.Hour, wanted: [2]error{sealed.ErrRenewed, sealed.ErrRenewed}},
		"at once, for longer": {from: []time.Duration{atOnce, later}, longer: 240 * time.Hour, wanted: [2]error{sealed.ErrRevoked, sealed.ErrRevoked}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := revoke.NewList()
				now := time.Now()
				until := now.Add(time.Hour)
				s := sealed.Info{ID: id(1), Created: now, Expires: until}
				for n, from := range c.from {
					r := sealed.Revocation{ID: id(1), Until: until.Add(time.Duration(n) * c.longer)}
					if from != atOnce {
						r.From = now.Add(from)
					}
					mustRevoke(t, l, r)
				}
				want(t, l, "now", s, c.wanted[0])
				time.Sleep(2 * time.Second)
				want(t, l, "in two seconds", s, c.wanted[1])
				time.Sleep(3 * time.Second)
				want(t, l, "in the end", s, sealed.ErrRevoked)
				time.Sleep(300 * time.Hour) // the list's timer ends with its entries
			})
		})
	}
}

func TestSubjectsRevocationOutdoesTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := revoke.NewList()
		until := time.Now().Add(time.Hour)
		mustRevoke(t, l, sealed.Revocation{ID: id(1), From: time.Now().Add(time.Minute), Until: until})
		mustRevoke(t, l, sealed.Revocation{Subject: "alice", Before: time.Now(), Until: until})
		want(t, l, "renewed, and ended everywhere", sealed.Info{ID: id(1), Subject: "alice", Created: time.Now(), Expires: until}, sealed.ErrRevoked)
		if err := l.Revoke(t.Context(), sealed.Revocation{Subject: "alice", Before: time.Now(), From: time.Now(), Until: until}); err == nil {
			t.Error("a subject with a From was accepted: it says nothing")
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestGraceHoldsOnEveryInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log revoke.Memory
		var replicas []*revoke.Replica
		for range 3 {
			r, err := revoke.Follow(&log, revoke.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close(t.Context())
			if err := r.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			replicas = append(replicas, r)
		}
		until := time.Now().Add(time.Hour)
		s := sealed.Info{ID: id(1), Created: time.Now(), Expires: until}
		check := func(when string, wanted error) {
			t.Helper()
			for n, r := range replicas {
				if err := r.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := r.Check(t.Context(), s); err != wanted {
					t.Errorf("%s, instance %d: %v, want %v", when, n, err, wanted)
				}
			}
		}
		if err := replicas[0].Revoke(t.Context(), sealed.Revocation{ID: id(1), From: time.Now().Add(10 * time.Second), Until: until}); err != nil {
			t.Fatal(err)
		}
		check("renewed", sealed.ErrRenewed)
		if err := replicas[1].Revoke(t.Context(), sealed.Revocation{ID: id(1), Until: until}); err != nil {
			t.Fatal(err)
		}
		check("ended in the grace", sealed.ErrRevoked)

		s.ID = id(2)
		if err := replicas[2].Revoke(t.Context(), sealed.Revocation{ID: id(2), From: time.Now().Add(10 * time.Second), Until: until}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		check("after the grace", sealed.ErrRevoked)
	})
}

// A grace that is over takes no room: a site that renews all the time would fill up.
func TestGracesThatAreOverTakeNoRoom(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	synctest.Test(t, func(t *testing.T) {
		const rounds, each = 40, 5000
		l := revoke.NewList()
		before := heap()
		for round := range rounds {
			for n := range each {
				now := time.Now()
				mustRevoke(t, l, sealed.Revocation{ID: id(round*each + n + 1), From: now.Add(time.Second), Until: now.Add(time.Hour)})
			}
			time.Sleep(2 * time.Second)
		}
		mustRevoke(t, l, sealed.Revocation{ID: id(1 << 23), From: time.Now().Add(time.Second), Until: time.Now().Add(time.Hour)})
		if took := heap() - before; took > rounds*each*60 {
			t.Errorf("%d bytes for %d sessions", took, rounds*each)
		}
		runtime.KeepAlive(l)
		time.Sleep(3 * time.Hour)
	})
}
