package sealed_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

// A fleet with devices and thieves, for the tests of device binding.

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

// logInPlain logs in with a browser that has the device's cookies, and registers nothing. It
// returns that, and the challenge that it was offered.
func logInPlain(t *testing.T, f *fleet, d *sealedtest.Device) (plain *http.Client, challenge string) {
	t.Helper()
	plain = &http.Client{Transport: sealedtest.Serve(f), Jar: d.Jar}
	res, err := plain.Get(deviceSite + "/login?user=alice")
	if err != nil {
		t.Fatal(err)
	}
	return plain, challengeParam.FindStringSubmatch(res.Header.Get("Secure-Session-Registration"))[1]
}

// bubble runs a test with a fake clock.
func bubble(t *testing.T, configure func(*sealed.Config[Session]), test func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newFleet(t, configure)) })
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

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func decodeJSON(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func encodeJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
