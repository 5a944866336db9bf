package sealed

import (
	"errors"
)

// A session is one session at work, or why there is none.
type session[T any] struct {
	err     error // nil if there is a session
	record  record
	key     *ringKey // that opened the token it comes from, if any
	issued  bool     // a client has it under this ID: its token authenticated
	subject string
	terms   *Terms // nobody changes it

	// value is record.data decoded, while fresh: it is given away once, as
	// whoever has it may change what it points to.
	value T
	fresh bool
}

// lifetime returns the milliseconds from creation to the end: what was sealed
// in, or less where the terms are stricter today.
func (s *session[T]) lifetime() int64 {
	return min(s.record.expires, s.terms.Lifetime.Milliseconds())
}

// expired judges the session's times. Those up to maxSkew in the future are
// accepted, as another instance's clock may be ahead.
func (s *session[T]) expired(now int64) error {
	age := now - s.record.created
	switch idle := s.terms.IdleTimeout.Milliseconds(); {
	case s.record.lastUsed-age > maxSkew.Milliseconds():
		return rejectNotYetValid
	case age >= s.lifetime():
		return rejectExpired
	case idle > 0 && age-s.record.lastUsed >= idle:
		return rejectIdle
	}
	return nil
}

func (s *session[T]) info() Info {
	info := Info{
		ID:       s.record.id,
		Subject:  s.subject,
		Created:  unixMilli(s.record.created),
		LastUsed: unixMilli(s.record.created + s.record.lastUsed),
		Expires:  unixMilli(s.record.created + s.lifetime()),
	}
	if s.issued {
		info.KeyID = s.key.text
	}
	return info
}

// touch moves the time of last use to now. It never goes back, nor beyond the
// session's end.
func (s *session[T]) touch(now int64) {
	s.record.lastUsed = min(max(s.record.lastUsed, now-s.record.created), s.record.expires)
}

// touchDue reports whether the time of last use is worth a new cookie.
func (s *session[T]) touchDue(now int64) bool {
	unused := now - s.record.created - s.record.lastUsed
	return s.terms.IdleTimeout > 0 && unused >= s.terms.IdleTimeout.Milliseconds()/4
}

// usedLast reports whether s is rather the session of the request than other,
// of two cookies of one name: it is one, and was used later. One that cannot be
// verified counts as a session, so that an older one does not take its place.
func (s *session[T]) usedLast(other *session[T]) bool {
	if s.exists() != other.exists() {
		return s.exists()
	}
	return s.record.created+s.record.lastUsed > other.record.created+other.record.lastUsed
}

// alive reports whether another client with a copy could still use the session,
// whatever it is worth here: it authenticated, and was not revoked. The idle
// timeout does not count, since a copy has a last use of its own.
func (s *session[T]) alive() bool {
	return s.issued && !errors.Is(s.err, ErrRevoked)
}

func (s *session[T]) exists() bool { return s.err == nil || s.unverified() }

func (s *session[T]) unverified() bool { return s.err != nil && errors.Is(s.err, ErrUnverified) }
