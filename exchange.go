package sealed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An exchange is what one request does to its session, and what its response sets.
type exchange[T any] struct {
	*core[T]
	request *http.Request // as it came to the middleware

	mu        sync.Mutex
	committed atomic.Bool // the headers are complete; changed under mu
	finished  bool        // the handler has returned or panicked
	*state[T]             // nil until the session is asked for
}

func (e *exchange[T]) context() context.Context { return e.request.Context() }

// cookieAction is what a response does to the session's cookie.
type cookieAction uint8

const (
	leaveCookie cookieAction = iota
	setCookie
	deleteCookie
)

// state is what an exchange knows once its session was asked for.
type state[T any] struct {
	session   session[T]
	others    []record     // further sessions that the client has, for Destroy
	readAt    int64        // when it was asked for, as Unix time in milliseconds
	numbered  uint32       // see cookieHeader
	action    cookieAction // what becomes of the cookie
	hasCookie bool         // the request has a cookie of ours
	begun     bool         // the session was begun in this request: the client has none
	destroyed bool         // the cookie is to be deleted, if no session is begun
	exempt    bool         // this request has revoked all sessions of the subject

	buf [144]byte // where a small session is opened
}

// load finds the request's session, once.
func (e *exchange[T]) load(ctx context.Context) {
	if e.state != nil {
		return
	}
	var h cookieHeader
	e.cookies.scan(&h, e.request.Header["Cookie"])
	st := &state[T]{readAt: time.Now().UnixMilli(), hasCookie: h.named.count > 0 || h.numbered != 0, numbered: h.numbered}
	st.session.err = ErrNoSession
	var asked bool
	for i, token := range h.named.values[:h.named.count] {
		if i == 0 {
			e.policy.open(ctx, &st.session, &e.cookie, st.buf[:0], token, st.readAt, &asked)
			continue
		}
		other := new(session[T])
		e.policy.open(ctx, other, &e.cookie, nil, token, st.readAt, &asked)
		e.choose(ctx, st, other)
	}
	if h.named.count > 0 {
		e.tellOpened(ctx, &st.session)
	}
	if h.named.more > 0 {
		e.observe.tell(ctx, Event{Kind: EventRejected, Reason: rejectDuplicate.reason, Err: rejectDuplicate})
	}
	e.state = st
}

// choose makes the better of the request's session and other its session, and
// reports the one that is not used.
func (e *exchange[T]) choose(ctx context.Context, st *state[T], other *session[T]) {
	if other.preferredTo(&st.session) {
		st.session, *other = *other, st.session
	}
	if other.usableByCopy() {
		st.others = append(st.others, other.record)
	}
	if other.candidate() {
		other.err = rejectDuplicate
	}
	e.tellOpened(ctx, other)
}

func (e *exchange[T]) tellOpened(ctx context.Context, s *session[T]) {
	if e.observe != nil {
		e.observe.tell(ctx, s.event())
	}
}

func (e *exchange[T]) get(ctx context.Context) (v T, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load(ctx)
	if e.session.err != nil {
		return v, e.session.err
	}
	return e.copyData()
}

// copyData returns a copy of the session's data that nobody else has.
func (e *exchange[T]) copyData() (T, error) {
	s := &e.session
	if s.decoded {
		v := s.value
		var none T
		s.value, s.decoded = none, false
		return v, nil
	}
	var v T
	return v, e.policy.payload.decode(s.record.data, &v)
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

// exemptOwn notes that this request revokes a subject's sessions, and returns when
// its own was created, if it is one of them.
func (e *exchange[T]) exemptOwn(ctx context.Context, subject string) (created time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load(ctx)
	if e.session.err != nil || e.session.subject != subject {
		return time.Time{}
	}
	e.exempt = true
	return unixMilli(e.session.record.created)
}

// prepareChange loads the session, and refuses changes that could not reach the
// client. Apart from that, expired says whether the keyring has.
func (e *exchange[T]) prepareChange(ctx context.Context) (expired, err error) {
	if e.committed.Load() || e.finished {
		e.observe.tell(ctx, Event{Kind: EventLateChange, Err: ErrCommitted})
		return nil, ErrCommitted
	}
	e.load(ctx)
	expired, compromised := e.keys.recheck(e.session.key)
	e.drop(ctx, compromised)
	return expired, nil
}

// drop ends the request's session if its key was compromised since it was opened.
func (e *exchange[T]) drop(ctx context.Context, compromised error) {
	if s := &e.session; compromised != nil && s.err == nil {
		s.err, e.action = compromised, leaveCookie
		e.tellOpened(ctx, s)
	}
}

func (e *exchange[T]) update(ctx context.Context, change func(*T)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	expired, err := e.prepareChange(ctx)
	if err != nil {
		return err
	}
	if errors.Is(e.session.err, ErrUnverified) {
		return e.session.err
	}
	if expired != nil {
		return expired
	}
	var v T
	var next session[T]
	before := e.policy.payload.zero
	if e.session.err == nil {
		if v, err = e.copyData(); err != nil {
			return err
		}
		next, before = e.session, e.session.record.data
	}
	change(&v)
	if err := e.policy.setData(&next, &v); err != nil {
		return err
	}
	if bytes.Equal(next.record.data, before) {
		return nil
	}
	if e.begun && bytes.Equal(next.record.data, e.policy.payload.zero) {
		e.forget() // it holds nothing again: there is nothing to send
		return nil
	}
	now := time.Now().UnixMilli()
	if e.session.err != nil || next.subject != e.session.subject {
		return e.renewAs(ctx, &next, now)
	}
	if !e.prefetched() {
		next.touch(now)
	}
	return e.setSession(&next, now)
}

// forget takes back a session that was begun in this request.
func (e *exchange[T]) forget() {
	e.session = session[T]{err: ErrNoSession}
	e.begun, e.action = false, leaveCookie
	if e.destroyed {
		e.action = deleteCookie
	}
}

func (e *exchange[T]) renew(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	expired, err := e.prepareChange(ctx)
	if err != nil {
		return err
	}
	if err := cmp.Or(e.session.err, expired); err != nil {
		return err
	}
	next := e.session
	return e.renewAs(ctx, &next, time.Now().UnixMilli())
}

// setSession makes next the request's session, if it fits.
func (e *exchange[T]) setSession(next *session[T], now int64) error {
	if err := e.cookies.fits(next.record, next.maxAge(now)); err != nil {
		return err
	}
	e.begun = e.begun || e.session.err != nil
	e.exempt = e.exempt && e.session.subject == next.subject
	e.session = *next
	e.action = setCookie
	return nil
}

// renewAs makes next the request's session under a new ID, and revokes the one
// before it, if that had a subject. Without Config.Subject any may have.
func (e *exchange[T]) renewAs(ctx context.Context, next *session[T], now int64) error {
	old := e.session
	if old.err == nil && old.issued {
		// Check again: the session may have been revoked since it was opened, and
		// renewing it would resurrect it. The request that called RevokeSubject is
		// exempt, so that it can stay logged in.
		subject := old.subject
		if e.exempt {
			subject = ""
		}
		if err := e.policy.judge(ctx, &old, now, subject); err != nil {
			return err
		}
	}
	if err := e.policy.begin(ctx, next, now); err != nil {
		return err
	}
	if err := e.cookies.fits(next.record, next.maxAge(now)); err != nil {
		return err
	}
	if old.err == nil && old.issued {
		if old.subject == "" && e.policy.subject != nil {
			e.others = append(e.others, old.record) // nobody's: it ends with Destroy only
		} else if err := e.revokeSession(ctx, &old.record); err != nil {
			return err
		}
	}
	if old.err == nil {
		e.observe.tell(ctx, Event{Kind: EventRenewed, ID: next.record.id})
	}
	return e.setSession(next, now)
}

func (e *exchange[T]) destroy(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.prepareChange(ctx); err != nil {
		return err
	}
	s := &e.session
	if s.err == nil || s.usableByCopy() {
		e.observe.tell(ctx, Event{Kind: EventDestroyed, ID: s.record.id})
	}
	if s.usableByCopy() {
		e.others = append(e.others, s.record)
	}
	e.destroyed = true
	e.forget()

	// The cookies of other paths that hold sessions, too: they would be the
	// visitor's session next. Those that fail stay for the next try.
	var failed []record
	var errs []error
	for _, r := range e.others {
		if err := e.revokeSession(ctx, &r); err != nil {
			failed, errs = append(failed, r), append(errs, err)
		}
	}
	e.others = failed
	return errors.Join(errs...)
}

// prefetched reports whether nobody may ever see the response (Fetch, section
// "Sec-Purpose"; browsers send "prefetch", or "prefetch;prerender").
func (e *exchange[T]) prefetched() bool {
	for _, v := range e.request.Header["Sec-Purpose"] {
		if strings.HasPrefix(v, "prefetch") {
			return true
		}
	}
	return false
}
