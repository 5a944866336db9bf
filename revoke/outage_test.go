package revoke_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// entries returns what a log holds.
func entries(t *testing.T, log revoke.Log) (all []sealed.Revocation) {
	t.Helper()
	for page := (revoke.Page{More: true}); page.More; {
		var err error
		if page, err = log.Read(t.Context(), page.Cursor); err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Revocations...)
	}
	return all
}

func ofSubject(name string, before time.Time) sealed.Revocation {
	return sealed.Revocation{Subject: name, Before: before, Until: time.Now().Add(time.Hour)}
}

// One that would end nothing is an error, of a list as of a replica.
func TestRevocationOfNothingIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, l := range map[string]sealed.RevocationList{"List": revoke.NewList(), "Replica": ready(t, new(revoke.Memory), revoke.Policy{})} {
			for what, v := range map[string]sealed.Revocation{
				"an ID without Until":      {ID: id(1)},
				"a subject without Until":  {Subject: "alice", Before: time.Now()},
				"a subject without Before": {Subject: "alice", Until: time.Now().Add(time.Hour)},
			} {
				if err := l.Revoke(t.Context(), v); err == nil {
					t.Errorf("%s: %s was accepted", name, what)
				}
			}
		}
	})
}

// A logout while the log refuses is answered soon, and handed over when it is back.
func TestLogoutIsQuickWhileTheLogRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.shut.Store(true)
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		for n := range 100 { // 20 a second
			time.Sleep(50 * time.Millisecond)
			wg.Go(func() {
				began := time.Now()
				err := r.Revoke(t.Context(), inAnHour(id(n)))
				mu.Lock()
				defer mu.Unlock()
				if took = append(took, time.Since(began)); !errors.Is(err, errShut) {
					t.Errorf("%d: %v, want the log's error", n, err)
				}
			})
		}
		wg.Wait()
		slices.Sort(took)
		if median, most := took[50], took[99]; median > 100*time.Millisecond || most > 500*time.Millisecond {
			t.Errorf("half of them took %v, the longest %v", median, most)
		}
		check(t, r, "here", sealed.Info{ID: id(99)}, sealed.ErrRevoked)
		log.shut.Store(false)
		time.Sleep(30 * time.Second)
		if n, held := r.Status().Unsent, len(entries(t, &log)); n != 0 || held != 100 {
			t.Errorf("when the log is back: %d unsent, %d in the log; want 0 and 100", n, held)
		}
	})
}

func TestLogoutWaitsForASlowLogNoLongerThanTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{Timeout: time.Second})
		log.delay.Store(int64(time.Hour))
		for n := range 5 {
			began := time.Now()
			if err := r.Revoke(t.Context(), inAnHour(id(n))); err == nil {
				t.Error("acknowledged by a log that hangs")
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("took %v", took)
			}
		}
	})
}

// One cookie that is sent again and again adds one entry.
func TestOneRevocationIsOneEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		a, b := ready(t, &log, revoke.Policy{}), ready(t, &log, revoke.Policy{})
		v := inAnHour(id(1))
		for range 200 {
			if err := a.Revoke(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := b.Revoke(t.Context(), v); err != nil { // which has read it
			t.Error(err)
		}
		log.shut.Store(true)
		other := inAnHour(id(2))
		for range 50 {
			if err := a.Revoke(t.Context(), other); !errors.Is(err, errShut) {
				t.Errorf("while the log is down: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		log.shut.Store(false)
		time.Sleep(time.Minute)
		if held := entries(t, &log); len(held) != 2 {
			t.Errorf("%d entries of two revocations", len(held))
		}
		longer := v
		longer.Until = v.Until.Add(2 * time.Hour)
		if err := a.Revoke(t.Context(), longer); err != nil {
			t.Error(err)
		}
		if held := entries(t, &log); len(held) != 3 {
			t.Errorf("one that lasts longer was not added: %v", held)
		}
	})
}

func TestSubjectIsOneEntryASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		other := ready(t, &log, revoke.Policy{})
		began := time.Now()
		if err := r.Revoke(t.Context(), ofSubject("alice", began)); err != nil || time.Since(began) > 0 {
			t.Errorf("the first: %v, after %v", err, time.Since(began))
		}
		var wg sync.WaitGroup
		var last time.Time
		for range 50 {
			time.Sleep(10 * time.Millisecond)
			last = time.Now()
			wg.Go(func() {
				if err := r.Revoke(t.Context(), ofSubject("alice", last)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			// It holds here at once.
			check(t, r, "here", sealed.Info{ID: id(9), Subject: "alice", Created: last}, sealed.ErrRevoked)
		}
		wg.Wait()
		if took := time.Since(began); took > time.Second+100*time.Millisecond {
			t.Errorf("all were answered after %v, want a second", took)
		}
		if held := entries(t, &log); len(held) != 2 {
			t.Errorf("%d entries, want the first and one for the others: %v", len(held), held)
		}
		time.Sleep(time.Second)
		check(t, other, "elsewhere", sealed.Info{ID: id(9), Subject: "alice", Created: last}, sealed.ErrRevoked)
		if err := r.Revoke(t.Context(), ofSubject("bob", time.Now())); err != nil {
			t.Error(err)
		}
	})
}

// Timeout is for the log: what was held back for its second is no fault of that.
func TestSubjectIsNotHeldBackLongerThanTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{Timeout: 100 * time.Millisecond})
		for range 3 {
			if err := r.Revoke(t.Context(), ofSubject("alice", time.Now())); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// Who logs out again while the log hangs is not told that it has the first.
func TestRevocationThatIsUnderWayIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.delay.Store(int64(time.Hour))
		for range 20 {
			for _, v := range []sealed.Revocation{inAnHour(id(1)), ofSubject("alice", time.Unix(1, 0))} { // until when counts from now
				if err := r.Revoke(t.Context(), v); err == nil {
					t.Errorf("%+v was acknowledged by a log that hangs", v)
				}
			}
			time.Sleep(70 * time.Millisecond)
		}
		log.delay.Store(0)
		time.Sleep(time.Minute)
		if err := r.Revoke(t.Context(), inAnHour(id(1))); err != nil {
			t.Errorf("when the log has it: %v", err)
		}
	})
}

// Of two that end one session at the same time, neither is told that the log has it when it has not.
func TestRevocationAtTheSameTimeIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.shut.Store(true)
		for n := range 500 {
			start := make(chan struct{})
			var wg sync.WaitGroup
			for ms := range 4 {
				v := inAnHour(id(n + 1))
				v.Until = v.Until.Add(time.Duration(ms%2) * time.Millisecond)
				wg.Go(func() {
					<-start
					if err := r.Revoke(t.Context(), v); err == nil {
						t.Errorf("revocation %d was acknowledged while the log was down", n)
					}
				})
			}
			close(start)
			wg.Wait()
		}
	})
}

// The list of this instance keeps the time exactly, the log to the millisecond.
func TestSubjectsTimeIsExactHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log revoke.Memory
		r := ready(t, &log, revoke.Policy{})
		at := time.Now().Add(123456 * time.Nanosecond)
		if err := r.Revoke(t.Context(), ofSubject("alice", at)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			check(t, r, "at that time", sealed.Info{ID: id(1), Subject: "alice", Created: at}, sealed.ErrRevoked)
			check(t, r, "a nanosecond later", sealed.Info{ID: id(1), Subject: "alice", Created: at.Add(1)}, nil)
			time.Sleep(time.Minute) // then it was read back
		}
		if held := entries(t, &log); len(held) != 1 || held[0].Before != at.Truncate(time.Millisecond) {
			t.Errorf("the log has %v", held)
		}
	})
}

func TestQueueIsBoundedAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		var events recorder
		r := ready(t, &log, revoke.Policy{MaxUnsent: 10, Observe: events.observe})
		log.shut.Store(true)
		full := 0
		for n := range 30 {
			err := r.Revoke(t.Context(), inAnHour(id(n)))
			if err == nil {
				t.Error("acknowledged by a log that is down")
			}
			if strings.Contains(fmt.Sprint(err), "MaxUnsent") {
				full++
			}
			check(t, r, "here", sealed.Info{ID: id(n)}, sealed.ErrRevoked)
		}
		if n := events.count(revoke.EventFull); full != 20 || n != 1 || r.Status().Unsent != 10 {
			t.Errorf("%d refused, %d events, %d unsent; want 20, 1 and 10", full, n, r.Status().Unsent)
		}
		log.shut.Store(false)
		time.Sleep(time.Minute)
		for n := range 30 { // those that were not handed over are, when somebody tries again
			if err := r.Revoke(t.Context(), inAnHour(id(n))); err != nil {
				t.Errorf("again: %v", err)
			}
		}
		held := map[sealed.ID]bool{}
		for _, v := range entries(t, &log) {
			held[v.ID] = true
		}
		if len(held) != 30 {
			t.Errorf("the log has %d of 30", len(held))
		}
	})
}

func TestCloseHandsOverWhatIsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		log.shut.Store(true)
		for n := range 20 {
			if err := r.Revoke(t.Context(), inAnHour(id(n))); err == nil {
				t.Error("acknowledged by a log that is down")
			}
		}
		time.AfterFunc(3*time.Second, func() { log.shut.Store(false) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := r.Close(ctx); err != nil || time.Since(began) > 10*time.Second {
			t.Errorf("Close: %v, after %v", err, time.Since(began))
		}
		if held := entries(t, &log); len(held) != 20 {
			t.Errorf("the log has %d of 20", len(held))
		}
		if err := r.Revoke(t.Context(), inAnHour(id(50))); err == nil {
			t.Error("Revoke after Close")
		}
	})
}

func TestCloseReportsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log gate
		r := ready(t, &log, revoke.Policy{})
		if err := r.Revoke(t.Context(), inAnHour(id(100))); err != nil {
			t.Fatal(err)
		}
		log.shut.Store(true)
		for n := range 7 {
			_ = r.Revoke(t.Context(), inAnHour(id(n)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := r.Close(ctx)
		if err == nil || !strings.Contains(err.Error(), "7 revocations") || !errors.Is(err, errShut) || time.Since(began) > 6*time.Second {
			t.Errorf("Close: %v, after %v; want that 7 are left, and why", err, time.Since(began))
		}
	})
}

func TestCloseOfNothingReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ready(t, new(revoke.Memory), revoke.Policy{})
		if err := r.Revoke(t.Context(), inAnHour(id(1))); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := r.Close(context.Background()); err != nil || time.Since(began) > 0 {
			t.Errorf("Close: %v, after %v", err, time.Since(began))
		}
	})
}
