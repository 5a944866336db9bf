package contender_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/sealed"
	"example.com/sealed/bench/contender"
	"example.com/sealed/internal/testserver"
)

// A browser keeps cookies, those with Secure over http:// as well.
type browser struct {
	t       *testing.T
	base    string
	cookies map[string]string
}

func (b *browser) do(operation string) (header http.Header, body string) {
	b.t.Helper()
	method := contender.Method(operation)
	if operation == "session" || operation == "slow" {
		method = "GET"
	}
	req, err := http.NewRequest(method, b.base+"/"+operation, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s, %v\n%s", operation, res.Status, err, text)
	}
	for _, c := range res.Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 || c.Value == "" {
			delete(b.cookies, c.Name)
		}
	}
	return res.Header, string(text)
}

func (b *browser) session() (s contender.Session) {
	b.t.Helper()
	_, body := b.do("session")
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *browser) copy() *browser { return &browser{b.t, b.base, maps.Clone(b.cookies)} }

// Every contender really does the job: no figure comes from one that does nothing.
func TestContenders(t *testing.T) {
	redis, postgres := testserver.StartRedis(t), testserver.StartPostgres(t, "-c", "max_connections=200")
	e := contender.Environment{Redis: redis.Addr, Postgres: postgres.URL(postgres.Addr), Key: sealed.GenerateKey().Text()}
	for _, c := range slices.Concat(contender.All, []contender.Contender{contender.Stale}, contender.Select(contender.Line, contender.Unbound)) {
		t.Run(c.Name, func(t *testing.T) {
			sessions, end, err := c.Open(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			server := httptest.NewServer(contender.NewApplication(sessions))
			defer server.Close()
			newBrowser := func() *browser { return &browser{t, server.URL, map[string]string{}} }
			if c.Name == contender.None {
				b := newBrowser()
				b.do(contender.Login)
				if got := b.session(); !reflect.DeepEqual(got, contender.Session{}) {
					t.Errorf("the zero line has %+v", got)
				}
				return
			}
			t.Run("login and change", func(t *testing.T) { loginAndChange(t, newBrowser) })
			t.Run("attributes", func(t *testing.T) { attributes(t, newBrowser) })
			t.Run("cookies", func(t *testing.T) { cookies(t, newBrowser) })
			t.Run("logout", func(t *testing.T) { logout(t, newBrowser, c.CopyDies) })
		})
	}
}

// The limit reads what it has written, and a bound session is of no use without its proof.
func TestLimits(t *testing.T) {
	e := contender.Environment{Key: sealed.GenerateKey().Text()}
	open := func(name string) contender.Sessions {
		sessions, end, err := contender.Select(name)[0].Open(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(end)
		return sessions
	}
	request := func(cookies ...*http.Cookie) *http.Request {
		r := httptest.NewRequest("GET", "https://shop.example/read", nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		return r
	}
	steps, w := open(contender.Steps), httptest.NewRecorder()
	if err := steps.Login(w, request(), contender.Reference(0)); err != nil {
		t.Fatal(err)
	}
	if got, err := steps.Get(request(w.Result().Cookies()...)); err != nil || !reflect.DeepEqual(got, contender.Reference(0)) {
		t.Errorf("the steps read %+v, %v", got, err)
	}
	// A browser that cannot bind its session is asked with each change.
	unbound := open(contender.Unbound)
	old, err := unbound.(contender.Prepared).Cookies()
	if err != nil {
		t.Fatal(err)
	}
	w = httptest.NewRecorder()
	r := request(old...)
	r.Method, r.URL.Path = "POST", "/change"
	contender.NewApplication(unbound).ServeHTTP(w, r)
	if w.Header().Get(contender.QuantityHeader) != "2" || w.Header().Get("Secure-Session-Registration") == "" {
		t.Errorf("a change of a session that is not bound: %v", w.Header())
	}
	bound := open(contender.Bound)
	cookies, err := bound.(contender.Prepared).Cookies()
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		cookies []*http.Cookie
		want    string
	}{"both cookies": {cookies, strconv.Itoa(contender.User)}, "without the proof": {slices.DeleteFunc(slices.Clone(cookies), func(c *http.Cookie) bool {
		return strings.Contains(c.Name, "proof")
	}), ""}} {
		w := httptest.NewRecorder()
		contender.NewApplication(bound).ServeHTTP(w, request(tt.cookies...))
		if got := w.Header().Get(contender.UserHeader); got != tt.want {
			t.Errorf("%s: user %q, want %q", what, got, tt.want)
		}
	}
}

// Those of Node do the same job.
func TestContendersOnNode(t *testing.T) {
	redis, postgres := testserver.StartRedis(t), testserver.StartPostgres(t, "-c", "max_connections=200")
	e := contender.Environment{Redis: redis.Addr, Postgres: postgres.URL(postgres.Addr)}
	for _, c := range contender.OnNode {
		t.Run(c.Name, func(t *testing.T) {
			base := startNode(t, c.Name, e)
			newBrowser := func() *browser { return &browser{t, base, map[string]string{}} }
			if c.Name == contender.NodeNone {
				b := newBrowser()
				b.do(contender.Login)
				if got := b.session(); !reflect.DeepEqual(got, contender.Session{}) {
					t.Errorf("the zero line has %+v", got)
				}
				return
			}
			t.Run("login and change", func(t *testing.T) { loginAndChange(t, newBrowser) })
			t.Run("cookies", func(t *testing.T) { cookies(t, newBrowser) })
			t.Run("logout", func(t *testing.T) { logout(t, newBrowser, c.CopyDies) })
		})
	}
}

// startNode starts a process of Node, and returns the application's URL.
func startNode(t *testing.T, name string, e contender.Environment) string {
	t.Helper()
	if err := contender.Install("../node"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--expose-gc", "server.js")
	cmd.Dir, cmd.Stderr = "../node", os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); cmd.Wait() })
	if err := json.NewEncoder(input).Encode(map[string]any{"Contender": name, "Environment": e}); err != nil {
		t.Fatal(err)
	}
	var at struct{ Application string }
	if err := json.NewDecoder(output).Decode(&at); err != nil {
		t.Fatal(err)
	}
	return "http://" + at.Application
}

// loginAndChange has a change seen by the next request, and by nobody else.
func loginAndChange(t *testing.T, newBrowser func() *browser) {
	alice, bob := newBrowser(), newBrowser()
	alice.do(contender.Untouched)
	if got := alice.session(); !reflect.DeepEqual(got, contender.Session{}) {
		t.Errorf("a stranger has %+v", got)
	}
	if h, _ := alice.do(contender.Read); h.Get(contender.UserHeader) != "" {
		t.Errorf("a stranger is user %q", h.Get(contender.UserHeader))
	}
	alice.do(contender.Login)
	if got, want := alice.session(), contender.Reference(0); !reflect.DeepEqual(got, want) {
		t.Errorf("after login: %+v, want %+v", got, want)
	}
	if h, _ := alice.do(contender.Read); h.Get(contender.UserHeader) != strconv.Itoa(contender.User) {
		t.Errorf("after login, user %q", h.Get(contender.UserHeader))
	}
	for want := 2; want < 5; want++ {
		h, _ := alice.do(contender.Change)
		if got := h.Get(contender.QuantityHeader); got != strconv.Itoa(want) {
			t.Errorf("a change to %q, want %d", got, want)
		}
		if got := alice.session(); got.Cart[0].Qty != want || got.UserID != contender.User {
			t.Errorf("a change to %d is not seen by the next request: %+v", want, got)
		}
	}
	if got := bob.session(); !reflect.DeepEqual(got, contender.Session{}) {
		t.Errorf("another visitor has %+v", got)
	}
	carol := newBrowser()
	carol.do("login?notes=1000")
	if got, want := carol.session(), contender.Reference(1000); !reflect.DeepEqual(got, want) {
		t.Errorf("with notes: %+v", got)
	}
}

// attributes has all contenders set the same kind of cookie: its bytes count.
func attributes(t *testing.T, newBrowser func() *browser) {
	h, _ := newBrowser().do(contender.Login)
	_, got, _ := strings.Cut(h.Get("Set-Cookie"), "; ")
	parts := strings.Split(got, "; ")
	slices.Sort(parts)
	if want := []string{"HttpOnly", "Path=/", "SameSite=Lax", "Secure"}; !slices.Equal(parts, want) {
		t.Errorf("the cookie is set with %q, want %q", parts, want)
	}
}

// cookies has a changed cookie give nothing, and that from before a login not the login.
func cookies(t *testing.T, newBrowser func() *browser) {
	alice := newBrowser()
	alice.do(contender.Change)
	anonymous := alice.copy()
	if got := anonymous.session(); len(got.Cart) != 1 || got.UserID != 0 {
		t.Errorf("an anonymous visitor's session: %+v", got)
	}
	alice.do(contender.Login)
	if got := anonymous.session(); got.UserID != 0 {
		t.Errorf("the cookie from before the login: %+v", got)
	}
	forged := alice.copy()
	for name, value := range forged.cookies {
		forged.cookies[name] = value[:len(value)-3] + "AAA"
	}
	if got := forged.session(); got.UserID != 0 {
		t.Errorf("a changed cookie gives %+v", got)
	}
}

// logout has a replayed cookie judged as the design promises.
func logout(t *testing.T, newBrowser func() *browser, copyDies bool) {
	alice := newBrowser()
	alice.do(contender.Login)
	copied := alice.copy()
	if got := copied.session(); got.UserID != contender.User {
		t.Fatalf("a copy does not work before logout: %+v", got)
	}
	alice.do(contender.Logout)
	if got := alice.session(); got.UserID != 0 {
		t.Errorf("after logout: %+v", got)
	}
	if dead := copied.session().UserID == 0; dead != copyDies {
		t.Errorf("a copy of the cookie is dead after logout: %v; its design says %v", dead, copyDies)
	}
}
