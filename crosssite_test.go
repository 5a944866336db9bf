package sealed_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/sealed"
)

// From some cross-site requests browsers withhold the cookie. What is begun there would
// overwrite the session that the visitor has, as after an identity provider's form_post.
func TestUpdateWhereTheBrowserWithholdsTheCookie(t *testing.T) {
	const lax, strict, none = http.SameSiteLaxMode, http.SameSiteStrictMode, http.SameSiteNoneMode
	for _, tt := range []struct {
		what             string
		sameSite         http.SameSite
		method           string
		site, mode, dest string // of the Sec-Fetch headers
		withheld         bool
	}{
		{"a form of another site", lax, "POST", "cross-site", "navigate", "document", true},
		{"the same by default", 0, "POST", "cross-site", "navigate", "document", true},
		{"a link of another site", lax, "GET", "cross-site", "navigate", "document", false},
		{"HEAD of one", lax, "HEAD", "cross-site", "navigate", "document", false},
		{"a frame in another site", lax, "GET", "cross-site", "navigate", "iframe", true},
		{"an image in another site", lax, "GET", "cross-site", "no-cors", "image", true},
		{"a script of another site", lax, "GET", "cross-site", "cors", "empty", true},
		{"a link of another site, Strict", strict, "GET", "cross-site", "navigate", "document", true},
		{"a bookmark, Strict", strict, "GET", "none", "navigate", "document", false},
		{"a form of a sibling domain", lax, "POST", "same-site", "navigate", "document", false},
		{"a form of our own", strict, "POST", "same-origin", "navigate", "document", false},
		{"a form of another site, None", none, "POST", "cross-site", "navigate", "document", false},
		{"no browser, or plain HTTP", strict, "POST", "", "", "", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{SameSite: tt.sameSite}})
			b := newBrowser(t)
			visit := func(cookie string) (res *http.Response, err error) {
				r := httptest.NewRequest(tt.method, "/callback", nil)
				for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Sec-Fetch-Mode": tt.mode, "Sec-Fetch-Dest": tt.dest, "Cookie": cookie} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					err = m.Update(r.Context(), func(s *Session) { s.User = "alice" })
				})).ServeHTTP(w, r)
				return w.Result(), err
			}
			res, err := visit("")
			if errors.Is(err, sealed.ErrCrossSite) != tt.withheld || !tt.withheld && err != nil || setsCookie(res) == tt.withheld {
				t.Errorf("Update: %v, %q, want withheld: %v", err, res.Header["Set-Cookie"], tt.withheld)
			}
			b.update(m, func(s *Session) { s.Flash = "x" })
			if res, err := visit(b.cookie()); err != nil || !setsCookie(res) {
				t.Errorf("with the cookie: %v, %q", err, res.Header["Set-Cookie"])
			}
		})
	}
}

// What changes nothing overwrites nothing.
func TestCrossSiteRequestThatBeginsNothing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := m.Get(r.Context()); !errors.Is(err, sealed.ErrNoSession) {
			t.Errorf("Get: %v, want ErrNoSession", err)
		}
		if err := m.Destroy(r.Context()); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	})).ServeHTTP(w, r)
	if setsCookie(w.Result()) {
		t.Errorf("set %q", w.Header()["Set-Cookie"])
	}
}
