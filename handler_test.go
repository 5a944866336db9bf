package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/sealed"
)

func TestChangeAfterTheHandlerIsErrCommitted(t *testing.T) {
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

func TestPanicSetsNoCookieAndLaterChangesAreErrCommitted(t *testing.T) {
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

func TestSessionCanBeReadAfterTheHeadersAreSent(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("Get: %+v, %v", s, err)
		}
		if _, err := m.Info(r.Context()); err != nil {
			t.Errorf("Info: %v", err)
		}
	})
}

func TestNestedHandlersShareTheSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	inner := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := m.Get(r.Context()); err != nil || s.Flash != "outer" {
			t.Errorf("inside: %+v, %v", s, err)
		}
		set(t, m, r)
	}))
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		m.Update(r.Context(), func(s *Session) { s.Flash = "outer" })
		inner.ServeHTTP(w, r)
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("outside, afterwards: %+v, %v", s, err)
		}
		w.WriteHeader(200)
	})
	wantSession(t, m, res)
}

func TestChangeInANestedHandlerAfterTheHeadersIsErrCommitted(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	inner := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "late" }); !errors.Is(err, sealed.ErrCommitted) {
			t.Errorf("nested after the headers: %v, want ErrCommitted", err)
		}
	}))
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		w.WriteHeader(200)
		inner.ServeHTTP(w, r)
	})
	wantSession(t, m, res)
}

// A context can outlive its request.
func TestRequestWithAnEarlierRequestsContextHasItsOwnSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	var old context.Context
	request(m, func(_ http.ResponseWriter, r *http.Request) { old = r.Context() })
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) })).
		ServeHTTP(w, httptest.NewRequestWithContext(old, "GET", "/", nil))
	wantSession(t, m, w.Result())
}

// A handler makes it up for somebody else, with its own request's context.
func TestRequestOfAnotherHasThatOnesSession(t *testing.T) {
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

func TestDestroyInASecondHandlerTakesBackTheFirstOnesLogin(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) })).ServeHTTP(w, r)
	w.Header().Add("Set-Cookie", "other=1")
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })).ServeHTTP(w, r)
	if got := w.Result().Header["Set-Cookie"]; len(got) != 1 || got[0] != "other=1" {
		t.Errorf("Set-Cookie %q, want only the other one", got)
	}
}

// form returns a POST request with a form of one file of n bytes.
func form(target string, n int) *http.Request {
	body := "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + strings.Repeat("x", n) + "\r\n--b--\r\n"
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	return r
}

// The server deletes the form's temporary files, and outer handlers log the pattern.
func TestOuterRequestGetsPatternAndForm(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /items/{id}", func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
	})
	r := form("/items/7", 100)
	m.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "POST /items/{id}" {
		t.Errorf("Pattern %q", r.Pattern)
	}
	if r.MultipartForm == nil {
		t.Fatal("the server could not delete the form's temporary files")
	}
	r.MultipartForm.RemoveAll()
}

func TestFormThatWasParsedOutsideIsLeft(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	r := form("/", 1)
	if err := r.ParseMultipartForm(1); err != nil {
		t.Fatal(err)
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { r.MultipartForm = nil })).ServeHTTP(httptest.NewRecorder(), r)
	if r.MultipartForm == nil {
		t.Error("the outer form was lost")
	}
}
