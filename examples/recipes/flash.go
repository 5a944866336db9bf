package recipes

import (
	"net/http"

	"example.com/sealed"
)

// SetFlash leaves a message for the next page.
func SetFlash(m *Sessions, r *http.Request, message string) error {
	return m.Update(r.Context(), func(s *Session) { s.Flash = message })
}

// TakeFlash returns the message, and takes it out, if the visitor will see this page: not
// for HEAD, nor for a prefetch, which may never be shown.
func TakeFlash(m *Sessions, r *http.Request) string {
	s, err := m.Get(r.Context())
	if err != nil || s.Flash == "" || r.Method == http.MethodHead || sealed.IsPrefetch(r) {
		return s.Flash
	}
	if err := m.Update(r.Context(), func(s *Session) { s.Flash = "" }); err != nil {
		return "" // it is left for the next page
	}
	return s.Flash
}
