package revoke_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/revoke/revoketest"
)

// The simulation's times.
const (
	simPoll  = time.Second
	simBound = 5 * time.Second
)

// A world is a log on a server that forgets, the instances that follow it, and the
// ledger of what was acknowledged.
type world struct {
	t       *testing.T
	rng     *rand.Rand // for what happens, in one goroutine
	network *rand.Rand // for how long it takes, under the lock

	mu     sync.Mutex // never held while anything sleeps
	server revoketest.Lossy
	ledger []*revocation // all that was revoked
	byID   map[sealed.ID]*revocation

	instances []*instance
	names     int
	log       []string
	broken    string
}

// A revocation is what the ledger says of one session.
type revocation struct {
	id    sealed.ID
	acked time.Time // zero if nobody was told that it holds
	since time.Time // when it was last added to a log that did not have it
	there bool      // the log has it
}

// An instance is one replica, and its way to the log.
type instance struct {
	w       *world
	name    string
	replica *revoke.Replica

	// Guarded by the world's lock.
	partitioned, flaky bool
}

var errNetwork = errors.New("the network failed")

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), network: rand.New(rand.NewPCG(seed, 1)), byID: map[sealed.ID]*revocation{}}
}

func (w *world) start() {
	i := &instance{w: w, name: fmt.Sprint("i", w.names)}
	w.names++
	var err error
	if i.replica, err = revoke.Follow(i, revoke.Policy{Poll: simPoll, Timeout: 2 * time.Second, MaxStale: simBound}); err != nil {
		w.t.Fatal(err)
	}
	w.instances = append(w.instances, i)
	w.note("%s starts", i.name)
}

func (w *world) pick() *instance { return w.instances[w.rng.IntN(len(w.instances))] }

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *world) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.note("BROKEN: %s", w.broken)
	}
}

// travel is one way between an instance and the log. One that is cut off hears
// nothing, and waits.
func (i *instance) travel(ctx context.Context) error {
	i.w.mu.Lock()
	delay := time.Duration(1+i.w.network.IntN(20)) * time.Millisecond
	if i.flaky && i.w.network.IntN(4) == 0 {
		delay += time.Duration(i.w.network.IntN(3000)) * time.Millisecond
	}
	fails := i.flaky && i.w.network.IntN(4) == 0
	i.w.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	i.w.mu.Lock()
	cut := i.partitioned
	i.w.mu.Unlock()
	if cut {
		<-ctx.Done()
		return ctx.Err()
	}
	if fails {
		return errNetwork
	}
	return nil
}

func (i *instance) Append(ctx context.Context, revocations []sealed.Revocation) error {
	if err := i.travel(ctx); err != nil {
		return err
	}
	i.w.add(revocations)
	return i.travel(ctx) // it may have happened
}

func (w *world) add(revocations []sealed.Revocation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.server.Append(context.Background(), revocations); err != nil {
		panic(err)
	}
	for _, v := range revocations {
		if x := w.byID[v.ID]; !x.there {
			x.there, x.since = true, time.Now()
		}
	}
}

func (i *instance) Read(ctx context.Context, cursor string) (page revoke.Page, err error) {
	if err := i.travel(ctx); err != nil {
		return page, err
	}
	if page, err = i.w.server.Read(ctx, cursor); err != nil {
		return page, err
	}
	return page, i.travel(ctx)
}

func (i *instance) Wait(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func (i *instance) Prune(context.Context) error { return nil }

// lose has the server forget the end of the log, or all of it.
func (w *world) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	entries, keep := len(w.held()), 0
	if w.rng.IntN(3) > 0 && entries > 0 {
		keep = entries - 1 - w.rng.IntN(min(entries, 12))
	}
	w.note("of %d entries, the server forgets all but %d", entries, keep)
	w.server.Lose(keep)
	held := w.held()
	for _, x := range w.ledger {
		x.there = slices.Contains(held, x.id)
	}
}

// held returns the IDs in the server's log.
func (w *world) held() (ids []sealed.ID) {
	for page := (revoke.Page{More: true}); page.More; {
		var err error
		if page, err = w.server.Read(context.Background(), page.Cursor); err != nil {
			panic(err)
		}
		for _, v := range page.Revocations {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// whole reports whether the log has all that was acknowledged. The caller has the
// lock.
func (w *world) whole() bool {
	return !slices.ContainsFunc(w.ledger, func(x *revocation) bool { return !x.acked.IsZero() && !x.there })
}
