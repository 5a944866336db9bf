package recipes

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"example.com/sealed"
)

// RequireLogin serves next to those who are logged in. A page sends others to the login,
// which brings them back; anything else is 401. Where the session cannot be verified, which
// passes, the answer is 503: to send somebody to the login who is logged in would be wrong.
func RequireLogin(m *Sessions, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		switch {
		case errors.Is(err, sealed.ErrUnverified):
			w.Header().Set("Retry-After", "5")
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		case s.User != "":
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html"):
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
		default:
			http.Error(w, "Log in first.", http.StatusUnauthorized)
		}
	})
}

// SafeNext returns where to go after a login: next, if that is a path of this site. A link
// of somebody else's could name another site, also as "//host" or "/\host".
func SafeNext(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// Login logs in who gives the right password, and goes on to where the visitor came from.
// A new subject gives the session a new ID, against session fixation. A user who logs in once more
// gets one as well, with the deadlines that "remember me" asks for now.
func Login(m *Sessions, check func(user, password string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.PostFormValue("user")
		if !check(user, r.PostFormValue("password")) {
			http.Error(w, "No such user, or another password.", http.StatusUnauthorized)
			return
		}
		before, _ := m.Get(r.Context())
		err := m.Update(r.Context(), func(s *Session) {
			s.User, s.Remember = user, r.PostFormValue("remember") != ""
		})
		if err == nil && before.User == user {
			err = m.Renew(r.Context())
		}
		if err != nil {
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, SafeNext(r.FormValue("next")), http.StatusSeeOther)
	})
}
