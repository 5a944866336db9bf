package revoke

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"time"

	"example.com/sealed"
)

// This file is what a Replica does in the background: it reads the log, gives back
// what that has lost, and appends what was revoked here.

// follow reads the log again and again.
func (r *Replica) follow(ctx context.Context) {
	prune := time.Now().Add(rand.N(pruneEvery)) // not all instances at once
	inspected := false
	for ctx.Err() == nil {
		began := time.Now()
		err := r.round(ctx)
		if err == nil && !inspected {
			inspected = true
			r.inspect(ctx)
		}
		if err == nil && began.After(prune) && !r.clock.wrong() {
			prune = began.Add(pruneEvery)
			err = r.call(ctx, r.log.Prune)
		}
		r.pause(ctx, began.Add(r.policy.Poll), err == nil)
	}
}

// inspect tells if the log's server is not set to keep what it acknowledges.
func (r *Replica) inspect(ctx context.Context) {
	i, ok := r.log.(Inspector)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.policy.Timeout)
	defer cancel()
	if err := i.Inspect(ctx); err != nil && ctx.Err() == nil {
		r.observe(Event{Kind: EventUnsafe, Err: err})
	}
}

// round reads the log to its end, and goes on with giving it back what it has lost,
// reading in between.
func (r *Replica) round(ctx context.Context) error {
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	for {
		if err := r.readAll(ctx); err != nil || r.restore == nil {
			return err
		}
		if err := r.giveBack(ctx); err != nil {
			return err
		}
	}
}

// readAll reads the log to its end. If that has lost something, it is read on from the
// last place of this replica's that it still has, or from the beginning.
func (r *Replica) readAll(ctx context.Context) error {
	began := time.Now()
	age, err := r.readOn(ctx)
	if errors.Is(err, ErrGap) {
		r.observe(Event{Kind: EventGap})
		began = time.Now()
		if err = r.rewind(ctx); err == nil {
			age, err = r.readOn(ctx)
		}
	}
	if err == nil && r.clock.recovered() { // what looked expired was passed over
		r.moveTo("")
		began = time.Now()
		age, err = r.readOn(ctx)
	}
	if err != nil {
		return err
	}
	if r.restore == nil {
		r.history.reached(r.position(), time.Now())
	}
	if age < r.policy.MaxStale {
		r.confirm(began.Add(-age))
	} else {
		r.note(errUnproved)
	}
	if n := r.outbox.requeue(began); n > 0 {
		r.observe(Event{Kind: EventRestored, Entries: n})
	}
	return nil
}

// readOn reads from the cursor to the end. It returns how old what it has found may be.
func (r *Replica) readOn(ctx context.Context) (age time.Duration, err error) {
	for {
		page, err := r.readPage(ctx, r.position())
		if err != nil {
			return 0, err
		}
		r.learn(page.Revocations)
		r.moveTo(page.Cursor)
		if !page.More {
			return page.Age, nil
		}
		r.tidy(len(page.Revocations))
	}
}

// tidy has the garbage collected that pages leave, when it comes to a twentieth of the list.
// Who loads millions of entries would otherwise take twice the memory that they need, since
// the collector waits until the heap has doubled. It does so before the replica is ready
// only: later the heap may be large, and to go through it costs those who are served.
func (r *Replica) tidy(read int) {
	if r.read.Load() != 0 {
		return
	}
	const page, enough = 1000, 4 << 20 // bytes: of an entry in a page, and not to bother
	r.garbage += read * page
	left, size := r.list.leftovers()
	if r.garbage += left; r.garbage >= max(enough, size/20) {
		r.garbage = 0
		runtime.GC()
	}
}

// readPage reads one page, and compares the clocks.
func (r *Replica) readPage(ctx context.Context, cursor string) (page Page, err error) {
	var sent time.Time
	err = r.call(ctx, func(ctx context.Context) (err error) {
		sent = time.Now()
		page, err = r.log.Read(ctx, cursor)
		return err
	})
	if err == nil && r.clock.compare(page.Time, sent, time.Now()) {
		r.observe(Event{Kind: EventClock, Offset: r.clock.offset()})
	}
	return page, err
}

// rewind goes back to where the log has what this replica has read, and has what may be
// missing from there on given back.
func (r *Replica) rewind(ctx context.Context) error {
	for i := len(r.history.places) - 1; i >= 0; i-- {
		at := r.history.places[i].cursor
		switch _, err := r.readPage(ctx, at); {
		case errors.Is(err, ErrGap):
			continue
		case err != nil:
			return err
		}
		missing := r.history.rewind(i)
		r.restore = &restoration{seen: newStillList(), known: func() *pass { return missing.pass(r.list) }}
		r.moveTo(at)
		return nil
	}
	r.history = history{}
	r.restore = &restoration{seen: newStillList(), known: r.list.pass}
	r.moveTo("")
	return nil
}

func (r *Replica) position() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cursor
}

func (r *Replica) moveTo(cursor string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursor = cursor
}

func (r *Replica) learn(revocations []sealed.Revocation) {
	for _, v := range revocations {
		// What makes no sense, whoever wrote it, is passed over.
		_, _ = r.list.learn(v)
		r.outbox.arrived(v)
		r.history.note(v)
		if r.restore != nil {
			_, _ = r.restore.seen.learn(v)
		}
	}
}

// giveBack appends some of what the log has lost. It is done when a pass through
// all that is known, begun after a complete read, finds nothing to append.
func (r *Replica) giveBack(ctx context.Context) error {
	x := r.restore
	if x.pass == nil {
		x.pass, x.appended = x.known(), 0
	}
	missing := x.pass.next(x.seen)
	if len(missing) > 0 {
		x.appended += len(missing)
		x.total += len(missing)
		return r.call(ctx, func(ctx context.Context) error { return r.log.Append(ctx, missing) })
	}
	x.pass = nil
	if x.appended == 0 {
		r.restore = nil
		if x.total > 0 {
			r.observe(Event{Kind: EventRestored, Entries: x.total})
		}
	}
	return nil
}

// pruneEvery is how often a replica drops what the log need not have any more.
const pruneEvery = time.Hour

// pause waits for a hint of the log, until the next poll at the latest. One that
// hints all the time is not asked all the time.
func (r *Replica) pause(ctx context.Context, poll time.Time, hints bool) {
	sleep(ctx, min(time.Until(poll), r.policy.Poll/50))
	waiting, cancel := context.WithDeadline(ctx, poll)
	defer cancel()
	if hints && r.log.Wait(waiting, r.position()) == nil {
		return
	}
	<-waiting.Done()
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// send appends what was revoked here, all that has gathered at a time.
func (r *Replica) send(ctx context.Context) {
	defer r.outbox.abandon()
	for ctx.Err() == nil {
		deliveries, later := r.outbox.next()
		if len(deliveries) == 0 {
			r.awaitWork(ctx, later)
			continue
		}
		revocations := make([]sealed.Revocation, len(deliveries))
		for i, d := range deliveries {
			revocations[i] = logged(d.Revocation)
		}
		err := r.call(ctx, func(ctx context.Context) error { return r.log.Append(ctx, revocations) })
		r.outbox.appended(deliveries, err)
		if err != nil {
			sleep(ctx, r.policy.Poll/20)
			r.awaitWork(ctx, r.policy.Poll/4) // for whom nothing was tried yet, sooner
		}
	}
}

// awaitWork waits until there may be something to send, or for as long as later says, if
// it is not 0.
func (r *Replica) awaitWork(ctx context.Context, later time.Duration) {
	var due <-chan time.Time
	if later > 0 {
		timer := time.NewTimer(later)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-r.outbox.wake:
	case <-due:
	}
}

// logged returns a revocation as the log has it: to the millisecond, as sessions are
// dated.
func logged(v sealed.Revocation) sealed.Revocation {
	v.Before = v.Before.Truncate(time.Millisecond)
	return v
}

// call makes one call of the log, with its timeout, and notes how it went.
func (r *Replica) call(ctx context.Context, call func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, r.policy.Timeout)
	defer cancel()
	err := call(limited)
	if ctx.Err() != nil {
		return ctx.Err() // not the log's fault
	}
	r.note(err)
	if err != nil && !errors.Is(err, ErrGap) {
		r.observe(Event{Kind: EventFailed, Err: err})
	}
	return err
}

// errUnproved is the error of a log whose answers are too old to rely on: see Page.Age.
var errUnproved = errors.New("revoke: the log's server does not show that it acknowledges writes: it may have been replaced, or lacks the replicas that it must have")

// note notes how the last call of the log went.
func (r *Replica) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = err
}
