// Package revoke has lists of the sessions that were ended before they expired.
//
// A [List] serves one process. It is empty after a restart, so that a copied
// cookie of a session that was logged out before works again until it expires.
// Other lists are their own implementations of [sealed.RevocationList].
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
// [NewList]. Its methods may be called concurrently, and never wait for I/O.
//
// It holds an entry for each session that was revoked, only until that would
// have expired, and one for each subject. Old entries are dropped by the calls
// themselves, once an hour, at a cost in proportion to what is dropped; there is
// no goroutine. Until can thus be exceeded by an hour, which changes nothing:
// the session has expired.
type List struct {
	mu       sync.RWMutex
	sessions map[sealed.ID]int64 // until, as an hour
	subjects map[string]subject
	expiring map[int64]*expiring // by hour
	swept    atomic.Int64        // the hour up to which it was swept
}

// subject is what was revoked of one subject, the union of several revocations.
type subject struct {
	before time.Time
	until  int64 // the hour
}

// expiring lists what can be forgotten after an hour.
type expiring struct {
	sessions []sealed.ID
	subjects []string
}

var _ sealed.RevocationList = (*List)(nil)

// NewList returns an empty list.
func NewList() *List {
	l := &List{
		sessions: map[sealed.ID]int64{},
		subjects: map[string]subject{},
		expiring: map[int64]*expiring{},
	}
	l.swept.Store(hour(time.Now()))
	return l
}

func hour(t time.Time) int64 { return t.Unix() / 3600 }

// Revoke implements [sealed.RevocationList]. It fails only if not exactly one of
// ID and Subject is set.
func (l *List) Revoke(_ context.Context, r sealed.Revocation) error {
	if (r.ID == sealed.ID{}) == (r.Subject == "") {
		return errors.New("revoke: a revocation has either an ID or a subject")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	until := hour(r.Until)
	if r.Subject != "" {
		l.revokeSubject(r, until)
		return nil
	}
	if latest, known := l.sessions[r.ID]; !known || until > latest {
		l.sessions[r.ID] = until
		x := l.expiringAt(until)
		x.sessions = append(x.sessions, r.ID)
	}
	return nil
}

func (l *List) revokeSubject(r sealed.Revocation, until int64) {
	s, known := l.subjects[r.Subject]
	if r.Before.After(s.before) {
		s.before = r.Before
	}
	if !known || until > s.until {
		s.until = until
		x := l.expiringAt(until)
		x.subjects = append(x.subjects, r.Subject)
	}
	l.subjects[r.Subject] = s
}

func (l *List) expiringAt(hour int64) *expiring {
	x := l.expiring[hour]
	if x == nil {
		x = &expiring{}
		l.expiring[hour] = x
	}
	return x
}

// Check implements [sealed.RevocationList]. It returns nil or
// [sealed.ErrRevoked].
func (l *List) Check(_ context.Context, s sealed.Info) error {
	if hour(time.Now()) > l.swept.Load() && l.mu.TryLock() {
		l.sweep()
		l.mu.Unlock()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, revoked := l.sessions[s.ID]; revoked {
		return sealed.ErrRevoked
	}
	if s.Subject != "" {
		if subject, ok := l.subjects[s.Subject]; ok && !s.Created.After(subject.before) {
			return sealed.ErrRevoked
		}
	}
	return nil
}

// Len returns the number of entries.
func (l *List) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.sessions) + len(l.subjects)
}

// sweep drops what expired in the hours before this one.
func (l *List) sweep() {
	now := hour(time.Now())
	if now <= l.swept.Load() {
		return
	}
	l.swept.Store(now)
	for h, x := range l.expiring {
		if h >= now {
			continue
		}
		delete(l.expiring, h)
		for _, id := range x.sessions {
			if l.sessions[id] < now { // not extended since
				delete(l.sessions, id)
			}
		}
		for _, name := range x.subjects {
			if l.subjects[name].until < now {
				delete(l.subjects, name)
			}
		}
	}
}
