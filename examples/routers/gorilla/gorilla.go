// Package gorilla uses sealed with gorilla/mux.
package gorilla

import (
	"net/http"

	"github.com/gorilla/mux"

	"example.com/sealed/examples/routers/shop"
)

// New returns the program's handler.
func New(m *shop.Sessions) http.Handler {
	router := mux.NewRouter()
	router.Use(m.Handler)
	router.Methods("POST").Path("/login").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, shop.Login(r.Context(), m, r.URL.Query().Get("user")))
	})
	router.Methods("POST").Path("/add/{item}").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, shop.Add(r.Context(), m, mux.Vars(r)["item"]))
	})
	router.Methods("POST").Path("/logout").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, m.Destroy(r.Context()))
	})
	router.Methods("GET").Path("/cart").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := shop.Cart(r.Context(), m)
		if err != nil {
			answer(w, err)
			return
		}
		w.Write([]byte(text))
	})
	router.Methods("POST").Path("/fail").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := shop.Add(r.Context(), m, "before the error"); err != nil {
			answer(w, err)
			return
		}
		http.Error(w, "failed", http.StatusTeapot)
	})
	router.Methods("GET").Path("/events").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
