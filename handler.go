package sealed

import (
	"context"
	"net/http"
	"slices"
)

// A requestScope is one request as it passes through the middleware. It is one
// allocation, with all that the wrapped handler gets; the session's state follows
// when it is needed.
type requestScope[T any] struct {
	exchange exchange[T]
	request  http.Request // for the wrapped handler
	context  requestContext[T]
	writer   responseWriter
}

// requestContext is the context of the wrapped handler. Its key is the manager's
// core, so that managers can be nested.
type requestContext[T any] struct {
	context.Context
	scope *requestScope[T]
}

func (c *requestContext[T]) Value(key any) any {
	if k, ok := key.(*core[T]); ok && k == c.scope.exchange.core {
		return c.scope
	}
	return c.Context.Value(key)
}

// handler is Manager.Handler.
func (c *core[T]) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if outer, ok := r.Context().Value(c).(*requestScope[T]); ok && outer.serves(r) {
			next.ServeHTTP(w, r)
			return
		}
		s := &requestScope[T]{}
		s.exchange.core, s.exchange.header = c, r.Header
		s.context = requestContext[T]{r.Context(), s}
		s.writer = responseWriter{w, s}
		copyWithContext(&s.request, r, &s.context)
		returned := false
		defer func() { s.finish(r, returned) }()
		next.ServeHTTP(s.writer.capable(), &s.request)
		returned = true
	})
}

// copyWithContext is r.WithContext into memory that is there: the compiler
// inlines it and keeps its copy on the stack.
func copyWithContext(dst, r *http.Request, ctx context.Context) {
	*dst = *r.WithContext(ctx)
}

// serves reports whether the scope is r's too: it is still under way, and r
// carries the same cookies. A handler may serve requests that it makes up, with
// the context of its own, for somebody else.
func (s *requestScope[T]) serves(r *http.Request) bool {
	s.exchange.mu.Lock()
	defer s.exchange.mu.Unlock()
	return !s.exchange.finished && slices.Equal(s.exchange.header["Cookie"], r.Header["Cookie"])
}

// finish ends the exchange: what is changed later could not be sent. It commits
// unless the handler has panicked. It copies to the outer request what the
// server and outer handlers look for there: the form, whose temporary files the
// server deletes, and the pattern that a ServeMux matched.
func (s *requestScope[T]) finish(outer *http.Request, returned bool) {
	s.exchange.mu.Lock()
	defer s.exchange.mu.Unlock()
	s.exchange.finished = true
	if outer.Pattern != s.request.Pattern {
		outer.Pattern = s.request.Pattern
	}
	if outer.MultipartForm == nil && s.request.MultipartForm != nil {
		outer.MultipartForm = s.request.MultipartForm
	}
	if returned && !s.exchange.committed.Load() {
		s.complete()
	}
}

// commit completes the response's headers before they are sent, once. Who writes
// at the same time waits: the headers must not leave before they are complete.
func (s *requestScope[T]) commit() {
	if s.exchange.committed.Load() {
		return // spares later writes the lock
	}
	s.exchange.mu.Lock()
	defer s.exchange.mu.Unlock()
	if !s.exchange.committed.Load() && !s.exchange.finished {
		defer s.exchange.committed.Store(true)
		s.complete()
	}
}

// complete sets the headers that follow from the session, if it was asked for.
func (s *requestScope[T]) complete() {
	e, ctx := &s.exchange, s.context.Context
	if e.state == nil {
		return
	}
	lines, sealed := e.setCookies(ctx)
	if h := s.writer.Header(); e.action == leaveCookie {
		varyByCookie(h)
	} else {
		replaceCookies(h, lines, e.cookies.owns)
	}
	if e.observe != nil && sealed.Kind != "" {
		e.observe.tell(ctx, sealed)
	}
}
