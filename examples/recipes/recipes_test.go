package recipes

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func newKeys(t *testing.T) *sealed.Keyring {
	t.Helper()
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newSessions(t *testing.T, observe func(context.Context, sealed.Event)) *Sessions {
	t.Helper()
	m, err := sealed.New(newKeys(t), sealed.Config[Session]{Subject: subject, Revocations: revoke.NewList(), TermsFor: Remember, Observe: observe, Purpose: "api"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A visitor visits a server by real connections, keeps cookies, and follows no redirects.
type visitor struct {
	t      *testing.T
	url    string
	client *http.Client
}

func visit(t *testing.T, h http.Handler) *visitor {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return newVisitor(t, server)
}

func newVisitor(t *testing.T, server *httptest.Server) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: server.Client().Transport, Jar: jar, Timeout: 10 * time.Second}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &visitor{t, server.URL, client}
}

// do makes a request; with a body it posts a form. header are names and values.
func (v *visitor) do(method, path, form string, header ...string) (*http.Response, string) {
	v.t.Helper()
	r, err := http.NewRequest(method, v.url+path, strings.NewReader(form))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return res, string(body)
}

func (v *visitor) want(status int, method, path, form string, header ...string) string {
	v.t.Helper()
	res, body := v.do(method, path, form, header...)
	if res.StatusCode != status {
		v.t.Errorf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, body)
	}
	return body
}

// site is an application of several recipes.
func site(m *Sessions, more func(mux *http.ServeMux)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /login", Login(m, func(_, password string) bool { return password == "right" }))
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		}
	})
	if more != nil {
		more(mux)
	}
	return http.NewCrossOriginProtection().Handler(m.Handler(mux))
}

func hello(m *Sessions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		io.WriteString(w, "hello "+s.User)
	})
}

func TestRequireLogin(t *testing.T) {
	m := newSessions(t, nil)
	v := visit(t, site(m, func(mux *http.ServeMux) { mux.Handle("/account", RequireLogin(m, hello(m))) }))
	res, _ := v.do("GET", "/account?x=1", "", "Accept", "text/html")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/login?next=%2Faccount%3Fx%3D1" {
		t.Errorf("a page: status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	v.want(http.StatusUnauthorized, "GET", "/account", "", "Accept", "application/json")
	v.want(http.StatusUnauthorized, "POST", "/account", "", "Accept", "text/html")
	v.want(http.StatusUnauthorized, "POST", "/login", "user=alice&password=wrong")
	res, _ = v.do("POST", "/login", "user=alice&password=right&next=/account")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/account" {
		t.Errorf("login: status %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if got := v.want(http.StatusOK, "GET", "/account", ""); got != "hello alice" {
		t.Errorf("the account says %q", got)
	}
	v.want(http.StatusForbidden, "POST", "/logout", "", "Sec-Fetch-Site", "cross-site")
	v.want(http.StatusOK, "POST", "/logout", "")
	v.want(http.StatusUnauthorized, "GET", "/account", "")
}

// downList cannot say whether a session was ended.
type downList struct{}

func (downList) Check(context.Context, sealed.Info) error        { return sealed.ErrUnverified }
func (downList) Revoke(context.Context, sealed.Revocation) error { return errors.New("down") }

func TestRequireLoginWhereNothingCanBeVerified(t *testing.T) {
	keys := newKeys(t)
	before, err := sealed.New(keys, sealed.Config[Session]{Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	m, err := sealed.New(keys, sealed.Config[Session]{Subject: subject, Revocations: downList{}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/login", before.Handler(Login(before, func(string, string) bool { return true })))
	mux.Handle("/account", m.Handler(RequireLogin(m, hello(m))))
	v := visit(t, mux)
	v.want(http.StatusSeeOther, "POST", "/login", "user=alice")
	if res, _ := v.do("GET", "/account", "", "Accept", "text/html"); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, %q", res.StatusCode, res.Header)
	}
}

func TestSafeNext(t *testing.T) {
	for next, want := range map[string]string{
		"/cart?x=1#y": "/cart?x=1#y", "": "/", "https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/",
		"cart": "/", "/\t/evil.example": "/", "/%2f/evil.example": "/%2f/evil.example",
	} {
		if got := SafeNext(next); got != want {
			t.Errorf("SafeNext(%q) = %q, want %q", next, got, want)
		}
	}
}

func TestRemember(t *testing.T) {
	m := newSessions(t, nil)
	v := visit(t, site(m, nil))
	for form, persistent := range map[string]bool{"user=alice&password=right": false, "user=alice&password=right&remember=1": true} {
		res, _ := v.do("POST", "/login", form)
		if c := res.Cookies(); len(c) != 1 || c[0].MaxAge > 29*24*3600 != persistent {
			t.Errorf("%s: %v", form, res.Header["Set-Cookie"])
		}
	}
}

func TestFlash(t *testing.T) {
	m := newSessions(t, nil)
	v := visit(t, site(m, func(mux *http.ServeMux) {
		mux.Handle("GET /page", Page(m))
		mux.HandleFunc("POST /buy", func(_ http.ResponseWriter, r *http.Request) {
			if err := SetFlash(m, r, "<b>Bought.</b>"); err != nil {
				t.Errorf("SetFlash: %v", err)
			}
		})
	}))
	v.want(http.StatusOK, "POST", "/buy", "")
	v.want(http.StatusOK, "HEAD", "/page", "")
	v.want(http.StatusOK, "GET", "/page", "", "Sec-Purpose", "prefetch")
	if got := v.want(http.StatusOK, "GET", "/page", ""); !strings.Contains(got, "&lt;b&gt;Bought.") {
		t.Errorf("the page lacks the message, or has it unescaped: %s", got)
	}
	if got := v.want(http.StatusOK, "GET", "/page", ""); strings.Contains(got, "Bought") {
		t.Error("the message is shown twice")
	}
}

func TestStepUp(t *testing.T) {
	m := newSessions(t, nil)
	v := visit(t, site(m, func(mux *http.ServeMux) {
		mux.Handle("/pay", RequireProof(m, 5*time.Minute, hello(m)))
		mux.HandleFunc("POST /prove", func(_ http.ResponseWriter, r *http.Request) {
			if err := Prove(r.Context(), m); err != nil {
				t.Errorf("Prove: %v", err)
			}
		})
	}))
	v.want(http.StatusUnauthorized, "POST", "/pay", "")
	v.want(http.StatusSeeOther, "POST", "/login", "user=alice&password=right")
	v.want(http.StatusForbidden, "POST", "/pay", "")
	stolen := v.cookies()
	v.want(http.StatusOK, "POST", "/prove", "")
	v.want(http.StatusOK, "POST", "/pay", "")
	v.setCookies(stolen)
	v.want(http.StatusUnauthorized, "POST", "/pay", "")
}

func (v *visitor) address() *url.URL {
	u, err := url.Parse(v.url)
	if err != nil {
		v.t.Fatal(err)
	}
	return u
}

func (v *visitor) cookies() []*http.Cookie { return v.client.Jar.Cookies(v.address()) }

func (v *visitor) setCookies(cookies []*http.Cookie) {
	for _, c := range cookies {
		c.Secure, c.Path = true, "/"
	}
	v.client.Jar.SetCookies(v.address(), cookies)
}

func TestDevices(t *testing.T) {
	var devices Devices
	m := newSessions(t, devices.Observe)
	server := httptest.NewTLSServer(site(m, func(mux *http.ServeMux) {
		mux.Handle("/account", RequireLogin(m, hello(m)))
		mux.HandleFunc("/here", func(_ http.ResponseWriter, r *http.Request) {
			if err := devices.LoggedIn(m, r); err != nil {
				t.Errorf("LoggedIn: %v", err)
			}
		})
		mux.HandleFunc("/renew", func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Renew(r.Context()); err != nil {
				t.Errorf("Renew: %v", err)
			}
		})
	}))
	defer server.Close()
	phone, laptop := newVisitor(t, server), newVisitor(t, server)
	for _, v := range []*visitor{phone, laptop} {
		v.want(http.StatusSeeOther, "POST", "/login", "user=alice&password=right")
		v.want(http.StatusOK, "GET", "/here", "")
	}
	before := devices.Of("alice")
	phone.want(http.StatusOK, "GET", "/renew", "")
	after := devices.Of("alice")
	if len(before) != 2 || len(after) != 2 || len(devices.Of("bob")) != 0 {
		t.Fatalf("%d and %d devices, want 2", len(before), len(after))
	}
	var renewed sealed.ID // the phone's
	for _, id := range after {
		if id != before[0] && id != before[1] {
			renewed = id
		}
	}
	if err := devices.End(t.Context(), m, "bob", renewed); err == nil {
		t.Error("bob has ended a session of alice")
	}
	if err := devices.End(t.Context(), m, "alice", renewed); err != nil {
		t.Fatal(err)
	}
	phone.want(http.StatusUnauthorized, "GET", "/account", "")
	laptop.want(http.StatusOK, "GET", "/account", "")
	laptop.want(http.StatusOK, "POST", "/logout", "")
	if left := devices.Of("alice"); len(left) != 0 {
		t.Errorf("%d devices are left", len(left))
	}
}

func TestLinks(t *testing.T) {
	links, err := NewLinks(newKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	stamp := int64(1)
	link, err := NewLink(links, "https://shop.example", Link{"alice", stamp})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	token := u.Query().Get("token")
	open := func() (string, error) {
		return OpenLink(t.Context(), links, token, func(string) int64 { return stamp })
	}
	if user, err := open(); err != nil || user != "alice" {
		t.Errorf("%q, %v", user, err)
	}
	stamp++ // the password was set
	if _, err := open(); !errors.Is(err, errUsed) {
		t.Errorf("a second time: %v", err)
	}
}

func TestBearer(t *testing.T) {
	m := newSessions(t, nil)
	token, err := m.Seal(Session{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	v := visit(t, Bearer(m, func(w http.ResponseWriter, _ *http.Request, s Session) { io.WriteString(w, s.User) }))
	if got := v.want(http.StatusOK, "GET", "/", "", "Authorization", "bearer "+token); got != "alice" {
		t.Errorf("got %q", got)
	}
	for _, header := range []string{"", "Basic " + token, "Bearer", "Bearer x" + token} {
		if res, _ := v.do("GET", "/", "", "Authorization", header); res.StatusCode != http.StatusUnauthorized || res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%.10q: status %d", header, res.StatusCode)
		}
	}
}

func TestTenants(t *testing.T) {
	h, err := Tenants(newKeys(t), []string{"a.example", "b.example"}, func(host string, m *Sessions) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/login", Login(m, func(string, string) bool { return true }))
		mux.Handle("/account", RequireLogin(m, hello(m)))
		return mux
	})
	if err != nil {
		t.Fatal(err)
	}
	serve := func(host, method, path, form, cookie string) *http.Response {
		r := httptest.NewRequest(method, "https://"+host+path, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	c := serve("a.example", "POST", "/login", "user=alice", "").Cookies()[0]
	for host, want := range map[string]int{"a.example": 200, "b.example": 401, "c.example": 404} {
		if res := serve(host, "GET", "/account", "", c.Name+"="+c.Value); res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", host, res.StatusCode, want)
		}
	}
}

func TestUpstreamSeesNoSession(t *testing.T) {
	m := newSessions(t, nil)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-User")+" | "+r.Header.Get("Cookie"))
	}))
	defer upstream.Close()
	to, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	v := visit(t, site(m, func(mux *http.ServeMux) { mux.Handle("/up/", Upstream(m, "__Host-session", to)) }))
	v.want(http.StatusUnauthorized, "GET", "/up/", "")
	v.want(http.StatusSeeOther, "POST", "/login", "user=alice&password=right")
	v.client.Jar.SetCookies(v.address(), []*http.Cookie{{Name: "lang", Value: "de", Path: "/"}, {Name: "__Host-session.1", Value: "part", Path: "/", Secure: true}})
	if got := v.want(http.StatusOK, "GET", "/up/", "", "X-User", "mallory"); got != "alice | lang=de" {
		t.Errorf("the upstream server sees %q", got)
	}
}

func TestEventsEndWithTheSession(t *testing.T) {
	m := newSessions(t, nil)
	server := httptest.NewTLSServer(site(m, func(mux *http.ServeMux) {
		mux.Handle("/events", Events(m, 10*time.Millisecond, func(context.Context) <-chan string {
			c := make(chan string, 1)
			c <- "first"
			return c
		}))
		mux.Handle("/socket", Socket(m, 10*time.Millisecond))
	}))
	defer server.Close()
	v := newVisitor(t, server)
	v.want(http.StatusSeeOther, "POST", "/login", "user=alice&password=right")
	res, err := v.client.Get(v.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != "data: first" {
		t.Errorf("the stream begins with %q, %v", lines.Text(), lines.Err())
	}
	conn, _, err := websocket.Dial(t.Context(), v.url+"/socket", &websocket.DialOptions{HTTPClient: v.client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || string(message) != "x" {
		t.Errorf("the socket says %q, %v", message, err)
	}
	v.want(http.StatusOK, "POST", "/logout", "")
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("the socket ends with %v", err)
	}
}
