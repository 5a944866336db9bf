package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

// logIn7 returns the response that logs user 7 in.
func logIn7(sessions *sealed.Manager[ShopSession]) *http.Response {
	return page(sessions.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := sessions.Update(r.Context(), func(s *ShopSession) { s.UserID = 7 }); err != nil {
			panic(err)
		}
	})), "POST", "/login", nil)
}

// Logout: the cookie is deleted, and with a revocation list a copy of it is refused, too.
func ExampleManager_Destroy() {
	sessions := shopSessions(testKeys(), nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Destroy(r.Context()); err != nil {
			http.Error(w, "you are logged out here, but a copy of your cookie may still work", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		_, err := sessions.Get(r.Context())
		fmt.Fprintln(w, err)
	})
	handler := sessions.Handler(mux)

	login := logIn7(sessions)
	page(handler, "GET", "/", login)
	page(handler, "POST", "/logout", login)
	page(handler, "GET", "/", login) // a copy of the cookie
	// Output:
	// <nil>
	// sealed: session revoked
}

// Renew gives the session another ID, where a privilege is raised that the subject does not
// show: after a second factor, for instance.
func ExampleManager_Renew() {
	sessions := shopSessions(testKeys(), nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /second-factor", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Renew(r.Context()); err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s, err := sessions.Get(r.Context())
		fmt.Fprintln(w, "user", s.UserID, err)
	})
	handler := sessions.Handler(mux)

	before := logIn7(sessions)
	after := page(handler, "POST", "/second-factor", before)
	page(handler, "GET", "/", after)
	page(handler, "GET", "/", before)
	// Output:
	// user 7 <nil>
	// user 0 sealed: session revoked
}

// Info says whose session it is, and until when: for a page about it, or for a log.
func ExampleManager_Info() {
	sessions := shopSessions(testKeys(), nil)
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := sessions.Info(r.Context())
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "subject", info.Subject, "under key", info.KeyID)
		fmt.Fprintln(w, "lasts", info.Expires.Sub(info.Created))
	}))
	page(handler, "GET", "/", logIn7(sessions))
	// Output:
	// subject 7 under key e9faf368
	// lasts 24h0m0s
}

// A page that polls keeps no idle session alive: Peek counts as no use.
func ExampleManager_Peek() {
	sessions := shopSessions(testKeys(), nil)
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sessions.Peek(r.Context())
		if err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, len(s.Cart), "things in the cart of", s.UserID)
	}))
	page(handler, "GET", "/badge", logIn7(sessions))
	// Output:
	// 0 things in the cart of 7
}

// A stream goes on after its headers were sent. Verify says whether the session still holds.
func ExampleManager_Verify() {
	sessions := shopSessions(testKeys(), nil)
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := sessions.Get(r.Context()); err != nil {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 1; n <= 3; n++ { // as a rule, with a ticker
			if err := sessions.Verify(r.Context()); err != nil {
				fmt.Fprintln(w, "event: logout")
				return
			}
			fmt.Fprintln(w, "data:", n)
			if n == 2 { // elsewhere, the user logs out everywhere
				if err := sessions.RevokeSubject(context.Background(), "7"); err != nil {
					panic(err)
				}
			}
		}
	}))
	page(handler, "GET", "/events", logIn7(sessions))
	// Output:
	// data: 1
	// data: 2
	// event: logout
}

// A list of the user's devices: the application keeps the ID of each session, and can end
// one of them.
func ExampleManager_RevokeSession() {
	sessions := shopSessions(testKeys(), nil)
	devices := map[string]sealed.ID{} // as a rule, in the application's database
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := sessions.Info(r.Context())
		if err != nil {
			fmt.Fprintln(w, err)
			return
		}
		devices[r.URL.Path] = info.ID
	}))
	phone := logIn7(sessions)
	page(handler, "GET", "/phone", phone)
	if err := sessions.RevokeSession(context.Background(), devices["/phone"]); err != nil {
		panic(err)
	}
	page(handler, "GET", "/phone", phone)
	// Output:
	// sealed: session revoked
}

// A link in an e-mail: a token of its own purpose and lifetime, which is no cookie.
func ExampleManager_Seal() {
	type Reset struct {
		UserID       int64  `cbor:"1,keyasint"`
		PasswordHash string `cbor:"2,keyasint"` // as of now: the link is of no use after the change
	}
	links, err := sealed.New(testKeys(), sealed.Config[Reset]{Purpose: "password reset", Lifetime: 20 * time.Minute})
	if err != nil {
		panic(err)
	}
	token, err := links.Seal(Reset{UserID: 7, PasswordHash: "old"})
	if err != nil {
		panic(err)
	}
	address := "https://shop.example/reset#" + token // behind # it is in no log, and in no Referer

	reset, info, err := links.Open(context.Background(), address[strings.IndexByte(address, '#')+1:])
	switch {
	case errors.Is(err, sealed.ErrExpired):
		fmt.Println("the link has expired: ask for another")
	case err != nil:
		fmt.Println("this is no link of ours")
	default:
		fmt.Println("user", reset.UserID, "for", info.Expires.Sub(info.Created))
	}
	// Output:
	// user 7 for 20m0s
}

// The session's type has changed: data of the old form becomes the new one.
func ExampleConfig_migrate() {
	type Old struct {
		Name string `cbor:"1,keyasint"`
	}
	type New struct {
		First string `cbor:"2,keyasint,omitempty"`
		Last  string `cbor:"3,keyasint,omitempty"`
	}
	before, err := sealed.New(testKeys(), sealed.Config[Old]{Purpose: "example"})
	if err != nil {
		panic(err)
	}
	after, err := sealed.New(testKeys(), sealed.Config[New]{Purpose: "example", Migrate: func(data []byte) (New, bool) {
		old, err := sealed.Decode[Old](data)
		first, last, _ := strings.Cut(old.Name, " ")
		return New{first, last}, err == nil
	}})
	if err != nil {
		panic(err)
	}
	token, err := before.Seal(Old{Name: "Ada Lovelace"})
	if err != nil {
		panic(err)
	}
	session, _, err := after.Open(context.Background(), token)
	fmt.Printf("%+v %v\n", session, err)
	// Output:
	// {First:Ada Last:Lovelace} <nil>
}

// The cookie gets another name, and nobody is logged out.
func ExampleConfig_former() {
	before, err := sealed.New(testKeys(), sealed.Config[string]{Cookie: sealed.Cookie{Name: "__Host-old"}})
	if err != nil {
		panic(err)
	}
	after, err := sealed.New(testKeys(), sealed.Config[string]{
		Cookie: sealed.Cookie{Name: "__Host-new"},
		Former: []sealed.Former{{Cookie: sealed.Cookie{Name: "__Host-old"}}},
	})
	if err != nil {
		panic(err)
	}
	old := page(before.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := before.Update(r.Context(), func(s *string) { *s = "alice" }); err != nil {
			panic(err)
		}
	})), "POST", "/login", nil)
	response := page(after.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := after.Get(r.Context())
		fmt.Fprintln(w, s, err)
	})), "GET", "/", old)
	for _, c := range response.Cookies() {
		fmt.Println(c.Name, "kept:", c.MaxAge >= 0)
	}
	// Output:
	// alice <nil>
	// __Host-new kept: true
	// __Host-old kept: false
}

// Visitors of another library stay logged in: Load reads their session by its old cookie.
func ExampleConfig_import() {
	old := map[string]int64{"opaque-id": 7} // as a rule, the other library's store
	sessions, err := sealed.New(testKeys(), sealed.Config[ShopSession]{
		Subject:     func(s ShopSession) string { return fmt.Sprint(s.UserID) },
		Revocations: revoke.NewList(),
		Import: sealed.Import[ShopSession]{
			Cookie: sealed.Cookie{Name: "sid"},
			Until:  time.Now().Add(30 * 24 * time.Hour),
			Load: func(r *http.Request) (imported sealed.Imported[ShopSession], err error) {
				c, err := r.Cookie("sid")
				if err != nil || old[c.Value] == 0 {
					return imported, sealed.ErrNoSession
				}
				imported.Data.UserID = old[c.Value]
				return imported, nil
			},
		},
	})
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "sid=opaque-id")
	w := httptest.NewRecorder()
	sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sessions.Get(r.Context())
		fmt.Fprintln(w, "user", s.UserID, err)
	})).ServeHTTP(w, r)
	fmt.Print(w.Body)
	// Output:
	// user 7 <nil>
}

// Keys that something else keeps equal on all instances: it replaces the ring's keys, and is
// asked when a token names one that is not there yet.
func ExampleNewSyncedKeyring() {
	shared := []sealed.KeyEntry{{Key: sealed.GenerateKey()}} // as a rule, read from where all instances read them
	keys, feed := sealed.NewSyncedKeyring()
	if err := feed.Replace(shared); err != nil {
		panic(err)
	}
	feed.OnUnknownKey(func(context.Context) {
		fmt.Println("reading the keys once more")
		if err := feed.Replace(shared); err != nil {
			panic(err)
		}
	})
	sessions := shopSessions(keys, nil)

	next := sealed.GenerateKey() // another instance has added it, and seals with it
	shared = append(shared, sealed.KeyEntry{Key: next})
	elsewhere, err := sealed.NewKeyring(next)
	if err != nil {
		panic(err)
	}
	token, err := shopSessions(elsewhere, nil).Seal(ShopSession{UserID: 7})
	if err != nil {
		panic(err)
	}
	s, _, err := sessions.Open(context.Background(), token)
	fmt.Println("user", s.UserID, err)
	// Output:
	// reading the keys once more
	// user 7 <nil>
}

// A key that may be known to others ends with all that was sealed under it.
func ExampleKeyring_Revoke() {
	stolen := sealed.GenerateKey()
	keys, err := sealed.NewKeyring(sealed.GenerateKey(), stolen)
	if err != nil {
		panic(err)
	}
	if err := keys.Revoke(stolen.ID()); err != nil {
		panic(err)
	}
	for _, k := range keys.Keys() {
		fmt.Println(k.State)
	}
	// Output:
	// primary
	// revoked
}

// Before a payment the browser proves once more that it has the key of its device. A copy of
// the cookies cannot.
func ExampleManager_Prove() {
	sessions, err := sealed.New(testKeys(), sealed.Config[ShopSession]{
		Subject:       func(s ShopSession) string { return fmt.Sprint(s.UserID) },
		Revocations:   revoke.NewList(),
		DeviceBinding: &sealed.DeviceBinding{},
	})
	if err != nil {
		panic(err)
	}
	handler := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login":
			if err := sessions.Update(r.Context(), func(s *ShopSession) { s.UserID = 7 }); err != nil {
				http.Error(w, "please try again", http.StatusServiceUnavailable)
			}
		case "/pay":
			if !sessions.Prove(w, r, 2*time.Minute) {
				return // the browser comes back with a fresh proof
			}
			if _, err := sessions.Get(r.Context()); err != nil {
				http.Error(w, "log in first", http.StatusUnauthorized)
			}
		}
	}))
	browser := sealedtest.NewDevice(inExample{}, sealedtest.Serve(handler))
	status := func(client *http.Client, path string) int {
		res, err := client.Get("https://shop.example" + path)
		if err != nil {
			panic(err)
		}
		return res.StatusCode
	}
	for _, path := range []string{"/login", "/", "/pay"} {
		fmt.Println(path, status(browser.Client(), path))
	}
	thief := browser.Thief("https://shop.example", "__Host-session-proof-")
	fmt.Println("a copy of the session's cookie:", status(thief, "/pay"))
	// Output:
	// /login 200
	// / 200
	// /pay 200
	// a copy of the session's cookie: 401
}

// inExample is the [testing.TB] of an Example, which has none.
type inExample struct{ testing.TB }

func (inExample) Helper()                           {}
func (inExample) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (inExample) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
