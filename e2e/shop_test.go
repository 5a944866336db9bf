package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/sealed"
)

// buildShop compiles the shop once for a test.
func buildShop(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "shop")
	cmd := exec.Command("go", "build", "-o", bin, "./examples/shop")
	cmd.Dir = ".." // the root module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the shop: %v\n%s", err, out)
	}
	return bin
}

// A shopProcess is a running shop.
type shopProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  strings.Builder // up to the URL
	url  string
	done chan struct{}
}

var shopURL = regexp.MustCompile(`https?://\S+`)

// startShop starts the shop on a loopback address and waits for its URL.
func startShop(t *testing.T, bin, addr string, env []string, args ...string) *shopProcess {
	t.Helper()
	p := &shopProcess{t: t, cmd: exec.Command(bin, append([]string{"-addr", addr}, args...)...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Dir = t.TempDir()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for p.url == "" && lines.Scan() {
		fmt.Fprintln(&p.out, lines.Text())
		p.url = shopURL.FindString(lines.Text())
	}
	go func() { io.Copy(io.Discard, stdout); p.cmd.Wait(); close(p.done) }()
	t.Cleanup(p.stop)
	if p.url == "" {
		t.Fatalf("the shop printed no URL:\n%s", &p.out)
	}
	return p
}

// stop ends the process by its own ID, and waits.
func (p *shopProcess) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		p.t.Error("the shop did not stop")
	}
}

// A visitor is an HTTP client that keeps the Secure cookie over http://, as
// browsers do for loopback addresses.
type visitor struct {
	t    *testing.T
	jar  http.CookieJar
	base string
}

func newVisitor(t *testing.T, base string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, jar, base}
}

// secure is where the jar believes the shop to be.
var secure = &url.URL{Scheme: "https", Host: "localhost", Path: "/"}

func (v *visitor) do(method, path string, form url.Values, header ...string) (*http.Response, string) {
	v.t.Helper()
	req, err := http.NewRequest(method, v.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	for _, c := range v.jar.Cookies(secure) {
		req.AddCookie(c)
	}
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.jar.SetCookies(secure, res.Cookies())
	return res, string(body)
}

// post sends a form, which must answer with a redirect.
func (v *visitor) post(path string, pairs ...string) {
	v.t.Helper()
	if res, body := v.do("POST", path, values(pairs...)); res.StatusCode != http.StatusSeeOther {
		v.t.Errorf("POST %s: %s\n%s", path, res.Status, body)
	}
}

func values(pairs ...string) url.Values {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}

type anatomy struct {
	ID, Subject, KeyID         string
	Created, LastUsed, Expires time.Time
	CookieBytes                int
	Data                       struct {
		User, Theme string
		Cart        []struct {
			SKU string
			Qty int
		}
	}
	Error string
}

func (v *visitor) session() (a anatomy) {
	v.t.Helper()
	_, body := v.do("GET", "/session", nil, "Accept", "application/json")
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		v.t.Fatalf("GET /session: %v\n%s", err, body)
	}
	return a
}

type key struct {
	ID, State                   string
	Created, Activates, Dropped time.Time
}

func (v *visitor) keys() (list []key) {
	v.t.Helper()
	_, body := v.do("GET", "/keys", nil, "Accept", "application/json")
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		v.t.Fatalf("GET /keys: %v\n%s", err, body)
	}
	return list
}

// copy is a thief's copy of the visitor's cookies.
func (v *visitor) copy() *visitor {
	thief := newVisitor(v.t, v.base)
	var cookies []*http.Cookie
	for _, c := range v.jar.Cookies(secure) {
		c.Secure, c.Path = true, "/"
		cookies = append(cookies, c)
	}
	thief.jar.SetCookies(secure, cookies)
	return thief
}

// The whole story, by the routes that the shop documents: nothing is lost but
// what was logged out.
func TestShop(t *testing.T) {
	bin := buildShop(t)
	keys := filepath.Join(t.TempDir(), "keys")
	shop := startShop(t, bin, "127.0.0.1:0", nil, "-keys", keys)
	if !strings.Contains(shop.out.String(), "in the file "+keys+", sealed under the wrapping key from "+keys+".wrapping") {
		t.Errorf("the first run does not say where the keys are:\n%s", &shop.out)
	}
	for _, file := range []string{keys, keys + ".wrapping"} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the key file: %v, %v", info.Mode(), err)
		}
	}
	v := newVisitor(t, shop.url)
	if res, _ := v.do("GET", "/", nil); len(res.Cookies()) != 0 {
		t.Error("a first visit sets a cookie")
	}
	if a := v.session(); !strings.Contains(a.Error, "no session") {
		t.Errorf("GET /session of a new visitor: %+v", a)
	}
	v.post("/cart", "sku", "mug", "qty", "2")
	v.post("/cart", "sku", "print-007", "qty", "1")
	v.post("/cart", "sku", "mug", "qty", "1")
	anonymous := v.session()
	v.post("/login", "user", "alice", "password", "demo", "remember", "1")
	alice := v.session()
	if alice.Subject != "alice" || alice.ID == anonymous.ID || len(alice.Data.Cart) != 2 || alice.Data.Cart[0].Qty != 3 {
		t.Errorf("after login: %+v, before %+v", alice, anonymous)
	}
	if d := alice.Expires.Sub(alice.Created); d != 30*24*time.Hour {
		t.Errorf("a remembered session lasts %v", d)
	}
	if alice.CookieBytes < 100 || alice.CookieBytes > 300 {
		t.Errorf("the cookie has %d bytes", alice.CookieBytes)
	}
	// Who is logged in already is remembered from now on.
	again := newVisitor(t, shop.url)
	again.post("/login", "user", "bob", "password", "demo")
	short := again.session()
	again.post("/login", "user", "bob", "password", "demo", "remember", "1")
	if a := again.session(); a.Expires.Sub(a.Created) != 30*24*time.Hour || a.ID == short.ID || short.Expires.Sub(short.Created) != 24*time.Hour {
		t.Errorf("remembered later: %+v, before %+v", a, short)
	}
	v.post("/theme", "theme", "dark")
	v.post("/cart/remove", "sku", "print-007")

	// Too large a cart is a clear message, and the cart as it was.
	res, body := v.do("POST", "/cart", values("sku", "archive", "qty", "1"))
	if res.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "more than 3072") || !strings.Contains(body, "Your cart is as it was") {
		t.Errorf("too large a cart: %s\n%s", res.Status, body)
	}
	if a := v.session(); len(a.Data.Cart) != 1 || a.Data.Cart[0].Qty != 3 || a.Data.Theme != "dark" {
		t.Errorf("then %+v", a)
	}

	// Rotation and a restart log nobody out. The new key waits until every
	// instance has read it.
	v.post("/keys/rotate")
	list := v.keys()
	if len(list) != 3 || list[0].State != "pending" || list[1].State != "pending" || list[2].State != "primary" || list[2].ID != alice.KeyID {
		t.Errorf("GET /keys after rotation: %+v", list)
	}
	for _, k := range list {
		if k.Created.IsZero() || k.Activates.IsZero() || k.Dropped.IsZero() != (k == list[0]) {
			t.Errorf("GET /keys lacks a time: %+v", k)
		}
	}
	next := list[1].ID
	rotated := v.session()
	for end := time.Now().Add(20 * time.Second); rotated.KeyID != next && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond) // for the shop's clock, which is the real one
		rotated = v.session()
	}
	if rotated.KeyID != next || rotated.ID != alice.ID || rotated.Subject != "alice" {
		t.Errorf("after rotation to %s: %+v, before %+v", next, rotated, alice)
	}
	if list = v.keys(); len(list) != 3 || list[1].State != "primary" || list[2].State != "retiring" {
		t.Errorf("GET /keys then: %+v", list)
	}
	addr := strings.TrimPrefix(shop.url, "http://")
	shop.stop()
	shop = startShop(t, bin, addr, nil, "-keys", keys)
	if a := v.session(); a.Subject != "alice" || a.KeyID != rotated.KeyID {
		t.Errorf("after a restart: %+v", a)
	}

	// Logout kills the copy too.
	thief := v.copy()
	if a := thief.session(); a.Subject != "alice" {
		t.Fatalf("the copy does not work before logout: %+v", a)
	}
	if res, _ := v.do("GET", "/", nil); res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a personal page may be stored: %q", res.Header.Get("Cache-Control"))
	}
	if res, _ := v.do("POST", "/logout", nil); res.StatusCode != http.StatusSeeOther || !strings.Contains(res.Header.Get("Clear-Site-Data"), `"prerenderCache"`) {
		t.Errorf("POST /logout: %s, Clear-Site-Data %q", res.Status, res.Header.Get("Clear-Site-Data"))
	}
	if a := v.session(); a.Subject != "" || len(a.Data.Cart) != 0 {
		t.Errorf("after logout: %+v", a)
	}
	if a := thief.session(); !strings.Contains(a.Error, "revoked") {
		t.Errorf("a copy of the cookie after logout: %+v", a)
	}

	// Logout everywhere ends the other browser's session too, and nobody else's.
	phone, laptop, bob := newVisitor(t, shop.url), newVisitor(t, shop.url), newVisitor(t, shop.url)
	phone.post("/login", "user", "alice", "password", "demo")
	laptop.post("/login", "user", "alice", "password", "demo")
	bob.post("/login", "user", "bob", "password", "demo")
	laptop.post("/logout-everywhere")
	if a := phone.session(); !strings.Contains(a.Error, "revoked") {
		t.Errorf("the phone after logout everywhere: %+v", a)
	}
	if a := bob.session(); a.Subject != "bob" {
		t.Errorf("bob after alice's logout: %+v", a)
	}
	phone.post("/login", "user", "alice", "password", "demo")
	if a := phone.session(); a.Subject != "alice" {
		t.Errorf("a login after logout everywhere: %+v", a)
	}

	// And everywhere but here: this session goes on, under another ID.
	laptop.post("/login", "user", "alice", "password", "demo")
	before := laptop.session()
	copied := laptop.copy()
	laptop.post("/logout-elsewhere")
	if a := laptop.session(); a.Subject != "alice" || a.ID == before.ID {
		t.Errorf("here, after logout elsewhere: %+v, before %+v", a, before)
	}
	for what, v := range map[string]*visitor{"the phone": phone, "a copy of the cookie": copied} {
		if a := v.session(); !strings.Contains(a.Error, "revoked") {
			t.Errorf("%s after logout elsewhere: %+v", what, a)
		}
	}
}

// Bad input is answered with the status and page that it deserves.
func TestShopRefuses(t *testing.T) {
	shop := startShop(t, buildShop(t), "127.0.0.1:0", nil)
	for _, tt := range []struct {
		path   string
		form   url.Values
		header []string
		want   int
	}{
		{"/login", values("user", "alice", "password", "wrong"), nil, 401},
		{"/login", values("user", "mallory", "password", "demo"), nil, 401},
		{"/cart", values("sku", "yacht", "qty", "1"), nil, 400},
		{"/cart", values("sku", "print-501", "qty", "1"), nil, 400},
		{"/cart", values("sku", "print-0001", "qty", "1"), nil, 400},
		{"/cart", values("sku", "mug", "qty", "0"), nil, 400},
		{"/cart", values("sku", "mug", "qty", "100"), nil, 400},
		{"/cart", values("sku", "mug"), nil, 400},
		{"/theme", values("theme", "pink"), nil, 400},
		{"/logout-everywhere", nil, nil, 403},
		{"/logout-elsewhere", nil, nil, 403},
		{"/nowhere", nil, nil, 404},
		{"/logout", nil, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"/keys/rotate", nil, []string{"Origin", "https://evil.example"}, 403},
	} {
		v := newVisitor(t, shop.url)
		if res, body := v.do("POST", tt.path, tt.form, tt.header...); res.StatusCode != tt.want || len(res.Cookies()) != 0 {
			t.Errorf("POST %s %v: %s, cookies %v, want %d\n%s", tt.path, tt.form, res.Status, res.Cookies(), tt.want, body)
		}
	}
	// A cookie that is no good is no error page, but a reason.
	v := newVisitor(t, shop.url)
	if res, body := v.do("GET", "/", nil, "Cookie", "__Host-session=rubbish"); res.StatusCode != 200 || !strings.Contains(body, "Your cookie was not accepted: invalid token") {
		t.Errorf("a bad cookie: %s", res.Status)
	}
}

func TestShopKeys(t *testing.T) {
	bin := buildShop(t)
	run := func(env []string, args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
		cmd.Env, cmd.Dir = append(os.Environ(), env...), t.TempDir()
		out, err := cmd.CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Errorf("started with %v %v", env, args)
		}
		return string(out)
	}
	file := filepath.Join(t.TempDir(), "keys")
	startShop(t, bin, "127.0.0.1:0", nil, "-keys", file).stop()
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := run(nil, "-keys", file); !strings.Contains(out, "chmod 600") {
		t.Errorf("a key file that others can read:\n%s", out)
	}
	text, err := os.ReadFile(file + ".wrapping")
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(string(text))
	broken := key[:40]
	if out := run([]string{"SESSION_KEYS=" + broken}); !strings.Contains(out, "SESSION_KEYS") || strings.Contains(out, broken[13:]) {
		t.Errorf("a broken SESSION_KEYS:\n%s", out)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run([]string{"SESSION_WRAPPING_KEY=" + broken}, "-keys", file); !strings.Contains(out, "SESSION_WRAPPING_KEY") || strings.Contains(out, broken[13:]) {
		t.Errorf("a broken wrapping key:\n%s", out)
	}
	if out := run([]string{"SESSION_WRAPPING_KEY=" + sealed.GenerateKey().Text()}, "-keys", file); !strings.Contains(out, "another wrapping key") {
		t.Errorf("another wrapping key:\n%s", out)
	}
	startShop(t, bin, "127.0.0.1:0", []string{"SESSION_WRAPPING_KEY=" + key}, "-keys", file).stop()
	if err := os.WriteFile(file, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(nil, "-keys", file); !strings.Contains(out, "document") {
		t.Errorf("a broken key file:\n%s", out)
	}
	shop := startShop(t, bin, "127.0.0.1:0", []string{"SESSION_KEYS=" + key}, "-keys", file)
	v := newVisitor(t, shop.url)
	v.post("/login", "user", "bob", "password", "demo")
	before := v.session()
	v.post("/keys/rotate")
	v.session()
	if a := v.session(); a.Subject != "bob" || a.KeyID == before.KeyID {
		t.Errorf("with SESSION_KEYS: %+v, before %+v", a, before)
	}
}
