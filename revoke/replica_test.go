package revoke_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// A gate is a log that can be shut, and slow, and deaf to new entries.
type gate struct {
	revoke.Memory
	shut    atomic.Bool
	delay   atomic.Int64
	appends atomic.Int64
	reads   atomic.Int64
}

var errShut = errors.New("the log is down")

func (g *gate) pass(ctx context.Context) error {
	if delay := time.Duration(g.delay.Load()); delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if g.shut.Load() {
		return errShut
	}
	return nil
}

func (g *gate) Append(ctx context.Context, v []sealed.Revocation) error {
	g.appends.Add(1)
	if err := g.pass(ctx); err != nil {
		return err
	}
	return g.Memory.Append(ctx, v)
}

func (g *gate) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	g.reads.Add(1)
	if err := g.pass(ctx); err != nil {
		return revoke.Page{}, err
	}
	return g.Memory.Read(ctx, cursor)
}

// A recorder notes what a policy's Observe is told.
type recorder struct {
	mu     sync.Mutex
	events []revoke.EventKind
}

func (r *recorder) observe(e revoke.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e.Kind)
}

func (r *recorder) count(kind revoke.EventKind) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.events {
		if k == kind {
			n++
		}
	}
	return n
}

func follow(t *testing.T, log revoke.Log, policy revoke.Policy) *revoke.Replica {
	t.Helper()
	r, err := revoke.Follow(log, policy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, r) })
	return r
}

func ready(t *testing.T, log revoke.Log, policy revoke.Policy) *revoke.Replica {
	t.Helper()
	r := follow(t, log, policy)
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// closeNow closes a replica, and hands nothing over.
func closeNow(t *testing.T, r *revoke.Replica) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.Close(ctx) // it may have been closed before
}

func check(t *testing.T, l sealed.RevocationList, what string, s sealed.Info, want error) {
	t.Helper()
	if err := l.Check(t.Context(), s); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func inAnHour(id sealed.ID) sealed.Revocation {
	return sealed.Revocation{ID: id, Until: time.Now().Add(time.Hour)}
}

// What one replica revokes it refuses at once, and another one when it has read
// that, which a hint makes soon.
func TestReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log revoke.Memory
		a, b := ready(t, &log, revoke.Policy{}), ready(t, &log, revoke.Policy{})
		created := time.Now()
		if err := a.Revoke(t.Context(), inAnHour(id(1))); err != nil {
			t.Fatal(err)
		}
		check(t, a, "where it was revoked", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
		if err := a.Revoke(t.Context(), sealed.Revocation{Subject: "alice", Before: created, Until: created.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		check(t, b, "elsewhere", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
		check(t, b, "another", sealed.Info{ID: id(2), Subject: "bob", Created: created}, nil)
		check(t, b, "by subject", sealed.Info{ID: id(2), Subject: "alice", Created: created}, sealed.ErrRevoked)
		check(t, b, "by subject, later", sealed.Info{ID: id(2), Subject: "alice", Created: created.Add(time.Millisecond)}, nil)
		if s := a.Status(); s.Health != nil || s.Err != nil || s.Entries != 2 || s.Unsent != 0 {
			t.Errorf("status %+v", s)
		}
		c := ready(t, &log, revoke.Policy{})
		check(t, c, "after a start", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
	})
}

func TestReplicaRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log revoke.Memory
		r := ready(t, &log, revoke.Policy{Poll: time.Hour, MaxStale: 3 * time.Hour})
		for n := range 1000 { // many pages
			if err := log.Append(t.Context(), []sealed.Revocation{inAnHour(id(n))}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range 1000 {
			check(t, r, "after Refresh", sealed.Info{ID: id(n)}, sealed.ErrRevoked)
		}
	})
}

// Before the first complete read nothing can be told, under either policy.
func TestReplicaIsNotReadyAtOnce(t *testing.T) {
	for _, accept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var log gate
			var events recorder
			log.shut.Store(true)
			r := follow(t, &log, revoke.Policy{AcceptStale: accept, Observe: events.observe})
			check(t, r, "at the start", sealed.Info{ID: id(1)}, sealed.ErrUnverified)
			time.Sleep(time.Minute)
			check(t, r, "after a minute", sealed.Info{ID: id(1)}, sealed.ErrUnverified)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := r.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errShut) {
				t.Errorf("Ready: %v, want the deadline and the log's error", err)
			}
			if r.Health() == nil || r.Status().Age != 0 || events.count(revoke.EventReady) != 0 || events.count(revoke.EventFailed) < 50 {
				t.Errorf("health %v, status %+v, events %v", r.Health(), r.Status(), events.events)
			}
			if n := log.reads.Load(); n > 70 {
				t.Errorf("%d reads in a minute of a log that is down", n)
			}
			log.shut.Store(false)
			if err := r.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			check(t, r, "then", sealed.Info{ID: id(1)}, nil)
		})
	}
}

// Without news for MaxStale, counted from when the last read was sent, the policy
// decides; what is known to be revoked stays so.
func TestReplicaGoesStale(t *testing.T) {
	for _, accept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var log gate
			var events recorder
			r := ready(t, &log, revoke.Policy{Poll: 10 * time.Second, Timeout: 5 * time.Second, MaxStale: 20 * time.Second, AcceptStale: accept, Observe: events.observe})
			if err := r.Revoke(t.Context(), inAnHour(id(1))); err != nil {
				t.Fatal(err)
			}
			log.delay.Store(int64(4 * time.Second)) // a slow answer is as old as its question
			time.Sleep(10*time.Second - time.Second)
			for n := log.reads.Load(); log.reads.Load() == n; {
				time.Sleep(time.Millisecond)
			}
			sent := time.Now()
			time.Sleep(5 * time.Second)
			log.shut.Store(true)
			time.Sleep(time.Until(sent.Add(20*time.Second - 10*time.Millisecond)))
			check(t, r, "just before", sealed.Info{ID: id(2)}, nil)
			if err := r.Health(); err != nil {
				t.Errorf("just before: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
			want := sealed.ErrUnverified
			if accept {
				want = nil
			}
			check(t, r, "stale", sealed.Info{ID: id(2)}, want)
			check(t, r, "stale, and known", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
			if r.Health() == nil || r.Status().Age < 20*time.Second || events.count(revoke.EventStale) != 1 {
				t.Errorf("health %v, status %+v, events %v", r.Health(), r.Status(), events.events)
			}
			log.shut.Store(false)
			log.delay.Store(0)
			time.Sleep(15 * time.Second)
			check(t, r, "with news again", sealed.Info{ID: id(2)}, nil)
			if events.count(revoke.EventRecovered) != 1 || events.count(revoke.EventStale) != 1 {
				t.Errorf("events %v", events.events)
			}
		})
	}
}

// A replica that was stale before it was ever ready has recovered then: who counts both can rely on it.
func TestReplicaThatIsReadyLateHasRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		var events recorder
		log.shut.Store(true)
		r, err := revoke.Follow(&log, revoke.Policy{Observe: events.observe})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close(t.Context())
		time.Sleep(time.Minute)
		log.shut.Store(false)
		time.Sleep(time.Minute)
		for _, kind := range []revoke.EventKind{revoke.EventStale, revoke.EventReady, revoke.EventRecovered} {
			if n := events.count(kind); n != 1 {
				t.Errorf("%d events %q, want one", n, kind)
			}
		}
	})
}

// A revocation that the log does not take is refused here, reported, and tried
// again until the log has it.
func TestReplicaRevokesWhileTheLogIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		a, b := ready(t, &log, revoke.Policy{}), ready(t, &log.Memory, revoke.Policy{})
		log.shut.Store(true)
		if err := a.Revoke(t.Context(), inAnHour(id(1))); !errors.Is(err, errShut) {
			t.Errorf("Revoke: %v, want the log's error", err)
		}
		check(t, a, "here", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
		log.delay.Store(int64(time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := a.Revoke(ctx, inAnHour(id(2))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Revoke: %v, want the caller's deadline", err)
		}
		check(t, a, "here", sealed.Info{ID: id(2)}, sealed.ErrRevoked)
		if n := a.Status().Unsent; n != 2 {
			t.Errorf("%d are unsent, want 2", n)
		}
		if err := a.Revoke(t.Context(), sealed.Revocation{}); err == nil {
			t.Error("Revoke of nothing")
		}
		log.shut.Store(false)
		log.delay.Store(0)
		time.Sleep(10 * time.Second)
		for n := range 2 {
			check(t, b, "elsewhere, later", sealed.Info{ID: id(n + 1)}, sealed.ErrRevoked)
		}
		if n := a.Status().Unsent; n != 0 {
			t.Errorf("%d are unsent, want none", n)
		}
	})
}

// Revocations that come while an append is under way go into one.
func TestReplicaGathersAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.delay.Store(int64(100 * time.Millisecond))
		var wg sync.WaitGroup
		for n := range 3000 {
			wg.Go(func() {
				if err := r.Revoke(t.Context(), inAnHour(id(n))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := log.appends.Load(); n > 5 {
			t.Errorf("%d appends for 3000 revocations at once, want 5 at most", n)
		}
	})
}

func TestReplicaClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which waits for goroutines that are left
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.delay.Store(int64(time.Hour))
		done := make(chan error)
		go func() { done <- r.Revoke(t.Context(), inAnHour(id(1))) }()
		synctest.Wait()
		closeNow(t, r)
		if err := <-done; err == nil {
			t.Error("Revoke has succeeded, while the log has nothing")
		}
		if err := r.Revoke(t.Context(), inAnHour(id(2))); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("Revoke after Close: %v", err)
		}
		check(t, r, "after Close", sealed.Info{ID: id(2)}, sealed.ErrRevoked)
		time.Sleep(time.Minute)
		check(t, r, "long after Close", sealed.Info{ID: id(3)}, sealed.ErrUnverified)
	})
}

func TestReplicaPrunes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log revoke.Memory
		r := ready(t, &log, revoke.Policy{})
		for n := range 10 {
			if err := r.Revoke(t.Context(), inAnHour(id(n))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(4 * time.Hour)
		page, err := log.Read(t.Context(), "")
		if err != nil || len(page.Revocations) != 0 {
			t.Errorf("%d entries in the log after all have expired, %v", len(page.Revocations), err)
		}
		if s := r.Status(); s.Entries != 0 || s.Health != nil {
			t.Errorf("status %+v", s)
		}
	})
}

func TestReplicaPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		policy revoke.Policy
		want   []string
	}{
		"defaults":      {revoke.Policy{}, nil},
		"negative":      {revoke.Policy{Poll: -1, Timeout: -1, MaxStale: -1}, []string{"Poll", "Timeout", "MaxStale"}},
		"stale at once": {revoke.Policy{MaxStale: time.Second}, []string{"MaxStale", "Poll"}},
	} {
		r, err := revoke.Follow(new(revoke.Memory), tc.policy)
		if err == nil {
			closeNow(t, r)
		}
		if (err == nil) != (tc.want == nil) || slices.ContainsFunc(tc.want, func(s string) bool { return !strings.Contains(err.Error(), s) }) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	if _, err := revoke.Follow(nil, revoke.Policy{}); err == nil {
		t.Error("no error without a log, which crashes in a goroutine later")
	}
}
