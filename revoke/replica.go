package revoke

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"example.com/sealed"
)

// A Replica is a [sealed.RevocationList] in memory that follows a [Log], so that
// a session that was revoked on one instance is refused on all. Make it with
// [Follow]. Its methods may be called concurrently; Check asks the memory alone.
type Replica struct {
	log    Log
	policy Policy
	list   *List

	start time.Time    // what read counts from
	read  atomic.Int64 // when the last complete read was begun; 0 before the first
	ready chan struct{}

	closed <-chan struct{}
	stop   context.CancelFunc
	ended  sync.WaitGroup

	outbox *outbox

	// turn is held by whoever reads the log, and guards restore. It is a channel so
	// that waiting for it ends with the context.
	turn    chan struct{}
	restore *restoration // nil unless the log has lost something

	mu     sync.Mutex // never held while anything waits
	cursor string     // up to which the log was read
	failed error      // the last call's

	watching sync.Mutex // held while Observe is told of something
	stale    bool       // as Observe was told last
	alarm    *time.Timer
}

// Status describes a [Replica].
type Status struct {
	Health  error         // see Replica.Health
	Age     time.Duration // of the last complete read, from before it was sent; 0 for none
	Entries int           // in memory
	Unsent  int           // revoked here, and not found in the log yet
	Err     error         // why the last call of the log failed, or nil
}

var _ sealed.RevocationList = (*Replica)(nil)

// Follow starts a replica of log. It is not ready at once: until it has read the
// log to its end, every session is [sealed.ErrUnverified]. Ready waits for that.
func Follow(log Log, policy Policy) (*Replica, error) {
	policy, err := policy.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Replica{
		log: log, policy: policy, list: NewList(), start: time.Now(), ready: make(chan struct{}),
		closed: ctx.Done(), stop: cancel, turn: make(chan struct{}, 1), outbox: newOutbox(),
	}
	r.alarm = time.AfterFunc(policy.MaxStale, r.goStale)
	r.ended.Go(func() { r.follow(ctx) })
	r.ended.Go(func() { r.send(ctx) })
	return r, nil
}

// Close ends the replica, and returns when its goroutines have ended. It goes
// stale after MaxStale, with no event. Revoke and Refresh are errors from then on.
func (r *Replica) Close() {
	r.stop()
	r.turn <- struct{}{} // until no Refresh is under way
	<-r.turn
	r.ended.Wait()
	r.alarm.Stop()
	r.list.hold()
}

// Ready waits until the log was read to its end.
func (r *Replica) Ready(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("revoke: the log was not read to its end: %w", errors.Join(ctx.Err(), r.Status().Err))
	}
}

var (
	errNotReady = fmt.Errorf("revoke: the log was not read to its end yet: %w", sealed.ErrUnverified)
	errStale    = fmt.Errorf("revoke: no news from the log for too long: %w", sealed.ErrUnverified)
)

// Health returns nil, or why sessions cannot be verified: for a readiness probe.
// It is an error of a stale replica with AcceptStale as well.
func (r *Replica) Health() error {
	switch read := r.read.Load(); {
	case read == 0:
		return errNotReady
	case time.Since(r.start)-time.Duration(read) >= r.policy.MaxStale:
		return errStale
	}
	return nil
}

// Status describes the replica.
func (r *Replica) Status() Status {
	r.mu.Lock()
	failed := r.failed
	r.mu.Unlock()
	s := Status{Health: r.Health(), Entries: r.list.Len(), Unsent: r.outbox.len(), Err: failed}
	if read := r.read.Load(); read != 0 {
		s.Age = time.Since(r.start) - time.Duration(read)
	}
	return s
}

// Check implements [sealed.RevocationList].
func (r *Replica) Check(ctx context.Context, s sealed.Info) error {
	if err := r.list.Check(ctx, s); err != nil {
		return err
	}
	err := r.Health()
	if err == errStale && r.policy.AcceptStale {
		return nil
	}
	return err
}

// Revoke implements [sealed.RevocationList]. The session is refused here at once,
// and everywhere within MaxStale of the moment when Revoke returns nil, which it
// does as soon as the log has it. After an error the session is still refused here,
// and the replica goes on trying.
func (r *Replica) Revoke(ctx context.Context, v sealed.Revocation) error {
	if v.Subject == "" {
		v.Before = time.Time{} // of no meaning, and not kept by logs
	}
	v.Before, v.Until = v.Before.Truncate(time.Millisecond), v.Until.Add(time.Millisecond-1).Truncate(time.Millisecond)
	if err := r.list.Revoke(ctx, v); err != nil {
		return err
	}
	select {
	case err := <-r.outbox.put(v):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refresh reads the log to its end now: whatever was in it before is known then.
func (r *Replica) Refresh(ctx context.Context) error {
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	return r.readAll(ctx)
}

func (r *Replica) acquire(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		select {
		case <-r.closed:
			r.release()
			return errClosed
		default:
			return nil
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Replica) release() { <-r.turn }

// follow reads the log again and again.
func (r *Replica) follow(ctx context.Context) {
	prune := time.Now().Add(rand.N(pruneEvery)) // not all instances at once
	for ctx.Err() == nil {
		began := time.Now()
		err := r.round(ctx)
		if err == nil && began.After(prune) {
			prune = began.Add(pruneEvery) // an hour late, whatever the clocks
			err = r.call(ctx, func(ctx context.Context) error { return r.log.Prune(ctx, began.Add(-time.Hour)) })
		}
		r.pause(ctx, began.Add(r.policy.Poll), err == nil)
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

// readAll reads the log to its end, from the beginning if it has lost something.
func (r *Replica) readAll(ctx context.Context) error {
	began := time.Now()
	err := r.readOn(ctx)
	if errors.Is(err, ErrGap) {
		r.observe(Event{Kind: EventGap})
		r.moveTo("")
		r.restore = &restoration{seen: newStillList()}
		began = time.Now()
		err = r.readOn(ctx)
	}
	if err != nil {
		return err
	}
	r.confirm(began)
	if n := r.outbox.missed(began); n > 0 {
		r.observe(Event{Kind: EventRestored, Entries: n})
	}
	return nil
}

// readOn reads from the cursor to the end.
func (r *Replica) readOn(ctx context.Context) error {
	for {
		var page Page
		err := r.call(ctx, func(ctx context.Context) (err error) {
			page, err = r.log.Read(ctx, r.position())
			return err
		})
		if err != nil {
			return err
		}
		r.take(page.Revocations)
		r.moveTo(page.Cursor)
		if !page.More {
			return nil
		}
	}
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

func (r *Replica) take(revocations []sealed.Revocation) {
	for _, v := range revocations {
		r.list.take(v)
		r.outbox.found(v)
		if r.restore != nil {
			r.restore.seen.take(v)
		}
	}
}

// giveBack appends some of what the log has lost. It is done when a pass through
// all that is known, begun after a complete read, finds nothing to append.
func (r *Replica) giveBack(ctx context.Context) error {
	x := r.restore
	if x.pass == nil {
		x.pass, x.appended = newPass(r.list), 0
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
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// send appends what was revoked here, all that has gathered at a time.
func (r *Replica) send(ctx context.Context) {
	defer r.outbox.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.outbox.wake:
		}
		for letters := r.outbox.next(); len(letters) > 0; letters = r.outbox.next() {
			revocations := make([]sealed.Revocation, len(letters))
			for i, l := range letters {
				revocations[i] = l.Revocation
			}
			err := r.call(ctx, func(ctx context.Context) error { return r.log.Append(ctx, revocations) })
			r.outbox.appended(letters, err)
			if err != nil {
				sleep(ctx, r.policy.Poll)
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// call makes one call of the log, with its timeout, and notes how it went.
func (r *Replica) call(ctx context.Context, call func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, r.policy.Timeout)
	defer cancel()
	err := call(limited)
	if ctx.Err() != nil {
		return ctx.Err() // not the log's fault
	}
	r.mu.Lock()
	r.failed = err
	r.mu.Unlock()
	if err != nil && !errors.Is(err, ErrGap) {
		r.observe(Event{Kind: EventFailed, Err: err})
	}
	return err
}

// confirm notes a complete read that was begun at a time.
func (r *Replica) confirm(began time.Time) {
	first := r.read.Load() == 0
	r.read.Store(max(1, int64(began.Sub(r.start))))
	r.alarm.Reset(r.policy.MaxStale - time.Since(began))
	r.watching.Lock()
	was := r.stale
	r.stale = false
	r.watching.Unlock()
	switch {
	case first:
		close(r.ready)
		r.observe(Event{Kind: EventReady})
	case was:
		r.observe(Event{Kind: EventFresh})
	}
}

// goStale is called when there was no complete read for MaxStale.
func (r *Replica) goStale() {
	r.watching.Lock()
	tell := !r.stale && r.Health() != nil
	r.stale = r.stale || tell
	r.watching.Unlock()
	if tell {
		r.observe(Event{Kind: EventStale})
	}
}

func (r *Replica) observe(e Event) {
	if r.policy.Observe == nil {
		return
	}
	r.watching.Lock()
	defer r.watching.Unlock()
	r.policy.Observe(e)
}
