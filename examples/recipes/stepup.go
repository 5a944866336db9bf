package recipes

import (
	"context"
	"net/http"
	"time"
)

// Prove records that the visitor gave the password just now. The session gets a new ID, as
// its subject does not show that it may do more.
func Prove(ctx context.Context, m *Sessions) error {
	if err := m.Update(ctx, func(s *Session) { s.Proved = time.Now() }); err != nil {
		return err
	}
	return m.Renew(ctx)
}

// RequireProof serves next to those who gave the password within the last minutes, for
// payments and the like ("step-up").
func RequireProof(m *Sessions, within time.Duration, next http.Handler) http.Handler {
	return RequireLogin(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil || time.Since(s.Proved) > within {
			http.Error(w, "Give your password again.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	}))
}
