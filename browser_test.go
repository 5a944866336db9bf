package sealed_test

import (
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// mustRing returns a ring of new keys.
func mustRing(t testing.TB) *sealed.Keyring {
	t.Helper()
	ring, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func mustNew[T any](t testing.TB, ring *sealed.Keyring, config sealed.Config[T]) *sealed.Manager[T] {
	t.Helper()
	m, err := sealed.New(ring, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
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
func (b *browser) visit(m interface {
	Handler(http.Handler) http.Handler
}, h func(w http.ResponseWriter, r *http.Request), header ...string) *http.Response {
	b.t.Helper()
	r := httptest.NewRequest("GET", site.String(), nil)
	for _, c := range b.jar.Cookies(site) {
		r.AddCookie(c)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(h)).ServeHTTP(w, r)
	b.jar.SetCookies(site, w.Result().Cookies())
	return w.Result()
}

// cookie returns the Cookie header that the browser sends.
func (b *browser) cookie() string {
	var pairs []string
	for _, c := range b.jar.Cookies(site) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

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

func setsCookie(res *http.Response) bool { return len(res.Header["Set-Cookie"]) > 0 }
