package revoke_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/revoke/revoketest"
)

// A late log lets others read an entry before it has answered who appended it, as a
// server does that waits for its replicas; and it keeps no more than it must.
type late struct {
	gate
	answer time.Duration
}

func (l *late) Append(ctx context.Context, revocations []sealed.Revocation) error {
	for i := range revocations {
		if revocations[i].Subject == "" {
			revocations[i].Before = time.Time{}
		}
	}
	if err := l.gate.Append(ctx, revocations); err != nil {
		return err
	}
	select {
	case <-time.After(l.answer):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What was read before it was acknowledged is in the log, and is not appended again.
func TestReadBeforeAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &late{answer: 50 * time.Millisecond}
		r := ready(t, log, revoke.Policy{})
		v := inAnHour(id(1))
		v.Before = time.Now() // of no meaning for an ID
		for range 3 {
			if err := r.Revoke(t.Context(), v); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if n := log.appends.Load(); n != 1 {
			t.Errorf("%d appends of one revocation", n)
		}
		if n := r.Status().Unsent; n != 0 {
			t.Errorf("%d are unsent, want none", n)
		}
	})
}

func TestUnsentCountsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.delay.Store(int64(time.Second))
		go r.Revoke(context.Background(), inAnHour(id(1)))
		time.Sleep(500 * time.Millisecond)
		if n := r.Status().Unsent; n != 1 {
			t.Errorf("%d are unsent while an append is under way, want 1", n)
		}
	})
}

// picky is a log that cannot take one of its entries.
type picky struct{ revoke.Memory }

func (p *picky) Append(ctx context.Context, revocations []sealed.Revocation) error {
	for _, v := range revocations {
		if v.Subject == "poison" {
			return errors.New("not this one")
		}
	}
	return p.Memory.Append(ctx, revocations)
}

// One revocation that the log cannot take does not keep the others.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log picky
		a, b := ready(t, &log, revoke.Policy{}), ready(t, &log, revoke.Policy{})
		if err := a.Revoke(t.Context(), sealed.Revocation{Subject: "poison", Before: time.Now(), Until: time.Now().Add(time.Hour)}); err == nil {
			t.Error("the poison was taken")
		}
		for n := range 20 {
			go a.Revoke(context.Background(), inAnHour(id(n)))
		}
		time.Sleep(time.Minute)
		for n := range 20 {
			check(t, b, "after a minute", sealed.Info{ID: id(n)}, sealed.ErrRevoked)
		}
		if err := a.Revoke(t.Context(), inAnHour(id(100))); err != nil {
			t.Errorf("an ordinary logout: %v", err)
		}
		time.Sleep(time.Minute)
		if err := a.Revoke(t.Context(), sealed.Revocation{Subject: strings.Repeat("x", 1<<16), Before: time.Now(), Until: time.Now().Add(time.Hour)}); err == nil || a.Status().Unsent != 1 {
			t.Errorf("a subject that no log can hold: %v, %d unsent", err, a.Status().Unsent)
		}
	})
}

func TestRefreshAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log revoke.Memory
		var events recorder
		r := ready(t, &log, revoke.Policy{Observe: events.observe})
		closeNow(t, r)
		for range 100 { // the log was read once
			if err := r.Ready(t.Context()); err != nil {
				t.Fatalf("Ready after Close: %v", err)
			}
		}
		if err := r.Refresh(t.Context()); err == nil {
			t.Error("Refresh after Close")
		}
		time.Sleep(time.Minute)
		if n := events.count(revoke.EventStale); n != 0 {
			t.Errorf("told %d times that it is stale after Close", n)
		}
	})
}

func TestReadyAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		log.shut.Store(true) // it was never read
		r, err := revoke.Follow(&log, revoke.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		closeNow(t, r)
		began := time.Now()
		if err := r.Ready(t.Context()); err == nil || time.Since(began) > 0 {
			t.Errorf("Ready after Close: %v, after %v", err, time.Since(began))
		}
	})
}

// What a gap needs is given back when it is over.
func TestGapsLeaveNothingBehind(t *testing.T) {
	var log revoketest.Lossy
	r := ready(t, &log, revoke.Policy{Poll: 5 * time.Millisecond, Timeout: time.Second, MaxStale: 10 * time.Second})
	const entries = 20000
	for n := range entries {
		if err := log.Append(t.Context(), []sealed.Revocation{inAnHour(id(n))}); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	lose := func() {
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		log.Lose(entries / 2)
		for end := time.Now().Add(30 * time.Second); ; {
			held := 0
			for page := (revoke.Page{More: true}); page.More; {
				var err error
				if page, err = log.Read(t.Context(), page.Cursor); err != nil {
					t.Fatal(err)
				}
				held += len(page.Revocations)
			}
			if held >= entries {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the log has %d entries, want %d", held, entries)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	lose()
	before := heap()
	for range 5 {
		lose()
	}
	const most = entries * 20 // bytes; the replica may still be about to finish with the last one
	after := heap()
	for end := time.Now().Add(10 * time.Second); after > before+most && time.Now().Before(end); after = heap() {
		time.Sleep(10 * time.Millisecond)
	}
	if after > before+most {
		t.Errorf("five gaps left %d bytes behind", after-before)
	}
	runtime.KeepAlive(r)
}
