package bench

import (
	"encoding/json"
	"net/http"
)

// NewHandler returns the application that every contender serves.
func NewHandler(s Sessions) http.Handler {
	failed := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /untouched", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /read", func(w http.ResponseWriter, r *http.Request) {
		if v, ok := s.Get(r); ok {
			w.Header()["X-User"] = user(v)
		}
	})
	mux.HandleFunc("POST /change", func(w http.ResponseWriter, r *http.Request) {
		v, ok := s.Get(r)
		if !ok {
			v = reference()
		}
		v.Cart = append([]Item(nil), v.Cart...)
		v.Cart[0].Qty = v.Cart[0].Qty%99 + 1
		failed(w, s.Set(w, r, v))
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) { failed(w, s.Login(w, r, reference())) })
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) { failed(w, s.Logout(w, r)) })
	mux.HandleFunc("GET /session", func(w http.ResponseWriter, r *http.Request) {
		v, _ := s.Get(r)
		json.NewEncoder(w).Encode(v)
	})
	return s.Wrap(mux)
}

// user is a header that says who it is, without making text of the number anew.
func user(s Session) []string {
	if s.UserID == 1042 {
		return isReference
	}
	return isSomebody
}

var isReference, isSomebody = []string{"1042"}, []string{"?"}
