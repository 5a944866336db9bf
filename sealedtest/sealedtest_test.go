package sealedtest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

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

// How an application tests what a stolen cookie is worth there.
func TestDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := sealedtest.Manager(t, sealed.Config[session]{
			Subject: func(s session) string { return s.User }, DeviceBinding: &sealed.DeviceBinding{},
		})
		app := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				m.Update(r.Context(), func(s *session) { s.User = "alice" })
				return
			}
			if s, err := m.Get(r.Context()); err != nil || s.User == "" {
				http.Error(w, "log in first", http.StatusUnauthorized)
			}
		}))
		device := sealedtest.NewDevice(t, sealedtest.Serve(app))
		status := func(c *http.Client, path string) int {
			t.Helper()
			res, err := c.Get("https://app.test" + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			return res.StatusCode
		}
		browser := device.Client()
		status(browser, "/login")
		status(browser, "/") // with this request the device registers its key
		thief := device.Thief("https://app.test/")
		if got := status(thief, "/"); got != 200 {
			t.Errorf("a copy, while the proof lasts: %d", got)
		}
		time.Sleep(11 * time.Minute)
		if got := status(thief, "/"); got != 401 {
			t.Errorf("a copy, after the proof: %d, want 401", got)
		}
		if got := status(browser, "/"); got != 200 || device.Signatures() != 2 {
			t.Errorf("the device: %d, %d signatures", got, device.Signatures())
		}
	})
}
