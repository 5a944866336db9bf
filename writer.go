package sealed

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// A responseWriter commits the session before anything is sent.
type responseWriter struct {
	http.ResponseWriter
	session committer
}

type committer interface{ commit() }

// Unwrap lets [http.ResponseController] reach the deadlines of the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) WriteHeader(status int) {
	// An informational response is not the response (RFC 9110, section 15.2),
	// but 101 is the last one in HTTP.
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		w.session.commit()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	w.session.commit()
	return w.ResponseWriter.Write(b)
}

func (w *responseWriter) WriteString(s string) (int, error) {
	w.session.commit()
	return io.WriteString(w.ResponseWriter, s)
}

// ReadFrom lets a copy reach the connection's own, which may be sendfile.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.session.commit()
	if rf, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
}

// The writer of a handler has the optional interfaces of the server's, and no
// others: handlers test for them. Each type holds one pointer, so making it an
// interface allocates nothing.
type (
	flushWriter      struct{ *responseWriter }
	hijackWriter     struct{ flushWriter }
	pushWriter       struct{ flushWriter }
	hijackPushWriter struct{ hijackWriter }
)

func (w flushWriter) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] calls.
func (w flushWriter) FlushError() error {
	w.session.commit()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.session.commit()
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

func (w pushWriter) Push(target string, opts *http.PushOptions) error {
	return w.ResponseWriter.(http.Pusher).Push(target, opts)
}

func (w hijackPushWriter) Push(target string, opts *http.PushOptions) error {
	return w.ResponseWriter.(http.Pusher).Push(target, opts)
}

// capable returns w as the type that can do what the wrapped writer can, or one
// that [http.ResponseController] would find inside it: what it finds there and
// not here would go past the commit.
func (w *responseWriter) capable() http.ResponseWriter {
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
	flush := flushWriter{w}
	switch {
	case hijacks && pushes:
		return hijackPushWriter{hijackWriter{flush}}
	case hijacks:
		return hijackWriter{flush}
	case pushes:
		return pushWriter{flush}
	case flushes:
		return flush
	}
	return w
}
