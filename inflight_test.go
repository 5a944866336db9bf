package sealed_test

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"example.com/sealed"
)

// checkingWriter may be used concurrently, and checks each write for the cookie.
type checkingWriter struct {
	t      *testing.T
	header http.Header
}

func (w *checkingWriter) Header() http.Header { return w.header }
func (w *checkingWriter) WriteHeader(int)     {}
func (w *checkingWriter) Write(b []byte) (int, error) {
	if len(w.header["Set-Cookie"]) != 1 || len(w.header["Cache-Control"]) != 1 {
		w.t.Errorf("a write overtook the cookie: %v", w.header)
	}
	return len(b), nil
}

// Who writes while another goroutine commits waits for the cookie.
func TestConcurrentWriteWaitsForCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for range 200 {
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { w.Write([]byte("x")) })
			}
			wg.Wait()
		})).ServeHTTP(&checkingWriter{t, http.Header{}}, httptest.NewRequest("GET", "/", nil))
	}
}

// pusher is a middleware's writer that says it can push.
type pusher struct{ http.ResponseWriter }

func (p pusher) Push(string, *http.PushOptions) error { return http.ErrNotSupported }
func (p pusher) Unwrap() http.ResponseWriter          { return p.ResponseWriter }

// hijackPusher can be hijacked, too.
type hijackPusher struct{ pusher }

func (p hijackPusher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return p.ResponseWriter.(http.Hijacker).Hijack()
}

// Hijack does not go past the commit, whatever else a writer can do.
func TestHijackOfPusher(t *testing.T) {
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

// A flush that cannot be is no commit.
func TestFailedFlushCommitsNothing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Flush: %v, want ErrNotSupported", err)
		}
		set(t, m, r)
	})).ServeHTTP(struct{ http.ResponseWriter }{w}, httptest.NewRequest("GET", "/", nil))
	wantSession(t, m, w.Result())
}

// errorFlusher can flush, but only says so by FlushError.
type errorFlusher struct{ w *httptest.ResponseRecorder }

func (f errorFlusher) Header() http.Header         { return f.w.Header() }
func (f errorFlusher) Write(b []byte) (int, error) { return f.w.Write(b) }
func (f errorFlusher) WriteHeader(status int)      { f.w.WriteHeader(status) }
func (f errorFlusher) FlushError() error           { f.w.Flush(); return nil }

func TestFlushErrorCommits(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(errorFlusher{w}, httptest.NewRequest("GET", "/", nil))
	wantSession(t, m, w.Result())
}

// Two handlers of one manager after each other: the second one's Destroy takes
// back the first one's login.
func TestHandlersInSequence(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) })).ServeHTTP(w, r)
	w.Header().Add("Set-Cookie", "other=1")
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(w, r)
	if got := w.Result().Header["Set-Cookie"]; len(got) != 1 || got[0] != "other=1" {
		t.Errorf("Set-Cookie %q, want only the other one", got)
	}
}

// A request that a handler makes up for somebody else has that one's session.
func TestRequestOfAnother(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	alice, bob := newBrowser(t), newBrowser(t)
	alice.login(m, "alice")
	bob.login(m, "bob")
	alice.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		sub := httptest.NewRequestWithContext(r.Context(), "GET", "/", nil)
		sub.Header.Set("Cookie", bob.cookie())
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if s, err := m.Get(r.Context()); s.User != "bob" {
				t.Errorf("bob's request: %+v, %v", s, err)
			}
		})).ServeHTTP(httptest.NewRecorder(), sub)
	})
}

// Caches that have headers of their own do not store a session's cookie either.
func TestTargetedCacheHeaders(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	res := newBrowser(t).visit(m, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("CDN-Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Control", "no-store")
		set(t, m, r)
	})
	if res.Header.Get("CDN-Cache-Control") != "" || res.Header.Get("Surrogate-Control") != "no-store" {
		t.Errorf("headers %v", res.Header)
	}
}
