package sealed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// This file is how an exchange changes its session: Update, Renew and Destroy.

// lockForChange is lock for those who change the session.
func (e *exchange[T]) lockForChange() error {
	switch {
	case e.refusal == refuseAll:
		return errSameName
	case e.mu.TryLock():
		return nil
	}
	return e.lock()
}

// prepareChange loads the session, and refuses changes that could not reach the
// client. Apart from that, expired says whether the keyring has.
func (e *exchange[T]) prepareChange(ctx context.Context, forChange bool) (expired, err error) {
	if err := e.unchangeable(); err != nil {
		if errors.Is(err, ErrCommitted) {
			e.tell(ctx, Event{Kind: EventLateChange, Err: err})
		}
		return nil, err
	}
	e.ask(ctx, forChange, true)
	expired, compromised := e.keys.recheck(e.session.key)
	if compromised != nil {
		e.drop(ctx, compromised)
	}
	return expired, nil
}

// unchangeable says why a change could not reach the client, or not the right one.
func (e *exchange[T]) unchangeable() error {
	switch {
	case e.committed.Load(), e.written != nil && e.written():
		return ErrCommitted
	case e.finished:
		return errFinished
	case e.refusal == refuseToChange:
		return errCookiesChanged
	}
	return nil
}

// checkContext says that the request is over: nobody waits for its response. Apart from
// the request's context, it asks ctx, which the application may have derived with an
// earlier end, or without one.
func (e *exchange[T]) checkContext(ctx context.Context) error {
	if _, same := ctx.(requestContext[T]); same || ctx.Err() == nil {
		ctx = e.request.Context()
	}
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("sealed: the request has ended: %w", context.Cause(ctx))
}

func (e *exchange[T]) update(ctx context.Context, change func(*T)) error {
	if err := e.lockForChange(); err != nil {
		return err
	}
	defer e.mu.Unlock()
	justRead := e.state == nil
	expired, err := e.prepareChange(ctx, true)
	if err == nil {
		err = e.checkContext(ctx)
	}
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	switch s := &e.session; {
	case errors.Is(s.err, ErrUnverified):
		return s.err
	case expired != nil:
		return expired
	case s.err != nil && !e.hasCookie && !e.insidePath():
		return errOutsidePath
	case s.err != nil && !e.hasCookie && e.cookies.withheld(e.request):
		return ErrCrossSite
	case s.err == nil && (!justRead || s.renewed):
		if err := e.judgeBut(ctx, now); err != nil {
			return err
		}
	}
	var next session[T]
	before, err := e.apply(change, &next)
	if err == nil && isUnproven(e.session.err) && next.subject == "" {
		err = e.session.err // it is somebody's, and not lost
	}
	if err != nil || bytes.Equal(next.record.data, before) {
		return err
	}
	if err := e.unchangeable(); err != nil {
		return err // change has used the ResponseWriter
	}
	switch s := &e.session; {
	case e.begun && bytes.Equal(next.record.data, e.policy.payload.zero):
		e.forget() // it holds nothing again: there is nothing to send
	case s.err != nil || next.subject != s.subject:
		err = e.renewAs(ctx, &next, now)
	default:
		// After its own RevokeSubject the session can be renewed only.
		if e.exempt != nil {
			err = e.judge(ctx, now)
		}
		if !IsPrefetch(e.request) {
			next.touch(now)
		}
		if err == nil {
			err = e.setSession(&next)
		}
	}
	if e.bypassed {
		e.publish()
	}
	return err
}

// apply sets next to what change makes of the session, and returns the session's data
// before.
func (e *exchange[T]) apply(change func(*T), next *session[T]) (before []byte, err error) {
	var v T
	whole := true
	before = e.policy.payload.zero
	if e.session.err == nil {
		if v, whole, err = e.copyForChange(); err != nil {
			return nil, err
		}
		*next, before = e.session, e.session.record.data
	}
	e.calling.Store(true) // as callOut does
	defer e.calling.Store(false)
	change(&v)
	if err := e.policy.setData(next, &v); err != nil {
		return nil, err
	}
	if left := e.session.subject; !whole && (left == "" || left == next.subject) { // one's own data stays with one
		next.record.data = carryOver(reflect.TypeFor[T](), before, next.record.data, e.policy.payload.itemLen)
		next.whole = false
	}
	return before, nil
}

// copyForChange is copyData that also reports whether T has a field for all of it.
func (e *exchange[T]) copyForChange() (T, bool, error) {
	s := &e.session
	if s.whole {
		v, err := e.copyData()
		return v, true, err
	}
	var v T
	var err error
	s.whole, err = e.policy.payload.decodeForChange(s.record.data, &v)
	return v, s.whole, err
}

// insidePath reports whether browsers send the session's cookie with the request.
func (e *exchange[T]) insidePath() bool {
	sent, _, _ := strings.Cut(e.request.RequestURI, "?")
	return e.cookies.covers(sent) || e.cookies.covers(e.request.URL.Path)
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
	if err := e.lockForChange(); err != nil {
		return err
	}
	defer e.mu.Unlock()
	expired, err := e.prepareChange(ctx, false)
	if err == nil {
		err = cmp.Or(e.session.err, expired, e.checkContext(ctx))
	}
	if err != nil {
		return err
	}
	now := waitPast(e.exempt).UnixMilli()
	if err := e.judgeBut(ctx, now); err != nil {
		return err
	}
	next := e.session
	err = e.renewAs(ctx, &next, now)
	if e.bypassed {
		e.publish()
	}
	return err
}

// waitPast waits for the millisecond in which t lies to end, if that is now: sessions
// are dated to the millisecond, and one that begins after t must be told from those
// before. It returns the time; nil waits for nothing.
func waitPast(t *time.Time) time.Time {
	now := time.Now()
	if t == nil {
		return now
	}
	if end := t.Truncate(time.Millisecond).Add(time.Millisecond); now.Before(end) && end.Sub(now) <= time.Millisecond {
		time.Sleep(end.Sub(now))
		now = time.Now()
	}
	return now
}

// setSession makes next the request's session, if it fits.
func (e *exchange[T]) setSession(next *session[T]) error {
	if err := e.cookies.fits(next.record, next.terms.Persistent); err != nil {
		return err
	}
	e.begun = e.begun || e.session.err != nil
	if e.session.subject != next.subject {
		e.exempt = nil
	}
	e.session = *next
	e.action = setCookie
	return nil
}

// renewAs makes next the request's session under a new ID, and revokes the one
// before it, if that had a subject. Without Config.Subject any may have. The session
// before it was judged.
func (e *exchange[T]) renewAs(ctx context.Context, next *session[T], now int64) error {
	old := e.session
	if old.err == nil { // a copy from before the binding does not escape it by another ID
		var err error
		if e.callList(func() { err = e.judgeUnbound(ctx, &old, now) }); err != nil {
			return err
		}
	}
	if err := e.beginAs(ctx, next, now); err != nil {
		return err
	}
	if err := e.cookies.fits(next.record, next.terms.Persistent); err != nil {
		return err
	}
	if old.err == nil && old.issued {
		if !e.policy.somebodys(&old) {
			e.others = append(e.others, old)
		} else if err := e.revokeRenewed(ctx, &old, next); err != nil {
			return err
		}
	}
	if old.err == nil {
		e.tell(ctx, Event{Kind: EventRenewed, ID: next.record.id, PreviousID: old.record.id})
	}
	return e.setSession(next)
}

// beginAs begins the session next. One that goes on for the same subject is dated
// neither before the session that it follows nor past a revocation of that: if the
// subject's sessions were revoked a moment ago, so is it.
func (e *exchange[T]) beginAs(ctx context.Context, next *session[T], now int64) (err error) {
	old := &e.session
	if old.err != nil || old.subject == "" || next.subject != old.subject {
		e.callList(func() { err = e.policy.begin(ctx, next, now) })
		return err
	}
	created := max(now, old.record.created)
	if e.exempt != nil {
		created = max(created, e.exempt.UnixMilli()+1)
	}
	next.renew()
	if err := next.date(now, created); err != nil {
		return err
	}
	if e.revoking.underWay(next.subject) {
		return rejectRevoked // the list may not have it yet
	}
	e.callList(func() { err = e.policy.judge(ctx, next, now) })
	return err
}

// revokeRenewed revokes the session that next takes the place of: with a grace, if it is
// the same subject's. What can be read for that long is no more than its client has had.
func (e *exchange[T]) revokeRenewed(ctx context.Context, old, next *session[T]) (err error) {
	var from time.Time
	if e.policy.grace > 0 && next.subject == old.subject {
		from = time.Now().Add(e.policy.grace)
	}
	callOut(&e.calling, func() {
		err = e.revokeRecord(ctx, &old.record, from)
		if err == nil && next.record.binding != old.record.binding {
			err = e.revokeBinding(ctx, old.record.binding)
		}
	})
	e.dropProof = e.dropProof || next.record.binding != old.record.binding
	return err
}

func (e *exchange[T]) destroy(ctx context.Context) error {
	if err := e.lockForChange(); err != nil {
		return err
	}
	defer e.mu.Unlock()
	if _, err := e.prepareChange(ctx, false); err != nil {
		return err
	}
	s := &e.session
	if s.err == nil || s.usableByCopy() {
		e.tell(ctx, Event{Kind: EventDestroyed, ID: s.record.id})
	}
	if s.usableByCopy() {
		e.others = append(e.others, *s)
	}
	e.destroyed, e.dropProof = true, true
	e.forget()
	oldErr := e.endOld(ctx)
	e.deleteOld = e.deleteOld || oldErr != nil // this browser is logged out all the same
	if e.bypassed {
		e.publish()
	}
	if e.policy.list == nil {
		if e.tossed {
			return errors.Join(errOtherCookie, oldErr)
		}
		return oldErr
	}
	// The cookies of other paths that hold sessions, too: they would be the
	// visitor's session next. Those that fail stay for the next try. Nobody's
	// sessions are not for the list: strangers could fill it.
	errs := make([]error, len(e.others))
	callOut(&e.calling, func() {
		allAtOnce(len(errs), func(i int) { // one wait for all
			if other := &e.others[i]; e.policy.somebodys(other) {
				errs[i] = errors.Join(e.revokeRecord(ctx, &other.record, time.Time{}), e.revokeBinding(ctx, other.record.binding))
			}
		})
	})
	var failed []session[T]
	for i, err := range errs {
		if err != nil {
			failed = append(failed, e.others[i])
		}
	}
	e.others = failed
	return errors.Join(append(errs, oldErr)...)
}

// callEach is callOut in a goroutine of allAtOnce, which callOut has called.
//
//go:noinline
func callEach(f func(int), i int) { f(i) }

// allAtOnce calls f for 0 to n-1, and waits. A panic goes on in the caller: in another
// goroutine nobody could recover from it, and it would end the program.
func allAtOnce(n int, f func(int)) {
	panics := make(chan any, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					panics <- v
				}
			}()
			callEach(f, i)
		})
	}
	wg.Wait()
	if len(panics) > 0 {
		panic(<-panics)
	}
}

// judgeBut is judge, but for the request's own RevokeSubject.
func (e *exchange[T]) judgeBut(ctx context.Context, now int64) (err error) {
	e.callList(func() { err = e.policy.judgeBut(ctx, &e.session, now, e.exempt) })
	return err
}

// exemptOwn notes that this request revokes all sessions of a subject, at a time. If
// its own session is one of them, and nothing else ends it, it may be renewed after
// that. It returns the time, or a little later: when the session was created, by a
// clock that is ahead.
func (e *exchange[T]) exemptOwn(ctx context.Context, subject string, before time.Time, alone bool) (time.Time, error) {
	if err := e.begin(ctx, true); err != nil {
		return before, err
	}
	defer e.mu.Unlock()
	s := &e.session
	if s.err != nil || s.subject != subject {
		return before, nil
	}
	if created := unixMilli(s.record.created); created.After(before) {
		before = created
	}
	if alone && e.judgeBut(ctx, time.Now().UnixMilli()) == nil {
		e.exempt = &before
	}
	return before, nil
}
