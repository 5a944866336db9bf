// Package chi uses sealed with chi.
package chi

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"example.com/sealed/examples/routers/shop"
)

// New returns the program's handler.
func New(m *shop.Sessions) http.Handler {
	router := chi.NewRouter()
	router.Use(middleware.Recoverer, middleware.Compress(5), m.Handler)
	router.Post("/login", func(w http.ResponseWriter, r *http.Request) {
		answer(w, shop.Login(r.Context(), m, r.URL.Query().Get("user")))
	})
	router.Post("/add/{item}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, shop.Add(r.Context(), m, chi.URLParam(r, "item")))
	})
	router.Post("/logout", func(w http.ResponseWriter, r *http.Request) {
		answer(w, m.Destroy(r.Context()))
	})
	router.Get("/cart", func(w http.ResponseWriter, r *http.Request) {
		text, err := shop.Cart(r.Context(), m)
		if err != nil {
			answer(w, err)
			return
		}
		w.Write([]byte(text))
	})
	router.Post("/fail", func(w http.ResponseWriter, r *http.Request) {
		if err := shop.Add(r.Context(), m, "before the error"); err != nil {
			answer(w, err)
			return
		}
		http.Error(w, "failed", http.StatusTeapot)
	})
	router.Get("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if err := shop.Events(r.Context(), m, w, http.NewResponseController(w).Flush); err != nil {
			answer(w, err)
		}
	})
	return router
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), shop.Status(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
