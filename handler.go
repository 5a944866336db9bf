package sealed

import (
	"context"
	"net/http"
	"time"
)

// A requestScope is one request as it passes through the middleware. It is one
// allocation, with all that the wrapped handler gets; the session's state follows
// when it is needed.
type requestScope[T any] struct {
	exchange exchange[T]
	request  http.Request // for the wrapped handler
	writer   responseWriter[T]
}

// requestContext is the context of the wrapped handler: that of the request, with
// the exchange. Its key is the manager's core, so that managers can be nested.
type requestContext[T any] struct{ exchange *exchange[T] }

func (c requestContext[T]) Value(key any) any {
	if k, ok := key.(*core[T]); ok && k == c.exchange.core {
		return c.exchange
	}
	return c.exchange.context().Value(key)
}

func (c requestContext[T]) Deadline() (time.Time, bool) { return c.exchange.context().Deadline() }
func (c requestContext[T]) Done() <-chan struct{}       { return c.exchange.context().Done() }
func (c requestContext[T]) Err() error                  { return c.exchange.context().Err() }

// handler is Manager.Handler.
func (c *core[T]) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if outer, ok := r.Context().Value(c).(*exchange[T]); ok && outer.serves(r) {
			next.ServeHTTP(w, r)
			return
		}
		s := &requestScope[T]{}
		s.exchange.core, s.exchange.request = c, r
		s.writer = responseWriter[T]{w, &s.exchange}
		copyWithContext(&s.request, r, requestContext[T]{&s.exchange})
		returned := false
		defer func() { s.finish(returned) }()
		next.ServeHTTP(s.writer.capable(), &s.request)
		returned = true
	})
}

// copyWithContext is r.WithContext into memory that is there: the compiler
// inlines it and keeps its copy on the stack.
func copyWithContext(dst, r *http.Request, ctx context.Context) {
	*dst = *r.WithContext(ctx)
}

// finish ends the exchange. It copies to the outer request what the server and outer
// handlers look for there: the form, whose temporary files the server deletes, and
// the pattern that a ServeMux matched.
func (s *requestScope[T]) finish(returned bool) {
	s.exchange.finish(s.writer.Header(), returned)
	outer := s.exchange.request
	if outer.Pattern != s.request.Pattern {
		outer.Pattern = s.request.Pattern
	}
	if outer.MultipartForm == nil && s.request.MultipartForm != nil {
		outer.MultipartForm = s.request.MultipartForm
	}
}
