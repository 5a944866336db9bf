package sealed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sort"
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

// open opens a token and judges it at the time now. The session keeps buf, if
// that is large enough for it. For asked see Keyring.fetch.
func (m *Manager[T]) open(ctx context.Context, s *session[T], buf []byte, text, suffix string, now int64, asked *bool) {
	s.record, s.key, s.err = m.openRecord(ctx, buf, text, suffix, asked)
	if s.err != nil {
		return
	}
	s.issued = true
	if s.err = m.keys.fresh(); s.err != nil {
		return
	}
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

// begin gives the session a new ID and the deadlines of its terms.
func (m *Manager[T]) begin(ctx context.Context, s *session[T], now int64) error {
	rand.Read(s.record.id[:])
	s.issued = false
	s.record.created, s.record.lastUsed = now, 0
	s.record.expires = s.terms.Lifetime.Milliseconds()
	ahead, err := m.dateAhead(ctx, s)
	s.record.created += ahead
	s.record.expires -= ahead // it ends when it would have
	if err == nil && s.record.expires <= 0 {
		err = rejectRevoked
	}
	return err
}

// dateAhead returns by how many milliseconds to postdate a new session: by none,
// unless the revocation list would take it for one of those that the subject had
// before. That happens right after "log out everywhere": in the same millisecond,
// or on an instance whose clock is behind. The session is then dated just after
// that, if it is within the skew that every instance accepts. If it is not, the
// list means this session too.
func (m *Manager[T]) dateAhead(ctx context.Context, s *session[T]) (int64, error) {
	if m.config.Revocations == nil || s.subject == "" {
		return 0, nil
	}
	info := s.info()
	revoked := func(ahead int) bool {
		info.Created = unixMilli(s.record.created + int64(ahead))
		return errors.Is(m.config.Revocations.Check(ctx, info), ErrRevoked)
	}
	if !revoked(0) {
		return 0, nil
	}
	most := int(maxSkew.Milliseconds())
	if revoked(most) {
		return 0, rejectRevoked
	}
	return int64(sort.Search(most, func(ahead int) bool { return !revoked(ahead) })), nil
}

// judge judges a session that was opened earlier in its request again. Its answer
// may be out of date: a client can hold a request open for as long as the server
// lets it.
func (m *Manager[T]) judge(ctx context.Context, s *session[T], now int64, subject string) error {
	if err := s.expired(now); err != nil {
		return err
	}
	if m.config.Revocations == nil {
		return nil
	}
	info := s.info()
	info.Subject = subject
	return m.check(ctx, info)
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
