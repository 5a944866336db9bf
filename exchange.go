package sealed

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"
)

// revokeTimeout bounds a revocation that goes on after the client has gone.
const revokeTimeout = 10 * time.Second

// pending is what a response does to the cookie.
type pending uint8

const (
	leave pending = iota
	write
	remove
)

// state is what an exchange knows once its session was asked for.
type state[T any] struct {
	session   session[T]
	others    []record // further sessions that the client has, for Destroy
	loaded    int64    // when it was asked for, as Unix time in milliseconds
	leftover  uint32   // see presented
	pending   pending  // what becomes of the cookie
	present   bool     // the request has a cookie of ours
	begun     bool     // the session was begun in this request: the client has none
	destroyed bool     // the cookie is to be deleted, if no session is begun
	exempt    bool     // this request has revoked all sessions of the subject

	buf [144]byte // where a small session is opened
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
	var asked bool
	for i, token := range p.tokens(&m.format) {
		if i == 0 {
			m.open(ctx, &st.session, st.buf[:0], token, m.cookieAssociated, st.loaded, &asked)
			continue
		}
		other := new(session[T])
		m.open(ctx, other, nil, token, m.cookieAssociated, st.loaded, &asked)
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
	if other.alive() {
		st.others = append(st.others, other.record)
	}
	if other.exists() {
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

// revokesSubject notes that this request revokes a subject's sessions, and
// returns when its own was created, if it is one of them.
func (e *exchange[T]) revokesSubject(ctx context.Context, subject string) (created time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load(ctx)
	if e.session.err != nil || e.session.subject != subject {
		return time.Time{}
	}
	e.exempt = true
	return unixMilli(e.session.record.created)
}

// changeable refuses changes that could not reach the client.
func (e *exchange[T]) changeable(ctx context.Context) error {
	if e.committed.Load() || e.finished {
		e.m.observe(ctx, Event{Kind: EventLateChange, Err: ErrCommitted})
		return ErrCommitted
	}
	e.load(ctx)
	e.dropCompromised(ctx)
	return nil
}

// dropCompromised ends the request's session if its key was revoked or removed
// since it was opened: to seal it anew would carry a forgery over to a good key.
func (e *exchange[T]) dropCompromised(ctx context.Context) {
	s := &e.session
	if s.err != nil || s.key == nil {
		return
	}
	switch k := e.m.keys.find(s.key.key.id); {
	case k == nil:
		s.err = rejectUnknownKey
	case k.revoked:
		s.err = rejectRevokedKey
	default:
		return
	}
	e.pending = leave
	e.m.observeOpened(ctx, s)
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
	if err := e.m.keys.fresh(); err != nil {
		return err
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
	if e.begun && bytes.Equal(next.record.data, e.m.zero) {
		e.forget() // it holds nothing again: there is nothing to send
		return nil
	}
	now := nowMilli()
	if e.session.err != nil || next.subject != e.session.subject {
		return e.replace(ctx, &next, now)
	}
	if !e.prefetch() {
		next.touch(now)
	}
	return e.keep(&next, now)
}

// forget takes back a session that was begun in this request.
func (e *exchange[T]) forget() {
	e.session = session[T]{err: ErrNoSession}
	e.begun, e.pending = false, leave
	if e.destroyed {
		e.pending = remove
	}
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
	if err := e.m.keys.fresh(); err != nil {
		return err
	}
	next := e.session
	return e.replace(ctx, &next, nowMilli())
}

// keep makes next the request's session, if it fits.
func (e *exchange[T]) keep(next *session[T], now int64) error {
	if err := e.m.fits(next, now); err != nil {
		return err
	}
	e.begun = e.begun || e.session.err != nil
	e.exempt = e.exempt && e.session.subject == next.subject
	e.session = *next
	e.pending = write
	return nil
}

// replace makes next the request's session under a new ID, and revokes the one
// before it, if that had a subject. Without Config.Subject any may have.
func (e *exchange[T]) replace(ctx context.Context, next *session[T], now int64) error {
	old := e.session
	if old.err == nil && old.issued {
		// A session that has ended since it was opened must not begin anew. The
		// request that revoked all of a subject's goes on with this one.
		subject := old.subject
		if e.exempt {
			subject = ""
		}
		if err := e.m.judge(ctx, &old, now, subject); err != nil {
			return err
		}
	}
	if err := e.m.begin(ctx, next, now); err != nil {
		return err
	}
	if err := e.m.fits(next, now); err != nil {
		return err
	}
	if old.err == nil && old.issued {
		if old.subject == "" && e.m.config.Subject != nil {
			e.others = append(e.others, old.record) // nobody's: it ends with Destroy only
		} else if err := e.revoke(ctx, old.record); err != nil {
			return err
		}
	}
	if old.err == nil {
		e.m.observe(ctx, Event{Kind: EventRenewed, ID: next.record.id})
	}
	return e.keep(next, now)
}

// revoke revokes one session. It does so even if the client has gone: who clicks
// on logout and closes the window is to be logged out.
func (e *exchange[T]) revoke(ctx context.Context, r record) error {
	if e.m.config.Revocations == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	until := unixMilli(r.created + r.expires).Add(maxSkew)
	return e.m.revoke(ctx, Revocation{ID: r.id, Until: until})
}

func (e *exchange[T]) destroy(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.changeable(ctx); err != nil {
		return err
	}
	s := &e.session
	if s.err == nil || s.alive() {
		e.m.observe(ctx, Event{Kind: EventDestroyed, ID: s.record.id})
	}
	if s.alive() {
		e.others = append(e.others, s.record)
	}
	e.destroyed = true
	e.forget()

	// The cookies of other paths that hold sessions, too: they would be the
	// visitor's session next. Those that fail stay for the next try.
	var failed []record
	var errs []error
	for _, r := range e.others {
		if err := e.revoke(ctx, r); err != nil {
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
	if e.pending != leave || s.err != nil || !s.issued || e.m.keys.fresh() != nil {
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

// setCookies returns the Set-Cookie lines of the response, if any, and the event
// to report when they are set.
func (e *exchange[T]) setCookies(ctx context.Context) (lines []string, sealed Event) {
	e.dropCompromised(ctx)
	e.refresh()
	f, s := &e.m.format, &e.session
	switch e.pending {
	case remove:
		if e.present {
			lines = append([]string{f.deletion()}, f.deletions(e.leftover)...)
		}
	case write:
		now := nowMilli()
		key := e.m.keys.sealingKey(s.key, now)
		lines = f.lines(e.m.sealRecord(&s.record, key, e.m.cookieAssociated), s.maxAge(now), e.leftover)
		sealed = Event{Kind: EventSealed, ID: s.record.id, KeyID: key.text}
		for _, line := range lines {
			sealed.Bytes += len(line)
		}
	}
	return lines, sealed
}
