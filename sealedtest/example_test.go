package sealedtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// Session is the application's.
type Session struct {
	User string `cbor:"1,keyasint,omitempty"`
}

// account is the handler under test.
func account(sessions *sealed.Manager[Session]) http.Handler {
	return sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sessions.Get(r.Context())
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "Hello", s.User)
	}))
}

// A test of a handler that needs somebody logged in: a manager with a key of its own, and
// the cookies of a session.
func ExampleCookies() {
	var t testing.TB = inExample{} // of the test

	sessions := sealedtest.Manager(t, sealed.Config[Session]{})
	r := httptest.NewRequest("GET", "/account", nil)
	for _, c := range sealedtest.Cookies(t, sessions, Session{User: "alice"}) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	account(sessions).ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)
	// Output:
	// 200 Hello alice
}

// What a handler has left in the session.
func ExampleGet() {
	var t testing.TB = inExample{} // of the test

	sessions := sealedtest.Manager(t, sealed.Config[Session]{})
	login := sessions.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := sessions.Update(r.Context(), func(s *Session) { s.User = r.FormValue("user") }); err != nil {
			t.Fatal(err)
		}
	}))
	w := httptest.NewRecorder()
	login.ServeHTTP(w, httptest.NewRequest("POST", "/login?user=bob", nil))
	s, err := sealedtest.Get(t, sessions, w.Result().Cookies())
	fmt.Println(s.User, err)
	// Output:
	// bob <nil>
}

// A device binds its session as a browser does, and a thief has a copy of the cookies.
func ExampleNewDevice() {
	var t testing.TB = inExample{} // of the test

	sessions := sealedtest.Manager(t, sealed.Config[Session]{
		Subject:       func(s Session) string { return s.User },
		DeviceBinding: &sealed.DeviceBinding{},
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(_ http.ResponseWriter, r *http.Request) {
		if err := sessions.Update(r.Context(), func(s *Session) { s.User = "alice" }); err != nil {
			t.Fatal(err)
		}
	})
	mux.Handle("/", account(sessions))
	device := sealedtest.NewDevice(t, sealedtest.Serve(sessions.Handler(mux)))
	get := func(client *http.Client, path string) int {
		res, err := client.Get("https://shop.example" + path)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	get(device.Client(), "/login")
	get(device.Client(), "/") // by now the browser has registered its key
	fmt.Println("the visitor:", get(device.Client(), "/"))
	thief := device.Thief("https://shop.example", "__Host-session-proof-")
	fmt.Println("a copy without the proof:", get(thief, "/"))
	// Output:
	// the visitor: 200
	// a copy without the proof: 401
}

// inExample is the [testing.TB] of an Example, which has none.
type inExample struct{ testing.TB }

func (inExample) Helper()                           {}
func (inExample) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (inExample) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
