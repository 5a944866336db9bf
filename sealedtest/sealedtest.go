// Package sealedtest helps to test applications that use package sealed: it
// puts a session into a request and reads one from a response.
package sealedtest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/sealed"
)

// Manager returns a manager with config and a key of its own.
func Manager[T any](t testing.TB, config sealed.Config[T]) *sealed.Manager[T] {
	t.Helper()
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatalf("sealedtest: %v", err)
	}
	m, err := sealed.New(keys, config)
	if err != nil {
		t.Fatalf("sealedtest: %v", err)
	}
	return m
}

// Cookies returns the cookies of a new session that holds data, as a browser
// would keep them. Add them to a request with [http.Request.AddCookie]. There are none
// for the zero T, which is no session. The test fails if the manager's Cookie.Path is not "/".
func Cookies[T any](t testing.TB, m *sealed.Manager[T], data T) []*http.Cookie {
	t.Helper()
	var err error
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		err = m.Update(r.Context(), func(s *T) { *s = data })
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatalf("sealedtest: %v", err)
	}
	return w.Result().Cookies()
}

// Get returns the session that a request with these cookies has: those of
// [Cookies], of a cookie jar, or of [http.Response.Cookies]. Cookies that a
// response deletes are left out. The error is that of [sealed.Manager.Get].
func Get[T any](t testing.TB, m *sealed.Manager[T], cookies []*http.Cookie) (T, error) {
	t.Helper()
	var session T
	var err error
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range cookies {
		if c.MaxAge >= 0 {
			r.AddCookie(c)
		}
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		session, err = m.Get(r.Context())
	})).ServeHTTP(httptest.NewRecorder(), r)
	return session, err
}
