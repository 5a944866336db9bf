package recipes

import (
	"net/http"

	"example.com/sealed"
)

// Tenants serves each tenant, by host, with sessions of its own: a session of one does not
// open at another, though all have the same keys and the cookie the same name.
func Tenants(keys *sealed.Keyring, hosts []string, routes func(host string, m *Sessions) http.Handler) (http.Handler, error) {
	handlers := map[string]http.Handler{}
	for _, host := range hosts {
		m, err := sealed.New(keys, sealed.Config[Session]{Purpose: "tenant " + host, Subject: subject})
		if err != nil {
			return nil, err
		}
		handlers[host] = m.Handler(routes(host, m))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := handlers[r.Host]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}), nil
}
