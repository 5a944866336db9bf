package sealed_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// What a request with a bound session is worth, by its proof.

// A copied cookie is worth minutes: the device goes on, and thieves do not.
func TestDeviceAndThief(t *testing.T) {
	for _, what := range []string{"ES256", "RS256"} {
		t.Run(what, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, f *fleet) {
				d := f.device()
				if what == "RS256" {
					k, err := rsa.GenerateKey(rand.Reader, 2048)
					if err != nil {
						t.Fatal(err)
					}
					d.Key = k
				}
				browser := d.Client()
				login := wantPage(t, "login", browser, "/login?user=alice", "user=alice")
				page := wantPage(t, "the device", browser, "/", "bound=true")
				if id := regexp.MustCompile("id=[0-9a-f]+"); id.FindString(login) != id.FindString(page) {
					t.Errorf("registration renewed the session: %s, then %s", login, page)
				}
				thief, half := d.Thief(deviceSite), d.Thief(deviceSite, proofCookie)
				mallory := f.device()
				logIn(t, mallory, "mallory")
				for _, c := range mallory.Jar.Cookies(mustURL(deviceSite)) {
					if strings.HasPrefix(c.Name, proofCookie) {
						half.Jar.SetCookies(mustURL(deviceSite), []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/", Secure: true}})
					}
				}
				wantPage(t, "the session's cookie, with the thief's own proof", half, "/", unproven)
				half = d.Thief(deviceSite, proofCookie)
				wantPage(t, "a copy of all cookies, while the proof lasts", thief, "/", "user=alice")
				wantPage(t, "a copy of the session's cookie alone", half, "/", unproven)
				time.Sleep(proofTime + 31*time.Second)
				wantPage(t, "a copy of all cookies, after the proof", thief, "/", unproven)
				signed := d.Signatures()
				for range 8 {
					wantPage(t, "the device", browser, "/flash", "user=alice")
				}
				if n := d.Signatures() - signed; n != 1 {
					t.Errorf("eight requests took %d signatures, want 1", n)
				}
				wantPage(t, "the thief", thief, "/", unproven)
				for range 200 { // days of use
					time.Sleep(7 * time.Minute)
					wantPage(t, "the device", browser, "/", "user=alice")
				}
				wantPage(t, "logout", browser, "/logout", "user= ")
				if n := d.Sessions(); n != 1 {
					t.Errorf("%d sessions of the device", n)
				}
				wantPage(t, "after logout", browser, "/", "user= ")
				if n := d.Sessions(); n != 0 {
					t.Errorf("the device goes on to refresh %d sessions after logout", n)
				}
			})
		})
	}
}

// A response that was under way at the registration brings the cookie of before back. The
// proof puts that right, and the session is bound again.
func TestDowngradeIsHealed(t *testing.T) {
	for _, later := range []time.Duration{0, proofTime + time.Second} {
		bubble(t, nil, func(t *testing.T, f *fleet) {
			d := f.device()
			var unbound []*http.Cookie
			d2, w := f.wired()
			d2.Key, d2.Jar = d.Key, d.Jar
			w.drop = func(r *http.Request, res *http.Response) *http.Response {
				if r.URL.Path == "/login" {
					unbound = res.Cookies()
				}
				return res
			}
			browser := logIn(t, d2, "alice")
			d2.Jar.SetCookies(mustURL(deviceSite), unbound) // arrives late
			time.Sleep(later)
			wantPage(t, "after the old cookie has arrived", browser, "/", "user=alice")
			if v := w.responses[len(w.responses)-1].Header.Get("Set-Cookie"); !strings.HasPrefix(v, name+"=") {
				t.Errorf("the response sets %q, want the session bound again", v)
			}
			wantPage(t, "and then", browser, "/", "bound=true")
			wantPage(t, "a copy of its cookie alone", d2.Thief(deviceSite, proofCookie), "/", unproven)
		})
	}
}

// A session without a proof is nobody's to change, and not lost.
func TestUnprovenSessionIsKept(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		browser := logIn(t, d, "alice")
		time.Sleep(proofTime + time.Second)
		d.Skip = true
		f.recorder.take()
		wantPage(t, "a change without a proof", browser, "/flash", unproven)
		f.recorder.want(t, "no proof", "rejected unproven")
		if v := w.responses[len(w.responses)-1].Header["Set-Cookie"]; len(v) != 0 {
			t.Errorf("set %q", v)
		}
		d.Skip = false
		wantPage(t, "with one", browser, "/", "user=alice")
		// Who has lost the key logs in again.
		time.Sleep(proofTime + time.Second)
		d.Skip = true
		wantPage(t, "a login without a proof", browser, "/login?user=alice", "user=alice")
		wantPage(t, "then", browser, "/flash", "flash=x")
		d.Skip = false
		wantPage(t, "then", browser, "/", "bound=true")
	})
}

// Garbage in the proof's cookie is deleted, so that the browser makes another; nothing is
// deleted where there is no session.
func TestBadProofIsDeleted(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		browser := d.Client()
		poison := func() {
			names := []string{proofCookie + "01234567"}
			for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
				if strings.HasPrefix(c.Name, proofCookie) {
					names = append(names, c.Name)
				}
			}
			for _, name := range names {
				d.Jar.SetCookies(mustURL(deviceSite), []*http.Cookie{{Name: name, Value: "garbage", Path: "/", Secure: true}})
			}
		}
		poison()
		visit(t, browser, "/")
		if v := w.last("Set-Cookie"); v != "" {
			t.Errorf("without a session: %q", v)
		}
		logIn(t, d, "alice")
		poison()
		wantPage(t, "with garbage", browser, "/", unproven)
		wantPage(t, "then", browser, "/", "user=alice")
	})
}

// A proof on demand: the browser makes one and sends the request again.
func TestProve(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := d.Client()
		wantPage(t, "nobody", browser, "/pay", "user= ")
		logIn(t, d, "alice")
		signed := d.Signatures()
		wantPage(t, "at once, however young it is to be", browser, "/pay-now", "user=alice")
		wantPage(t, "right after", browser, "/pay", "user=alice")
		if n := d.Signatures() - signed; n != 0 {
			t.Errorf("%d signatures for a young proof", n)
		}
		time.Sleep(5 * time.Minute)
		thief := d.Thief(deviceSite)
		wantPage(t, "later", browser, "/pay?amount=5", "user=alice")
		if n := d.Signatures() - signed; n != 1 {
			t.Errorf("%d signatures for an old proof, want 1", n)
		}
		thief.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if got := visit(t, thief, "/pay"); !strings.HasPrefix(got, "307") {
			t.Errorf("the thief, with the proof of before: %s", got)
		}
		// A browser that makes no proof goes round once.
		time.Sleep(5 * time.Minute)
		d.Skip = true
		wantPage(t, "without a proof", browser, "/pay", unproven)
	})
	for target, want := range map[string]string{"//evil.test/x": "/.//evil.test/x", "/a?b=c": "/a?b=c", "https://shop.test//evil.test": "/.//evil.test"} {
		bubble(t, nil, func(t *testing.T, f *fleet) {
			d := f.device()
			logIn(t, d, "alice")
			time.Sleep(5 * time.Minute)
			r := httptest.NewRequest("POST", target, nil)
			for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
				r.AddCookie(c)
			}
			w := httptest.NewRecorder()
			m := f.instances[0]
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if m.Prove(w, r, 0) {
					t.Error("Prove lets an old proof pass")
				}
			})).ServeHTTP(w, r)
			if got := w.Header().Get("Location"); got != want || w.Code != 307 {
				t.Errorf("%s: %d, Location %q, want %q", target, w.Code, got, want)
			}
		})
	}
}

// A stream of a thief's ends with the proof.
func TestVerifyAfterTheProof(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		logIn(t, d, "alice")
		m := f.instances[0]
		r := httptest.NewRequest("GET", deviceSite, nil)
		for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
			r.AddCookie(c)
		}
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := m.Verify(r.Context()); err != nil {
				t.Errorf("Verify: %v", err)
			}
			time.Sleep(proofTime + 31*time.Second)
			if err := m.Verify(r.Context()); !errors.Is(err, sealed.ErrUnproven) {
				t.Errorf("Verify after the proof: %v, want ErrUnproven", err)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}

// Of several cookies of the name none is taken without its proof, and none in the place of
// one that lacks it.
func TestSeveralCookiesOfABoundSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		logIn(t, d, "alice")
		var bound, proof string
		for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
			if c.Name == name {
				bound = c.Name + "=" + c.Value
			} else {
				proof = c.Name + "=" + c.Value
			}
		}
		plain := f.device()
		wantPage(t, "bob, not bound", &http.Client{Transport: sealedtest.Serve(f), Jar: plain.Jar}, "/login?user=bob", "user=bob")
		older := cookieLine(plain.Jar.Cookies(mustURL(deviceSite))...)
		get := func(cookie string) error {
			_, _, err := getWith(f.instances[0], cookie)
			return err
		}
		for what, cookies := range map[string][]string{
			"behind another": {older, bound}, "before another": {bound, older}, "behind junk": {name + "=junk", bound},
		} {
			if err := get(strings.Join(cookies, "; ")); what == "behind junk" && !errors.Is(err, sealed.ErrUnproven) {
				t.Errorf("%s: %v, want ErrUnproven", what, err)
			}
			if err := get(strings.Join(append(cookies, proof), "; ")); err != nil {
				t.Errorf("%s, with the proof: %v", what, err)
			}
		}
		time.Sleep(time.Second)
		late := f.device()
		logIn(t, late, "carol")
		for _, c := range late.Jar.Cookies(mustURL(deviceSite)) {
			if c.Name == name {
				if err := get(older + "; " + name + "=" + c.Value); !errors.Is(err, sealed.ErrUnproven) {
					t.Errorf("the later one without its proof: %v, want ErrUnproven", err)
				}
			}
		}
	})
}

// The same over TLS, on two servers: what a device and a thief send is what browsers send.
func TestDeviceOverTLS(t *testing.T) {
	f := newFleet(t, nil)
	var mu sync.Mutex // the fleet counts its turns
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		f.ServeHTTP(w, r)
	}))
	defer server.Close()
	d := sealedtest.NewDevice(t, server.Client().Transport)
	get := func(c *http.Client, path string) string {
		t.Helper()
		res, err := c.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(res.StatusCode, " ", string(body))
	}
	browser := d.Client()
	get(browser, "/login?user=alice")
	get(browser, "/") // registers
	for what, tt := range map[string]struct {
		client *http.Client
		want   string
	}{
		"the device":     {browser, "bound=true"},
		"a copy":         {d.Thief(server.URL), "user=alice"},
		"half of a copy": {d.Thief(server.URL, proofCookie), unproven},
		"the proof only": {d.Thief(server.URL, name), "user= "},
	} {
		if got := get(tt.client, "/"); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %s", what, got, tt.want)
		}
	}
}

// An old proof is no reason to go on where it cannot be asked for.
func TestProveAfterTheHeaders(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		logIn(t, d, "alice")
		time.Sleep(5 * time.Minute)
		r := httptest.NewRequest("GET", deviceSite, nil)
		for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
			r.AddCookie(c)
		}
		m := f.instances[0]
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			if m.Prove(w, r, 2*time.Minute) {
				t.Error("Prove lets an old proof pass")
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}

// The error says why the browser made no proof, if the browser does, in its own words only.
func TestSkippedProof(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		logIn(t, d, "alice")
		half := d.Thief(deviceSite, proofCookie)
		for header, want := range map[string]string{
			`quota_exceeded;session_identifier="x"`: "the browser skipped it: quota_exceeded",
			`unreachable`:                           "the browser skipped it: unreachable",
			`<script>`:                              "no proof",
			``:                                      "no proof",
		} {
			r, err := http.NewRequest("GET", deviceSite, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Secure-Session-Skipped", header)
			res, err := half.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(body)), want) {
				t.Errorf("%q: %s, %v, want %q", header, body, err, want)
			}
		}
	})
}
