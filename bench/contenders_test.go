package bench

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"example.com/sealed/internal/testserver"
)

// A browser keeps cookies, those with Secure over http:// as well.
type browser struct {
	t       *testing.T
	base    string
	cookies map[string]string
}

func (b *browser) do(method, path string) (body string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base+path, nil)
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
		b.t.Fatalf("%s %s: %s, %v\n%s", method, path, res.Status, err, text)
	}
	for _, c := range res.Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 || c.Value == "" {
			delete(b.cookies, c.Name)
		}
	}
	return string(text)
}

func (b *browser) session() (s Session) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.do("GET", "/session")), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *browser) copy() *browser {
	cookies := map[string]string{}
	for name, value := range b.cookies {
		cookies[name] = value
	}
	return &browser{b.t, b.base, cookies}
}

// Every contender really does the job: no figure comes from one that does nothing.
func TestContenders(t *testing.T) {
	redis, postgres := testserver.StartRedis(t), testserver.StartPostgres(t)
	servers := Servers{Redis: redis.Addr, Postgres: postgres.URL(postgres.Addr)}
	for _, c := range Contenders {
		t.Run(c.Name, func(t *testing.T) {
			sessions, end, err := c.Open(t.Context(), servers)
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			server := httptest.NewServer(NewHandler(sessions))
			defer server.Close()
			newBrowser := func() *browser { return &browser{t, server.URL, map[string]string{}} }
			alice, bob := newBrowser(), newBrowser()
			alice.do("GET", "/untouched")
			if got := alice.session(); !reflect.DeepEqual(got, Session{}) {
				t.Errorf("a stranger has %+v", got)
			}
			alice.do("POST", "/login")
			if c.NoSession {
				if got := alice.session(); !reflect.DeepEqual(got, Session{}) {
					t.Errorf("the zero line has %+v", got)
				}
				return
			}
			if got := alice.session(); !reflect.DeepEqual(got, reference()) {
				t.Errorf("after login: %+v", got)
			}
			for n := range 3 {
				alice.do("POST", "/change")
				if got := alice.session(); got.Cart[0].Qty != 2+n || got.UserID != 1042 {
					t.Errorf("change %d is not seen by the next request: %+v", n+1, got)
				}
			}
			if got := bob.session(); !reflect.DeepEqual(got, Session{}) {
				t.Errorf("another visitor has %+v", got)
			}
			forged := alice.copy()
			for name, value := range forged.cookies {
				forged.cookies[name] = value[:len(value)-2] + "AA"
			}
			if got := forged.session(); got.UserID != 0 {
				t.Errorf("a changed cookie gives %+v", got)
			}
			before := alice.copy()
			alice.do("POST", "/login")
			fixated := before.session().UserID != 0
			copied := alice.copy()
			if got := copied.session(); got.UserID != 1042 {
				t.Fatalf("a copy does not work before logout: %+v", got)
			}
			alice.do("POST", "/logout")
			if got := alice.session(); got.UserID != 0 {
				t.Errorf("after logout: %+v", got)
			}
			if lives := copied.session().UserID != 0; lives == c.CopyDiesAtLogout {
				t.Errorf("a copy of the cookie lives after logout: %v; its design says %v", lives, !c.CopyDiesAtLogout)
			}
			t.Logf("the cookie from before a login still works: %v", fixated)
		})
	}
}
