package revoke_test

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

var (
	seeds     = flag.Int("seeds", 500, "how many seeds the simulation runs")
	firstSeed = flag.Int("seed", 0, "the first seed of the simulation")
)

// revoke revokes a session on an instance.
func (w *world) revoke(i *instance) {
	w.mu.Lock()
	x := &revocation{id: id(len(w.ledger) + 1)}
	w.ledger, w.byID[x.id] = append(w.ledger, x), x
	w.mu.Unlock()
	err := i.replica.Revoke(w.t.Context(), sealed.Revocation{ID: x.id, Until: time.Now().Add(time.Hour)})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s revokes %d: %v", i.name, len(w.ledger), err)
	if err == nil {
		x.acked = time.Now()
	}
	if err := i.replica.Check(w.t.Context(), sealed.Info{ID: x.id}); !errors.Is(err, sealed.ErrRevoked) {
		w.breaks("%s does not refuse what it has just revoked: %v", i.name, err)
	}
}

// probe asks all instances for all that was acknowledged a bound ago. What the
// server has forgotten counts from when somebody has given it back.
func (w *world) probe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for n, x := range w.ledger {
		since := x.acked
		if x.since.After(since) {
			since = x.since
		}
		if x.acked.IsZero() || !x.there || now.Sub(since) < simBound {
			continue
		}
		for _, i := range w.instances {
			if err := i.replica.Check(w.t.Context(), sealed.Info{ID: x.id}); err == nil {
				w.breaks("%s accepts %d, which the log has had for %v", i.name, n+1, now.Sub(since))
			}
		}
	}
	for _, i := range w.instances {
		if err := i.replica.Check(w.t.Context(), sealed.Info{ID: id(1 << 20)}); errors.Is(err, sealed.ErrRevoked) {
			w.breaks("%s refuses what nobody has revoked", i.name)
		}
	}
}

// step lets something happen.
func (w *world) step() {
	time.Sleep(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	i := w.pick()
	switch n := w.rng.IntN(100); {
	case n < 50:
		w.revoke(i)
	case n < 62:
		w.toggle(i, &i.partitioned, "cut off")
	case n < 74:
		w.toggle(i, &i.flaky, "flaky")
	case n < 80 && len(w.instances) < 5:
		w.start()
	case n < 84 && w.spare(i):
		w.note("%s stops", i.name)
		i.stop()
		w.instances = slices.DeleteFunc(w.instances, func(x *instance) bool { return x == i })
	case n < 88:
		w.lose()
	}
}

func (w *world) toggle(i *instance, fault *bool, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*fault = !*fault
	w.note("%s %s: %v", i.name, what, *fault)
}

// spare reports whether i may die: nothing is known to it alone.
func (w *world) spare(i *instance) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.instances) > 1 && w.whole()
}

// heal ends all faults. Then everybody knows everything that was acknowledged and that
// somebody who lives has known, and so does the log.
func (w *world) heal() {
	w.mu.Lock()
	for _, i := range w.instances {
		i.partitioned, i.flaky = false, false
	}
	w.mu.Unlock()
	time.Sleep(time.Minute)
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, x := range w.ledger {
		known := slices.ContainsFunc(w.instances, func(i *instance) bool {
			return errors.Is(i.replica.Check(w.t.Context(), sealed.Info{ID: x.id}), sealed.ErrRevoked)
		})
		if x.acked.IsZero() || !known && !x.there {
			continue // nobody who knew it lived to tell
		}
		if !x.there {
			w.breaks("the log never got back %d", n+1)
		}
		for _, i := range w.instances {
			err := i.replica.Check(w.t.Context(), sealed.Info{ID: x.id})
			if !errors.Is(err, sealed.ErrRevoked) {
				w.breaks("%s does not know %d: %v", i.name, n+1, err)
			}
		}
	}
	for _, i := range w.instances {
		if s := i.replica.Status(); s.Health != nil || s.Err != nil || s.Unsent != 0 {
			w.breaks("%s has not recovered: %+v", i.name, s)
		}
	}
}

// simulate runs one seed. It fixes what happens; which of two that act at one
// instant comes first it does not.
func simulate(t *testing.T, seed uint64) (broken string, log []string) {
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		for range 2 + w.rng.IntN(3) {
			w.start()
		}
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end) && w.broken == ""; {
			w.step()
			synctest.Wait()
			w.probe()
		}
		if w.broken == "" {
			w.heal()
		}
		for _, i := range w.instances {
			i.stop()
		}
		broken, log = w.broken, w.log
	})
	return broken, log
}

// Replicas that are cut off, restarted, and answered late or never, on a log that
// forgets: nothing that was acknowledged is lost, and nobody accepts it after the
// bound without knowing that it may be wrong.
func TestSimulation(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		if broken, log := simulate(t, uint64(seed)); broken != "" {
			t.Fatalf("seed %d: %s\n%s", seed, broken, strings.Join(log[max(0, len(log)-40):], "\n"))
		}
	}
	t.Logf("%d seeds", *seeds)
}

// stop ends an instance as a crash does: nothing is handed over.
func (i *instance) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = i.replica.Close(ctx)
}
