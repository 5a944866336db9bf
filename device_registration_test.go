package sealed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// When sessions are bound, and what becomes of copies from before.

// A copy from before registration ends with it, and cannot bind itself to another key.
func TestCopyFromBeforeRegistration(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		var thief *http.Client
		plain, stolen := logInPlain(t, f, d)
		thief = d.Thief(deviceSite)
		wantPage(t, "a copy, before registration", thief, "/", "user=alice")
		if status := postDevice(t, plain, "", d, stolen, true); status != 200 {
			t.Fatalf("registration: %d", status)
		}
		wantPage(t, "the device", plain, "/", "bound=true")
		wantPage(t, "a copy from before", thief, "/", "401 sealed: session not proven by its device: it was bound since")
		if status := postDevice(t, thief, "", f.device(), stolen, true); status != 401 {
			t.Errorf("the copy registers a key: %d", status)
		}
		f.recorder.take()
		visit(t, thief, "/")
		f.recorder.want(t, "a copy from before", "rejected unbound copy")
	})
}

// Instances without device binding refuse what is bound; with Hold they take it, and bind nothing.
func TestRollout(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.DeviceBinding.Hold = true }, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := d.Client()
		wantPage(t, "login on hold", browser, "/login?user=alice", "user=alice")
		wantPage(t, "then", browser, "/", "bound=false")
		on := f.config
		on.DeviceBinding = &sealed.DeviceBinding{}
		f.deploy(0, on)
		time.Sleep(time.Minute)
		for range 2 {
			wantPage(t, "when one instance binds", browser, "/flash", "user=alice")
		}
		for range 2 {
			wantPage(t, "then, on both", browser, "/", "bound=true")
		}
		off := f.config
		off.DeviceBinding = nil
		f.deploy(0, off)
		f.deploy(1, off)
		wantPage(t, "without device binding", browser, "/", "401 sealed: invalid token")
		f.deploy(0, on)
		f.deploy(1, on)
		wantPage(t, "with it again", browser, "/", "user=alice")
	})
}

// Where every browser can, a session that was not bound is of no use.
func TestRequireAfter(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.DeviceBinding.RequireAfter = 5 * time.Minute }, func(t *testing.T, f *fleet) {
		plain := &http.Client{Transport: sealedtest.Serve(f), Jar: f.device().Jar}
		wantPage(t, "nobody", plain, "/flash", "flash=x")
		wantPage(t, "a browser that cannot", plain, "/login?user=alice", "user=alice")
		wantPage(t, "soon", plain, "/", "user=alice")
		time.Sleep(5 * time.Minute)
		wantPage(t, "later", plain, "/", unproven)
		browser := logIn(t, f.device(), "alice")
		time.Sleep(5 * time.Minute)
		wantPage(t, "later", browser, "/", "user=alice")

		// A page that only reads asks for a key, too, and the registration's response for none.
		d, w := f.wired()
		without := &http.Client{Transport: sealedtest.Serve(f), Jar: d.Jar}
		wantPage(t, "a login whose registration is lost", without, "/login?user=bob", "user=bob")
		time.Sleep(time.Minute)
		wantPage(t, "a page that reads", d.Client(), "/", "bound=false")
		wantPage(t, "the next", d.Client(), "/", "bound=true")
		for i, r := range w.requests {
			if r.URL.Path == "/device-binding" && w.responses[i].Header.Get("Secure-Session-Registration") != "" {
				t.Error("a registration asks for another")
			}
		}
	})
}

// The browser is asked at the beginning, not while it may be about to answer, and then again.
func TestWhenToOffer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		w := &wire{next: sealedtest.Serve(f)}
		plain := &http.Client{Transport: w, Jar: f.device().Jar}
		offered := func(path string) bool {
			visit(t, plain, path)
			return w.responses[len(w.responses)-1].Header.Get("Secure-Session-Registration") != ""
		}
		for _, tt := range []struct {
			path  string
			after time.Duration
			want  bool
		}{{"/flash", 0, false}, {"/login?user=alice", 0, true}, {"/flash", 59 * time.Second, false}, {"/", time.Second, false}, {"/flash", 0, true}, {"/renew", 0, true}} {
			time.Sleep(tt.after)
			if got := offered(tt.path); got != tt.want {
				t.Errorf("%s offers: %v, want %v", tt.path, got, tt.want)
			}
		}
	})
}

func TestDeviceBindingConfig(t *testing.T) {
	good := func() sealed.Config[Session] {
		return sealed.Config[Session]{Subject: user, DeviceBinding: &sealed.DeviceBinding{}}
	}
	if _, err := sealed.New(mustRing(t), good()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*sealed.Config[Session]){
		"Subject":          func(c *sealed.Config[Session]) { c.Subject = nil },
		"Secure":           func(c *sealed.Config[Session]) { c.Cookie.Insecure = true },
		"Partitioned":      func(c *sealed.Config[Session]) { c.Cookie.Partitioned = true },
		"without Domain":   func(c *sealed.Config[Session]) { c.Cookie.Name, c.Cookie.Domain = "__Secure-s", "a.test" },
		"no room":          func(c *sealed.Config[Session]) { c.Cookie.Name = strings.Repeat("n", 252) },
		"not a path":       func(c *sealed.Config[Session]) { c.DeviceBinding.Path = `/a"b` },
		"below Cookie.Pat": func(c *sealed.Config[Session]) { c.Cookie.Name, c.Cookie.Path = "__Secure-s", "/app" },
		"ProofLifetime":    func(c *sealed.Config[Session]) { c.DeviceBinding.ProofLifetime = time.Minute },
		"2h0m0s":           func(c *sealed.Config[Session]) { c.DeviceBinding.ProofLifetime = 2 * time.Hour },
		"RequireAfter":     func(c *sealed.Config[Session]) { c.DeviceBinding.RequireAfter = -1 },
		"with Hold":        func(c *sealed.Config[Session]) { c.DeviceBinding.Hold, c.DeviceBinding.RequireAfter = true, 1 },
		"is not a host":    func(c *sealed.Config[Session]) { c.DeviceBinding.Initiators = []string{"https://a.test"} },
	} {
		config := good()
		change(&config)
		if _, err := sealed.New(mustRing(t), config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// A request with an ID that was renewed a moment ago binds nothing.
func TestNoRegistrationInTheGrace(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.RenewalGrace = 10 * time.Second }, func(t *testing.T, f *fleet) {
		d := f.device()
		plain, challenge := logInPlain(t, f, d)
		old := d.Thief(deviceSite)
		wantPage(t, "renewed", plain, "/renew", "user=alice")
		if status := postDevice(t, old, "", d, challenge, true); status != 401 {
			t.Errorf("with the old ID: %d", status)
		}
	})
}

// A registration whose response is lost, or that the list takes and does not say so, logs
// nobody out: the browser is asked again.
func TestLostRegistration(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		lost := 0
		w.drop = func(r *http.Request, res *http.Response) *http.Response {
			if r.URL.Path == "/device-binding" && lost < 2 {
				lost++
				return &http.Response{StatusCode: 502, Header: http.Header{}, Body: http.NoBody, Request: r}
			}
			return res
		}
		browser := d.Client()
		wantPage(t, "login", browser, "/login?user=alice", "user=alice")
		for range 2 {
			time.Sleep(time.Minute)
			wantPage(t, "a registration was lost", browser, "/flash", "bound=false")
		}
		wantPage(t, "the next was not", browser, "/flash", "bound=true")
		if lost != 2 {
			t.Errorf("%d responses were lost", lost)
		}
		time.Sleep(proofTime + time.Second)
		wantPage(t, "later", browser, "/", "flash=xxx")
	})
}

// Changes that the visitor makes during the registration stay, and requests under way are served.
func TestRegistrationOverwritesNothing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		plain, challenge := logInPlain(t, f, d)
		early := d.Thief(deviceSite) // the requests of the page after the login
		wantPage(t, "a change", plain, "/flash", "flash=x")
		registered := *plain
		registered.Jar = early.Jar // it was sent before the change
		if status := postDevice(t, &registered, "", d, challenge, true); status != 200 {
			t.Fatalf("registration: %d", status)
		}
		for _, c := range early.Jar.Cookies(mustURL(deviceSite)) { // its response arrives after the change's
			if strings.HasPrefix(c.Name, proofCookie) {
				d.Jar.SetCookies(mustURL(deviceSite), []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/", Secure: true}})
			}
		}
		wantPage(t, "a request under way", d.Thief(deviceSite, proofCookie), "/flash", "user=alice")
		wantPage(t, "the change", plain, "/", "bound=true flash=x")
	})
}

// What was open before the registration does not outlive it: not as a stream, nor by a new
// ID.
func TestOpenRequestFromBeforeRegistration(t *testing.T) {
	for _, what := range []string{"Verify", "Renew", "another subject"} {
		bubble(t, nil, func(t *testing.T, f *fleet) {
			d := f.device()
			plain, challenge := logInPlain(t, f, d)
			r := httptest.NewRequest("GET", deviceSite, nil)
			for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
				r.AddCookie(c)
			}
			m := f.instances[0]
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err != nil {
					t.Errorf("before: %v", err)
				}
				if status := postDevice(t, plain, "", d, challenge, true); status != 200 {
					t.Fatalf("registration: %d", status)
				}
				wantPage(t, "the device", plain, "/", "bound=true")
				var err error
				switch what {
				case "Verify":
					err = m.Verify(r.Context())
				case "Renew":
					err = m.Renew(r.Context())
				default:
					err = m.Update(r.Context(), func(s *Session) { s.User = "mallory" })
				}
				if !errors.Is(err, sealed.ErrUnproven) {
					t.Errorf("%s after the registration: %v, want ErrUnproven", what, err)
				}
			})).ServeHTTP(httptest.NewRecorder(), r)
			wantPage(t, "the device", plain, "/", "user=alice")
		})
	}
}

// Import is no way around a binding.
func TestImportOfABoundSession(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) {
		c.Import = sealed.Import[Session]{
			Cookie: sealed.Cookie{Name: "old"}, Until: time.Now().Add(60 * 24 * time.Hour),
			Load: func(*http.Request) (sealed.Imported[Session], error) {
				return sealed.Imported[Session]{Data: Session{User: "alice"}, Created: time.Now()}, nil
			},
		}
	}, func(t *testing.T, f *fleet) {
		d := f.device()
		old := []*http.Cookie{{Name: "old", Value: "1", Path: "/", Secure: true}}
		d.Jar.SetCookies(mustURL(deviceSite), old)
		thief := f.device()
		thief.Jar.SetCookies(mustURL(deviceSite), old)
		browser := d.Client()
		wantPage(t, "taken over", browser, "/", "user=alice")
		wantPage(t, "bound", browser, "/", "bound=true")
		wantPage(t, "bound", browser, "/", "bound=true")
		for range 2 {
			wantPage(t, "the old cookie alone", thief.Client(), "/", unproven)
			wantPage(t, "and a new ID", thief.Client(), "/renew", unproven)
			time.Sleep(26 * time.Hour)
		}
	})
}

// The list gets one entry for the copies from before, however many requests come with the
// first proof.
func TestCopiesEndOnce(t *testing.T) {
	list := strictList()
	bubble(t, func(c *sealed.Config[Session]) { c.Revocations = list }, func(t *testing.T, f *fleet) {
		browser := logIn(t, f.device(), "alice")
		for range 5 {
			wantPage(t, "a request", browser, "/flash", "bound=true")
		}
		time.Sleep(proofTime + time.Second)
		wantPage(t, "after a refresh", browser, "/", "bound=true")
		if n := len(list.revoked); n != 1 {
			t.Errorf("%d entries, want 1", n)
		}
	})
}

// A refresh shows as well that the browser has the binding.
func TestCopiesEndWithARefresh(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		browser := d.Client()
		wantPage(t, "login", browser, "/login?user=alice", "user=alice")
		thief := d.Thief(deviceSite)
		w.next = transport(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				return nil, errors.New("the request is lost")
			}
			return sealedtest.Serve(f).RoundTrip(r)
		})
		if _, err := browser.Get(deviceSite); err == nil || d.Sessions() != 1 {
			t.Fatalf("%v, %d sessions, want a registration and no more", err, d.Sessions())
		}
		w.next = sealedtest.Serve(f)
		wantPage(t, "a copy, as long as nothing has come", thief, "/", "user=alice")
		time.Sleep(proofTime + time.Second)
		wantPage(t, "the device", browser, "/", "user=alice")
		wantPage(t, "a copy", thief, "/", unproven)
	})
}

// Headers that follow each change hold each cookie once.
func TestProofInFollowedHeaders(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		logIn(t, d, "alice")
		r := httptest.NewRequest("GET", deviceSite, nil)
		for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		m := f.instances[0]
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
			for range 2 {
				if err := m.Destroy(r.Context()); err != nil {
					t.Error(err)
				}
				if err := m.Update(r.Context(), func(s *Session) { s.User += "bob" }); err != nil {
					t.Error(err)
				}
			}
		})).ServeHTTP(w, r)
		if got := w.Header()["Set-Cookie"]; len(got) != 2 {
			t.Errorf("set %d cookies, want the session's and the end of the proof's: %q", len(got), got)
		}
		if got := w.Header()["Secure-Session-Registration"]; len(got) != 1 {
			t.Errorf("%d registrations are asked for, want 1", len(got))
		}
	})
}

// What the browser is told: whose links may have it refresh, and which cookie it is to keep.
func TestInstructions(t *testing.T) {
	for _, tt := range []struct {
		sameSite   http.SameSite
		initiators []string
		want       string
	}{
		{0, nil, `["*"]`}, {http.SameSiteNoneMode, nil, `["*"]`}, {http.SameSiteStrictMode, nil, `null`},
		{0, []string{}, `null`}, {0, []string{"a.test", "*.b.test"}, `["a.test","*.b.test"]`}, {http.SameSiteStrictMode, []string{"a.test"}, `["a.test"]`},
	} {
		bubble(t, func(c *sealed.Config[Session]) {
			c.Cookie.SameSite, c.DeviceBinding.Initiators, c.DeviceBinding.Path = tt.sameSite, tt.initiators, "/bind"
		}, func(t *testing.T, f *fleet) {
			d, w := f.wired()
			var told map[string]json.RawMessage
			var cookie *http.Cookie
			w.drop = func(r *http.Request, res *http.Response) *http.Response {
				if r.URL.Path == "/bind" {
					body, err := io.ReadAll(res.Body)
					if err != nil || json.Unmarshal(body, &told) != nil {
						t.Fatalf("%v: %s", err, body)
					}
					cookie, res.Body = res.Cookies()[0], io.NopCloser(bytes.NewReader(body))
				}
				return res
			}
			logIn(t, d, "alice")
			if got := string(told["allowed_refresh_initiators"]); got != tt.want && !(got == "" && tt.want == "null") {
				t.Errorf("SameSite %d, %q: initiators %s, want %s", tt.sameSite, tt.initiators, got, tt.want)
			}
			if string(told["refresh_url"]) != `"/bind"` || string(told["scope"]) != `{"include_site":false}` {
				t.Errorf("refresh_url %s, scope %s", told["refresh_url"], told["scope"])
			}
			var credentials []struct{ Type, Name, Attributes string }
			if err := json.Unmarshal(told["credentials"], &credentials); err != nil || len(credentials) != 1 {
				t.Fatalf("credentials %s, %v", told["credentials"], err)
			}
			c := credentials[0]
			line := strings.Replace(cookie.Raw, fmt.Sprintf("; Max-Age=%d", cookie.MaxAge), "", 1)
			if c.Type != "cookie" || line != c.Name+"="+cookie.Value+"; "+c.Attributes || cookie.MaxAge != 600 {
				t.Errorf("the credential %+v is not the cookie %s", c, cookie.Raw)
			}
		})
	}
}
