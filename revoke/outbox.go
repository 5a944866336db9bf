package revoke

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/sealed"
)

// An outbox has what was revoked on this instance, until it was read from the log.
type outbox struct {
	mu       sync.Mutex
	queue    []*delivery               // to be appended, oldest first
	sent     map[deliveryKey]*delivery // appended, or about to be, and not read yet
	waiting  map[subjectOrID]*delivery // in the queue: what else comes for one of them is merged
	flying   map[subjectOrID]*delivery // taken from the queue, and not answered yet
	last     map[string]time.Time      // when something was last appended for a subject, for a second
	limit    int                       // on the next batch of those that failed
	again    bool                      // it is their turn
	wake     chan struct{}             // has a value when there may be a queue
	failed   error                     // of the last try, or nil
	overflow bool                      // the queue was full once: the list may hold what was not handed over
	told     bool                      // that it is full
	most     int                       // how many there may be
	closed   bool
	empty    chan struct{} // closed when nothing is left, after close
}

// A delivery is one revocation on its way to the log.
type delivery struct {
	sealed.Revocation
	due      time.Time     // not to be appended before
	answered chan struct{} // closed when the first try has ended
	first    error         // of that, not changed afterwards
	last     error         // of the last try
	told     bool          // answered is closed
	at       time.Time     // when the log had it; zero before
}

// A subjectOrID is what a revocation ends.
type subjectOrID struct {
	id      sealed.ID
	subject string
}

func (d *delivery) ends() subjectOrID { return subjectOrID{d.ID, d.Subject} }

type deliveryKey struct {
	id           sealed.ID
	subject      string
	before, from int64
	until        int64
}

func keyOf(v sealed.Revocation) deliveryKey {
	return deliveryKey{v.ID, v.Subject, v.Before.UnixMilli(), v.From.UnixMilli(), v.Until.UnixMilli()}
}

const (
	// batch is how many revocations go into one Append.
	batch = 1000

	// subjectEvery is how often a subject is appended: what comes in between is merged.
	subjectEvery = time.Second
)

var (
	errClosed = errors.New("revoke: the replica is closed")
	errFull   = errors.New("revoke: Policy.MaxUnsent revocations wait for the log already: this one is refused here, and not handed over")
)

// notYet says that the log does not have a revocation.
func notYet(err error) error {
	return fmt.Errorf("revoke: the log does not have it yet, and the replica goes on trying: %w", err)
}

func newOutbox(most int) *outbox {
	return &outbox{
		sent: map[deliveryKey]*delivery{}, waiting: map[subjectOrID]*delivery{}, flying: map[subjectOrID]*delivery{}, last: map[string]time.Time{},
		limit: batch, wake: make(chan struct{}, 1), most: most, empty: make(chan struct{}),
	}
}

// enqueue adds a revocation, or finds the one that says the same. known tells that the
// list held it before: if nothing that ends the same is on its way, it came from the log. The delivery is
// nil if there is nothing to wait for. full says that there is no room any more, once.
func (o *outbox) enqueue(v sealed.Revocation, known bool) (d *delivery, full bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, false, errClosed
	}
	if d := o.sent[keyOf(v)]; d != nil {
		if !d.at.IsZero() {
			return nil, false, nil // the log has it
		}
		return d, false, nil
	}
	if d := o.waiting[subjectOrID{v.ID, v.Subject}]; d != nil {
		d.Before, d.Until = latest(d.Before, v.Before), latest(d.Until, v.Until)
		if v.From.Before(d.From) {
			d.From = v.From
		}
		return d.pending()
	}
	if d := o.flying[subjectOrID{v.ID, v.Subject}]; d != nil && known {
		return d.pending()
	}
	switch {
	case known && !o.overflow:
		return nil, false, nil // from the log
	case len(o.queue) >= o.most, len(o.sent) >= o.most+10*batch: // the log, or reading it, hangs
		full, o.told, o.overflow = !o.told, true, true
		return nil, full, errFull
	}
	d = &delivery{Revocation: v, answered: make(chan struct{})}
	if at, ok := o.last[v.Subject]; ok && v.Subject != "" {
		d.due = at.Add(subjectEvery)
	}
	o.waiting[d.ends()] = d
	o.queue = append(o.queue, d)
	o.wakeSender()
	return d, false, nil
}

// pending returns what enqueue does for a delivery that is on its way: to wait for its first try,
// or how the last one has failed.
func (d *delivery) pending() (*delivery, bool, error) {
	if d.told {
		return nil, false, d.last
	}
	return d, false, nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// answer notes how a try has ended, and tells those who wait for the first.
func (d *delivery) answer(err error) {
	d.last = err
	if !d.told {
		d.told, d.first = true, err
		close(d.answered)
	}
}

// wakeSender has somebody look at the queue. The caller has the lock.
func (o *outbox) wakeSender() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// next takes the next deliveries from the queue, less those that nothing needs any
// more: those that were not tried yet, for which somebody waits, and by turns those that
// failed. They count as sent: they may be read before the log has answered. If others
// are due later only, it returns how long that is.
func (o *outbox) next() (next []*delivery, later time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for subject, at := range o.last {
		if now.Sub(at) >= subjectEvery {
			delete(o.last, subject)
		}
	}
	o.again = !o.again
	next, later = o.take(now, o.again)
	if len(next) == 0 {
		next, later = o.take(now, !o.again)
	}
	return next, later
}

// take takes deliveries that were tried before, or were not.
func (o *outbox) take(now time.Time, tried bool) (taken []*delivery, later time.Duration) {
	limit := batch
	if tried {
		limit = o.limit
	}
	rest := o.queue[:0]
	for _, d := range o.queue {
		wait := d.due.Sub(now)
		switch {
		case d.Until.Before(now):
			o.settle(d)
			d.answer(nil)
		case wait > 0 && !o.closed:
			rest = append(rest, d)
			if later == 0 || wait < later {
				later = wait
			}
		case d.told != tried || len(taken) == limit:
			rest = append(rest, d)
		default:
			taken = append(taken, d)
			o.settle(d)
			if d.Subject != "" {
				o.last[d.Subject] = now
			}
			o.sent[keyOf(d.Revocation)], o.flying[d.ends()] = d, d
		}
	}
	clear(o.queue[len(rest):])
	o.queue = rest
	return taken, later
}

// settle notes that nothing is merged into a delivery any more.
func (o *outbox) settle(d *delivery) {
	if o.waiting[d.ends()] == d {
		delete(o.waiting, d.ends())
	}
}

// appended notes how it went with deliveries that next has returned. Those that failed
// are tried again, and fewer at a time: if one is to blame, it must not keep the others.
func (o *outbox) appended(deliveries []*delivery, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = err
	for _, d := range deliveries {
		if o.flying[d.ends()] == d {
			delete(o.flying, d.ends())
		}
		if err == nil {
			d.at = time.Now()
			d.answer(nil)
			continue
		}
		d.answer(notYet(err))
		if key := keyOf(d.Revocation); o.sent[key] == d { // not found in the log since
			delete(o.sent, key)
			o.queue = append(o.queue, d)
			if o.waiting[d.ends()] == nil {
				o.waiting[d.ends()] = d
			}
		}
	}
	o.limit = batch
	if err != nil {
		o.limit = max(1, len(deliveries)/2)
	} else if len(o.queue) < o.most {
		o.told = false
	}
	o.checkEmpty()
}

// arrived notes that a revocation was read from the log.
func (o *outbox) arrived(v sealed.Revocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.sent, keyOf(v))
	o.checkEmpty()
}

// requeue takes the deliveries that a complete read, which began at a time, should
// have found and has not: the log has lost them. It returns how many.
func (o *outbox) requeue(began time.Time) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, d := range o.sent {
		if !d.at.IsZero() && d.at.Before(began) {
			delete(o.sent, key)
			d.at = time.Time{}
			o.queue = append(o.queue, d)
			n++
		}
	}
	if n > 0 {
		o.wakeSender()
	}
	return n
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) + len(o.sent)
}

// left returns how many revocations the log does not have, and why.
func (o *outbox) left() (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n = len(o.queue)
	for _, d := range o.sent {
		if d.at.IsZero() {
			n++
		}
	}
	return n, o.failed
}

// close refuses all that come later. What is in the queue is due now.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		o.checkEmpty()
		o.wakeSender()
	}
}

// checkEmpty tells who closes the outbox when the log has all of it. The caller has the
// lock.
func (o *outbox) checkEmpty() {
	if !o.closed || len(o.queue) > 0 {
		return
	}
	for _, d := range o.sent {
		if d.at.IsZero() {
			return
		}
	}
	select {
	case <-o.empty:
	default:
		close(o.empty)
	}
}

// abandon answers those who still wait.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.queue {
		d.answer(errClosed)
	}
	for _, d := range o.sent {
		d.answer(errClosed)
	}
}
