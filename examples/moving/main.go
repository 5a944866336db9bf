// Moving runs an application as it was, with scs, and as it is, with sealed:
//
//	go run .
//	curl -c jar -b jar -X POST 'http://localhost:8080/login?user=alice'   # the old one
//	curl -c jar -b jar http://localhost:8081/                             # the new one knows her
//	curl -c jar -b jar -X POST http://localhost:8081/logout
//	curl -c jar -b jar http://localhost:8080/                             # and both have forgotten her
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/alexedwards/scs/v2"

	"example.com/sealed"
	"example.com/sealed/examples/moving/fromscs"
	"example.com/sealed/revoke"
)

// Session is what the new program knows of a visitor.
type Session struct {
	User string   `cbor:"1,keyasint,omitempty"`
	Cart []string `cbor:"2,keyasint,omitempty"`
}

func main() {
	log.SetFlags(0)
	old := scs.New()
	m, err := newSessions(old)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe("localhost:8080", oldProgram(old))) }()
	fmt.Println("with scs on http://localhost:8080, with sealed on http://localhost:8081")
	log.Fatal(http.ListenAndServe("localhost:8081", newProgram(m)))
}

// newSessions returns the manager of the new program, which takes over old's sessions.
func newSessions(old *scs.SessionManager) (*sealed.Manager[Session], error) {
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		return nil, err
	}
	return sealed.New(keys, sealed.Config[Session]{
		Subject:     func(s Session) string { return s.User },
		Revocations: revoke.NewList(),
		Import: fromscs.Import(old, func(ctx context.Context) Session {
			cart, _ := old.Get(ctx, "cart").([]string)
			return Session{User: old.GetString(ctx, "user"), Cart: cart}
		}),
	})
}

func oldProgram(old *scs.SessionManager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if err := old.RenewToken(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		old.Put(r.Context(), "user", r.URL.Query().Get("user"))
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, old.GetString(r.Context(), "user"))
	})
	return old.LoadAndSave(mux)
}

func newProgram(m *sealed.Manager[Session]) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		fmt.Fprintln(w, s.User)
	})
	return m.Handler(mux)
}
