package contender

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"net/http"
	"time"

	"github.com/gorilla/sessions"
)

// gorilla is github.com/gorilla/sessions with its encrypted cookies.
type gorilla struct{ store *sessions.CookieStore }

func openGorilla(_ context.Context, e Environment) (Sessions, func(), error) {
	hash, block := sha512.Sum512([]byte(e.Key)), sha256.Sum256([]byte(e.Key))
	g := gorilla{sessions.NewCookieStore(hash[:], block[:])}
	g.store.MaxAge(int(24 * time.Hour / time.Second)) // of what is in the cookie; the cookie itself ends with the browser
	g.store.Options = &sessions.Options{Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	return g, func() {}, nil
}

func (g gorilla) Wrap(h http.Handler) http.Handler { return h }

func (g gorilla) Get(r *http.Request) (Session, error) {
	x, err := g.store.Get(r, "session")
	if err != nil {
		return Session{}, nil // a cookie that does not open, says its documentation
	}
	s, _ := x.Values["session"].(Session)
	return s, nil
}

func (g gorilla) Change(w http.ResponseWriter, r *http.Request, change func(*Session)) error {
	x, err := g.store.Get(r, "session")
	if x == nil {
		return err
	}
	s, _ := x.Values["session"].(Session)
	change(&s)
	x.Values["session"] = s
	return x.Save(r, w)
}

func (g gorilla) Login(w http.ResponseWriter, r *http.Request, s Session) error {
	return g.Change(w, r, func(v *Session) { *v = s })
}

func (g gorilla) Logout(w http.ResponseWriter, r *http.Request) error {
	x, err := g.store.Get(r, "session")
	if x == nil {
		return err
	}
	x.Options.MaxAge = -1
	clear(x.Values)
	return x.Save(r, w)
}
