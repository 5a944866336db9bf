package sealed_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// callback calls each method of the manager for the request of r, and returns those that
// were no error.
func callback(m *sealed.Manager[Session], ctx context.Context) (worked string) {
	for name, call := range map[string]func() error{
		"Get":           func() error { _, err := m.Get(ctx); return err },
		"Peek":          func() error { _, err := m.Peek(ctx); return err },
		"Info":          func() error { _, err := m.Info(ctx); return err },
		"Verify":        func() error { return m.Verify(ctx) },
		"Update":        func() error { return m.Update(ctx, func(*Session) {}) },
		"Renew":         func() error { return m.Renew(ctx) },
		"Destroy":       func() error { return m.Destroy(ctx) },
		"RevokeSubject": func() error { return m.RevokeSubject(ctx, "alice") },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "from within") {
			worked += name + " "
		}
	}
	return worked
}

// To wait for the request's lock would be for ever.
func TestCallFromWithinUpdateIsAnError(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		err := m.Update(r.Context(), func(s *Session) {
			if worked := callback(m, r.Context()); worked != "" {
				t.Errorf("no error of %s", worked)
			}
			s.Flash = "x"
		})
		if err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	if s, _, err := b.get(m); err != nil || s.Flash != "x" || s.User != "alice" {
		t.Errorf("then %+v, %v", s, err)
	}
}

func TestCallFromWithinObserveIsAnError(t *testing.T) {
	var m *sealed.Manager[Session]
	var ctx context.Context
	seen := map[sealed.EventKind]bool{}
	m = mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), Observe: func(_ context.Context, e sealed.Event) {
		if seen[e.Kind] = true; ctx == nil {
			return
		}
		if worked := callback(m, ctx); worked != "" {
			t.Errorf("%s: no error of %s", e.Kind, worked)
		}
	}})
	b := newBrowser(t)
	for _, h := range []http.HandlerFunc{
		func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context(); set(t, m, r) },
		func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context(); m.Renew(ctx) },
		func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context(); m.Destroy(ctx) },
	} {
		b.visit(m, h)
	}
	for _, kind := range []sealed.EventKind{sealed.EventOpened, sealed.EventSealed, sealed.EventRenewed, sealed.EventDestroyed} {
		if !seen[kind] {
			t.Errorf("no event %q", kind)
		}
	}
}

func TestCallFromWithinTheListIsAnError(t *testing.T) {
	var m *sealed.Manager[Session]
	list := &fakeList{}
	m = mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		calls := 0
		list.check = func(context.Context, sealed.Info) error {
			if calls++; calls < 3 {
				if worked := callback(m, r.Context()); worked != "" {
					t.Errorf("no error of %s", worked)
				}
			}
			return nil
		}
		if _, err := m.Get(r.Context()); err != nil || calls == 0 {
			t.Errorf("Get: %v, %d calls", err, calls)
		}
	})
}

// Of several sessions each is asked for, and told of, one after the other.
func TestCallFromWithinTheListAfterAnEventIsAnError(t *testing.T) {
	list := &fakeList{}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list, Observe: func(context.Context, sealed.Event) {}})
	alice, bob, carol := newBrowser(t), newBrowser(t), newBrowser(t)
	alice.login(m, "alice")
	bob.login(m, "bob")
	carol.login(m, "carol")
	r := httptest.NewRequest("GET", "/", nil)
	r.Header["Cookie"] = []string{alice.cookie(), bob.cookie(), carol.cookie()}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls := 0
		list.check = func(context.Context, sealed.Info) error {
			calls++
			if worked := callback(m, r.Context()); worked != "" {
				t.Errorf("no error of %s", worked)
			}
			return nil
		}
		if _, err := m.Get(r.Context()); err != nil || calls != 3 {
			t.Errorf("Get: %v, %d calls, want 3", err, calls)
		}
		list.check = nil
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// Destroy revokes all the sessions that a browser has at once, each in a goroutine.
func TestCallFromWithinDestroyIsAnError(t *testing.T) {
	var m *sealed.Manager[Session]
	var ctx context.Context
	called, observed := atomic.Int32{}, atomic.Int32{}
	list := &fakeList{}
	m = mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list, Observe: func(_ context.Context, e sealed.Event) {
		if e.Kind == sealed.EventRevocationFailed {
			observed.Add(1)
			if worked := callback(m, ctx); worked != "" {
				t.Errorf("from within Observe: no error of %s", worked)
			}
		}
	}})
	line := func(user string) string {
		b := newBrowser(t)
		b.login(m, user)
		return b.cookie()
	}
	list.revoke = func(context.Context, sealed.Revocation) error {
		called.Add(1)
		if worked := callback(m, ctx); worked != "" {
			t.Errorf("from within Revoke: no error of %s", worked)
		}
		return errors.New("the list is down")
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header["Cookie"] = []string{line("alice"), line("bob"), line("carol")}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx = r.Context()
		if err := m.Destroy(ctx); err == nil {
			t.Error("Destroy: no error of the list")
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
	if called.Load() != 3 || observed.Load() != 3 {
		t.Errorf("%d revocations, %d events, want 3 of each", called.Load(), observed.Load())
	}
}

// Who writes the response from within Update sends it without the change.
func TestWriteFromWithinUpdateIsAnErrorOfUpdate(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	request(m, func(w http.ResponseWriter, r *http.Request) {
		err := m.Update(r.Context(), func(s *Session) { s.User = "alice"; w.Write([]byte("x")) })
		if !errors.Is(err, sealed.ErrCommitted) {
			t.Errorf("Update: %v, want ErrCommitted", err)
		}
	})
}

// Other goroutines wait.
func TestConcurrentCallDuringUpdateWaits(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for range 100 {
		request(m, func(_ http.ResponseWriter, r *http.Request) {
			done := make(chan error, 1)
			if err := m.Update(r.Context(), func(s *Session) {
				s.User = "alice"
				calling := make(chan struct{})
				go func() {
					close(calling)
					_, err := m.Get(r.Context())
					done <- err
				}()
				<-calling
				for range 50 {
					runtime.Gosched()
				}
			}); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Errorf("Get at the same time: %v", err)
			}
		})
	}
}

// A manager may be used within the change of another.
func TestOtherManagerWorksFromWithinUpdate(t *testing.T) {
	a := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Host-other"}})
	var both nest = func(h http.Handler) http.Handler { return a.Handler(b.Handler(h)) }
	res := request(both, func(_ http.ResponseWriter, r *http.Request) {
		err := a.Update(r.Context(), func(s *Session) {
			s.Flash = "a"
			if err := b.Update(r.Context(), func(s *Session) { s.Flash = "b" }); err != nil {
				t.Errorf("the other: %v", err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	if n := len(res.Cookies()); n != 2 {
		t.Errorf("%d cookies, want 2", n)
	}
}

func TestNestedManagersWithOneCookieNameAreAnError(t *testing.T) {
	ring := mustRing(t)
	outer := mustNew(t, ring, sealed.Config[Session]{Purpose: "outer"})
	inner := mustNew(t, ring, sealed.Config[struct{ N int }]{Purpose: "inner"})
	var both nest = func(h http.Handler) http.Handler { return outer.Handler(inner.Handler(h)) }
	res := request(both, func(_ http.ResponseWriter, r *http.Request) {
		if err := outer.Update(r.Context(), func(s *Session) { s.User = "alice" }); err != nil {
			t.Errorf("the outer one: %v", err)
		}
		for name, err := range map[string]error{
			"Get":     second(inner.Get(r.Context())),
			"Update":  inner.Update(r.Context(), func(s *struct{ N int }) { s.N++ }),
			"Renew":   inner.Renew(r.Context()),
			"Destroy": inner.Destroy(r.Context()),
			"Info":    second(inner.Info(r.Context())),
		} {
			if err == nil || !strings.Contains(err.Error(), "Cookie.Name") {
				t.Errorf("%s of the inner one: %v, want an error about the name", name, err)
			}
		}
	})
	if s, _, err := getWith(outer, cookieOf(res)); err != nil || s.User != "alice" || len(res.Cookies()) != 1 {
		t.Errorf("the outer one's session: %+v, %v", s, err)
	}
}

func second[T any](_ T, err error) error { return err }

// A clone of the request with another cookie, between two handlers of one manager.
func TestChangeForOtherCookiesOfOneResponseIsAnError(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	alice, bob := newBrowser(t), newBrowser(t)
	alice.login(m, "alice")
	bob.login(m, "bob")
	var swapped nest = func(h http.Handler) http.Handler {
		inner := m.Handler(h)
		return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "outer" }); err != nil {
				t.Error(err)
			}
			clone := r.Clone(r.Context())
			clone.Header.Set("Cookie", bob.cookie())
			inner.ServeHTTP(w, clone)
		}))
	}
	alice.visit(swapped, func(_ http.ResponseWriter, r *http.Request) {
		if s, err := m.Get(r.Context()); err != nil || s.User != "bob" {
			t.Errorf("Get: %+v, %v, want bob's", s, err)
		}
		for name, err := range map[string]error{
			"Update":  m.Update(r.Context(), func(s *Session) { s.Flash = "inner" }),
			"Renew":   m.Renew(r.Context()),
			"Destroy": m.Destroy(r.Context()),
		} {
			if err == nil || errors.Is(err, sealed.ErrCommitted) {
				t.Errorf("%s: %v, want an error", name, err)
			}
		}
	})
	if s, _, err := alice.get(m); err != nil || s.User != "alice" || s.Flash != "outer" {
		t.Errorf("then %+v, %v; want alice's as the outer handler left it", s, err)
	}
}

// The browser sends no cookie with a request outside its path: a new session would
// replace the visitor's unseen.
func TestUpdateOutsideTheCookiesPathIsAnError(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-s", Path: "/shop"}})
	for path, inside := range map[string]bool{"/shop": true, "/shop/cart": true, "/shopping": false, "/": false, "/callback": false} {
		var err error
		res := requestTo(path, m, func(_ http.ResponseWriter, r *http.Request) {
			err = m.Update(r.Context(), func(s *Session) { s.User = "alice" })
		})
		if (err == nil) != inside || setsCookie(res) != inside {
			t.Errorf("%s: %v, sets a cookie %v; want it: %v", path, err, setsCookie(res), inside)
		}
	}
	// A handler behind http.StripPrefix is inside all the same, and so is who has the cookie.
	var stripped nest = func(h http.Handler) http.Handler { return http.StripPrefix("/shop", m.Handler(h)) }
	res := requestTo("/shop/cart", stripped, func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) })
	requestTo("/elsewhere", m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
			t.Errorf("with the cookie: %v", err)
		}
	}, cookieOf(res))
}

func TestSealAndOpenNeedAPurpose(t *testing.T) {
	ring := mustRing(t)
	m, err := sealed.New(ring, sealed.Config[Session]{})
	if err != nil {
		t.Fatal(err)
	}
	if token, err := m.Seal(Session{User: "alice"}); err == nil || !strings.Contains(err.Error(), "Config.Purpose") {
		t.Errorf("Seal: %q, %v, want an error about Config.Purpose", token, err)
	}
	token, err := mustNew(t, ring, sealed.Config[Session]{Purpose: "invitation"}).Seal(Session{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := m.Open(t.Context(), token); err == nil || s.User != "" || !strings.Contains(err.Error(), "Config.Purpose") {
		t.Errorf("Open: %+v, %v, want an error about Config.Purpose", s, err)
	}
}

// The page of an error that is rendered when the handler has returned, as echo does it.
func TestResponseAfterTheHandler(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	w := httptest.NewRecorder()
	var inner http.ResponseWriter
	var request *http.Request
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner, request = w, r })).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if _, err := m.Get(request.Context()); !errors.Is(err, sealed.ErrNoSession) {
		t.Errorf("Get: %v", err)
	}
	err := m.Update(request.Context(), func(s *Session) { s.User = "alice" })
	if !errors.Is(err, sealed.ErrCommitted) || !strings.Contains(err.Error(), "has returned") {
		t.Errorf("Update: %v, want ErrCommitted that says why", err)
	}
	http.Error(inner, "oops", http.StatusInternalServerError)
	if res := w.Result(); res.Header.Get("Vary") != "Cookie" || res.Header.Get("Cache-Control") != "private" || setsCookie(res) {
		t.Errorf("headers %v", res.Header)
	}
}

// The server's complaint names the application's line, with and without the middleware.
func TestSuperfluousWriteHeaderNamesTheApplication(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for name, write := range map[string]func(w http.ResponseWriter){
		"after WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(200); w.WriteHeader(500) },
		"after Write":       func(w http.ResponseWriter) { w.Write([]byte("x")); w.WriteHeader(500) },
		"by http.Error":     func(w http.ResponseWriter) { w.WriteHeader(200); http.Error(w, "x", 500) },
	} {
		var logged strings.Builder
		s := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { write(w) })))
		s.Config.ErrorLog = log.New(&logged, "", 0)
		s.Start()
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		s.Close()
		if got := logged.String(); !strings.Contains(got, "superfluous") || !strings.Contains(got, "misuse_test.go") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: logged %q, want one line that names this file", name, got)
		}
	}
}
