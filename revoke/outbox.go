package revoke

import (
	"errors"
	"sync"
	"time"

	"example.com/sealed"
)

// An outbox has what was revoked on this instance, until it was read from the log.
type outbox struct {
	mu     sync.Mutex
	queue  []*letter             // to be appended, oldest first
	sent   map[letterKey]*letter // appended, or about to be, and not read yet
	limit  int                   // on the next batch
	wake   chan struct{}         // has a value when there may be a queue
	closed bool
}

// A letter is one revocation on its way.
type letter struct {
	sealed.Revocation
	answer chan error // takes one
	told   bool       // it has
	at     time.Time  // when the log had it; zero before
}

type letterKey struct {
	id            sealed.ID
	subject       string
	before, until int64
}

func keyOf(v sealed.Revocation) letterKey {
	return letterKey{v.ID, v.Subject, v.Before.UnixMilli(), v.Until.UnixMilli()}
}

// batch is how many revocations go into one Append.
const batch = 1000

var errClosed = errors.New("revoke: the replica is closed")

func newOutbox() *outbox {
	return &outbox{sent: map[letterKey]*letter{}, limit: batch, wake: make(chan struct{}, 1)}
}

// put adds a revocation, and returns what says how the first try to append it ends.
func (o *outbox) put(v sealed.Revocation) <-chan error {
	l := &letter{Revocation: v, answer: make(chan error, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		l.tell(errClosed)
		return l.answer
	}
	o.queue = append(o.queue, l)
	o.ring()
	return l.answer
}

func (l *letter) tell(err error) {
	if !l.told {
		l.told = true
		l.answer <- err
	}
}

// ring has somebody look at the queue. The caller has the lock.
func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// next takes the next letters from the queue, less those that nothing needs any
// more. They count as sent: they may be read before the log has answered.
func (o *outbox) next() []*letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	var next []*letter
	now := time.Now()
	for len(o.queue) > 0 && len(next) < o.limit {
		if l := o.queue[0]; l.Until.Before(now) {
			l.tell(nil)
		} else {
			next = append(next, l)
			o.sent[keyOf(l.Revocation)] = l
		}
		o.queue = o.queue[1:]
	}
	return next
}

// appended notes how it went with letters that next has returned. Those that
// failed are tried again, and fewer at a time: if one is to blame, it must not keep
// the others.
func (o *outbox) appended(letters []*letter, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range letters {
		l.tell(err)
		if err == nil {
			l.at = time.Now()
			continue
		}
		if key := keyOf(l.Revocation); o.sent[key] == l { // not found in the log meanwhile
			delete(o.sent, key)
			o.queue = append(o.queue, l)
		}
	}
	o.limit = batch
	if err != nil {
		o.limit = max(1, len(letters)/2)
	}
}

// found notes that a revocation was read from the log.
func (o *outbox) found(v sealed.Revocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.sent, keyOf(v))
}

// missed takes the letters that a complete read, which began at a time, should
// have found and has not: the log has lost them. It returns how many.
func (o *outbox) missed(began time.Time) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, l := range o.sent {
		if !l.at.IsZero() && l.at.Before(began) {
			delete(o.sent, key)
			l.at = time.Time{}
			o.queue = append(o.queue, l)
			n++
		}
	}
	if n > 0 {
		o.ring()
	}
	return n
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) + len(o.sent)
}

// close answers those who wait, and all that come later.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, l := range o.queue {
		l.tell(errClosed)
	}
}
