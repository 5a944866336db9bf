// Package revoke has lists of the sessions that were ended before they expired.
//
// A [List] serves one process. It is empty after a restart, so that a copied
// cookie of a session that was logged out before works again until it expires.
//
// A [Replica] serves one of many instances, and survives restarts: it follows a
// [Log] that all share, such as those of the modules redisstore and pgstore beside
// this one. A request asks the memory of its instance, never the log. A session
// that was revoked anywhere is refused everywhere within [Policy].MaxStale, or the
// instance knows that it may be wrong, and answers [sealed.ErrUnverified].
//
//	revocations, err := revoke.Follow(log, revoke.Policy{})
//	defer revocations.Close(ctx)
//	sessions, err := sealed.New(keys, sealed.Config[Session]{Revocations: revocations})
//
// What a log has lost its replicas give back, from memory.
package revoke

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/sealed"
)

// A List is an in-memory [sealed.RevocationList] for one process. Make it with
// [NewList]. Its methods may be called concurrently, and never wait for I/O; Check
// waits for nothing at all.
//
// It holds an entry for each session that was revoked, of 21 bytes at most in a long list, and a
// larger one for each subject. They are dropped when nothing that they end can be
// valid any more: within an hour of Until, or later by at most an eighth of the
// time that was left. The list needs no goroutine for that, and no Close.
type List struct {
	mu       sync.Mutex // held by whoever changes the list
	sessions *set
	subjects sync.Map // of name to subject
	expiring map[int64][]string
	timer    *time.Timer // nil for an empty list
	still    bool        // it has no timer, and drops nothing

	named atomic.Int64 // how many subjects there are

	// The sessions that are in the set, but refused only from a later time on.
	renewed  sync.Map     // of ID to that time
	renewing []sealed.ID  // in the order in which they came
	graces   atomic.Int64 // how many there are
}

// subject is what was revoked of one subject, the union of several revocations.
type subject struct {
	before time.Time
	until  int64 // the hour
}

var _ sealed.RevocationList = (*List)(nil)

// NewList returns an empty list.
func NewList() *List {
	return &List{sessions: newSet(), expiring: map[int64][]string{}}
}

func hour(t time.Time) int64 { return t.Unix() / 3600 }

// spans are how exactly ends are kept, in hours, by how far off they are: a look
// at all buckets must not take long, whatever the lifetimes.
var spans = []struct{ within, span int64 }{{48, 1}, {16 * 24, 6}, {64 * 24, 24}, {1 << 40, 8 * 24}}

// endOf returns the hour after which an entry is dropped.
func endOf(until, now int64) int64 {
	for _, s := range spans {
		if until-now <= s.within {
			return roundUp(until, s.span)
		}
	}
	return until
}

func roundUp(n, span int64) int64 { return (n + span - 1) / span * span }

// newStillList returns a list that nothing but its owner keeps in memory.
func newStillList() *List {
	l := NewList()
	l.still = true
	return l
}

// hold stops the timer, which would keep the list in memory.
func (l *List) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.still = true
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// maxSubject is how long a subject may be, in bytes: what every log can hold.
const maxSubject = 1<<16 - 1

var (
	errNotOne   = errors.New("revoke: a revocation has either an ID or a subject")
	errNoUntil  = errors.New("revoke: a revocation without Until would be forgotten at once")
	errFrom     = errors.New("revoke: a revocation of a subject has no From")
	errNoBefore = errors.New("revoke: a revocation of a subject without Before would end none of its sessions")
)

// Revoke implements [sealed.RevocationList]. It fails only if the revocation would end
// nothing, or nothing in particular: if not exactly one of ID and Subject is set, if
// Until is zero, or Before of a subject, if a subject has a From, or more than 65,535
// bytes, or if one of the times is before 1970 or after 10889.
func (l *List) Revoke(_ context.Context, r sealed.Revocation) error {
	_, err := l.learn(r)
	return err
}

// learn is Revoke that also reports whether the list did not hold r yet.
func (l *List) learn(r sealed.Revocation) (news bool, err error) {
	if err := check(r); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(r), nil
}

// add adds a revocation, and reports whether it says anything new. The caller has
// the lock.
func (l *List) add(r sealed.Revocation) bool {
	now, until := hour(time.Now()), hour(r.Until)
	if until < now {
		return false // nothing that it ends is valid
	}
	if l.timer == nil && !l.still {
		l.timer = time.AfterFunc(untilNextHour(), l.sweep)
	}
	if r.Subject == "" {
		news := l.addGrace(r)
		return l.sessions.add(r.ID, endOf(until, now)) || news
	}
	old, known := l.subjects.Load(r.Subject)
	s, _ := old.(subject)
	if known && !r.Before.After(s.before) && until <= s.until {
		return false
	}
	if !known {
		l.named.Add(1)
	}
	if !known || until > s.until {
		s.until = until
		l.expiring[until] = append(l.expiring[until], r.Subject)
	}
	if r.Before.After(s.before) {
		s.before = r.Before
	}
	l.subjects.Store(r.Subject, s)
	return true
}

// addGrace notes from when on a session is refused: the earliest time that anybody has
// said, so that the order in which they did has no meaning. It reports whether that is
// news. It comes before the set has the session.
func (l *List) addGrace(r sealed.Revocation) bool {
	if r.From.IsZero() && l.graces.Load() == 0 {
		return false
	}
	now := time.Now()
	for len(l.renewing) > 0 {
		x, ok := l.renewed.Load(l.renewing[0])
		if ok && x.(time.Time).After(now) {
			break
		}
		l.endGrace(l.renewing[0])
		l.renewing = l.renewing[1:]
	}
	x, waiting := l.renewed.Load(r.ID)
	switch {
	case !r.From.After(now):
		return waiting && l.endGrace(r.ID)
	case waiting && !r.From.Before(x.(time.Time)), !waiting && l.sessions.has(r.ID, r.Until):
		return false
	case !waiting:
		l.graces.Add(1)
		l.renewing = append(l.renewing, r.ID)
	}
	l.renewed.Store(r.ID, r.From)
	return true
}

// endGrace has a session refused now, and reports whether it was not.
func (l *List) endGrace(id sealed.ID) bool {
	_, waiting := l.renewed.LoadAndDelete(id)
	if waiting {
		l.graces.Add(-1)
	}
	return waiting
}

// from returns from when on a session of the set is refused: the zero time for at once.
func (l *List) from(id sealed.ID) time.Time {
	if l.graces.Load() == 0 {
		return time.Time{}
	}
	x, _ := l.renewed.Load(id)
	from, _ := x.(time.Time)
	return from
}

// Check implements [sealed.RevocationList]. It returns nil, [sealed.ErrRevoked] or
// [sealed.ErrRenewed].
func (l *List) Check(_ context.Context, s sealed.Info) error {
	listed := l.sessions.has(s.ID, s.Expires)
	if listed && !l.from(s.ID).After(time.Now()) {
		return sealed.ErrRevoked
	}
	if s.Subject != "" && l.named.Load() > 0 {
		if x, ok := l.subjects.Load(s.Subject); ok && !s.Created.After(x.(subject).before) {
			return sealed.ErrRevoked
		}
	}
	if listed {
		return sealed.ErrRenewed
	}
	return nil
}

// Len returns the number of entries.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions.entries + int(l.named.Load())
}

// leftovers returns, once, how many bytes the set has left behind by growing, and how many
// it has, about.
func (l *List) leftovers() (left, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left, l.sessions.left = l.sessions.left, 0
	return left, 20 * l.sessions.entries
}

func untilNextHour() time.Duration {
	now := time.Now()
	return now.Truncate(time.Hour).Add(time.Hour).Sub(now)
}

// sweep drops what expired in the hours before this one.
func (l *List) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := hour(time.Now())
	l.sessions.drop(now)
	for end, names := range l.expiring {
		if end >= now {
			continue
		}
		delete(l.expiring, end)
		for _, name := range names {
			if x, ok := l.subjects.Load(name); ok && x.(subject).until < now { // not extended since
				l.subjects.Delete(name)
				l.named.Add(-1)
			}
		}
	}
	l.timer = nil
	if l.still {
		return
	}
	if l.sessions.entries > 0 || l.named.Load() > 0 {
		l.timer = time.AfterFunc(untilNextHour(), l.sweep)
	}
}
