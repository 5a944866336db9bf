package contender_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/bench/contender"
	"example.com/sealed/revoke"
)

var update = flag.Bool("update", false, "write the table into docs/express-session.md")

const behaviourPage = "../../docs/express-session.md"

// A program keeps sessions in some way, and serves the application.
type program func(t *testing.T) (base string, restart func() string)

// express starts express-session with options, in JSON.
func express(options string) program {
	return func(t *testing.T) (string, func() string) {
		start := func() string { return startNode(t, "express-session "+options, contender.Environment{}) }
		return start(), start
	}
}

// ownSealed serves sealed with a configuration.
func ownSealed(configure func(*sealed.Config[contender.Session])) program {
	return func(t *testing.T) (string, func() string) {
		keys, err := sealed.NewKeyring(sealed.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		config := sealed.Config[contender.Session]{
			Cookie: sealed.Cookie{Insecure: true},
			Subject: func(s contender.Session) string {
				if s.UserID == 0 {
					return ""
				}
				return fmt.Sprint(s.UserID)
			},
		}
		if configure != nil {
			configure(&config)
		}
		start := func() string {
			m, err := sealed.New(keys, config)
			if err != nil {
				t.Fatal(err)
			}
			application := contender.NewApplication(plainSealed{m})
			server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/slow" {
					application.ServeHTTP(w, r)
					return
				}
				if _, err := m.Get(r.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(300 * time.Millisecond) // as the slow page of the program on Node
			})))
			t.Cleanup(server.Close)
			return server.URL
		}
		return start(), start
	}
}

// plainSealed is sealed behind the application.
type plainSealed struct {
	m *sealed.Manager[contender.Session]
}

func (s plainSealed) Wrap(h http.Handler) http.Handler { return s.m.Handler(h) }

func (s plainSealed) Get(r *http.Request) (contender.Session, error) {
	v, _ := s.m.Get(r.Context())
	return v, nil
}

func (s plainSealed) Change(_ http.ResponseWriter, r *http.Request, change func(*contender.Session)) error {
	return s.m.Update(r.Context(), change)
}

func (s plainSealed) Login(_ http.ResponseWriter, r *http.Request, v contender.Session) error {
	return s.m.Update(r.Context(), func(x *contender.Session) { *x = v })
}

func (s plainSealed) Logout(_ http.ResponseWriter, r *http.Request) error {
	return s.m.Destroy(r.Context())
}

func listed(c *sealed.Config[contender.Session]) { c.Revocations = revoke.NewList() }

func yes(b bool, is, not string) string {
	if b {
		return is
	}
	return not
}

// behaviours are what both are asked, by what an application sets. Each answer is seen.
var behaviours = []struct {
	what            string
	express, sealed program
	setExpress      string
	setSealed       string
	ask             func(t *testing.T, base string, restart func() string) string
}{
	{"A stranger's visit that only reads", express(`{"saveUninitialized": true}`), ownSealed(nil), "`saveUninitialized: true`, its default", "", firstVisit},
	{"the same", express(`{}`), ownSealed(nil), "`saveUninitialized: false`", "", firstVisit},
	{"A read of who is logged in", express(`{}`), ownSealed(nil), "", "", readSets},
	{"the same", express(`{"rolling": true}`), ownSealed(func(c *sealed.Config[contender.Session]) { c.IdleTimeout = time.Hour }), "`rolling: true`", "`IdleTimeout`, within its first quarter", readSets},
	{"How long the browser keeps the cookie", express(`{}`), ownSealed(nil), "", "", lasting},
	{"the same", express(`{"cookie": {"maxAge": 3600000}}`), ownSealed(func(c *sealed.Config[contender.Session]) { c.Persistent = true }), "`maxAge`", "`Persistent`", lasting},
	{"A change during a slow page that only reads", express(`{"resave": true}`), ownSealed(nil), "`resave: true`, its default", "", changeDuringRead},
	{"the same", express(`{}`), ownSealed(nil), "`resave: false`", "", changeDuringRead},
	{"The cookie from before a login", express(`{}`), ownSealed(nil), "`regenerate`", "`Subject`", beforeLogin},
	{"A copy of the cookie after logout", express(`{}`), ownSealed(listed), "`destroy`", "`Revocations`", afterLogout},
	{"the same", express(`{}`), ownSealed(nil), "`destroy`", "no `Revocations`", afterLogout},
	{"A cookie that was changed", express(`{}`), ownSealed(nil), "", "", changed},
	{"A new process", express(`{}`), ownSealed(nil), "`MemoryStore`", "the same keys", restarted},
}

func visitor(t *testing.T, base string) *browser { return &browser{t, base, map[string]string{}} }

func firstVisit(t *testing.T, base string, _ func() string) string {
	h, _ := visitor(t, base).do(contender.Read)
	return yes(h.Get("Set-Cookie") != "", "sets a cookie", "sets none")
}

func readSets(t *testing.T, base string, _ func() string) string {
	b := visitor(t, base)
	b.do(contender.Login)
	h, _ := b.do(contender.Read)
	return yes(h.Get("Set-Cookie") != "", "sets the cookie again", "sets none")
}

// changeDuringRead changes the session between the beginning and the end of another request
// of the browser.
func changeDuringRead(t *testing.T, base string, _ func() string) string {
	b := visitor(t, base)
	b.do(contender.Login)
	slow, done := b.copy(), make(chan http.Header)
	go func() {
		h, _ := slow.do("slow")
		done <- h
	}()
	time.Sleep(100 * time.Millisecond) // it is under way: the servers are real, and say nothing of it
	b.do(contender.Change)
	if h := <-done; h.Get("Set-Cookie") != "" {
		b.cookies = slow.cookies
	}
	return yes(b.session().Cart[0].Qty == contender.NextQuantity(contender.Reference(0).Cart[0].Qty), "is kept", "is undone")
}

func lasting(t *testing.T, base string, _ func() string) string {
	h, _ := visitor(t, base).do(contender.Login)
	line := strings.ToLower(h.Get("Set-Cookie"))
	return yes(strings.Contains(line, "max-age=") || strings.Contains(line, "expires="), "as long as the session lasts", "until it is closed")
}

func beforeLogin(t *testing.T, base string, _ func() string) string {
	b := visitor(t, base)
	b.do(contender.Change)
	before := b.copy()
	b.do(contender.Login)
	return yes(before.session().UserID == contender.User, "is logged in", "is not logged in")
}

func afterLogout(t *testing.T, base string, _ func() string) string {
	b := visitor(t, base)
	b.do(contender.Login)
	copied := b.copy()
	b.do(contender.Logout)
	return yes(copied.session().UserID == contender.User, "is logged in, until the session ends", "is refused")
}

func changed(t *testing.T, base string, _ func() string) string {
	b := visitor(t, base)
	b.do(contender.Login)
	for name, value := range b.cookies {
		b.cookies[name] = value[:len(value)-4] + "AAAA"
	}
	return yes(b.session().UserID == contender.User, "is logged in", "is a stranger's")
}

func restarted(t *testing.T, base string, restart func() string) string {
	b := visitor(t, base)
	b.do(contender.Login)
	b.base = restart()
	return yes(b.session().UserID == contender.User, "knows who is logged in", "has forgotten everybody")
}

// What express-session does and what sealed does, row by row.
func TestBehaviourBesideExpressSession(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("| | express-session | sealed |\n|---|---|---|\n")
	for _, x := range behaviours {
		cell := func(p program, set string) string {
			base, restart := p(t)
			answer := x.ask(t, base, restart)
			if set != "" {
				answer += " (" + set + ")"
			}
			return answer
		}
		fmt.Fprintf(&rows, "| %s | %s | %s |\n", x.what, cell(x.express, x.setExpress), cell(x.sealed, x.setSealed))
	}
	page, err := os.ReadFile(behaviourPage)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)(<!-- behaviour: written by the test -->\n)(.*?)(<!-- /behaviour -->)`)
	found := section.FindSubmatch(page)
	if found == nil {
		t.Fatalf("%s has no table", behaviourPage)
	}
	if string(found[2]) == rows.String() {
		return
	}
	if !*update {
		t.Fatalf("%s has\n%s\nwant\n%s(-update writes it)", behaviourPage, found[2], rows.String())
	}
	written := section.ReplaceAllLiteral(page, []byte(string(found[1])+rows.String()+string(found[3])))
	if err := os.WriteFile(behaviourPage, written, 0o644); err != nil {
		t.Fatal(err)
	}
}
