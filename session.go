package sealed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// A session is one session at work, or why there is none.
type session[T any] struct {
	err     error // nil if there is a session
	record  record
	key     *ringKey // that opened the token it comes from, if any
	issued  bool     // a client can have it under this ID
	subject string
	terms   Terms

	// value is record.data decoded, while fresh: it is given away once, as
	// whoever has it may change what it points to.
	value T
	fresh bool
}

// Times without a type are Unix time in milliseconds, durations milliseconds.
func nowMilli() int64 { return time.Now().UnixMilli() }

// open opens a token and judges it at the time now. The session keeps buf, if
// that is large enough for it.
func (m *Manager[T]) open(ctx context.Context, s *session[T], buf []byte, text, suffix string, now int64) {
	s.record, s.key, s.err = m.openRecord(buf, text, suffix)
	if s.err != nil {
		return
	}
	s.issued = true
	if s.err = m.decode(s.record.data, &s.value); s.err != nil {
		return
	}
	s.fresh = true
	s.subject = m.subject(&s.value)
	if s.terms, s.err = m.termsOf(&s.value); s.err != nil {
		s.err = &rejection{fmt.Errorf("%w: %w", ErrInvalid, s.err), "undecodable"}
		return
	}
	if s.err = s.expired(now); s.err == nil && m.config.Revocations != nil {
		s.err = m.check(ctx, s.info())
	}
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

// check asks the revocation list.
func (m *Manager[T]) check(ctx context.Context, info Info) error {
	err := m.config.Revocations.Check(ctx, info)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrRevoked):
		return rejectRevoked
	case !errors.Is(err, ErrUnverified):
		err = fmt.Errorf("%w: %w", ErrUnverified, err)
	}
	return &rejection{err, "unverified"}
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

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// take returns a copy of the session's data that nobody else has.
func (m *Manager[T]) take(s *session[T]) (T, error) {
	if s.fresh {
		v := s.value
		var none T
		s.value, s.fresh = none, false
		return v, nil
	}
	var v T
	return v, m.decode(s.record.data, &v)
}

// put makes v the session's data, with its subject and terms. If it returns an
// error, s is as it was.
func (m *Manager[T]) put(s *session[T], v *T) error {
	data, err := m.encode(v)
	if err != nil {
		return err
	}
	terms, err := m.termsOf(v)
	if err != nil {
		return err
	}
	var none T
	s.err, s.record.data, s.terms, s.subject = nil, data, terms, m.subject(v)
	s.value, s.fresh = none, false // v is the caller's
	return nil
}

// begin gives the session a new ID and the deadlines of its terms.
func (m *Manager[T]) begin(ctx context.Context, s *session[T], now int64) {
	rand.Read(s.record.id[:])
	s.issued = false
	s.record.lastUsed = 0
	s.record.expires = s.terms.Lifetime.Milliseconds()
	s.record.created = m.createdAt(ctx, s, now)
}

// createdAt returns the time at which to date a new session: now, unless the
// revocation list would take it for one of those that the subject had before.
// That happens right after "log out everywhere": in the same millisecond, or on
// an instance whose clock is behind. The session is dated just after, within
// the skew that every instance accepts.
func (m *Manager[T]) createdAt(ctx context.Context, s *session[T], now int64) int64 {
	if m.config.Revocations == nil || s.subject == "" {
		return now
	}
	info := s.info()
	for ahead := time.Duration(0); ahead <= maxSkew; ahead = max(time.Millisecond, 4*ahead) {
		created := now + ahead.Milliseconds()
		info.Created = unixMilli(created)
		if !errors.Is(m.config.Revocations.Check(ctx, info), ErrRevoked) {
			return created
		}
	}
	return now
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

func (s *session[T]) exists() bool { return s.err == nil || s.unverified() }

func (s *session[T]) unverified() bool { return s.err != nil && errors.Is(s.err, ErrUnverified) }

// maxAge returns the cookie's Max-Age in seconds, or -1 for a cookie that ends
// with the browser.
func (s *session[T]) maxAge(now int64) int {
	if !s.terms.Persistent {
		return -1
	}
	left := s.record.created + s.lifetime() - now
	return max(1, int((left+999)/1000))
}

// fits returns ErrTooLarge with the sizes unless the session's cookie can be
// sent, also when its time of last use has grown to its longest encoding.
func (m *Manager[T]) fits(s *session[T], now int64) error {
	longest := s.record
	longest.lastUsed = longest.expires
	token := base64url.EncodedLen(overhead + longest.size())
	limit := m.format.maxTokenLen(s.maxAge(now))
	if token <= limit {
		return nil
	}
	budget := m.format.maxChunks * maxSetCookie
	return fmt.Errorf("%w: Set-Cookie would have %d bytes, more than %d", ErrTooLarge, token+budget-limit, budget)
}
