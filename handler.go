package sealed

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// An exchange is one request and its response. It is one allocation, with all
// that the wrapped handler gets; the session's state follows when it is needed.
type exchange[T any] struct {
	m       *Manager[T]
	request http.Request // for the wrapped handler
	context requestContext[T]
	writer  responseWriter[T]

	mu        sync.Mutex
	committed atomic.Bool // the headers are complete; changed under mu
	finished  bool        // the handler has returned or panicked
	*state[T]             // nil until the session is asked for
}

// requestContext is the context of the wrapped handler. Its key is the manager
// itself, so that managers can be nested.
type requestContext[T any] struct {
	context.Context
	exchange *exchange[T]
}

func (c *requestContext[T]) Value(key any) any {
	if m, ok := key.(*Manager[T]); ok && m == c.exchange.m {
		return c.exchange
	}
	return c.Context.Value(key)
}

func (m *Manager[T]) exchange(ctx context.Context) (*exchange[T], error) {
	if e, ok := ctx.Value(m).(*exchange[T]); ok {
		return e, nil
	}
	return nil, ErrNoHandler
}

// Handler returns a handler that gives next access to the session by the
// request's context. It decrypts nothing until the session is asked for.
//
// The cookie is set when next sends its headers: at the first WriteHeader (but
// not for an informational status, such as 103 Early Hints), Write, ReadFrom,
// Flush or Hijack, or when it returns. If it panics before, nothing is set. The
// writer that next gets can flush, hijack, push and copy by [io.ReaderFrom]
// exactly if the server's can, also through [http.ResponseController].
//
// A response whose handler read the session gets "Vary: Cookie"; one that sets
// the cookie gets "Cache-Control: no-store", unless next has chosen private or
// no-store, so that no cache can hand a session to somebody else (RFC 9111,
// section 7.3). After a hijack, next writes the headers itself: they are in
// Header.
//
// Handlers may be nested: those of one manager share one session per request.
// Nested managers need cookies of different names.
func (m *Manager[T]) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if outer, err := m.exchange(r.Context()); err == nil && outer.serves(r) {
			next.ServeHTTP(w, r)
			return
		}
		e := &exchange[T]{m: m}
		e.context = requestContext[T]{r.Context(), e}
		e.writer = responseWriter[T]{w, e}
		copyWithContext(&e.request, r, &e.context)
		returned := false
		defer func() { e.finish(r, returned) }()
		next.ServeHTTP(e.writer.capable(), &e.request)
		returned = true
	})
}

// copyWithContext is r.WithContext into memory that is there: the compiler
// inlines it and keeps its copy on the stack.
func copyWithContext(dst, r *http.Request, ctx context.Context) {
	*dst = *r.WithContext(ctx)
}

// serves reports whether the exchange is r's too: it is still under way, and r
// carries the same cookies. A handler may serve requests that it makes up, with
// the context of its own, for somebody else.
func (e *exchange[T]) serves(r *http.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.finished && slices.Equal(e.request.Header["Cookie"], r.Header["Cookie"])
}

// finish ends the exchange: what is changed later could not be sent. It commits
// unless the handler has panicked. It copies to the outer request what the
// server and outer handlers look for there: the form, whose temporary files the
// server deletes, and the pattern that a ServeMux matched.
func (e *exchange[T]) finish(outer *http.Request, returned bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished = true
	if outer.Pattern != e.request.Pattern {
		outer.Pattern = e.request.Pattern
	}
	if outer.MultipartForm == nil && e.request.MultipartForm != nil {
		outer.MultipartForm = e.request.MultipartForm
	}
	if returned && e.state != nil && !e.committed.Load() {
		e.complete(e.writer.Header())
	}
}

// commit completes the response's headers before they are sent, once. Who writes
// meanwhile waits: the headers must not leave before they are complete.
func (e *exchange[T]) commit() {
	if e.committed.Load() {
		return // spares later writes the lock
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.committed.Load() && !e.finished {
		defer e.committed.Store(true)
		if e.state != nil {
			e.complete(e.writer.Header())
		}
	}
}
