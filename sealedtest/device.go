package sealedtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// A Device is a browser that binds sessions to a key of its own, as [sealed.DeviceBinding]
// asks it to, after the W3C's draft of Device Bound Session Credentials. It is an
// [http.RoundTripper]: before it sends a request, it registers keys that the responses so far
// have asked for, and refreshes proofs that are missing. Make it with
// [NewDevice], and set its fields before its first request. Its methods can be called concurrently; it registers
// and refreshes one key at a time.
type Device struct {
	// Key signs: an *ecdsa.PrivateKey of P-256, or an *rsa.PrivateKey.
	Key crypto.Signer
	// Jar has the cookies.
	Jar http.CookieJar
	// Skip leaves proofs as they are, as browsers do that have made too many signatures.
	Skip bool

	t    testing.TB
	next http.RoundTripper

	mu       sync.Mutex
	sessions []*boundSession
	asked    []*http.Response // for keys
	signed   int
}

// A boundSession is what the device was told at registration.
type boundSession struct {
	id, origin  string
	refresh     *url.URL
	credentials []string
	challenge   string
}

// NewDevice returns a device with a new ES256 key and an empty jar, which sends its
// requests by next.
func NewDevice(t testing.TB, next http.RoundTripper) *Device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("sealedtest: %v", err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("sealedtest: %v", err)
	}
	return &Device{Key: key, Jar: jar, t: t, next: next}
}

// Serve returns a transport that calls h in the same goroutine, without a network: for
// clients inside a [testing/synctest] bubble.
func Serve(h http.Handler) http.RoundTripper { return handlerTransport{h} }

type handlerTransport struct{ h http.Handler }

func (s handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI, in.Host = r.URL.RequestURI(), r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, in)
	res := w.Result()
	res.Request = r
	return res, nil
}

// Client returns a client that is the device's browser.
func (d *Device) Client() *http.Client { return &http.Client{Transport: d, Jar: d.Jar} }

// Thief returns a client with a copy of the cookies that the device has for a URL, and
// without its key. Cookies with those names are left out; a name that ends in a hyphen stands for all that
// begin so: "__Host-session-proof-" for the proofs, whose names end differently each time.
func (d *Device) Thief(address string, without ...string) *http.Client {
	d.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		d.t.Fatalf("sealedtest: %v", err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatalf("sealedtest: %v", err)
	}
	var copied []*http.Cookie
cookies:
	for _, c := range d.Jar.Cookies(u) {
		for _, name := range without {
			if c.Name == name || strings.HasSuffix(name, "-") && strings.HasPrefix(c.Name, name) {
				continue cookies
			}
		}
		copied = append(copied, &http.Cookie{Name: c.Name, Value: c.Value, Path: "/", Secure: true})
	}
	jar.SetCookies(u, copied)
	return &http.Client{Transport: d.next, Jar: jar}
}

// Signatures returns how many the device has made.
func (d *Device) Signatures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.signed
}

// Sessions returns how many sessions the device refreshes proofs for.
func (d *Device) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}

// RoundTrip sends a request.
func (d *Device) RoundTrip(r *http.Request) (*http.Response, error) {
	r, err := d.prove(r)
	if err != nil {
		return nil, err
	}
	res, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(res.Header["Secure-Session-Registration"]) > 0 {
		d.asked = append(d.asked, res)
	}
	return res, nil
}

// prove refreshes the proofs that a request lacks, and gives it the new ones.
func (d *Device) prove(r *http.Request) (*http.Request, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	refreshed := len(d.asked) > 0
	for _, res := range d.asked {
		if err := d.register(res); err != nil {
			return nil, err
		}
	}
	d.asked = nil
	for _, s := range append([]*boundSession(nil), d.sessions...) {
		if d.Skip || s.origin != origin(r.URL) || r.URL.Path == s.refresh.Path || d.has(r.URL, s.credentials) {
			continue
		}
		if err := d.refreshSession(s, r); err != nil {
			return nil, err
		}
		refreshed = true
	}
	if !refreshed {
		return r, nil
	}
	r = r.Clone(r.Context())
	r.Header.Del("Cookie")
	for _, c := range d.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	return r, nil
}

// has reports whether the jar has all cookies for a URL.
func (d *Device) has(u *url.URL, names []string) bool {
	found := 0
	for _, c := range d.Jar.Cookies(u) {
		for _, name := range names {
			if c.Name == name {
				found++
			}
		}
	}
	return found >= len(names)
}

// keep puts a response's cookies into the jar.
func (d *Device) keep(res *http.Response) {
	if cookies := res.Cookies(); len(cookies) > 0 {
		d.Jar.SetCookies(res.Request.URL, cookies)
	}
}

// post sends one of the device's own requests.
func (d *Device) post(to *url.URL, cause *http.Request, header http.Header) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(cause.Context(), http.MethodPost, to.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	for _, c := range d.Jar.Cookies(to) {
		r.AddCookie(c)
	}
	res, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	d.keep(res)
	return res, body, err
}

var (
	registration = regexp.MustCompile(`^\(([^)]*)\).*;path="([^"]*)".*;challenge="([^"]*)"`)
	challenge    = regexp.MustCompile(`^"([^"]*)";id="([^"]*)"$`)
)

// register makes what a response asks for.
func (d *Device) register(res *http.Response) error {
	for _, line := range res.Header["Secure-Session-Registration"] {
		m := registration.FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("sealedtest: no registration: %s", line)
		}
		if !strings.Contains(m[1], d.algorithm()) {
			continue
		}
		to, err := res.Request.URL.Parse(m[2])
		if err != nil {
			return err
		}
		token, err := d.sign(m[3], true)
		if err != nil {
			return err
		}
		answer, body, err := d.post(to, res.Request, http.Header{"Secure-Session-Response": {token}})
		if err != nil {
			return err
		}
		if answer.StatusCode == http.StatusOK {
			if err := d.instruct(nil, to, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// instruct reads what a server says of a session, or of a new one.
func (d *Device) instruct(s *boundSession, from *url.URL, body []byte) error {
	var told struct {
		ID          string `json:"session_identifier"`
		Refresh     string `json:"refresh_url"`
		Continue    *bool
		Credentials []struct{ Name string }
	}
	if err := json.Unmarshal(body, &told); err != nil {
		return err
	}
	if told.Continue != nil && !*told.Continue {
		d.end(s)
		return nil
	}
	if s == nil {
		s = &boundSession{id: told.ID, origin: origin(from)}
		d.sessions = append(d.sessions, s)
	}
	var err error
	s.credentials = nil
	for _, c := range told.Credentials {
		s.credentials = append(s.credentials, c.Name)
	}
	s.refresh, err = from.Parse(told.Refresh)
	return err
}

// end forgets a session.
func (d *Device) end(s *boundSession) {
	for i, other := range d.sessions {
		if other == s {
			d.sessions = append(d.sessions[:i:i], d.sessions[i+1:]...)
			return
		}
	}
}

// refreshSession proves the key.
func (d *Device) refreshSession(s *boundSession, cause *http.Request) error {
	for range 3 {
		header := http.Header{"Sec-Secure-Session-Id": {s.id}}
		if s.challenge != "" {
			token, err := d.sign(s.challenge, false)
			if err != nil {
				return err
			}
			header["Secure-Session-Response"] = []string{token}
		}
		res, body, err := d.post(s.refresh, cause, header)
		if err != nil {
			return err
		}
		for _, line := range res.Header["Secure-Session-Challenge"] {
			if m := challenge.FindStringSubmatch(line); m != nil && m[2] == s.id {
				s.challenge = m[1]
			}
		}
		switch {
		case res.StatusCode == http.StatusForbidden:
			continue
		case res.StatusCode >= 400 && res.StatusCode < 500:
			d.end(s)
			return nil
		case res.StatusCode != http.StatusOK:
			return nil
		}
		if err := d.instruct(s, s.refresh, body); err != nil {
			return err
		}
		return d.register(res)
	}
	return nil
}

func (d *Device) algorithm() string {
	if _, ok := d.Key.(*rsa.PrivateKey); ok {
		return "RS256"
	}
	return "ES256"
}

// sign returns the token for a challenge, with the public key or without.
func (d *Device) sign(challenge string, withKey bool) (string, error) {
	d.signed++
	return SignChallenge(d.Key, challenge, withKey)
}

// SignChallenge returns the token by which a browser answers a challenge, with the public
// key, as at a registration, or without.
func SignChallenge(key crypto.Signer, challenge string, withKey bool) (string, error) {
	header := map[string]any{"typ": "dbsc+jwt"}
	jwk := map[string]string{}
	b64 := base64.RawURLEncoding.EncodeToString
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil {
			return "", err
		}
		header["alg"] = "ES256"
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case *rsa.PrivateKey:
		header["alg"] = "RS256"
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	default:
		return "", fmt.Errorf("sealedtest: no key for a device: %T", key)
	}
	if withKey {
		header["jwk"] = jwk
	}
	var parts []string
	for _, part := range []any{header, map[string]string{"jti": challenge}} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, b64(text))
	}
	signed := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(signed))
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			return "", err
		}
		return signed + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)), nil
	}
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	return signed + "." + b64(signature), err
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }
