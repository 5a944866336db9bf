package sealed_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

const (
	deviceSite  = "https://shop.test"
	proofCookie = name + "-proof-"
	proofTime   = 10 * time.Minute
)

// A fleet is two instances that take turns, and share keys and list only.
type fleet struct {
	t         *testing.T
	keys      *sealed.Keyring
	list      sealed.RevocationList
	config    sealed.Config[Session]
	instances [2]*sealed.Manager[Session]
	turn      int
	recorder  recorder
}

func newFleet(t *testing.T, configure func(*sealed.Config[Session])) *fleet {
	t.Helper()
	f := &fleet{t: t, keys: mustRing(t), list: revoke.NewList()}
	f.config = sealed.Config[Session]{Subject: user, Revocations: f.list, DeviceBinding: &sealed.DeviceBinding{}, Observe: f.recorder.observe}
	if configure != nil {
		configure(&f.config)
	}
	f.deploy(0, f.config)
	f.deploy(1, f.config)
	return f
}

func (f *fleet) deploy(i int, config sealed.Config[Session]) {
	f.instances[i] = mustNew(f.t, f.keys, config)
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.turn++
	m := f.instances[f.turn%2]
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		err := error(nil)
		switch r.URL.Path {
		case "/login":
			err = m.Update(ctx, func(s *Session) { s.User = r.FormValue("user") })
		case "/flash":
			err = m.Update(ctx, func(s *Session) { s.Flash += "x" })
		case "/renew":
			err = m.Renew(ctx)
		case "/logout":
			err = m.Destroy(ctx)
		case "/everywhere":
			err = m.RevokeSubject(ctx, r.FormValue("user"))
		case "/pay":
			if !m.Prove(w, r, 2*time.Minute) {
				return
			}
		case "/pay-now":
			time.Sleep(time.Minute)
			if !m.Prove(w, r, 0) {
				return
			}
		case "/leave":
			if err = m.Destroy(ctx); err == nil {
				err = m.Update(ctx, func(s *Session) { s.Flash = "left" })
			}
		}
		s, getErr := m.Get(ctx)
		if err = errors.Join(err, getErr); err != nil && !errors.Is(err, sealed.ErrNoSession) {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		info, _ := m.Info(ctx)
		fmt.Fprintf(w, "user=%s id=%s bound=%v flash=%s", s.User, info.ID, info.Bound, s.Flash)
	})).ServeHTTP(w, r)
}

func (f *fleet) device() *sealedtest.Device { return sealedtest.NewDevice(f.t, sealedtest.Serve(f)) }

// visit returns what a page says, or the status and why not.
func visit(t *testing.T, c *http.Client, path string) string {
	t.Helper()
	res, err := c.Get(deviceSite + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Sprint(res.StatusCode, " ", strings.TrimSpace(string(body)))
	}
	return string(body)
}

func wantPage(t *testing.T, what string, c *http.Client, path, want string) string {
	t.Helper()
	got := visit(t, c, path)
	if !strings.Contains(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
	return got
}

// logIn logs in with a device, and has it registered.
func logIn(t *testing.T, d *sealedtest.Device, user string) *http.Client {
	t.Helper()
	browser := d.Client()
	wantPage(t, "login", browser, "/login?user="+user, "user="+user)
	wantPage(t, "after registration", browser, "/", "bound=true")
	return browser
}

const unproven = "401 sealed: session not proven"

// bubble runs a test with a fake clock.
func bubble(t *testing.T, configure func(*sealed.Config[Session]), test func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newFleet(t, configure)) })
}

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

// A copy from before registration ends with it, and cannot bind itself to another key.
func TestCopyFromBeforeRegistration(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		var thief *http.Client
		plain := &http.Client{Transport: sealedtest.Serve(f), Jar: d.Jar} // the device's, before it registers
		res, err := plain.Get(deviceSite + "/login?user=alice")
		if err != nil {
			t.Fatal(err)
		}
		stolen := regexp.MustCompile(`challenge="([^"]*)"`).FindStringSubmatch(res.Header.Get("Secure-Session-Registration"))[1]
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

// postDevice sends what a browser does, with any parts of it.
func postDevice(t *testing.T, c *http.Client, id string, signer *sealedtest.Device, challenge string, withKey bool) int {
	t.Helper()
	r, err := http.NewRequest("POST", deviceSite+"/device-binding", nil)
	if err != nil {
		t.Fatal(err)
	}
	if id != "" {
		r.Header.Set("Sec-Secure-Session-Id", `"`+id+`"`)
	}
	if challenge != "" {
		token, err := sealedtest.SignChallenge(signer.Key, challenge, withKey)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Secure-Session-Response", `"`+token+`"`)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// A wire notes what passes between a device and the fleet.
type wire struct {
	next      http.RoundTripper
	requests  []*http.Request
	responses []*http.Response
	drop      func(*http.Request, *http.Response) *http.Response // may change a response
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := w.next.RoundTrip(r)
	if err == nil && w.drop != nil {
		res = w.drop(r, res)
	}
	w.requests, w.responses = append(w.requests, r), append(w.responses, res)
	return res, err
}

// last returns the last value that a request or response had in a header.
func (w *wire) last(name string) string {
	for i := len(w.requests) - 1; i >= 0; i-- {
		if v := w.responses[i].Header.Get(name); v != "" {
			return v
		}
		if v := w.requests[i].Header.Get(name); v != "" {
			return v
		}
	}
	return ""
}

func (f *fleet) wired() (*sealedtest.Device, *wire) {
	w := &wire{next: sealedtest.Serve(f)}
	return sealedtest.NewDevice(f.t, w), w
}

// Who has the identifier, and signatures that were made before, gets no proof.
func TestSignatures(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		browser := logIn(t, d, "alice")
		time.Sleep(proofTime + time.Second)
		wantPage(t, "the device", browser, "/", "bound=true")
		id, token := w.last("Sec-Secure-Session-Id"), w.last("Secure-Session-Response")
		thief := d.Thief(deviceSite)
		try := func(header ...string) (int, string) {
			t.Helper()
			r, err := http.NewRequest("POST", deviceSite+"/device-binding", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			res, err := thief.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			return res.StatusCode, res.Header.Get("Secure-Session-Challenge")
		}
		if status, _ := try("Sec-Secure-Session-Id", id, "Secure-Session-Response", token); status != 200 {
			t.Errorf("the same signature within a minute, as browsers send it: %d", status)
		}
		time.Sleep(time.Minute)
		if status, c := try("Sec-Secure-Session-Id", id, "Secure-Session-Response", token); status != 403 || c == "" {
			t.Errorf("a signature after the challenge's minute: %d", status)
		}
		_, c := try("Sec-Secure-Session-Id", id)
		fresh := strings.Split(c, `"`)[1]
		foreign := f.device()
		if status := postDevice(t, thief, id, foreign, fresh, false); status != 400 {
			t.Errorf("another key: %d", status)
		}
		if status := postDevice(t, thief, id, d, fresh, true); status != 400 {
			t.Errorf("a token with a key, at a refresh: %d", status)
		}
		if status := postDevice(t, thief, "", foreign, fresh, true); status != 409 {
			t.Errorf("a new key by a challenge for a proof: %d", status)
		}
		if status := postDevice(t, thief, id, d, fresh, false); status != 200 {
			t.Errorf("the device's key: %d", status)
		}
		if status, _ := try("Sec-Secure-Session-Id", fresh); status != 400 {
			t.Errorf("a challenge for an identifier: %d", status)
		}
		if status, _ := try("Sec-Secure-Session-Id", "rubbish"); status != 400 {
			t.Errorf("rubbish for an identifier: %d", status)
		}
		if status, _ := try(); status != 400 {
			t.Errorf("nothing: %d", status)
		}
		// A challenge of one session does not bind another.
		bob := sealedtest.NewDevice(t, &wire{next: sealedtest.Serve(f), drop: func(_ *http.Request, res *http.Response) *http.Response {
			res.Header.Del("Secure-Session-Registration")
			return res
		}})
		_, mallory := f.wired()
		_ = visit(t, (&http.Client{Transport: mallory, Jar: f.device().Jar}), "/login?user=mallory")
		offered := regexp.MustCompile(`challenge="([^"]*)"`).FindStringSubmatch(mallory.last("Secure-Session-Registration"))[1]
		wantPage(t, "bob", bob.Client(), "/login?user=bob", "user=bob")
		if status := postDevice(t, bob.Client(), "", foreign, offered, true); status != 400 {
			t.Errorf("the challenge of another session: %d", status)
		}
		wantPage(t, "bob", bob.Client(), "/", "bound=false")
	})
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

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

// A refresh that another site's link has caused carries no session's cookie, and works.
func TestRefreshWithoutTheSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		browser := logIn(t, d, "alice")
		time.Sleep(proofTime + time.Second)
		session := d.Jar.Cookies(mustURL(deviceSite))
		from := len(w.responses)
		w.next = transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/device-binding" {
				r = r.Clone(r.Context())
				r.Header.Del("Cookie")
			}
			return sealedtest.Serve(f).RoundTrip(r)
		})
		wantPage(t, "the device", browser, "/", "user=alice")
		for _, res := range w.responses[from:] {
			for _, c := range res.Cookies() {
				if c.Name == name {
					t.Errorf("a refresh wrote the session's cookie")
				}
			}
		}
		if len(session) != 1 {
			t.Errorf("%d cookies after the proof's end, want the session's", len(session))
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Another subject's session is not bound to the key of the one before. The old binding
// ends, and the new session gets one of its own.
func TestAnotherSubjectIsBoundAnew(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		wantPage(t, "renewed", browser, "/renew", "bound=true")
		wantPage(t, "then", browser, "/", "bound=true")
		old := d.Thief(deviceSite)
		wantPage(t, "another user", browser, "/login?user=bob", "bound=false")
		for _, c := range d.Jar.Cookies(mustURL(deviceSite)) {
			if strings.HasPrefix(c.Name, proofCookie) {
				t.Error("the proof of the session before is still there")
			}
		}
		wantPage(t, "then", browser, "/", "user=bob")
		wantPage(t, "then", browser, "/", "bound=true")
		wantPage(t, "a copy of alice's", old, "/", "401 sealed: session revoked")
		time.Sleep(proofTime + time.Second)
		wantPage(t, "bob later", browser, "/", "user=bob")
		if n := d.Sessions(); n != 1 {
			t.Errorf("the device has %d sessions, want bob's", n)
		}
		visit(t, browser, "/everywhere?user=bob")
		wantPage(t, "everywhere", browser, "/", "401 sealed: session revoked")
		wantPage(t, "in again", browser, "/login?user=bob", "user=bob")
		wantPage(t, "then", browser, "/", "bound=true")
		wantPage(t, "a logout that begins another session", browser, "/leave", "bound=false flash=left")
		if c := d.Jar.Cookies(mustURL(deviceSite)); len(c) != 1 {
			t.Errorf("%d cookies, want that of the new session", len(c))
		}
	})
}

// An identifier stays under its key. Before that goes, the browser registers another key,
// and nobody is logged out: not by a response under way either.
func TestKeyRotationUnderABinding(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.Lifetime = 300 * 24 * time.Hour }, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		for n := range 3 {
			old := f.keys.Keys()
			before := d.Jar.Cookies(mustURL(deviceSite))
			if _, err := f.keys.Rotate(0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(proofTime + time.Second)
			wantPage(t, "after the rotation", browser, "/", "bound=true")
			if n := d.Sessions(); n != 2 {
				t.Errorf("%d sessions of the device, want that of the old key and that of the new one", n)
			}
			// A response that was under way brings the old binding back.
			restore := func() {
				for _, c := range before {
					if c.Name == name {
						c.Path, c.Secure = "/", true
						d.Jar.SetCookies(mustURL(deviceSite), []*http.Cookie{c})
					}
				}
			}
			restore()
			if n == 1 { // and the proof ends before it is seen
				time.Sleep(proofTime + time.Second)
			}
			wantPage(t, "with the binding of before", browser, "/", "bound=true")
			time.Sleep(proofTime + time.Second)
			wantPage(t, "and then", browser, "/flash", "bound=true")
			time.Sleep(proofTime + time.Second)
			wantPage(t, "and then", browser, "/", "bound=true")
			if n := d.Sessions(); n != 1 {
				t.Errorf("%d sessions of the device, want that of the new key", n)
			}
			restore() // later than the old key's own end in the browser
			time.Sleep(proofTime + time.Second)
			wantPage(t, "with the binding of before, and the new key alone", browser, "/", "bound=true")
			for _, k := range old {
				if err := f.keys.Remove(k.ID); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(proofTime + time.Second)
			wantPage(t, "after the old key has gone", browser, "/", "bound=true")
		}
	})
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

// Renaming the cookie logs nobody out who is bound.
func TestRenamedCookieOfABoundSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		renamed := f.config
		renamed.Cookie.Name, renamed.Former = "__Host-s2", []sealed.Former{{Cookie: sealed.Cookie{Name: name}, Purpose: purpose}}
		f.deploy(0, renamed)
		f.deploy(1, renamed)
		for range 3 {
			wantPage(t, "renamed", browser, "/", "bound=true")
			time.Sleep(proofTime + time.Second)
		}
		other := f.config // it was sealed under that name
		f.deploy(0, other)
		f.deploy(1, other)
		d = f.device()
		logIn(t, d, "bob")
		f.deploy(0, renamed)
		f.deploy(1, renamed)
		wantPage(t, "the cookie of the former name alone", d.Thief(deviceSite, proofCookie), "/", unproven)
	})
}

// Without a list a logout ends the browser's session, and copies from before registration
// go on.
func TestDeviceBindingWithoutAList(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.Revocations = nil }, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		thief := d.Thief(deviceSite)
		wantPage(t, "logout", browser, "/logout", "user= ")
		if left := d.Jar.Cookies(mustURL(deviceSite)); len(left) != 0 {
			t.Errorf("logout leaves %d cookies", len(left))
		}
		time.Sleep(proofTime + 31*time.Second)
		wantPage(t, "a copy", thief, "/", unproven)
		wantPage(t, "a visitor without a name", browser, "/flash", "flash=x")
		time.Sleep(proofTime + 31*time.Second)
		visit(t, browser, "/")
		if n := d.Sessions(); n != 0 {
			t.Errorf("the device refreshes %d sessions for a visitor without a name", n)
		}
	})
}

// The list that cannot tell makes the browser try again later: nothing is given up.
func TestDeviceBindingWhileTheListIsDown(t *testing.T) {
	list := strictList()
	bubble(t, func(c *sealed.Config[Session]) { c.Revocations = list }, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		time.Sleep(proofTime + time.Second)
		list.checks(errors.New("down"))
		visit(t, browser, "/")
		if n := d.Sessions(); n != 1 {
			t.Errorf("the device has given up: %d sessions", n)
		}
		list.checks(nil)
		wantPage(t, "then", browser, "/", "user=alice")
		// Copies from before end as soon as the list takes it.
		other := f.device()
		list.revokes(errors.New("down"))
		wantPage(t, "login", other.Client(), "/login?user=bob", "user=bob")
		thief := other.Thief(deviceSite)
		f.recorder.take()
		wantPage(t, "bound", other.Client(), "/", "bound=true")
		if events := f.recorder.take(); !slices.Contains(events, "revocation failed") {
			t.Errorf("events %v", events)
		}
		wantPage(t, "a copy from before", thief, "/", "user=bob")
		works := strictList()
		list.check, list.revoke = works.check, works.revoke
		wantPage(t, "bound", other.Client(), "/", "bound=true")
		wantPage(t, "a copy from before", thief, "/", unproven)
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

// A request with an ID that was renewed a moment ago binds nothing.
func TestNoRegistrationInTheGrace(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.RenewalGrace = 10 * time.Second }, func(t *testing.T, f *fleet) {
		d := f.device()
		plain := &http.Client{Transport: sealedtest.Serve(f), Jar: d.Jar}
		res, err := plain.Get(deviceSite + "/login?user=alice")
		if err != nil {
			t.Fatal(err)
		}
		challenge := challengeParam.FindStringSubmatch(res.Header.Get("Secure-Session-Registration"))[1]
		old := d.Thief(deviceSite)
		wantPage(t, "renewed", plain, "/renew", "user=alice")
		if status := postDevice(t, old, "", d, challenge, true); status != 401 {
			t.Errorf("with the old ID: %d", status)
		}
	})
}

// The old binding ends with another subject and with a logout, also for who shows no cookie.
func TestEndedBindingGivesNoProof(t *testing.T) {
	for _, end := range []string{"/login?user=bob", "/logout"} {
		bubble(t, nil, func(t *testing.T, f *fleet) {
			d, w := f.wired()
			browser := logIn(t, d, "alice")
			time.Sleep(proofTime + time.Second)
			wantPage(t, "later", browser, "/", "user=alice")
			id := w.last("Sec-Secure-Session-Id")
			visit(t, browser, end)
			r := httptest.NewRequest("POST", "/device-binding", nil)
			r.Header.Set("Sec-Secure-Session-Id", id)
			rec := httptest.NewRecorder()
			f.ServeHTTP(rec, r)
			if rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != `{"continue":false}` {
				t.Errorf("after %s: %d %s", end, rec.Code, rec.Body)
			}
		})
	}
}

// An identifier that would end before the session is replaced.
func TestIdentifierIsReplacedInTime(t *testing.T) {
	bubble(t, func(c *sealed.Config[Session]) { c.Lifetime = 400 * 24 * time.Hour }, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		browser := logIn(t, d, "alice")
		replaced := func(days time.Duration) bool {
			time.Sleep(days * 24 * time.Hour)
			from := len(w.responses)
			wantPage(t, "later", browser, "/", "bound=true")
			for _, res := range w.responses[from:] {
				if res.Header.Get("Secure-Session-Registration") != "" {
					return true
				}
			}
			return false
		}
		if replaced(199) {
			t.Error("replaced, though it outlives the session")
		}
		wantPage(t, "renewed", browser, "/renew", "bound=true")
		if !replaced(1) {
			t.Error("not replaced, though the session outlives it")
		}
		wantPage(t, "then", browser, "/", "bound=true")
		if replaced(390) {
			t.Error("replaced again")
		}
	})
}

// A key that one instance does not know, or not yet, gives no binding up.
func TestIdentifierUnderAKeyThatIsNotThere(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		next, err := f.keys.Rotate(0)
		if err != nil {
			t.Fatal(err)
		}
		wantPage(t, "the session's cookie under the new key", browser, "/flash", "bound=true")
		before := f.instances
		f.keys = ringOf(t, next)
		f.deploy(0, f.config)
		f.deploy(1, f.config)
		time.Sleep(proofTime + time.Second)
		wantPage(t, "without the key of the binding", browser, "/", unproven)
		if n := d.Sessions(); n != 1 {
			t.Errorf("the device has given the binding up: %d", n)
		}
		f.instances = before
		wantPage(t, "with it", browser, "/", "user=alice")
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
		plain := &http.Client{Transport: sealedtest.Serve(f), Jar: d.Jar}
		res, err := plain.Get(deviceSite + "/login?user=alice")
		if err != nil {
			t.Fatal(err)
		}
		challenge := challengeParam.FindStringSubmatch(res.Header.Get("Secure-Session-Registration"))[1]
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
			plain := &http.Client{Transport: sealedtest.Serve(f), Jar: d.Jar}
			res, err := plain.Get(deviceSite + "/login?user=alice")
			if err != nil {
				t.Fatal(err)
			}
			challenge := challengeParam.FindStringSubmatch(res.Header.Get("Secure-Session-Registration"))[1]
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

// A link of another site right after the browser has got another key: each key has a proof
// of its own.
func TestCrossSiteWithTwoKeys(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d, w := f.wired()
		logIn(t, d, "alice")
		if _, err := f.keys.Rotate(0); err != nil {
			t.Fatal(err)
		}
		browser := d.Client()
		time.Sleep(proofTime + time.Second)
		wantPage(t, "after a rotation", browser, "/", "bound=true")
		wantPage(t, "with the second key", browser, "/", "bound=true")
		time.Sleep(proofTime + time.Second)
		w.next = transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/device-binding" { // without the session's cookie, which is Lax
				r = r.Clone(r.Context())
				r.Header.Del("Cookie")
			}
			return sealedtest.Serve(f).RoundTrip(r)
		})
		for range 3 {
			wantPage(t, "a link of another site", browser, "/", "bound=true")
			time.Sleep(proofTime + time.Second)
		}
	})
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
