package sealed

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// commit completes the response's headers before they are sent, once. Who writes at
// the same time waits: the headers must not leave before they are complete.
func (e *exchange[T]) commit(h http.Header) {
	if e.committed.Load() {
		return // spares later writes the lock
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.committed.Load() && !e.finished {
		defer e.committed.Store(true)
		e.complete(h)
	}
}

// finish ends the exchange: what is changed later could not be sent. It commits
// unless the handler has panicked.
func (e *exchange[T]) finish(h http.Header, returned bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished = true
	if returned && !e.committed.Load() {
		e.complete(h)
	}
}

// serves reports whether the exchange is r's too: it is still under way, and r
// carries the same cookies. A handler may serve requests that it makes up, with
// the context of its own, for somebody else.
func (e *exchange[T]) serves(r *http.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.finished && slices.Equal(e.request.Header["Cookie"], r.Header["Cookie"])
}

// complete sets the headers that follow from the session, if it was asked for.
func (e *exchange[T]) complete(h http.Header) {
	if e.state == nil {
		return
	}
	lines, sealed := e.setCookies(e.request.Context())
	if e.action == leaveCookie {
		varyByCookie(h)
		return
	}
	replaceCookies(h, lines, e.cookies.owns)
	if e.observe != nil && sealed.Kind != "" {
		e.observe(e.request.Context(), sealed)
	}
}

// refresh has a session that was only read set a new cookie if it needs one: its
// last use is to be recorded, or another key than its own seals now.
func (e *exchange[T]) refresh(key *ringKey) {
	s := &e.session
	if !s.issued || e.action != leaveCookie {
		return
	}
	due := s.touchDue(e.readAt) && !e.prefetched()
	if !due && key.key.id == s.key.key.id || e.keys.checkExpiry() != nil {
		return
	}
	next := *s
	if due {
		next.touch(e.readAt)
	}
	if e.cookies.fits(next.record, next.maxAge(e.readAt)) != nil {
		return // the configuration leaves less room than before: keep the cookie
	}
	*s, e.action = next, setCookie
}

// setCookies returns the Set-Cookie lines of the response, if any, and the event
// to report when they are set.
func (e *exchange[T]) setCookies(ctx context.Context) (lines []string, sealed Event) {
	s, now := &e.session, time.Now().UnixMilli()
	var key *ringKey
	if s.err == nil {
		var compromised error
		if key, compromised = e.keys.sealingKey(s.key, now); compromised != nil {
			e.drop(ctx, compromised)
		} else {
			e.refresh(key)
		}
	}
	switch e.action {
	case deleteCookie:
		if e.hasCookie {
			lines = append([]string{e.cookies.deletion()}, e.cookies.deletions(e.numbered)...)
		}
	case setCookie:
		lines = e.cookies.lines(e.cookie.seal(&s.record, key), s.maxAge(now), e.numbered)
		sealed = Event{Kind: EventSealed, ID: s.record.id, KeyID: key.text}
		for _, line := range lines {
			sealed.Bytes += len(line)
		}
	}
	return lines, sealed
}
