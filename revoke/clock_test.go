package revoke_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/revoke/revoketest"
)

// clocked is a log on a server whose clock is off.
type clocked struct {
	revoke.Memory
	ahead  atomic.Int64
	prunes atomic.Int32
}

func (c *clocked) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	page, err := c.Memory.Read(ctx, cursor)
	page.Time = page.Time.Add(time.Duration(c.ahead.Load()))
	return page, err
}

func (c *clocked) Prune(ctx context.Context) error {
	c.prunes.Add(1)
	return c.Memory.Prune(ctx)
}

func TestAClockThatIsOffIsToldAndPrunesNothing(t *testing.T) {
	for _, off := range []time.Duration{5*time.Minute + time.Second, -5*time.Minute - time.Second, 24 * time.Hour, 5*time.Minute - time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var log clocked
			log.ahead.Store(-int64(off))
			var events recorder
			r := ready(t, &log, revoke.Policy{Observe: events.observe})
			time.Sleep(3 * time.Hour)
			wrong := off.Abs() > 5*time.Minute
			if n := events.count(revoke.EventClock); n != 1 && wrong || n != 0 && !wrong {
				t.Errorf("%v off: %d events in three hours", off, n)
			}
			if n := log.prunes.Load(); (n > 0) == wrong {
				t.Errorf("%v off: it pruned %d times", off, n)
			}
			if got := r.Status().Clock; got.Round(time.Second) != off {
				t.Errorf("Status.Clock %v, want %v", got, off)
			}
		})
	}
}

// What an instance took for expired, by a clock that is ahead, it reads again when that
// is right. (The bubble's clock cannot be set back, so the log's goes on.)
func TestAClockThatIsRightAgainReadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log clocked
		log.ahead.Store(-int64(24 * time.Hour))
		var reads atomic.Int32
		counted := &counting{Log: &log, begin: func() { reads.Add(1) }}
		r := ready(t, counted, revoke.Policy{})
		if err := r.Revoke(t.Context(), sealed.Revocation{ID: id(1), Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := reads.Load()
		log.ahead.Store(0)
		time.Sleep(time.Minute)
		if n := reads.Load() - before; n != 1 {
			t.Errorf("the log was read from its beginning %d times, want once", n)
		}
	})
}

// counting tells of each read from the beginning.
type counting struct {
	revoke.Log
	begin func()
}

func (c *counting) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	if cursor == "" {
		c.begin()
	}
	return c.Log.Read(ctx, cursor)
}

// A log that has lost its end is not read from its beginning by all at once.
func TestALostEndIsReadFromWhereItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, full := lossyOf(t, 1000)
		counted := &counting{Log: log, begin: func() { full.Add(1) }}
		var events recorder
		r := ready(t, counted, revoke.Policy{Observe: events.observe})
		for n := range 100 {
			if err := r.Revoke(t.Context(), sealed.Revocation{ID: id(5000 + n), Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		full.Store(0)
		log.Lose(1080)
		time.Sleep(10 * time.Second)
		if full.Load() != 0 || events.count(revoke.EventGap) != 1 || events.count(revoke.EventRestored) != 1 || r.Health() != nil {
			t.Errorf("read from the beginning %d times; %d gaps, %d restored; %v", full.Load(), events.count(revoke.EventGap), events.count(revoke.EventRestored), r.Health())
		}
		if n := len(entries(t, log)); n != 1100 {
			t.Errorf("the log has %d entries, want all 1100 again", n)
		}
		log.Lose(10)
		time.Sleep(10 * time.Second)
		if full.Load() != 1 || len(entries(t, log)) < 1100 {
			t.Errorf("when all but ten are lost: read from the beginning %d times, %d entries", full.Load(), len(entries(t, log)))
		}
	})
}

// lossyOf returns a log with n entries, and a counter.
func lossyOf(t *testing.T, n int) (*revoketest.Lossy, *atomic.Int32) {
	t.Helper()
	log := new(revoketest.Lossy)
	var all []sealed.Revocation
	for i := range n {
		all = append(all, sealed.Revocation{ID: id(i + 1), Until: time.Now().Add(time.Hour)})
	}
	if err := log.Append(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	return log, new(atomic.Int32)
}

// aged is a log whose answers are old.
type aged struct {
	revoke.Memory
	age atomic.Int64
}

func (a *aged) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	page, err := a.Memory.Read(ctx, cursor)
	page.Age = time.Duration(a.age.Load())
	return page, err
}

// A server that proves nothing for MaxStale makes its readers stale, though it answers.
func TestTheAgeOfAnswersCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log aged
		log.age.Store(int64(time.Hour))
		r := follow(t, &log, revoke.Policy{})
		time.Sleep(time.Minute)
		if err := r.Health(); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("ready by answers that are an hour old: %v", err)
		}
		if s := r.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "acknowledges writes") {
			t.Errorf("Status.Err %v does not say why", s.Err)
		}
		log.age.Store(int64(2 * time.Second))
		time.Sleep(2 * time.Second)
		if s := r.Status(); s.Health != nil || s.Age < 2*time.Second {
			t.Errorf("by answers that are two seconds old: %+v", s)
		}
		log.age.Store(int64(time.Hour))
		time.Sleep(2900 * time.Millisecond)
		if s := r.Status(); s.Health != nil && s.Age < 5*time.Second {
			t.Errorf("before MaxStale is over: %+v", s)
		}
		time.Sleep(2 * time.Second)
		if err := r.Health(); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("seven seconds after the last proof: %v", err)
		}
	})
}

// What a replica keeps of the last minutes, it does not keep for longer.
func TestOldPlacesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, full := lossyOf(t, 10)
		r := ready(t, &counting{Log: log, begin: func() { full.Add(1) }}, revoke.Policy{})
		for n := range 1200 { // twenty minutes
			if err := r.Revoke(t.Context(), sealed.Revocation{ID: id(5000 + n), Until: time.Now().Add(2 * time.Hour)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		full.Store(0)
		log.Lose(600) // what came ten minutes ago, and later
		time.Sleep(10 * time.Second)
		if n := full.Load(); n != 1 {
			t.Errorf("read from the beginning %d times, want once: the place before is long gone", n)
		}
		if n := len(entries(t, log)); n < 1210 {
			t.Errorf("the log has %d entries, want all 1210 again", n)
		}
	})
}
