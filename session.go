package sealed

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
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

// pending is what a response does to the cookie.
type pending uint8

const (
	leave pending = iota
	write
	remove
)

// state is what an exchange knows once its session was asked for.
type state[T any] struct {
	session  session[T]
	loaded   int64     // when it was asked for, as Unix time in milliseconds
	pending  pending   // what becomes of the cookie
	present  bool      // the request has a cookie of ours
	leftover uint32    // see presented
	others   []record  // further sessions among the request's cookies
	vary     [1]string // the Vary header, mostly
	buf      [144]byte // where a small session is opened
}

// load finds the request's session, once.
func (e *exchange[T]) load(ctx context.Context) {
	if e.state != nil {
		return
	}
	m := e.m
	var p presented
	m.format.scan(&p, e.request.Header["Cookie"])
	st := &state[T]{loaded: nowMilli(), present: p.present(), leftover: p.leftover}
	st.session.err = ErrNoSession
	for i, token := range p.tokens(&m.format) {
		if i == 0 {
			m.open(ctx, &st.session, st.buf[:0], token, m.cookieAssociated, st.loaded)
			continue
		}
		other := new(session[T])
		m.open(ctx, other, nil, token, m.cookieAssociated, st.loaded)
		m.prefer(ctx, st, other)
	}
	if p.named.count > 0 {
		m.observeOpened(ctx, &st.session)
	}
	if p.named.more > 0 {
		m.observe(ctx, Event{Kind: EventRejected, Reason: rejectDuplicate.reason, Err: rejectDuplicate})
	}
	e.state = st
}

// prefer keeps the better of the request's session and other, and reports the
// one that is not used.
func (m *Manager[T]) prefer(ctx context.Context, st *state[T], other *session[T]) {
	if other.usedLast(&st.session) {
		st.session, *other = *other, st.session
	}
	if other.exists() {
		st.others = append(st.others, other.record)
		other.err = rejectDuplicate
	}
	m.observeOpened(ctx, other)
}

func (e *exchange[T]) get(ctx context.Context) (T, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load(ctx)
	var v T
	if e.session.err != nil {
		return v, e.session.err
	}
	return e.m.take(&e.session)
}

func (e *exchange[T]) info(ctx context.Context) (Info, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load(ctx)
	if e.session.err != nil {
		return Info{}, e.session.err
	}
	return e.session.info(), nil
}

// changeable refuses changes that could not reach the client.
func (e *exchange[T]) changeable(ctx context.Context) error {
	if e.committed.Load() {
		e.m.observe(ctx, Event{Kind: EventLateChange, Err: ErrCommitted})
		return ErrCommitted
	}
	e.load(ctx)
	e.dropCompromised(ctx)
	return nil
}

// dropCompromised ends the request's session if its key was revoked since it
// was opened: to seal it anew would carry a forgery over to a good key.
func (e *exchange[T]) dropCompromised(ctx context.Context) {
	s := &e.session
	if s.err != nil || s.key == nil {
		return
	}
	if k := e.m.keys.find(s.key.key.id); k != nil && k.revoked {
		s.err, e.pending = rejectRevokedKey, leave
		e.m.observeOpened(ctx, s)
	}
}

func (e *exchange[T]) update(ctx context.Context, change func(*T)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.changeable(ctx); err != nil {
		return err
	}
	if e.session.unverified() {
		return e.session.err
	}
	var v T
	var err error
	var next session[T]
	before := e.m.zero
	if e.session.err == nil {
		if v, err = e.m.take(&e.session); err != nil {
			return err
		}
		next, before = e.session, e.session.record.data
	}
	change(&v)
	if err := e.m.put(&next, &v); err != nil {
		return err
	}
	if bytes.Equal(next.record.data, before) {
		return nil
	}
	now := nowMilli()
	if e.session.err != nil || next.subject != e.session.subject {
		e.m.begin(ctx, &next, now)
	} else if !e.prefetch() {
		next.touch(now)
	}
	return e.replace(ctx, &next, now)
}

func (e *exchange[T]) renew(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.changeable(ctx); err != nil {
		return err
	}
	if e.session.err != nil {
		return e.session.err
	}
	next, now := e.session, nowMilli()
	e.m.begin(ctx, &next, now)
	return e.replace(ctx, &next, now)
}

// replace makes next the request's session, if it fits and the one before it,
// where that has another ID, can be revoked.
func (e *exchange[T]) replace(ctx context.Context, next *session[T], now int64) error {
	if err := e.m.fits(next, now); err != nil {
		return err
	}
	if old := &e.session; old.err == nil && old.record.id != next.record.id {
		if old.subject != "" {
			if err := e.revoke(ctx, old); err != nil {
				return err
			}
		}
		e.m.observe(ctx, Event{Kind: EventRenewed, ID: next.record.id})
	}
	e.session = *next
	e.pending = write
	return nil
}

// revoke revokes a session, if any client can have it.
func (e *exchange[T]) revoke(ctx context.Context, s *session[T]) error {
	if !s.issued {
		return nil
	}
	return e.revokeRecord(ctx, s.record)
}

func (e *exchange[T]) revokeRecord(ctx context.Context, r record) error {
	if e.m.config.Revocations == nil {
		return nil
	}
	until := unixMilli(r.created + r.expires).Add(maxSkew)
	return e.m.revoke(ctx, Revocation{ID: r.id, Until: until})
}

func (e *exchange[T]) destroy(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.changeable(ctx); err != nil {
		return err
	}
	if s := &e.session; s.exists() {
		if s.issued {
			e.others = append(e.others, s.record)
		}
		e.m.observe(ctx, Event{Kind: EventDestroyed, ID: s.record.id})
	}
	e.session = session[T]{err: ErrNoSession}
	e.pending = remove

	// The cookies of other paths that hold sessions, too: they would be the
	// visitor's session next. Those that fail stay for the next try.
	var failed []record
	var errs []error
	for _, r := range e.others {
		if err := e.revokeRecord(ctx, r); err != nil {
			failed, errs = append(failed, r), append(errs, err)
		}
	}
	e.others = failed
	return errors.Join(errs...)
}

// refresh decides whether a session that was only read needs a new cookie: its
// last use is to be recorded, or it is sealed with a key that is retiring.
func (e *exchange[T]) refresh() {
	s := &e.session
	if e.pending != leave || s.err != nil || !s.issued {
		return
	}
	next := *s
	due := s.touchDue(e.loaded) && !e.prefetch()
	if due {
		next.touch(e.loaded)
	}
	reseal := e.m.keys.sealingKey(s.key, e.loaded).key.id != s.key.key.id
	if !due && !reseal {
		return
	}
	if e.m.fits(&next, e.loaded) != nil {
		return // the configuration leaves less room than before: keep the cookie
	}
	*s, e.pending = next, write
}

// prefetch reports whether nobody may ever see the response (Fetch, section
// "Sec-Purpose"; browsers send "prefetch", or "prefetch;prerender").
func (e *exchange[T]) prefetch() bool {
	for _, v := range e.request.Header["Sec-Purpose"] {
		if strings.HasPrefix(v, "prefetch") {
			return true
		}
	}
	return false
}

// setCookies returns the Set-Cookie lines of the response, if any.
func (e *exchange[T]) setCookies(ctx context.Context) []string {
	e.dropCompromised(ctx)
	e.refresh()
	f, s := &e.m.format, &e.session
	switch e.pending {
	case remove:
		if e.present {
			return append([]string{f.deletion()}, f.deletions(e.leftover)...)
		}
	case write:
		now := nowMilli()
		key := e.m.keys.sealingKey(s.key, now)
		lines := f.lines(e.m.sealRecord(&s.record, key, e.m.cookieAssociated), s.maxAge(now), e.leftover)
		e.observeSealed(ctx, key, lines)
		return lines
	}
	return nil
}

func (e *exchange[T]) observeSealed(ctx context.Context, key *ringKey, lines []string) {
	bytes := 0
	for _, line := range lines {
		bytes += len(line)
	}
	e.m.observe(ctx, Event{Kind: EventSealed, ID: e.session.record.id, KeyID: key.text, Bytes: bytes})
}
