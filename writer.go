package sealed

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A responseWriter is the writer of the wrapped handler: it commits the session before
// anything is sent.
type responseWriter[T any] struct {
	exchange *exchange[T]
	request  *http.Request // of the wrapped handler
}

func (w *responseWriter[T]) inner() http.ResponseWriter { return w.exchange.response }

func (w *responseWriter[T]) Header() http.Header { return w.inner().Header() }

// Unwrap gives access to what else the server's writer can do. What is sent by it goes
// past the commit, so from now on the headers follow every change of the session.
func (w *responseWriter[T]) Unwrap() http.ResponseWriter {
	w.exchange.bypass()
	return w.inner()
}

// beforeBody is called before a part of the body is sent, and so the headers.
func (w *responseWriter[T]) beforeBody() {
	if !w.exchange.sent.Load() {
		w.relayBodyLimit()
		w.exchange.commit()
		w.exchange.sent.Store(true)
	}
}

func (w *responseWriter[T]) WriteHeader(status int) {
	// An informational response is not the response (RFC 9110, section 15.2),
	// but 101 is the last one in HTTP.
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		if w.exchange.sent.Load() && logSuperfluous(w.exchange.request.Context()) {
			return
		}
		w.beforeBody()
	}
	w.inner().WriteHeader(status)
}

func (w *responseWriter[T]) Write(b []byte) (int, error) {
	w.beforeBody()
	return w.inner().Write(b)
}

func (w *responseWriter[T]) WriteString(s string) (int, error) {
	w.beforeBody()
	return io.WriteString(w.inner(), s)
}

// ReadFrom lets a copy reach the connection's own, which may be sendfile.
func (w *responseWriter[T]) ReadFrom(r io.Reader) (int64, error) {
	w.beforeBody()
	if rf, ok := w.inner().(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.inner()}, r)
}

// The methods of [http.ResponseController] that send nothing: it need not unwrap the
// writer for them.

func (w *responseWriter[T]) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(w.inner()).SetReadDeadline(t)
}

func (w *responseWriter[T]) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(w.inner()).SetWriteDeadline(t)
}

func (w *responseWriter[T]) EnableFullDuplex() error {
	return http.NewResponseController(w.inner()).EnableFullDuplex()
}

// The writer of a handler has the optional interfaces of the server's, and no
// others: handlers test for them. Each type holds one pointer, so making it an
// interface allocates nothing.
type (
	flushWriter[T any]      struct{ *responseWriter[T] }
	hijackWriter[T any]     struct{ flushWriter[T] }
	pushWriter[T any]       struct{ flushWriter[T] }
	hijackPushWriter[T any] struct{ hijackWriter[T] }
)

func (w flushWriter[T]) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] calls. A writer around the server's that
// cannot flush itself is told of the headers, as it may have its own to add.
func (w flushWriter[T]) FlushError() error {
	first := !w.exchange.sent.Load()
	w.beforeBody()
	switch inner := w.inner().(type) {
	case http.Flusher, interface{ FlushError() error }:
	default:
		if first {
			inner.WriteHeader(http.StatusOK)
		}
	}
	return http.NewResponseController(w.inner()).Flush()
}

// Hijack hands over the connection. The handler that takes it writes the response, and may not know
// of the session's cookie, which is then added to it: see hijackedConn.
func (w hijackWriter[T]) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	e := w.exchange
	e.commit()
	conn, rw, err := http.NewResponseController(w.inner()).Hijack()
	if err != nil {
		if !e.sent.Load() {
			e.uncommit()
		}
		return conn, rw, err
	}
	lines := slices.DeleteFunc(slices.Clone(w.Header()["Set-Cookie"]), func(line string) bool { return !e.owns(line) })
	if !e.sent.Swap(true) && len(lines) > 0 && e.action != leaveCookie {
		conn, rw = addCookies(conn, rw, lines)
	}
	return conn, rw, nil
}

func (w pushWriter[T]) Push(target string, opts *http.PushOptions) error {
	return w.inner().(http.Pusher).Push(target, opts)
}

func (w hijackPushWriter[T]) Push(target string, opts *http.PushOptions) error {
	return w.inner().(http.Pusher).Push(target, opts)
}

// capable returns w as the type that can do what the wrapped writer can, or one
// that [http.ResponseController] would find inside it: what it finds there and
// not here would go past the commit.
func (w *responseWriter[T]) capable() http.ResponseWriter {
	_, pushes := w.inner().(http.Pusher)
	hijacks, flushes := false, false
	for inner := w.inner(); !hijacks; {
		_, hijacks = inner.(http.Hijacker)
		if !flushes {
			switch inner.(type) {
			case http.Flusher, interface{ FlushError() error }:
				flushes = true
			}
		}
		if inner = unwrap(inner); inner == nil {
			break
		}
	}
	flush := flushWriter[T]{w}
	switch {
	case hijacks && pushes:
		return hijackPushWriter[T]{hijackWriter[T]{flush}}
	case hijacks:
		return hijackWriter[T]{flush}
	case pushes:
		return pushWriter[T]{flush}
	case flushes:
		return flush
	}
	return w
}

// unwrap returns the writer inside another, or nil. One of ours is only looked at.
func unwrap(w http.ResponseWriter) http.ResponseWriter {
	outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
	if !ok {
		return nil
	}
	if ours, ok := w.(interface{ inner() http.ResponseWriter }); ok {
		return ours.inner()
	}
	return outer.Unwrap()
}

var limitedBody = reflect.TypeOf(http.MaxBytesReader(nil, nil, 0))

// relayBodyLimit tells the server if the handler has met the end of its
// [http.MaxBytesReader], which could not find the server's writer in ours: the
// connection is then to be closed, since the rest of the body is still on it.
func (w *responseWriter[T]) relayBodyLimit() {
	body := w.request.Body
	if body == nil || reflect.TypeOf(body) != limitedBody {
		return
	}
	// A reader past its limit repeats its error; for no bytes it reads nothing.
	if _, err := body.Read(nil); err != nil && isBodyLimit(err) {
		over := http.MaxBytesReader(w.inner(), io.NopCloser(strings.NewReader("x")), 0)
		_, _ = io.ReadAll(over) // exceeds it, which tells the server
	}
}

func isBodyLimit(err error) bool {
	_, ok := err.(*http.MaxBytesError)
	return ok
}
