package sealed

import (
	"context"
	"net/http"
	"reflect"
)

// A requestScope is one request as it passes through the middleware. It is one
// allocation, with all that the wrapped handler gets; the session's state follows
// when it is needed.
type requestScope[T any] struct {
	exchange exchange[T]
	request  http.Request // for the wrapped handler
	writer   responseWriter[T]
}

// handler is Manager.Handler.
func (c *core[T]) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused, passed := c.outer(w, r)
		if passed {
			next.ServeHTTP(w, r)
			return
		}
		s := &requestScope[T]{}
		s.exchange.core, s.exchange.request, s.exchange.response = c, r, w
		s.exchange.refusal = refused
		s.exchange.follow()
		s.writer = responseWriter[T]{&s.exchange, &s.request}
		copyWithContext(&s.request, r, requestContext[T]{&s.exchange})
		returned := false
		defer func() { s.finish(returned) }()
		if c.device.routes(r) {
			s.exchange.answerDevice(s.writer.capable(), &s.request)
		} else {
			next.ServeHTTP(s.writer.capable(), &s.request)
		}
		returned = true
	})
}

// outer looks for a handler around this one that has a cookie of the same name. passed
// says that it is one of this manager and serves this request already.
func (c *core[T]) outer(w http.ResponseWriter, r *http.Request) (refused refusal, passed bool) {
	outer, ok := r.Context().Value(c.owner).(interface {
		serves(*http.Request) (same, underWay bool)
		writer() http.ResponseWriter
	})
	if !ok {
		return refuseNothing, false
	}
	same, underWay := outer.serves(r)
	e, own := outer.(*exchange[T])
	switch own = own && e.core == c; {
	case same && own:
		return refuseNothing, true
	case same:
		return refuseAll, false
	case underWay && sameHeader(outer.writer(), w):
		return refuseToChange, false
	}
	return refuseNothing, false
}

// sameHeader reports whether two writers write one response.
func sameHeader(a, b http.ResponseWriter) bool {
	return reflect.ValueOf(a.Header()).Pointer() == reflect.ValueOf(b.Header()).Pointer()
}

// copyWithContext is r.WithContext into memory that is there: the compiler
// inlines it and keeps its copy on the stack.
func copyWithContext(dst, r *http.Request, ctx context.Context) {
	*dst = *r.WithContext(ctx)
}

// finish ends the exchange: what is changed later could not be sent. It completes the
// headers unless the handler has panicked. It copies to the outer request what the
// server and outer handlers look for there: the form, whose temporary files the server
// deletes, and the pattern that a ServeMux matched.
func (s *requestScope[T]) finish(returned bool) {
	if !s.exchange.sent.Load() {
		s.writer.relayBodyLimit()
	}
	e := &s.exchange
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished = true
	switch {
	case !returned:
		e.unpublish()
	case !e.committed.Load():
		e.complete()
	}
	outer := e.request
	if outer.Pattern != s.request.Pattern {
		outer.Pattern = s.request.Pattern
	}
	if outer.MultipartForm == nil && s.request.MultipartForm != nil {
		outer.MultipartForm = s.request.MultipartForm
	}
}
