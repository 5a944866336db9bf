package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// A boundSite is two instances behind one address, over TLS, that bind sessions to devices and
// share keys and list only.
type boundSite struct {
	*httptest.Server
	t    *testing.T
	keys *sealed.Keyring
	spki string // of the certificate, for the browser
	slow chan struct{}

	mu        sync.Mutex
	turn      int
	exchanges []string // with the route: what was asked for, and the status
}

const boundHost = "app.test"

func newBoundSite(t *testing.T) *boundSite {
	t.Helper()
	key := sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	s := &boundSite{t: t, keys: ring, slow: make(chan struct{})}
	list := revoke.NewList()
	var instances []http.Handler
	for range 2 {
		instances = append(instances, s.instance(list))
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.turn++
		h := instances[s.turn%2]
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	s.Server.Config.ErrorLog = log.New(io.Discard, "", 0) // browsers open connections that they do not use
	certificate, spki := selfSigned(t)
	s.spki = spki
	s.Server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.Server.StartTLS()
	t.Cleanup(s.Server.Close)
	return s
}

// selfSigned returns a certificate, and the hash by which Chromium is told to take it.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: boundHost}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{boundHost, "other.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(public)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, base64.StdEncoding.EncodeToString(sum[:])
}

func (s *boundSite) instance(list sealed.RevocationList) http.Handler {
	m, err := sealed.New(s.keys, sealed.Config[guestbook]{
		Subject: func(g guestbook) string { return g.User }, Revocations: list, Persistent: true, DeviceBinding: &sealed.DeviceBinding{},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		var err error
		switch r.URL.Path {
		case "/login":
			err = m.Update(ctx, func(g *guestbook) { g.User = r.FormValue("user") })
		case "/logout":
			err = m.Destroy(ctx)
		case "/count":
			err = m.Update(ctx, func(g *guestbook) { g.Count++ })
		case "/slow":
			if _, err = m.Get(ctx); err == nil {
				<-s.slow
				err = m.Update(ctx, func(g *guestbook) { g.Count += 100 })
			}
		case "/pay":
			if !m.Prove(w, r, 0) {
				return
			}
		case "/socket":
			_, err := m.Get(ctx)
			conn, acceptErr := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if acceptErr != nil {
				return
			}
			conn.Write(ctx, websocket.MessageText, []byte(fmt.Sprint(err)))
			conn.Close(websocket.StatusNormalClosure, "")
			return
		case "/favicon.ico":
			http.NotFound(w, r)
			return
		}
		g, getErr := m.Get(ctx)
		info, _ := m.Info(ctx)
		w.Header().Set("Content-Type", "text/html")
		if err = errors.Join(err, getErr); err != nil && !errors.Is(err, sealed.ErrNoSession) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		text := "none"
		if err != nil {
			text = err.Error()
		}
		fmt.Fprintf(w, `<!doctype html><p id="state">user=%s count=%d bound=%v error=%s</p><a href="https://%s/">there</a>`, g.User, g.Count, info.Bound, text, r.URL.Query().Get("to"))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/device-binding" {
			h.ServeHTTP(w, r)
			return
		}
		what := "register"
		if r.Header.Get("Sec-Secure-Session-Id") != "" {
			what = "refresh"
			if r.Header.Get("Secure-Session-Response") != "" {
				what = "sign"
			}
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if strings.Contains(rec.Body.String(), `"continue":false`) {
			what = "stop"
		}
		s.mu.Lock()
		s.exchanges = append(s.exchanges, fmt.Sprint(what, " ", rec.Code))
		s.mu.Unlock()
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	})
}

// take returns what passed over the route since the last call.
func (s *boundSite) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.exchanges
	s.exchanges = nil
	return taken
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

func (s *boundSite) at(host string) string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return "https://" + host + ":" + port
}

// A boundVisitor is Chromium with its feature on, and software keys.
type boundVisitor struct {
	page
	site    *boundSite
	profile string
}

func (s *boundSite) browser(t *testing.T, folder string) *boundVisitor {
	t.Helper()
	return &boundVisitor{bindingChromium(t, folder, s.spki).tab(), s, folder}
}

// bindingChromium binds sessions with keys that are kept in its profile, and takes a
// certificate.
func bindingChromium(t *testing.T, folder, spki string) *browser {
	t.Helper()
	return startChromium(t, options{profile: folder, flags: []string{
		"--ignore-certificate-errors-spki-list=" + spki, "--host-resolver-rules=MAP *.test 127.0.0.1",
		"--enable-features=DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting",
	}})
}

// logIn logs in, and waits for the registration.
func (v *boundVisitor) logIn() {
	v.t.Helper()
	v.visit(v.site.at(boundHost) + "/login?user=alice")
	v.want("#state", "user=alice")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		v.visit(v.site.at(boundHost) + "/")
		if strings.Contains(v.text("#state"), "bound=true") {
			break
		}
		if time.Now().After(end) {
			v.t.Fatalf("Chromium registers no key: %v", v.site.take())
		}
	}
	v.site.take()
}

const proofName = "__Host-session-proof-"

// expire ends the proofs, as their Max-Age does, and returns their names.
func (v *boundVisitor) expire() (names []string) {
	v.t.Helper()
	for _, c := range v.cookies() {
		if strings.HasPrefix(c.Name, proofName) {
			names = append(names, c.Name)
		}
	}
	v.forget(names)
	return names
}

func (v *boundVisitor) forget(names []string) {
	v.t.Helper()
	for _, name := range names {
		v.call("storage.deleteCookies", map[string]any{"filter": map[string]string{"name": name, "domain": boundHost}}, nil)
	}
}

func (v *boundVisitor) state(want string) {
	v.t.Helper()
	v.visit(v.site.at(boundHost) + "/")
	v.want("#state", want)
}

func TestDeviceBindingInBrowsers(t *testing.T) {
	demand := newBoundSite(t)
	demanded := demand.browser(t, profile(t))
	demanded.logIn()
	proven := time.Now()
	for name, test := range map[string]func(*testing.T, *boundSite, *boundVisitor){
		"expiry and refresh": func(t *testing.T, s *boundSite, v *boundVisitor) {
			v.expire()
			v.state("bound=true")
			if got := s.take(); count(got, "sign 200") != 1 {
				t.Errorf("exchanged %v, want one proof", got)
			}
			// By the cookie's own end.
			for _, c := range v.cookies() {
				if strings.HasPrefix(c.Name, proofName) && (c.Expiry < time.Now().Add(9*time.Minute).Unix() || c.Expiry > time.Now().Add(10*time.Minute+5*time.Second).Unix()) {
					t.Errorf("the proof's cookie expires at %d", c.Expiry)
				}
			}
		},
		"eight requests at once": func(t *testing.T, s *boundSite, v *boundVisitor) {
			v.expire()
			var bodies []string
			v.eval(`Promise.all(Array.from({length: 8}, (_, i) => fetch("/?" + i).then(r => r.text())))`, &bodies)
			for _, body := range bodies {
				if !strings.Contains(body, "user=alice") {
					t.Error(body)
				}
			}
			if got := s.take(); count(got, "sign 200") != 1 {
				t.Errorf("exchanged %v, want one proof", got)
			}
		},
		"WebSocket": func(t *testing.T, s *boundSite, v *boundVisitor) {
			v.expire()
			var said string
			v.eval(`new Promise(r => { const w = new WebSocket("wss://" + location.host + "/socket"); w.onmessage = e => r(e.data); w.onerror = () => r("error") })`, &said)
			if said != "<nil>" {
				t.Errorf("the handshake: %s", said)
			}
			if got := s.take(); count(got, "sign 200") != 1 {
				t.Errorf("exchanged %v, want one proof", got)
			}
		},
		"a link of another site": func(t *testing.T, s *boundSite, v *boundVisitor) {
			names := v.expire()
			v.visit(s.at(boundHost) + "/")
			v.visit(s.at("other.test") + "/?to=" + strings.TrimPrefix(s.at(boundHost), "https://"))
			s.take()
			v.forget(names)
			v.click("a")
			v.want("#state", "user=alice")
			if got := s.take(); count(got, "sign 200") != 1 {
				t.Errorf("exchanged %v, want one proof", got)
			}
		},
		"logout": func(t *testing.T, s *boundSite, v *boundVisitor) {
			v.visit(s.at(boundHost) + "/logout")
			v.want("#state", "user= ")
			if c := v.cookies(); len(c) != 0 {
				t.Errorf("logout leaves %v", c)
			}
			s.take()
			for range 3 {
				v.state("user= ")
			}
			if got := s.take(); count(got, "stop 200") != 1 || len(got) != 1 {
				t.Errorf("after logout exchanged %v, want one end", got)
			}
			v.logIn()
		},
		"another key": func(t *testing.T, s *boundSite, v *boundVisitor) {
			old := s.keys.Keys()
			if _, err := s.keys.Rotate(0); err != nil {
				t.Fatal(err)
			}
			v.expire()
			v.state("bound=true")
			for end := time.Now().Add(20 * time.Second); count(s.take(), "register 200") == 0; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("Chromium registers no second key")
				}
			}
			v.state("bound=true") // its cookie is sealed under the new key, too
			for _, k := range old {
				if err := s.keys.Remove(k.ID); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				v.expire()
				v.state("bound=true")
			}
			t.Logf("after the first key has gone: %v", s.take())
		},
		"a response under way at the registration": func(t *testing.T, s *boundSite, v *boundVisitor) {
			v.visit(s.at(boundHost) + "/logout")
			v.state("user= ")
			// The slow request carries the cookie of before the registration.
			v.eval(`(async () => { await fetch("/login?user=alice"); window.slow = fetch("/slow").then(r => r.text()); })()`, nil)
			for end := time.Now().Add(20 * time.Second); count(s.take(), "register 200") == 0; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("Chromium registers no key")
				}
			}
			close(s.slow)
			var body string
			v.eval(`window.slow`, &body)
			v.state("user=alice")
			v.state("bound=true")
			v.expire()
			v.state("bound=true")
		},
		"a restart of the browser": func(t *testing.T, s *boundSite, v *boundVisitor) {
			v.expire()
			v.close()
			again := s.browser(t, v.profile)
			again.state("bound=true")
			if got := s.take(); count(got, "sign 200") != 1 {
				t.Errorf("exchanged %v, want one proof", got)
			}
			again.close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBoundSite(t)
			v := s.browser(t, profile(t))
			v.logIn()
			test(t, s, v)
			if name != "a restart of the browser" {
				v.close()
			}
		})
	}

	// A proof on demand, from two minutes on. The other tests have run in them.
	time.Sleep(time.Until(proven.Add(2*time.Minute + 2*time.Second)))
	for _, want := range []int{1, 0} { // an old proof, and a young one
		demanded.visit(demand.at(boundHost) + "/pay")
		demanded.want("#state", "user=alice")
		if got := demand.take(); count(got, "sign 200") != want || len(got) > 2*want {
			t.Errorf("exchanged %v, want %d proofs", got, want)
		}
	}
	demanded.close()
}

// The shop's page about a stolen cookie, as the README has one look at it.
func TestStolenCookieInBrowsers(t *testing.T) {
	shop := startShop(t, buildShop(t), "127.0.0.1:0", nil, "-tls")
	pin := regexp.MustCompile(`spki-list=(\S+)`).FindStringSubmatch(shop.out.String())
	if pin == nil {
		t.Fatalf("the shop names no certificate:\n%s", &shop.out)
	}
	p := bindingChromium(t, "", pin[1]).tab()
	defer p.close()
	base := strings.Replace(shop.url, "127.0.0.1", "localhost", 1)
	p.visit(base + "/theft")
	p.want(".flash", "not bound")
	p.visit(base + "/login")
	p.fill(`[name=user]`, "alice")
	p.fill(`[name=password]`, "demo")
	p.click(`.stack .button`)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		p.visit(base + "/session")
		if strings.Contains(p.text("dl"), "bound to its key") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the session is not bound:\n%s", p.text("dl"))
		}
	}
	p.shots("session-bound")
	p.visit(base + "/theft")
	p.click(`main .button`)
	p.want("table", "Welcome, alice.")
	p.want("table", "401\tsession not proven by its device")
	p.shots("theft")
	if wait := os.Getenv("THEFT_WAIT"); wait != "" { // to look at it after the proof's end
		d, err := time.ParseDuration(wait)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
		p.click(`main form.head .button`)
		p.want("table", "401")
		if strings.Contains(p.text("table"), "Welcome") {
			t.Errorf("the copy after %s:\n%s", wait, p.text("table"))
		}
		p.want(".who", "alice")
		p.shots("theft-later")
	}
}
