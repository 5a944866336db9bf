package contender

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// What a request does with the session.
const (
	Untouched = "untouched" // it does not ask for it
	Read      = "read"
	Change    = "change"
	Login     = "login"
	Logout    = "logout"
)

// Operations are all of them.
var Operations = []string{Untouched, Read, Change, Login, Logout}

// Headers by which the application proves that it has done its work.
const (
	UserHeader     = "X-User"     // of read: the user ID
	QuantityHeader = "X-Quantity" // of change: how many of the first item there are now
)

const maxQuantity = 99

// NextQuantity is what a change makes of a quantity.
func NextQuantity(n int) int { return n%maxQuantity + 1 }

// Handlers returns the handler of each operation, without the contender around it. A
// login with the query ?notes=N has notes of so many bytes in the session.
func Handlers(s Sessions) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		Untouched: func(http.ResponseWriter, *http.Request) {},
		Read: func(w http.ResponseWriter, r *http.Request) {
			v, err := s.Get(r)
			if v.UserID == User {
				w.Header()[UserHeader] = isUser
			}
			failed(w, err)
		},
		Change: func(w http.ResponseWriter, r *http.Request) {
			n := 0
			err := s.Change(w, r, func(v *Session) {
				if len(v.Cart) == 0 {
					v.Cart = []Item{{SKU: "mug"}} // a stranger's
				}
				n = NextQuantity(v.Cart[0].Qty)
				v.Cart[0].Qty = n
			})
			w.Header()[QuantityHeader] = quantities[n]
			failed(w, err)
		},
		Login: func(w http.ResponseWriter, r *http.Request) {
			v := reference
			if r.URL.RawQuery != "" {
				n, err := strconv.Atoi(r.FormValue("notes"))
				if err != nil || n < 0 || n > 1<<20 {
					http.Error(w, "bad notes", http.StatusBadRequest)
					return
				}
				v = Reference(n)
			}
			failed(w, s.Login(w, r, v))
		},
		Logout: func(w http.ResponseWriter, r *http.Request) { failed(w, s.Logout(w, r)) },
	}
}

var reference = Reference(0)

// Method returns the HTTP method of an operation.
func Method(operation string) string {
	if operation == Untouched || operation == Read {
		return http.MethodGet
	}
	return http.MethodPost
}

// NewApplication returns the application with the contender around it.
func NewApplication(s Sessions) http.Handler {
	mux := http.NewServeMux()
	for operation, h := range Handlers(s) {
		mux.Handle(Method(operation)+" /"+operation, h)
	}
	mux.HandleFunc("GET /session", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.Get(r)
		if failed(w, err) {
			return
		}
		json.NewEncoder(w).Encode(v)
	})
	return s.Wrap(mux)
}

func failed(w http.ResponseWriter, err error) bool {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
	return err != nil
}

// The headers' values are made once: the application is not what is measured.
var isUser = []string{strconv.Itoa(User)}

var quantities = func() (q [maxQuantity + 1][]string) {
	for n := range q {
		q[n] = []string{strconv.Itoa(n)}
	}
	return q
}()
