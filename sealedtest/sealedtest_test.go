package sealedtest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

type session struct {
	User string `cbor:"1,keyasint,omitempty"`
}

// The handler of an application under test: it logs out who is logged in.
func logout(m *sealed.Manager[session]) http.Handler {
	return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		if s.User == "alice" {
			m.Update(r.Context(), func(s *session) { s.User = "bob" })
			return
		}
		m.Destroy(r.Context())
	}))
}

func TestCookiesAndGet(t *testing.T) {
	m := sealedtest.Manager(t, sealed.Config[session]{})
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range sealedtest.Cookies(t, m, session{User: "alice"}) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	logout(m).ServeHTTP(w, r)
	if s, err := sealedtest.Get(t, m, w.Result().Cookies()); err != nil || s.User != "bob" {
		t.Errorf("got %+v, %v, want bob", s, err)
	}

	r = httptest.NewRequest("GET", "/", nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	w = httptest.NewRecorder()
	logout(m).ServeHTTP(w, r)
	if _, err := sealedtest.Get(t, m, w.Result().Cookies()); !errors.Is(err, sealed.ErrNoSession) {
		t.Errorf("after a deletion: %v, want ErrNoSession", err)
	}
	if c := sealedtest.Cookies(t, m, session{}); len(c) != 0 {
		t.Errorf("an empty session has the cookies %v", c)
	}
}
