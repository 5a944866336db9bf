package sealed

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// A responseWriter commits the session before anything is sent.
type responseWriter[T any] struct {
	http.ResponseWriter
	exchange *exchange[T]
}

// Unwrap lets [http.ResponseController] reach the deadlines of the connection.
func (w *responseWriter[T]) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter[T]) WriteHeader(status int) {
	// An informational response is not the response (RFC 9110, section 15.2),
	// but 101 is the last one in HTTP.
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		w.exchange.commit(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter[T]) Write(b []byte) (int, error) {
	w.exchange.commit(w.Header())
	return w.ResponseWriter.Write(b)
}

func (w *responseWriter[T]) WriteString(s string) (int, error) {
	w.exchange.commit(w.Header())
	return io.WriteString(w.ResponseWriter, s)
}

// ReadFrom lets a copy reach the connection's own, which may be sendfile.
func (w *responseWriter[T]) ReadFrom(r io.Reader) (int64, error) {
	w.exchange.commit(w.Header())
	if rf, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
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

// FlushError is what [http.ResponseController] calls.
func (w flushWriter[T]) FlushError() error {
	w.exchange.commit(w.Header())
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w hijackWriter[T]) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.exchange.commit(w.Header())
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

func (w pushWriter[T]) Push(target string, opts *http.PushOptions) error {
	return w.ResponseWriter.(http.Pusher).Push(target, opts)
}

func (w hijackPushWriter[T]) Push(target string, opts *http.PushOptions) error {
	return w.ResponseWriter.(http.Pusher).Push(target, opts)
}

// capable returns w as the type that can do what the wrapped writer can, or one
// that [http.ResponseController] would find inside it: what it finds there and
// not here would go past the commit.
func (w *responseWriter[T]) capable() http.ResponseWriter {
	_, pushes := w.ResponseWriter.(http.Pusher)
	hijacks, flushes := false, false
	for inner := w.ResponseWriter; !hijacks; {
		_, hijacks = inner.(http.Hijacker)
		if !flushes {
			switch inner.(type) {
			case http.Flusher, interface{ FlushError() error }:
				flushes = true
			}
		}
		unwrapper, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		inner = unwrapper.Unwrap()
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
