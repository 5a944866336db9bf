package sealed_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Session is the session of most tests.
type Session struct {
	User     string   `cbor:"1,keyasint,omitempty"`
	Cart     []string `cbor:"2,keyasint,omitempty"`
	Flash    string   `cbor:"3,keyasint,omitempty"`
	Remember bool     `cbor:"4,keyasint,omitempty"`
}

func user(s Session) string { return s.User }

const name = "__Host-session"

// mustRing returns a ring of one new key.
func mustRing(t testing.TB) *sealed.Keyring {
	t.Helper()
	ring, _ := ringAndKey(t)
	return ring
}

// ringAndKey is mustRing that also returns the key.
func ringAndKey(t testing.TB) (*sealed.Keyring, sealed.Key) {
	t.Helper()
	key := sealed.GenerateKey()
	return ringOf(t, key), key
}

// ringOf returns a ring of these keys, the first of which seals.
func ringOf(t testing.TB, first sealed.Key, others ...sealed.Key) *sealed.Keyring {
	t.Helper()
	ring, err := sealed.NewKeyring(first, others...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// purpose is that of a manager that mustNew makes, unless its Config has one: Seal and
// Open need it.
const purpose = "test"

func mustNew[T any](t testing.TB, ring *sealed.Keyring, config sealed.Config[T]) *sealed.Manager[T] {
	t.Helper()
	if config.Purpose == "" {
		config.Purpose = purpose
	}
	m, err := sealed.New(ring, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A wrapper is a manager of any type, or several.
type wrapper interface {
	Handler(http.Handler) http.Handler
}

// A nest is a wrapper of managers within each other, or within something else.
type nest func(http.Handler) http.Handler

func (n nest) Handler(h http.Handler) http.Handler { return n(h) }

// request runs h under m, for a request with exactly these Cookie lines.
func request(m wrapper, h http.HandlerFunc, cookie ...string) *http.Response {
	return requestTo("/", m, h, cookie...)
}

// requestTo is request for another path than /.
func requestTo(path string, m wrapper, h http.HandlerFunc, cookie ...string) *http.Response {
	r := httptest.NewRequest("GET", (&url.URL{Path: path}).String(), nil)
	if len(cookie) > 0 {
		r.Header["Cookie"] = cookie
	}
	w := httptest.NewRecorder()
	m.Handler(h).ServeHTTP(w, r)
	return w.Result()
}

// serveTo runs h under m, and answers to w.
func serveTo(w http.ResponseWriter, m wrapper, h http.HandlerFunc) {
	m.Handler(h).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
}

// getWith reads the session of a request with exactly these Cookie lines.
func getWith[T any](m *sealed.Manager[T], cookie ...string) (s T, res *http.Response, err error) {
	res = request(m, func(_ http.ResponseWriter, r *http.Request) { s, err = m.Get(r.Context()) }, cookie...)
	return s, res, err
}

// set logs alice in: a change that the response must carry.
func set(t *testing.T, m *sealed.Manager[Session], r *http.Request) {
	t.Helper()
	if err := m.Update(r.Context(), func(s *Session) { s.User = "alice" }); err != nil {
		t.Errorf("Update: %v", err)
	}
}

// destroy ends the request's session.
func destroy(t *testing.T, m *sealed.Manager[Session], r *http.Request) {
	t.Helper()
	if err := m.Destroy(r.Context()); err != nil {
		t.Errorf("Destroy: %v", err)
	}
}

// wantSession checks that the response's one cookie holds what set sets, and that
// caches are told.
func wantSession(t *testing.T, m *sealed.Manager[Session], res *http.Response) {
	t.Helper()
	if n := len(res.Header["Set-Cookie"]); n != 1 {
		t.Fatalf("%d Set-Cookie lines, want 1: %q", n, res.Header)
	}
	if s, _, err := getWith(m, cookieOf(res)); err != nil || s.User != "alice" {
		t.Errorf("the cookie holds %+v, %v", s, err)
	}
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q with a session's cookie, want no-store", got)
	}
	if got := res.Header.Get("Vary"); got != "Cookie" {
		t.Errorf("Vary %q, want Cookie", got)
	}
}

func setsCookie(res *http.Response) bool { return len(res.Header["Set-Cookie"]) > 0 }

// cookieOf returns the Cookie line that sends back what the response sets.
func cookieOf(res *http.Response) string {
	return cookieLine(res.Cookies()...)
}

func cookieLine(cookies ...*http.Cookie) string {
	var pairs []string
	for _, c := range cookies {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// A browser keeps cookies as net/http/cookiejar does, and visits handlers.
type browser struct {
	t   testing.TB
	jar *cookiejar.Jar
}

var site = &url.URL{Scheme: "https", Host: "shop.example", Path: "/"}

func newBrowser(t testing.TB) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, jar}
}

// visit runs h under m, and keeps the cookies of the response.
func (b *browser) visit(m wrapper, h http.HandlerFunc, header ...string) *http.Response {
	b.t.Helper()
	r := httptest.NewRequest("GET", site.String(), nil)
	for _, c := range b.jar.Cookies(site) {
		r.AddCookie(c)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	m.Handler(h).ServeHTTP(w, r)
	b.jar.SetCookies(site, w.Result().Cookies())
	return w.Result()
}

// cookie returns the Cookie line that the browser sends.
func (b *browser) cookie() string { return cookieLine(b.jar.Cookies(site)...) }

// update changes the session and fails the test if it cannot.
func (b *browser) update(m *sealed.Manager[Session], change func(*Session)) *http.Response {
	b.t.Helper()
	return b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), change); err != nil {
			b.t.Errorf("Update: %v", err)
		}
	})
}

// login makes user the session's.
func (b *browser) login(m *sealed.Manager[Session], user string) *http.Response {
	b.t.Helper()
	return b.update(m, func(s *Session) { s.User = user })
}

// get reads the session in a request of its own.
func (b *browser) get(m *sealed.Manager[Session]) (s Session, res *http.Response, err error) {
	b.t.Helper()
	res = b.visit(m, func(_ http.ResponseWriter, r *http.Request) { s, err = m.Get(r.Context()) })
	return s, res, err
}

func (b *browser) info(m *sealed.Manager[Session]) sealed.Info {
	b.t.Helper()
	var info sealed.Info
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		var err error
		if info, err = m.Info(r.Context()); err != nil {
			b.t.Errorf("Info: %v", err)
		}
	})
	return info
}

// wantErr reads the session and checks why there is none.
func (b *browser) wantErr(m *sealed.Manager[Session], want error) {
	b.t.Helper()
	s, _, err := b.get(m)
	if !errors.Is(err, want) {
		b.t.Errorf("Get: error %v, want %v", err, want)
	}
	if diff := cmp.Diff(Session{}, s); err != nil && diff != "" {
		b.t.Errorf("Get returned data with an error (-want +got):\n%s", diff)
	}
}

// clone returns a browser with a copy of the cookies, as a thief has them.
func (b *browser) clone() *browser {
	c := newBrowser(b.t)
	c.jar.SetCookies(site, withSecure(b.jar.Cookies(site)))
	return c
}

// withSecure gives cookies the attributes that a jar does not return.
func withSecure(cookies []*http.Cookie) []*http.Cookie {
	for _, c := range cookies {
		c.Secure, c.Path = true, "/"
	}
	return cookies
}

// recorder collects events, as "kind reason".
type recorder struct {
	events []sealed.Event
}

func (r *recorder) observe(_ context.Context, e sealed.Event) { r.events = append(r.events, e) }

func (r *recorder) take() []string {
	var s []string
	for _, e := range r.events {
		s = append(s, strings.TrimSpace(string(e.Kind)+" "+string(e.Reason)))
	}
	r.events = nil
	return s
}

func (r *recorder) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, r.take()); diff != "" {
		t.Errorf("%s: events (-want +got):\n%s", what, diff)
	}
}

// A fakeList is a revocation list that answers as a test wants, and records what
// was revoked. Without functions it knows of nothing, and takes everything.
type fakeList struct {
	mu      sync.Mutex
	check   func(context.Context, sealed.Info) error
	revoke  func(context.Context, sealed.Revocation) error
	revoked []sealed.Revocation // what revoke took
}

func (l *fakeList) Check(ctx context.Context, s sealed.Info) error {
	l.mu.Lock()
	check := l.check
	l.mu.Unlock()
	if check == nil {
		return nil
	}
	return check(ctx, s)
}

func (l *fakeList) Revoke(ctx context.Context, r sealed.Revocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revoke != nil {
		if err := l.revoke(ctx, r); err != nil {
			return err
		}
	}
	l.revoked = append(l.revoked, r)
	return nil
}

// checks has Check return err from now on.
func (l *fakeList) checks(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.check = func(context.Context, sealed.Info) error { return err }
}

// revokes has Revoke return err from now on.
func (l *fakeList) revokes(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoke = func(context.Context, sealed.Revocation) error { return err }
}

// strictList is a list that works, but not for a context that is done, as one with
// I/O would.
func strictList() *fakeList {
	list := revoke.NewList()
	return &fakeList{check: list.Check, revoke: func(ctx context.Context, r sealed.Revocation) error {
		return errors.Join(ctx.Err(), list.Revoke(ctx, r))
	}}
}

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
