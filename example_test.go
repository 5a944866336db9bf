package sealed_test

import (
	"context"
	"expvar"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// ShopSession is an application's own type. Integer keys make small cookies.
type ShopSession struct {
	UserID int64    `cbor:"1,keyasint,omitempty"`
	Cart   []string `cbor:"2,keyasint,omitempty"`
	Flash  string   `cbor:"3,keyasint,omitempty"`
}

// shopSessions is how the examples make their manager.
func shopSessions(keys *sealed.Keyring, observe func(context.Context, sealed.Event)) *sealed.Manager[ShopSession] {
	sessions, err := sealed.New(keys, sealed.Config[ShopSession]{
		Subject: func(s ShopSession) string {
			if s.UserID == 0 {
				return "" // nobody is logged in
			}
			return strconv.FormatInt(s.UserID, 10)
		},
		Purpose:     "shop", // Seal and Open need one
		Revocations: revoke.NewList(),
		Observe:     observe,
	})
	if err != nil {
		panic(err)
	}
	return sessions
}

// testKeys is a keyring of the key in testdata, which is published: never use it.
func testKeys() *sealed.Keyring {
	keys, err := sealed.ParseKeyring("sealed-key-1-IlhsWBNDcw59Ru977r5yo-PbsZoAotx4aKAw7nnZY8w")
	if err != nil {
		panic(err)
	}
	return keys
}

// page serves one request with the cookies of the response before it, if any.
func page(h http.Handler, method, path string, before *http.Response) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	if before != nil {
		for _, c := range before.Cookies() {
			r.AddCookie(c)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Print(w.Body)
	return w.Result()
}

func Example() {
	sessions := shopSessions(testKeys(), nil) // sealed.ParseKeyring(os.Getenv("SESSION_KEYS"))

	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		// A new subject gets a new session ID by itself.
		if err := sessions.Update(r.Context(), func(s *ShopSession) { s.UserID = 7 }); err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s, err := sessions.Get(r.Context())
		fmt.Fprintln(w, "user", s.UserID, err)
	})
	handler := sessions.Handler(mux)

	page(handler, "GET", "/", nil)
	login := page(handler, "POST", "/login", nil)
	page(handler, "GET", "/", login)
	// Output:
	// user 0 sealed: no session
	// user 7 <nil>
}

// A flash message is shown once: the page that shows it takes it out, unless the browser
// only fetches the page in case that somebody looks at it.
func ExampleManager_Update_flash() {
	sessions := shopSessions(testKeys(), nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cart", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Update(r.Context(), func(s *ShopSession) { s.Flash = "One mug added." }); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		var flash string
		err := sessions.Update(r.Context(), func(s *ShopSession) {
			if flash = s.Flash; !sealed.IsPrefetch(r) {
				s.Flash = ""
			}
		})
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "%q\n", flash)
	})
	handler := sessions.Handler(mux)

	added := page(handler, "POST", "/cart", nil)
	shown := page(handler, "GET", "/", added)
	page(handler, "GET", "/", shown)
	// Output:
	// "One mug added."
	// ""
}

// "Remember me" gives one session a longer life, and a cookie that outlives the
// browser.
func ExampleConfig_termsFor() {
	type Session struct {
		UserID   int64 `cbor:"1,keyasint,omitempty"`
		Remember bool  `cbor:"2,keyasint,omitempty"`
	}
	sessions, err := sealed.New(testKeys(), sealed.Config[Session]{
		Lifetime:    12 * time.Hour,
		IdleTimeout: time.Hour,
		TermsFor: func(s Session) sealed.Terms {
			if s.Remember {
				return sealed.Terms{Lifetime: 30 * 24 * time.Hour, Persistent: true}
			}
			return sealed.Terms{} // the config's
		},
	})
	if err != nil {
		panic(err)
	}
	login := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := sessions.Update(r.Context(), func(s *Session) { s.UserID, s.Remember = 7, r.URL.Path == "/remember" })
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	fmt.Println("Max-Age", page(login, "POST", "/", nil).Cookies()[0].MaxAge)
	fmt.Println("Max-Age", page(login, "POST", "/remember", nil).Cookies()[0].MaxAge)
	// Output:
	// Max-Age 0
	// Max-Age 2592000
}

// Logging out everywhere else: every session of the user ends, and this one
// goes on under a new ID.
func ExampleManager_RevokeSubject() {
	sessions := shopSessions(testKeys(), nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(_ http.ResponseWriter, r *http.Request) {
		sessions.Update(r.Context(), func(s *ShopSession) { s.UserID = 7 })
	})
	mux.HandleFunc("POST /logout-elsewhere", func(w http.ResponseWriter, r *http.Request) {
		info, err := sessions.Info(r.Context())
		if err == nil {
			err = sessions.RevokeSubject(r.Context(), info.Subject)
		}
		if err == nil {
			err = sessions.Renew(r.Context())
		}
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s, err := sessions.Get(r.Context())
		fmt.Fprintln(w, "user", s.UserID, err)
	})
	handler := sessions.Handler(mux)

	phone := page(handler, "POST", "/login", nil)
	laptop := page(handler, "POST", "/login", nil)
	laptop = page(handler, "POST", "/logout-elsewhere", laptop)
	page(handler, "GET", "/", laptop)
	page(handler, "GET", "/", phone)
	// Output:
	// user 7 <nil>
	// user 0 sealed: session revoked
}

// Rotating by hand. On several instances, every one must have the new key
// within the lead.
func ExampleKeyring_Rotate() {
	keys := testKeys()
	key, err := keys.Rotate(time.Hour) // opens now, seals in an hour
	if err != nil {
		panic(err)
	}
	_ = key.Text() // to be stored with the others
	for _, k := range keys.Keys() {
		fmt.Println(k.State)
	}
	// Output:
	// pending
	// primary
}

// Observe feeds a log and counters. A token that was tampered with is worth a
// warning, one that expired is not.
func ExampleConfig_observe() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // the output below is checked
			}
			return a
		},
	}))
	counters := new(expvar.Map)
	sessions := shopSessions(testKeys(), func(ctx context.Context, e sealed.Event) {
		counters.Add(string(e.Kind)+" "+string(e.Reason), 1)
		switch {
		case e.Kind == sealed.EventRevocationFailed, e.Kind == sealed.EventLateChange:
			logger.ErrorContext(ctx, "session", "event", e.Kind, "error", e.Err)
		case e.Reason == sealed.ReasonTampered:
			logger.WarnContext(ctx, "session", "event", e.Kind, "reason", e.Reason, "key", e.KeyID)
		}
	})
	token, err := sessions.Seal(ShopSession{UserID: 7})
	if err != nil {
		panic(err)
	}
	flipped := "A"
	if token[20] == 'A' {
		flipped = "B"
	}
	_, _, err = sessions.Open(context.Background(), token[:20]+flipped+token[21:])
	fmt.Println(err)
	fmt.Println(counters)
	// Output:
	// level=WARN msg=session event=rejected reason=tampered key=e9faf368
	// sealed: invalid token: tampered, or sealed for another cookie name or purpose
	// {"rejected tampered": 1, "sealed ": 1}
}
