package sealed_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// A frameworkWriter is the writer of a framework that hands its own to handlers, whatever
// the middleware before them got.
type frameworkWriter struct {
	http.ResponseWriter
	written bool
}

func (w *frameworkWriter) Written() bool { return w.written }

func (w *frameworkWriter) WriteHeader(status int) {
	w.written = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *frameworkWriter) Write(b []byte) (int, error) {
	w.written = true
	return w.ResponseWriter.Write(b)
}

// past is a middleware whose handlers write past Manager.Handler.
func past(m wrapper, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(outer http.ResponseWriter, r *http.Request) {
		w := &frameworkWriter{ResponseWriter: outer}
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { h(w, r) })).ServeHTTP(w, r)
	})
}

// requestPast runs h, which writes past m.
func requestPast(m wrapper, h http.HandlerFunc, cookie ...string) *http.Response {
	r := httptest.NewRequest("GET", "/", nil)
	if len(cookie) > 0 {
		r.Header["Cookie"] = cookie
	}
	w := httptest.NewRecorder()
	past(m, h).ServeHTTP(w, r)
	return w.Result()
}

func TestHandlerThatWritesPastTheMiddleware(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	res := requestPast(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		w.Write([]byte("x"))
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "late" }); !errors.Is(err, sealed.ErrCommitted) {
			t.Errorf("Update after the response: %v, want ErrCommitted", err)
		}
	})
	wantSession(t, m, res)

	cookie := cookieOf(res)
	res = requestPast(m, func(w http.ResponseWriter, r *http.Request) { m.Get(r.Context()); w.WriteHeader(204) }, cookie)
	if setsCookie(res) || res.Header.Get("Vary") != "Cookie" || res.Header.Get("Cache-Control") != "private" {
		t.Errorf("a response that read the session has %q", res.Header)
	}
	res = requestPast(m, func(w http.ResponseWriter, r *http.Request) { destroy(t, m, r); w.WriteHeader(204) }, cookie)
	if c := res.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("after Destroy: %q, want the deletion", res.Header["Set-Cookie"])
	}
}

// A visitor who only reads is not idle.
func TestUseIsRecordedPastTheMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(20 * time.Minute)
		read := func(w http.ResponseWriter, r *http.Request) { m.Get(r.Context()); w.WriteHeader(204) }
		if res := requestPast(m, read, b.cookie()); len(res.Cookies()) != 1 {
			t.Errorf("a read after 20 minutes of 60 sets %q", res.Header["Set-Cookie"])
		}
		peek := func(w http.ResponseWriter, r *http.Request) { m.Peek(r.Context()); w.WriteHeader(204) }
		if res := requestPast(m, peek, b.cookie()); setsCookie(res) {
			t.Errorf("Peek sets %q", res.Header["Set-Cookie"])
		}
	})
}

// Through the middleware's writer a read is judged when the response is sent, whatever the
// writer around it can do.
func TestSlowReadUnderAFrameworksWriterSetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(20 * time.Minute)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", b.cookie())
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			time.Sleep(3 * time.Second)
			w.WriteHeader(204)
		})).ServeHTTP(&frameworkWriter{ResponseWriter: w}, r)
		if setsCookie(w.Result()) {
			t.Errorf("a read that was sent after 3 s sets %q", w.Header()["Set-Cookie"])
		}
	})
}

// As without a framework: of a handler that panics nothing is set.
func TestPanicPastTheMiddlewareSetsNothing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	func() {
		defer func() { recover() }()
		past(m, func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "other", Value: "x"})
			set(t, m, r)
			panic("oops")
		}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	}()
	if c := w.Result().Cookies(); len(c) != 1 || c[0].Name != "other" {
		t.Errorf("after a panic: %q, want the handler's own cookie only", w.Header()["Set-Cookie"])
	}
}
