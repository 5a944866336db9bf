package sealed_test

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
)

// A plainWriter can nothing that a ResponseWriter need not.
type plainWriter struct{ http.ResponseWriter }

type plainFlusher struct {
	http.ResponseWriter
	http.Flusher
}

// offers names the optional interfaces of a writer.
func offers(w http.ResponseWriter) string {
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

func TestWriterOffersWhatTheServersOffersAndNoMore(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for _, wrap := range []func(http.ResponseWriter) http.ResponseWriter{
		func(w http.ResponseWriter) http.ResponseWriter { return w },
		func(w http.ResponseWriter) http.ResponseWriter { return plainWriter{w} },
		func(w http.ResponseWriter) http.ResponseWriter { return plainFlusher{w, w.(http.Flusher)} },
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
}

// As ResponseController finds it.
func TestWriterInsideOneThatUnwrapsOffersAll(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
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
}

type recordingPusher struct {
	*httptest.ResponseRecorder
	target string
	opts   *http.PushOptions
}

func (p *recordingPusher) Push(target string, opts *http.PushOptions) error {
	p.target, p.opts = target, opts
	return nil
}

func TestPushReachesTheServersWriter(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	p := &recordingPusher{ResponseRecorder: httptest.NewRecorder()}
	opts := &http.PushOptions{Method: "GET"}
	serveTo(p, m, func(w http.ResponseWriter, _ *http.Request) {
		if err := w.(http.Pusher).Push("/x", opts); err != nil {
			t.Error(err)
		}
	})
	if p.target != "/x" || p.opts != opts {
		t.Errorf("pushed %q", p.target)
	}
}

type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// pusher is a middleware's writer that says it can push.
type pusher struct{ http.ResponseWriter }

func (p pusher) Push(string, *http.PushOptions) error { return http.ErrNotSupported }

func (p pusher) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// hijackPusher can be hijacked, too.
type hijackPusher struct{ pusher }

func (p hijackPusher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return p.ResponseWriter.(http.Hijacker).Hijack()
}

func TestHijackOfAWriterThatPushesCommits(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"unwraps": func(w http.ResponseWriter) http.ResponseWriter { return pusher{w} },
		"hijacks": func(w http.ResponseWriter) http.ResponseWriter { return hijackPusher{pusher{w}} },
	} {
		inner := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			if w.(http.Pusher).Push("/x", nil) == nil {
				t.Errorf("%s: pushed", name)
			}
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer conn.Close()
			if len(w.Header()["Set-Cookie"]) != 1 {
				t.Errorf("%s: hijacked without the cookie: %v", name, w.Header())
			}
			if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrCommitted) {
				t.Errorf("%s: Renew after Hijack: %v, want ErrCommitted", name, err)
			}
		}))
		s, client := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(wrap(w), r) }), false)
		if res, err := client.Get(s.URL); err == nil {
			res.Body.Close()
		}
	}
}

// errorFlusher can flush, but only says so by FlushError.
type errorFlusher struct{ w *httptest.ResponseRecorder }

func (f errorFlusher) Header() http.Header { return f.w.Header() }

func (f errorFlusher) Write(b []byte) (int, error) { return f.w.Write(b) }

func (f errorFlusher) WriteHeader(status int) { f.w.WriteHeader(status) }

func (f errorFlusher) FlushError() error { f.w.Flush(); return nil }

func TestFlushErrorCommits(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	serveTo(errorFlusher{w}, m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	wantSession(t, m, w.Result())
}

func TestFailedFlushCommitsNothing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	serveTo(plainWriter{w}, m, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Flush: %v, want ErrNotSupported", err)
		}
		set(t, m, r)
	})
	wantSession(t, m, w.Result())
}

func TestFailedFlushKeepsTheChangeBeforeIt(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	serveTo(plainWriter{w}, m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Flush: %v, want ErrNotSupported", err)
		}
	})
	wantSession(t, m, w.Result())
}

func TestFlushReachesTheServersWriter(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	serveTo(w, m, func(inner http.ResponseWriter, _ *http.Request) {
		if inner.(http.Flusher).Flush(); !w.Flushed {
			t.Error("Flush did not reach the server's writer")
		}
	})
}

// The handler writes the headers then, with the cookie among them.
func TestHijackCommits(t *testing.T) {
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

// By WriteHeader(101) and Hijack, as RFC 6455, section 4.2.2 says.
func TestWebSocketHandshakeCarriesTheCookie(t *testing.T) {
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
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
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

// A hooked writer adds a header when the response's are sent, as middleware does, and
// cannot flush.
type hooked struct {
	http.ResponseWriter
	done bool
}

func (h *hooked) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hooked) WriteHeader(status int) {
	if !h.done {
		h.done = true
		h.Header().Set("Content-Security-Policy", "default-src 'none'")
	}
	h.ResponseWriter.WriteHeader(status)
}

func TestFlushDoesNotGoPastTheHookOfAWriterAround(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for name, flush := range map[string]func(w http.ResponseWriter){
		"by Flusher":            func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"by ResponseController": func(w http.ResponseWriter) { http.NewResponseController(w).Flush() },
		"twice":                 func(w http.ResponseWriter) { w.(http.Flusher).Flush(); w.(http.Flusher).Flush() },
		"after a status":        func(w http.ResponseWriter) { w.WriteHeader(201); w.(http.Flusher).Flush() },
	} {
		s, client := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				set(t, m, r)
				flush(w)
				io.WriteString(w, "x")
			})).ServeHTTP(&hooked{ResponseWriter: w}, r)
		}), false)
		res, err := client.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Content-Security-Policy"); got == "" {
			t.Errorf("%s: the header of the writer around was not sent", name)
		}
		wantSession(t, m, res)
	}
}

// What the server's writer can do besides is found inside ours; who sends the response
// by that goes past the commit, and the cookie arrives all the same.
func TestCookieArrivesPastTheCommitAfterUnwrap(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	unwrapped := func(w http.ResponseWriter) http.ResponseWriter {
		return w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
	}
	for name, h := range map[string]http.HandlerFunc{
		"changed before": func(w http.ResponseWriter, r *http.Request) { set(t, m, r); unwrapped(w).WriteHeader(201) },
		"changed after": func(w http.ResponseWriter, r *http.Request) {
			inner := unwrapped(w)
			set(t, m, r)
			inner.Write([]byte("x"))
		},
		"changed twice": func(w http.ResponseWriter, r *http.Request) {
			m.Update(r.Context(), func(s *Session) { s.User = "bob" })
			inner := unwrapped(w)
			set(t, m, r)
			inner.(http.Flusher).Flush()
		},
	} {
		eachProtocol(t, func(t *testing.T, http2 bool) {
			s, client := server(t, m.Handler(h), http2)
			res, err := client.Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if len(res.Cookies()) != 1 {
				t.Fatalf("%s: Set-Cookie %q", name, res.Header["Set-Cookie"])
			}
			wantSession(t, m, res)
		})
	}
	b := newBrowser(t)
	b.login(m, "alice")
	res := b.visit(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		inner := unwrapped(w)
		destroy(t, m, r)
		inner.WriteHeader(204)
	})
	if c := res.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("after Destroy: %q, want the deletion", res.Header["Set-Cookie"])
	}
}

// Looking for what a writer can do, as ResponseController does, commits nothing.
func TestUnwrapCommitsNothing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	var nested nest = func(h http.Handler) http.Handler {
		other := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Host-other"}})
		return m.Handler(other.Handler(h))
	}
	res := request(nested, func(w http.ResponseWriter, r *http.Request) {
		w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
		set(t, m, r)
		w.WriteHeader(204)
	})
	wantSession(t, m, res)
}

// The server closes the connection of a client that sends too much, as it does without
// the middleware.
func TestMaxBytesReaderInsideClosesTheConnection(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for name, answer := range map[string]func(w http.ResponseWriter){
		"an error":        func(w http.ResponseWriter) { http.Error(w, "too large", http.StatusRequestEntityTooLarge) },
		"a body":          func(w http.ResponseWriter) { io.WriteString(w, "x") },
		"nothing written": func(http.ResponseWriter) {},
	} {
		for _, limit := range []int64{10, 100} {
			s, client := server(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Body = http.MaxBytesReader(w, r.Body, limit)
				io.ReadAll(r.Body)
				answer(w)
			})), false)
			res, err := client.Post(s.URL, "text/plain", strings.NewReader(strings.Repeat("x", 50)))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if want := limit < 50; res.Close != want {
				t.Errorf("%s, a limit of %d bytes: closes the connection %v, want %v", name, limit, res.Close, want)
			}
		}
	}
}
