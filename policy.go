package sealed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sort"
)

func (m *Manager[T]) subject(v *T) string {
	if m.config.Subject == nil {
		return ""
	}
	return m.config.Subject(*v)
}

// termsOf returns the terms of a session, checked.
func (m *Manager[T]) termsOf(v *T) (*Terms, error) {
	if m.config.TermsFor == nil {
		return &m.terms, nil
	}
	t := m.config.TermsFor(*v)
	if t == (Terms{}) {
		return &m.terms, nil
	}
	if t.Lifetime == 0 {
		t.Lifetime = m.terms.Lifetime
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("sealed: Config.TermsFor: %w", err)
	}
	return &t, nil
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
