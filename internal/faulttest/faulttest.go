// Package faulttest holds replicas of a revocation log to their promise while the
// real server that the log is on, or the network to it, fails.
package faulttest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/revoke"
)

// Bound is the MaxStale of the replicas.
const Bound = 1500 * time.Millisecond

var policy = revoke.Policy{Poll: 200 * time.Millisecond, Timeout: time.Second, MaxStale: Bound}

// A Fault is something that goes wrong while replicas are at work.
type Fault struct {
	Name   string
	Happen func(*World)
	Want   []revoke.EventKind // what some replica must have told of
}

// New returns a fault.
func New(name string, happen func(*World), want ...revoke.EventKind) Fault {
	return Fault{name, happen, want}
}

// A World is three replicas, each behind a network of its own, and the ledger of
// what they have acknowledged.
type World struct {
	T       *testing.T
	Proxies []*testserver.Proxy

	replicas []*revoke.Replica

	mu     sync.Mutex
	ledger []acknowledged
	next   uint64
	losing bool      // the server is about to forget, or just has
	lost   time.Time // when it had: what was acknowledged before may be missing for a while
	events []revoke.EventKind
}

// acknowledged is a session whose revocation a replica said to hold.
type acknowledged struct {
	id        sealed.ID
	began, at time.Time // when the replica was asked, and when it had said so
}

// recovery is how long it may take until what a server has lost is back everywhere.
const recovery = 6 * time.Second

// Run has a fault happen to replicas of the log at addr, of which connect returns
// one instance's view. Nobody may accept a session later than the bound after its
// revocation was acknowledged, and at the end everybody must know all of them.
func Run(t *testing.T, addr string, connect func(t *testing.T, addr string) revoke.Log, fault Fault) {
	w := &World{T: t}
	for range 3 {
		p := testserver.NewProxy(t, addr)
		q := policy
		q.Observe = w.observe
		r, err := revoke.Follow(connect(t, p.Addr), q)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeNow(r) })
		ready, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.Ready(ready); err != nil {
			t.Fatal(err)
		}
		w.Proxies, w.replicas = append(w.Proxies, p), append(w.replicas, r)
	}
	stop := make(chan struct{})
	var working sync.WaitGroup
	for _, r := range w.replicas {
		working.Go(func() { w.write(r, stop) })
	}
	working.Go(func() { w.probe(stop) })
	time.Sleep(time.Second)
	fault.Happen(w)
	w.Heal()
	time.Sleep(2 * time.Second)
	w.mu.Lock()
	lost := w.lost
	w.mu.Unlock()
	if !lost.IsZero() { // what was acknowledged before is asked for after recovery
		time.Sleep(time.Until(lost.Add(recovery + time.Second)))
	}
	close(stop)
	working.Wait()
	w.judge(fault)
}

func (w *World) observe(e revoke.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e.Kind)
}

// All sets the mode of all networks.
func (w *World) All(mode testserver.Mode) {
	for _, p := range w.Proxies {
		p.Set(mode)
	}
}

// Heal has all networks pass everything.
func (w *World) Heal() { w.All(testserver.Pass) }

// Lose has the server forget something: replicas need some time until they have given
// it back. What happens when, in between, only the server knows.
func (w *World) Lose(forget func()) {
	w.mu.Lock()
	w.losing = true
	w.mu.Unlock()
	forget()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losing, w.lost = false, time.Now()
}

// mayBeMissing reports whether the server may have forgotten it, so recently that it
// is still on its way back from those who know it.
func (w *World) mayBeMissing(a acknowledged) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.losing || a.began.Before(w.lost) && time.Since(w.lost) < recovery
}

// Acknowledged adds to the ledger what somebody else has revoked.
func (w *World) Acknowledged(id sealed.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledger = append(w.ledger, acknowledged{id, time.Now(), time.Now()})
}

// write revokes sessions on a replica.
func (w *World) write(r *revoke.Replica, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		w.mu.Lock()
		w.next++
		var id sealed.ID
		binary.BigEndian.PutUint64(id[:], w.next)
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.T.Context(), time.Second)
		began := time.Now()
		err := r.Revoke(ctx, sealed.Revocation{ID: id, Until: time.Now().Add(time.Hour)})
		cancel()
		if err == nil {
			w.mu.Lock()
			w.ledger = append(w.ledger, acknowledged{id, began, time.Now()})
			w.mu.Unlock()
		}
	}
}

// probe asks all replicas for all that was acknowledged a bound ago.
func (w *World) probe(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(25 * time.Millisecond):
		}
		w.mu.Lock()
		ledger := slices.Clone(w.ledger)
		w.mu.Unlock()
		for _, a := range ledger {
			age := time.Since(a.at)
			if age < Bound {
				continue
			}
			for n, r := range w.replicas {
				// Whether it may be missing is asked last: a loss may begin at any time.
				if err := r.Check(w.T.Context(), sealed.Info{ID: a.id}); err == nil && !w.mayBeMissing(a) {
					w.T.Errorf("replica %d accepts a session %v after its revocation was acknowledged, and is not stale: %+v", n, age, r.Status())
					return
				}
			}
		}
	}
}

// judge waits until all replicas have recovered, and compares them with the ledger.
func (w *World) judge(fault Fault) {
	t := w.T
	t.Helper()
	var problem error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if problem = w.differs(); problem == nil {
			break
		}
	}
	if problem != nil {
		t.Errorf("30 seconds after all was well again: %v", problem)
		for n, r := range w.replicas {
			t.Logf("replica %d: %+v", n, r.Status())
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ledger) < 100 {
		t.Errorf("only %d revocations were acknowledged", len(w.ledger))
	}
	for _, kind := range fault.Want {
		if !slices.Contains(w.events, kind) {
			t.Errorf("nobody told that it is %q: did the fault happen?", kind)
		}
	}
	t.Logf("%d revocations acknowledged", len(w.ledger))
}

func (w *World) differs() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.replicas {
		if s := r.Status(); s.Health != nil || s.Unsent != 0 || s.Err != nil {
			return errors.Join(s.Health, s.Err, errors.New("a replica has not recovered"))
		}
		for _, a := range w.ledger {
			if err := r.Check(w.T.Context(), sealed.Info{ID: a.id}); !errors.Is(err, sealed.ErrRevoked) {
				return errors.New("a replica does not know what was acknowledged")
			}
		}
	}
	return nil
}

// What replicas tell of an outage that is longer than the bound, and of a loss.
var (
	Stale    = []revoke.EventKind{revoke.EventFailed, revoke.EventStale, revoke.EventRecovered}
	Restored = []revoke.EventKind{revoke.EventGap, revoke.EventRestored}
)

// Network is what a network can do to any log.
func Network() []Fault {
	during := func(mode testserver.Mode, d time.Duration) func(*World) {
		return func(w *World) { w.All(mode); time.Sleep(d) }
	}
	one := func(w *World) { w.Proxies[0].Set(testserver.BlackHole); time.Sleep(2 * Bound) }
	return []Fault{
		New("a black hole for twice the bound", during(testserver.BlackHole, 2*Bound), Stale...),
		New("a black hole for one of three", one, Stale...),
		New("writes that happen, and whose answers are lost", during(testserver.HalfOpen, 2*Bound), Stale...),
		New("answers that come after half a second", during(testserver.Slow, 2*Bound)),
		New("answers that break off", during(testserver.Cut, 2*Bound), Stale...),
		New("refused connections", during(testserver.Refuse, 2*Bound), Stale...),
	}
}

// closeNow closes a replica, and leaves what it has not handed over.
func closeNow(r *revoke.Replica) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.Close(ctx)
}
