package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/sessions"

	"example.com/sealed"
	"example.com/sealed/examples/moving/fromgorilla"
	"example.com/sealed/examples/moving/fromscs"
	"example.com/sealed/revoke"
)

// A site is an old and a new program under one host, and a visitor of both.
type site struct {
	t        *testing.T
	old, new *httptest.Server
	client   *http.Client
}

func newSite(t *testing.T, old, new http.Handler) *site {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t, httptest.NewTLSServer(old), httptest.NewTLSServer(new), nil}
	t.Cleanup(s.old.Close)
	t.Cleanup(s.new.Close)
	s.client = s.old.Client() // both have httptest's certificate
	s.client.Jar, s.client.Timeout = jar, 10*time.Second
	return s
}

func (s *site) do(method string, server *httptest.Server, path string, cookies ...*http.Cookie) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := s.client
	if cookies != nil {
		client = &http.Client{Transport: s.client.Transport}
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	res, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		s.t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return res.StatusCode, strings.TrimSpace(body)
}

func (s *site) cookies() []*http.Cookie {
	u, err := url.Parse(s.new.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.client.Jar.Cookies(u)
}

// user returns whom a program takes the visitor for.
func (s *site) user(server *httptest.Server, cookies ...*http.Cookie) string {
	s.t.Helper()
	_, body := s.do("GET", server, "/", cookies...)
	return body
}

// story: a live session goes on, two first requests at once are both served, and logging
// out of the new program ends the old session, too.
func story(t *testing.T, s *site, ends bool) {
	t.Helper()
	s.do("POST", s.old, "/login?user=alice")
	if got := s.user(s.old); got != "alice" {
		t.Fatalf("the old program says %q", got)
	}
	oldCookies := s.cookies()

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := s.user(s.new); got != "alice" {
				t.Errorf("the new program says %q", got)
			}
		})
	}
	wg.Wait()
	if n := len(s.cookies()); n != 2 {
		t.Errorf("the visitor has %d cookies, want both", n)
	}
	if got := s.user(s.old); got != "alice" {
		t.Errorf("an instance of the old program says %q in the meantime", got)
	}
	copies := s.cookies()

	if status, _ := s.do("POST", s.new, "/logout"); status != http.StatusOK {
		t.Errorf("logout: status %d", status)
	}
	if left := s.cookies(); len(left) != 0 {
		t.Errorf("after logout the visitor has %d cookies", len(left))
	}
	for what, cookies := range map[string][]*http.Cookie{"the old cookie": oldCookies, "both": copies} {
		if got := s.user(s.new, cookies...); got != "" {
			t.Errorf("with a copy of %s the new program says %q", what, got)
		}
		if got := s.user(s.old, cookies...); ends && got != "" {
			t.Errorf("with a copy of %s the old program says %q", what, got)
		}
	}
}

func TestMoveFromSCS(t *testing.T) {
	old := scs.New()
	m, err := newSessions(old)
	if err != nil {
		t.Fatal(err)
	}
	story(t, newSite(t, oldProgram(old), newProgram(m)), true)
}

// brokenStore is a store that is down.
type brokenStore struct{}

var errDown = errors.New("down")

func (brokenStore) Delete(string) error                    { return errDown }
func (brokenStore) Find(string) ([]byte, bool, error)      { return nil, false, errDown }
func (brokenStore) Commit(string, []byte, time.Time) error { return errDown }

// While the old store is down, a visitor with an old session is not taken for a new one.
func TestMoveFromSCSWhileItsStoreIsDown(t *testing.T) {
	old := scs.New()
	store := old.Store
	i := fromscs.Import(old, func(ctx context.Context) Session { return Session{User: old.GetString(ctx, "user")} })
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	m, err := sealed.New(keys, sealed.Config[Session]{Import: i})
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, oldProgram(old), m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := m.Get(r.Context()); errors.Is(err, sealed.ErrUnverified) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})))
	s.do("POST", s.old, "/login?user=alice")
	old.Store = brokenStore{}
	if status, _ := s.do("GET", s.new, "/"); status != http.StatusServiceUnavailable || len(s.cookies()) != 1 {
		t.Errorf("status %d, %d cookies", status, len(s.cookies()))
	}
	old.Store = store
	if status, _ := s.do("GET", s.new, "/"); status != http.StatusOK || len(s.cookies()) != 2 {
		t.Errorf("later: status %d, %d cookies", status, len(s.cookies()))
	}
}

// A cookie of a session that scs does not have is none.
func TestUnknownSCSSession(t *testing.T) {
	old := scs.New()
	m, err := newSessions(old)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, oldProgram(old), newProgram(m))
	if got := s.user(s.new, &http.Cookie{Name: old.Cookie.Name, Value: "unknown"}); got != "" {
		t.Errorf("the new program says %q", got)
	}
}

func TestMoveFromGorilla(t *testing.T) {
	key := []byte("a key for this test, 32 bytes ..")
	cookieStore := sessions.NewCookieStore(key)
	fileStore := sessions.NewFilesystemStore(t.TempDir(), key)
	for name, tt := range map[string]struct {
		store   sessions.Store
		options *sessions.Options
		ends    bool
	}{
		"CookieStore":     {cookieStore, cookieStore.Options, false},
		"FilesystemStore": {fileStore, fileStore.Options, true},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := sealed.NewKeyring(sealed.GenerateKey())
			if err != nil {
				t.Fatal(err)
			}
			m, err := sealed.New(keys, sealed.Config[Session]{
				Subject:     func(s Session) string { return s.User },
				Revocations: revoke.NewList(),
				Import: fromgorilla.Import(tt.store, "gorilla", tt.options, func(values map[any]any) Session {
					user, _ := values["user"].(string)
					return Session{User: user}
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			old := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := tt.store.Get(r, "gorilla")
				if r.URL.Path == "/login" {
					s.Values["user"] = r.URL.Query().Get("user")
					if err := s.Save(r, w); err != nil {
						t.Errorf("Save: %v", err)
					}
				}
				if user, ok := s.Values["user"].(string); ok && err == nil {
					w.Write([]byte(user))
				}
			})
			s := newSite(t, old, newProgram(m))
			story(t, s, tt.ends)
			if got := s.user(s.new, &http.Cookie{Name: "gorilla", Value: "junk"}); got != "" {
				t.Errorf("with junk the new program says %q", got)
			}
		})
	}
}
