// Package servemux uses sealed with net/http's own router.
package servemux

import (
	"net/http"

	"example.com/sealed/examples/routers/shop"
)

// New returns the program's handler.
func New(m *shop.Sessions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		answer(w, shop.Login(r.Context(), m, r.URL.Query().Get("user")))
	})
	mux.HandleFunc("POST /add/{item}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, shop.Add(r.Context(), m, r.PathValue("item")))
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		answer(w, m.Destroy(r.Context()))
	})
	mux.HandleFunc("GET /cart", func(w http.ResponseWriter, r *http.Request) {
		text, err := shop.Cart(r.Context(), m)
		if err != nil {
			answer(w, err)
			return
		}
		w.Write([]byte(text))
	})
	mux.HandleFunc("POST /fail", func(w http.ResponseWriter, r *http.Request) {
		if err := shop.Add(r.Context(), m, "before the error"); err != nil {
			answer(w, err)
			return
		}
		http.Error(w, "failed", http.StatusTeapot)
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if err := shop.Events(r.Context(), m, w, http.NewResponseController(w).Flush); err != nil {
			answer(w, err)
		}
	})
	return m.Handler(mux)
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), shop.Status(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
