package sealed_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// How a binding goes on: proofs, keys, subjects, and its end.

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
