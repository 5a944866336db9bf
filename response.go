package sealed

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// A response sets cookies when it is sent: this file decides which.

// commit completes the response's headers before they are sent, once. A handler that writes at
// the same time waits: the headers must not leave before they are complete.
func (e *exchange[T]) commit() {
	if e.committed.Load() {
		return // spares later writes the lock
	}
	if !e.mu.TryLock() && e.lock() != nil { // Update's function writes: Update will say that it is too late
		e.committed.Store(true)
		return
	}
	defer e.mu.Unlock()
	if e.committed.Load() {
		return
	}
	defer e.committed.Store(true)
	if e.finished {
		e.shield() // a page that is rendered after the handler, as of an error
	} else {
		e.complete()
	}
}

// uncommit takes back a commit after which nothing could be sent.
func (e *exchange[T]) uncommit() {
	if e.lock() == nil {
		e.committed.Store(false)
		e.mu.Unlock()
	}
}

// bypass is called when somebody asks for the writer inside ours: what they send may
// go past the commit.
func (e *exchange[T]) bypass() {
	if e.lock() == nil {
		defer e.mu.Unlock()
		e.bypassed = true
		e.publish()
	}
}

// publish completes the headers after a read or a change already, if the commit may be
// bypassed. The last one before they are sent counts. What was only read is as it was
// after that: the commit, if it comes, decides by its own time.
func (e *exchange[T]) publish() {
	if !e.bypassed || e.state == nil || e.committed.Load() || e.finished || e.refusal == refuseAll {
		return
	}
	ctx := e.request.Context()
	before, action := e.session, e.action
	e.refresh(ctx)
	lines, _ := e.setCookies(ctx)
	e.setHeaders(lines)
	e.offer()
	if action == leaveCookie && e.action == setCookie {
		e.session, e.action = before, action
	}
}

// unpublish takes back the cookies of a handler that has panicked.
func (e *exchange[T]) unpublish() {
	if e.bypassed && e.state != nil && !e.committed.Load() {
		h := e.response.Header()
		h["Set-Cookie"] = slices.DeleteFunc(slices.Clone(h["Set-Cookie"]), e.owns)
	}
}

// A writtenWriter knows whether the response was sent. Frameworks that have one, such as
// gin, hand it to handlers as well, which then write past ours.
type writtenWriter interface{ Written() bool }

// follow has the headers follow every read and change if the writer is such a one.
func (e *exchange[T]) follow() {
	if w, ok := e.response.(writtenWriter); ok {
		e.bypassed, e.written = true, w.Written
	}
}

// serves reports whether the exchange is r's too: it is still under way, and r
// carries the same cookies. A handler may serve requests that it makes up, with
// the context of its own, for somebody else.
func (e *exchange[T]) serves(r *http.Request) (same, underWay bool) {
	if e.lock() != nil {
		return false, false
	}
	defer e.mu.Unlock()
	return !e.finished && slices.Equal(e.request.Header["Cookie"], r.Header["Cookie"]), !e.finished
}

// writer returns the writer that the response goes to.
func (e *exchange[T]) writer() http.ResponseWriter { return e.response }

// complete sets the headers that follow from the session, if it was asked for.
func (e *exchange[T]) complete() {
	if e.state == nil || e.refusal == refuseAll {
		return
	}
	ctx := e.request.Context()
	e.refresh(ctx)
	e.finishImport(ctx)
	e.finishBinding(ctx)
	lines, sealed := e.setCookies(ctx)
	e.setHeaders(lines)
	e.offer()
	if e.observe != nil && sealed.Kind != "" {
		e.tell(ctx, sealed)
	}
}

// setHeaders sets what a response needs that read the session, or changed it.
func (e *exchange[T]) setHeaders(lines []string) {
	h := e.response.Header()
	if len(lines) > 0 || e.action != leaveCookie || e.bypassed {
		setCookieHeaders(h, lines, e.owns, &e.headers)
	} else {
		shieldResponse(h, false, &e.headers)
	}
}

// shield keeps caches from giving the response to others, if it has read the session.
func (e *exchange[T]) shield() {
	if e.state != nil {
		shieldResponse(e.response.Header(), false, &e.headers)
	}
}

// soon is how long a response may take to set a cookie that no handler asked for.
const soon = 2 * time.Second

// refresh has a session that was only read set a new cookie if it needs one: its last
// use is to be recorded, or another key than its own seals now.
//
// The visitor may have logged in since the session was read, and this response would
// bring the old session back. So a slow one leaves that to a faster one. Only if there
// seems to be none, and the session is about to go idle, or its key was replaced a day
// ago and may be removed, it sets the cookie all the same.
func (e *exchange[T]) refresh(ctx context.Context) {
	s := &e.session
	if s.err != nil || !s.issued || e.action != leaveCookie || e.refusal != refuseNothing || e.quiet {
		return
	}
	key, compromised := e.keys.sealingKey(s.key, e.readAt)
	if compromised != nil {
		e.drop(ctx, compromised)
		return
	}
	touch := e.used && s.touchDue(e.readAt, 1) && !IsPrefetch(e.request)
	newKey := s.key != nil && key.key.id != s.key.key.id
	reseal := newKey || s.former || s.imported || s.rebound
	if !touch && !reseal {
		return
	}
	now := time.Now().UnixMilli()
	if now-e.readAt > soon.Milliseconds() {
		touch = touch && s.touchDue(now, 3)
		reseal = newKey && !key.activates.IsZero() && now-key.activates.UnixMilli() >= dayMilli
	}
	if !touch && !reseal || e.keys.checkExpiry() != nil || e.judge(ctx, now) != nil {
		return
	}
	next := *s
	if touch {
		next.touch(e.readAt)
	}
	if err := e.cookies.fits(next.record, next.terms.Persistent); err != nil {
		if s.imported {
			e.tell(ctx, Event{Kind: EventImportFailed, ID: s.record.id, Err: err})
		}
		return // the configuration leaves less room than before: keep the cookie
	}
	*s, e.action = next, setCookie
}

const dayMilli = 24 * 3600 * 1000

// setCookies returns the Set-Cookie lines of the response, if any, and the event
// to report when they are set. A session that has ended since it was read, or
// changed, is left alone: its cookie would take the place of the browser's next one.
func (e *exchange[T]) setCookies(ctx context.Context) (lines []string, sealed Event) {
	s := &e.session
	var now int64
	var key *ringKey
	if e.action == setCookie {
		now = time.Now().UnixMilli()
		var ended error
		if key, ended = e.keys.sealingKey(s.key, now); ended == nil {
			ended = e.judge(ctx, now)
		}
		if ended != nil && !isUnverified(ended) { // one that may have ended keeps the changes that were accepted
			e.drop(ctx, ended)
		}
	}
	switch {
	case e.action == setCookie:
		maxAge := -1 // it ends with the browser
		if s.terms.Persistent {
			maxAge = s.secondsLeft(now)
		}
		lines = e.cookies.lines(e.cookie.seal(&s.record, key), maxAge, e.numbered)
		sealed = Event{Kind: EventSealed, ID: s.record.id, KeyID: key.text}
		for _, line := range lines {
			sealed.Bytes += len(line)
		}
		lines = append(lines, e.leftovers...)
	case e.hasCookie && (e.action == deleteCookie || e.dead && s.err != nil):
		lines = append([]string{e.cookies.deletion()}, e.cookies.deletions(e.numbered)...)
		lines = append(lines, e.leftovers...)
	}
	if e.deleteOld {
		lines = append(lines, e.importer.cookies.deletion())
	}
	return append(lines, e.deviceLines()...), sealed
}

// judge judges the session again: it may have ended since it was read.
func (e *exchange[T]) judge(ctx context.Context, now int64) (err error) {
	e.callList(func() { err = e.policy.judge(ctx, &e.session, now) })
	return err
}
