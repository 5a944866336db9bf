package revoke

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

	start time.Time    // what read counts from: no read that counts is as old
	read  atomic.Int64 // when the last complete read was begun; 0 before the first
	ready chan struct{}

	closed <-chan struct{}
	stop   context.CancelFunc
	ended  sync.WaitGroup

	outbox *outbox

	// turn is held by whoever reads the log, and guards what follows. It is a
	// channel so that waiting for it ends with the context.
	turn    chan struct{}
	restore *restoration // nil unless the log has lost something
	history history
	garbage int // see tidy

	clock      clock
	unverified atomic.Int64 // see Status

	mu     sync.Mutex // never held while anything waits
	cursor string     // up to which the log was read
	failed error      // the last call's

	watching sync.Mutex // held while Observe is told of something
	revoking sync.Mutex // see deliver
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

	// Unverified is how often a stale replica has let a session pass, for AcceptStale. A request
	// may check its session more than once.
	Unverified int64

	// Clock is by how much this machine's clock is ahead of the log's, within what a
	// round trip hides; zero if the log does not tell.
	Clock time.Duration
}

var _ sealed.RevocationList = (*Replica)(nil)

// Follow starts a replica of log. It is not ready at once: until it has read the
// log to its end, every session is [sealed.ErrUnverified]. Ready waits for that.
func Follow(log Log, policy Policy) (*Replica, error) {
	policy, err := policy.withDefaults()
	if err != nil {
		return nil, err
	}
	if log == nil {
		return nil, errors.New("revoke: Follow has no log")
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Replica{
		log: log, policy: policy, list: NewList(), start: time.Now().Add(-policy.MaxStale), ready: make(chan struct{}),
		closed: ctx.Done(), stop: cancel, turn: make(chan struct{}, 1),
	}
	r.outbox = newOutbox(policy.MaxUnsent)
	r.alarm = time.AfterFunc(policy.MaxStale, r.goStale)
	r.ended.Go(func() { r.follow(ctx) })
	r.ended.Go(func() { r.send(ctx) })
	return r, nil
}

// Close ends the replica, and returns when its goroutines have ended. Before that it
// hands over to the log what that does not have yet, until ctx is done; the error says
// how much is left, which other instances will not hear of. Call it when no request is
// served any more: Revoke and Refresh are errors from then on, and it waits for a Refresh that is
// under way. The replica goes stale
// after MaxStale, with no event.
func (r *Replica) Close(ctx context.Context) error {
	r.outbox.close()
	select {
	case <-r.outbox.empty:
	case <-ctx.Done():
	}
	r.stop()
	r.turn <- struct{}{} // until no Refresh is under way
	<-r.turn
	r.ended.Wait()
	r.alarm.Stop()
	r.list.hold()
	if n, err := r.outbox.left(); n > 0 {
		return fmt.Errorf("revoke: %d revocations were not handed over to the log: %w", n, errors.Join(ctx.Err(), err))
	}
	return nil
}

// Ready waits until the log was read to its end for the first time. The error is that of ctx,
// with why it was not read, or says that the Replica is closed.
func (r *Replica) Ready(ctx context.Context) error {
	select {
	case <-r.ready: // also of one that was closed since
		return nil
	default:
	}
	select {
	case <-r.ready:
		return nil
	case <-r.closed:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("revoke: the log was not read to its end: %w", errors.Join(ctx.Err(), r.Status().Err))
	}
}

var (
	errNotReady = fmt.Errorf("revoke: the log was not read to its end yet: %w", sealed.ErrUnverified)
	errStale    = fmt.Errorf("revoke: no news from the log for too long: %w", sealed.ErrUnverified)
)

// Serving returns nil while Check answers as the policy says, for a readiness probe: the
// log was read to its end once, and the replica is not stale, or AcceptStale is set.
func (r *Replica) Serving() error {
	err := r.Health()
	if err == errStale && r.policy.AcceptStale {
		return nil
	}
	return err
}

// Health returns nil, or why this replica may not know what was revoked elsewhere, for an
// alert. With AcceptStale, a stale replica serves all the same: see Serving.
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
	s := Status{Health: r.Health(), Entries: r.list.Len(), Unsent: r.outbox.len(), Err: failed, Clock: r.clock.offset(), Unverified: r.unverified.Load()}
	if read := r.read.Load(); read != 0 {
		s.Age = time.Since(r.start) - time.Duration(read)
	}
	return s
}

// Check implements [sealed.RevocationList].
func (r *Replica) Check(ctx context.Context, s sealed.Info) error {
	err := r.list.Check(ctx, s)
	if err == sealed.ErrRevoked {
		return err
	}
	health := r.Health()
	if health == errStale && r.policy.AcceptStale {
		r.unverified.Add(1)
		health = nil
	}
	return cmp.Or(health, err)
}

// Revoke implements [sealed.RevocationList]. The session is refused here at once,
// and everywhere within MaxStale of the moment when Revoke returns nil, which it
// does as soon as the log has it. It waits for that no longer than Policy.Timeout. If the log
// answers with an error, it returns that after the first try. After such an error the session is still refused
// here, and the replica goes on handing it over; only if Policy.MaxUnsent wait
// already, or after Close, it does not.
//
// What the log has already is not added to it again. Several revocations of one subject
// within a second are added as one, when the second is over; Policy.Timeout counts from then.
func (r *Replica) Revoke(ctx context.Context, v sealed.Revocation) error {
	if v.Subject == "" {
		v.Before = time.Time{} // of no meaning, and not kept by logs
	}
	v.From = v.From.Truncate(time.Millisecond)
	if !v.Until.IsZero() {
		v.Until = v.Until.Add(time.Millisecond - 1).Truncate(time.Millisecond)
	}
	d, full, err := r.deliver(v)
	if full {
		r.observe(Event{Kind: EventFull})
	}
	if d == nil {
		return err
	}
	timer := time.NewTimer(r.policy.Timeout + max(0, time.Until(d.due)))
	defer timer.Stop()
	select {
	case <-d.answered:
		return d.first
	case <-ctx.Done():
		return notYet(ctx.Err())
	case <-timer.C:
		return notYet(errSlow)
	}
}

// deliver adds a revocation to the list and to the outbox, in one step: another caller who finds it
// in the list must find it on its way, too.
func (r *Replica) deliver(v sealed.Revocation) (d *delivery, full bool, err error) {
	r.revoking.Lock()
	defer r.revoking.Unlock()
	news, err := r.list.learn(v)
	if err != nil {
		return nil, false, err
	}
	return r.outbox.enqueue(v, !news)
}

var errSlow = errors.New("revoke: the log takes longer than Policy.Timeout")

// Refresh reads the log to its end now: whatever was in it before is known then. The error is
// that of the log, or of ctx, or says that the Replica is closed.
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

// confirm notes a complete read that was begun at a time.
func (r *Replica) confirm(began time.Time) {
	first := r.read.Load() == 0
	r.read.Store(max(1, int64(began.Sub(r.start))))
	r.alarm.Reset(r.policy.MaxStale - time.Since(began))
	r.watching.Lock()
	was := r.stale
	r.stale = false
	r.watching.Unlock()
	if first {
		close(r.ready)
		r.observe(Event{Kind: EventReady})
	}
	if was {
		r.observe(Event{Kind: EventRecovered})
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
