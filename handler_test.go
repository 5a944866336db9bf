package sealed_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
)

// server starts a real server, HTTP/1.1 or HTTP/2, and returns a client of it
// that does not follow redirects.
func server(t *testing.T, h http.Handler, http2 bool) (*httptest.Server, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = http2
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	client := s.Client()
	client.Timeout = 10 * time.Second
	return s, client
}

func eachProtocol(t *testing.T, f func(t *testing.T, http2 bool)) {
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP 1.1", true: "HTTP 2"}[http2], func(t *testing.T) { f(t, http2) })
	}
}

// However a handler answers, the cookie arrives, and what it can do with its
// writer works.
func TestCookieArrives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("content ", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	lateErr := make(chan error, 1)
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
				wantSession(t, m, res)
				if tt.late {
					if err := <-lateErr; !errors.Is(err, sealed.ErrCommitted) {
						t.Errorf("a change after the headers: %v, want ErrCommitted", err)
					}
				}
			})
		})
	}
}

type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

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

// A change after the handler has returned is refused too.
func TestAfterTheHandler(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	var ctx context.Context
	b := newBrowser(t)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })
	for name, err := range map[string]error{
		"Update":  m.Update(ctx, func(*Session) { t.Error("change was called") }),
		"Renew":   m.Renew(ctx),
		"Destroy": m.Destroy(ctx),
	} {
		if !errors.Is(err, sealed.ErrCommitted) {
			t.Errorf("%s: %v, want ErrCommitted", name, err)
		}
	}
	if _, err := m.Get(ctx); !errors.Is(err, sealed.ErrNoSession) {
		t.Errorf("Get: %v", err)
	}
}

// A panic sets no cookie, and later changes are refused.
func TestPanic(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	var ctx context.Context
	recovering := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
			w.WriteHeader(500)
		}()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ctx = r.Context()
			set(t, m, r)
			panic("oops")
		})).ServeHTTP(w, r)
	})
	s, client := server(t, recovering, false)
	res, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 500 || setsCookie(res) {
		t.Errorf("status %d, cookies %q; want 500 and none", res.StatusCode, res.Header["Set-Cookie"])
	}
	if err := m.Update(ctx, func(*Session) {}); !errors.Is(err, sealed.ErrCommitted) {
		t.Errorf("Update after a panic: %v, want ErrCommitted", err)
	}
}

// After Hijack the handler writes the headers, with the cookie among them.
func TestHijack(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	s, client := server(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "late" }); !errors.Is(err, sealed.ErrCommitted) {
			t.Errorf("Update after Hijack: %v, want ErrCommitted", err)
		}
		fmt.Fprint(buf, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")
		w.Header().Write(buf)
		fmt.Fprint(buf, "\r\nhello")
		buf.Flush()
	})), false)
	res, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "hello" {
		t.Errorf("body %q", body)
	}
	wantSession(t, m, res)
}

// A WebSocket handshake (RFC 6455, section 4.2.2) by WriteHeader(101) and
// Hijack carries the cookie, and the connection echoes.
func TestWebSocket(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	s, _ := server(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, _ := buf.ReadString('\n')
		buf.WriteString("echo " + line)
		buf.Flush()
	})), false)
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("status %d, %v", res.StatusCode, res.Header)
	}
	wantSession(t, m, res)
	fmt.Fprintln(c, "hello")
	if line, err := in.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

// The writer offers what the server's offers, no more and no less.
func TestOptionalInterfaces(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	offers := func(w http.ResponseWriter) string {
		var s []string
		add := func(name string, ok bool) {
			if ok {
				s = append(s, name)
			}
		}
		_, ok := w.(http.Flusher)
		add("Flusher", ok)
		_, ok = w.(http.Hijacker)
		add("Hijacker", ok)
		_, ok = w.(http.Pusher)
		add("Pusher", ok)
		return strings.Join(s, " ")
	}
	type plain struct{ http.ResponseWriter }
	type flusher struct {
		http.ResponseWriter
		http.Flusher
	}
	for _, wrap := range []func(http.ResponseWriter) http.ResponseWriter{
		func(w http.ResponseWriter) http.ResponseWriter { return w },
		func(w http.ResponseWriter) http.ResponseWriter { return plain{w} },
		func(w http.ResponseWriter) http.ResponseWriter { return flusher{w, w.(http.Flusher)} },
	} {
		eachProtocol(t, func(t *testing.T, http2 bool) {
			s, client := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w = wrap(w)
				want := offers(w)
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if got := offers(w); got != want {
						t.Errorf("the writer offers %q, want %q", got, want)
					}
					if p, ok := w.(http.Pusher); ok {
						if err := p.Push("/style.css", nil); err == nil {
							t.Error("this client takes no pushes")
						}
					}
				})).ServeHTTP(w, r)
			}), http2)
			res, err := client.Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		})
	}
	// Inside a writer that only unwraps, all is found as ResponseController does.
	s, client := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := offers(w); got != "Flusher Hijacker" {
				t.Errorf("inside an unwrapping writer: %q", got)
			}
			set(t, m, r)
			w.(http.Flusher).Flush()
		})).ServeHTTP(unwrapper{w}, r)
	}), false)
	res, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	wantSession(t, m, res)
	// On a writer that can nothing, a flush says so, and the cookie is set.
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Flush: %v, want ErrNotSupported", err)
		}
	})).ServeHTTP(plain{w}, httptest.NewRequest("GET", "/", nil))
	wantSession(t, m, w.Result())
}

// A copy to the writer ends in the connection's own ReadFrom.
func TestReadFromReachesConnection(t *testing.T) {
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

// Nested handlers of one manager share one session.
func TestNestedHandlers(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	var inner http.Handler = m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := m.Get(r.Context()); err != nil || s.Flash != "outer" {
			t.Errorf("inside: %+v, %v", s, err)
		}
		set(t, m, r)
	}))
	res := b.visit(m, func(w http.ResponseWriter, r *http.Request) {
		m.Update(r.Context(), func(s *Session) { s.Flash = "outer" })
		inner.ServeHTTP(w, r)
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("outside, afterwards: %+v, %v", s, err)
		}
		w.WriteHeader(200)
		inner = m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "late" }); !errors.Is(err, sealed.ErrCommitted) {
				t.Errorf("nested after the headers: %v, want ErrCommitted", err)
			}
		}))
		inner.ServeHTTP(w, r)
	})
	wantSession(t, m, res)

	// A context outlives its request; a handler that gets it later starts anew.
	var old context.Context
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { old = r.Context() })
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) })).
		ServeHTTP(w, httptest.NewRequestWithContext(old, "GET", "/", nil))
	wantSession(t, m, w.Result())
}

// What the server and outer handlers read from the request is there.
func TestOuterRequest(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /items/{id}", func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
	})
	body := "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + strings.Repeat("x", 100) + "\r\n--b--\r\n"
	r := httptest.NewRequest("POST", "/items/7", strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	m.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "POST /items/{id}" {
		t.Errorf("Pattern %q", r.Pattern)
	}
	if r.MultipartForm == nil {
		t.Fatal("the server could not delete the form's temporary files")
	}
	r.MultipartForm.RemoveAll()
}
