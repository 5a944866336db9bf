package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
)

// What the handler can do with its writer works, too.
func TestCookieArrivesHoweverTheHandlerAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("content ", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	lateErr := make(chan error, 100) // more than there are requests: no handler waits
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	late := func(r *http.Request) {
		lateErr <- m.Update(r.Context(), func(s *Session) { s.User = "mallory" })
	}
	for name, tt := range map[string]struct {
		status int
		body   string
		late   bool // a change after it is ErrCommitted
		h      http.HandlerFunc
	}{
		"writes nothing": {200, "", false, func(w http.ResponseWriter, r *http.Request) { set(t, m, r) }},
		"only a status":  {201, "", true, func(w http.ResponseWriter, r *http.Request) { set(t, m, r); w.WriteHeader(201); late(r) }},
		"204":            {204, "", true, func(w http.ResponseWriter, r *http.Request) { set(t, m, r); w.WriteHeader(204); late(r) }},
		"304":            {304, "", true, func(w http.ResponseWriter, r *http.Request) { set(t, m, r); w.WriteHeader(304); late(r) }},
		"redirect": {303, "", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.Header().Set("Location", "/x")
			w.WriteHeader(303)
			late(r)
		}},
		"error":  {500, "no\n", true, func(w http.ResponseWriter, r *http.Request) { set(t, m, r); http.Error(w, "no", 500); late(r) }},
		"writes": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) { set(t, m, r); fmt.Fprint(w, "hello"); late(r) }},
		"writes a string": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.(io.StringWriter).WriteString("hello")
			late(r)
		}},
		"flushes first": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.(http.Flusher).Flush()
			late(r)
			fmt.Fprint(w, "hello")
		}},
		"flushes by ResponseController": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			rc := http.NewResponseController(w)
			if err := errors.Join(rc.Flush(), rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.SetReadDeadline(time.Now().Add(time.Minute))); err != nil {
				t.Error(err)
			}
			late(r)
			fmt.Fprint(w, "hello")
		}},
		"server-sent events": {200, "data: 0\n\ndata: 1\n\n", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 2 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
			}
			late(r)
		}},
		"103 before": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			set(t, m, r)
			fmt.Fprint(w, "hello")
			late(r)
		}},
		"103 between": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "hello")
			late(r)
		}},
		"io.Copy": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			io.Copy(w, strings.NewReader("hello"))
			late(r)
		}},
		"ReaderFrom of nothing": {200, "", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.(io.ReaderFrom).ReadFrom(strings.NewReader(""))
			late(r)
		}},
		"http.ServeFile": {200, strings.Repeat("content ", 10_000), true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			http.ServeFile(w, r, file)
			late(r)
		}},
		"http.TimeoutHandler": {200, "hello", false, func(w http.ResponseWriter, r *http.Request) {
			http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				set(t, m, r)
				fmt.Fprint(w, "hello")
			}), time.Minute, "").ServeHTTP(w, r)
		}},
		"another writer around": {200, "hello", true, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			rc := http.NewResponseController(struct{ unwrapper }{unwrapper{w}})
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
			late(r)
			fmt.Fprint(w, "hello")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, http2 bool) {
				s, client := server(t, m.Handler(tt.h), http2)
				client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				req, _ := http.NewRequestWithContext(earlyHints(t, name), "GET", s.URL, nil)
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil || string(body) != tt.body || res.StatusCode != tt.status {
					t.Errorf("status %d, body %.20q, %v; want %d, %.20q", res.StatusCode, body, err, tt.status, tt.body)
				}
				if want := map[bool]int{false: 1, true: 2}[http2]; res.ProtoMajor != want {
					t.Fatalf("HTTP/%d, want %d", res.ProtoMajor, want)
				}
				if tt.late {
					select {
					case err := <-lateErr:
						if !errors.Is(err, sealed.ErrCommitted) {
							t.Errorf("a change after the headers: %v, want ErrCommitted", err)
						}
					case <-time.After(10 * time.Second):
						t.Fatal("the handler did not come to its late change")
					}
				}
				wantSession(t, m, res)
			})
		})
	}
}

// earlyHints checks that 103 responses carry no cookie, and that they came.
func earlyHints(t *testing.T, name string) context.Context {
	var hints atomic.Int32
	t.Cleanup(func() {
		if want := strings.HasPrefix(name, "103"); (hints.Load() == 1) != want {
			t.Errorf("%d early hints", hints.Load())
		}
	})
	return httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints.Add(1)
			if code != 103 || header["Set-Cookie"] != nil {
				t.Errorf("early response %d with %v", code, header)
			}
			return nil
		},
	})
}

func TestConcurrentWriteWaitsForTheCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for range 200 {
		serveTo(&checkingWriter{t, http.Header{}}, m, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { w.Write([]byte("x")) })
			}
			wg.Wait()
		})
	}
}

// checkingWriter may be used concurrently, and checks each write for the cookie.
type checkingWriter struct {
	t      *testing.T
	header http.Header
}

func (w *checkingWriter) Header() http.Header { return w.header }

func (w *checkingWriter) WriteHeader(int) {}

func (w *checkingWriter) Write(b []byte) (int, error) {
	if len(w.header["Set-Cookie"]) != 1 || len(w.header["Cache-Control"]) != 1 {
		w.t.Errorf("a write overtook the cookie: %v", w.header)
	}
	return len(b), nil
}

func TestCopyToTheWriterReachesTheConnectionsReadFrom(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	s := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		w.Header().Set("Content-Length", fmt.Sprint(1<<20))
		io.Copy(w, io.LimitReader(zeros{}, 1<<20))
	})))
	l := &countingListener{Listener: s.Listener}
	s.Listener = l
	s.Start()
	defer s.Close()
	res, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	wantSession(t, m, res)
	if got := l.read.Load(); got < 1<<19 {
		t.Errorf("%d bytes went through the connection's ReadFrom, want nearly all", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

type countingListener struct {
	net.Listener
	read atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countingConn{c, l}, err
}

type countingConn struct {
	net.Conn
	l *countingListener
}

func (c *countingConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c.Conn}, countingReader{r, c.l})
}

// countingReader counts what is read before the client can see it.
type countingReader struct {
	io.Reader
	l *countingListener
}

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.l.read.Add(int64(n))
	return n, err
}
