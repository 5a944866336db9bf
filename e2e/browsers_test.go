package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

type guestbook struct {
	User  string `cbor:"1,keyasint,omitempty"`
	Flash string `cbor:"2,keyasint,omitempty"`
	Count int    `cbor:"3,keyasint,omitempty"`
}

// A site is a small application of which each page says what its session holds.
type site struct {
	*httptest.Server
	m          *sealed.Manager[guestbook]
	prefetches atomic.Int32 // requests for a page that nobody has looked at yet
	refused    atomic.Int32 // changes that were ErrCrossSite

	mu    sync.Mutex
	pages map[string]string // more pages, by path
}

func newSite(t *testing.T, config sealed.Config[guestbook]) *site {
	t.Helper()
	config.Subject = func(s guestbook) string { return s.User }
	s := &site{m: sealedtest.Manager(t, config), pages: map[string]string{}}
	mux := http.NewServeMux()
	change := func(pattern string, change func(*http.Request, *guestbook)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := s.m.Update(r.Context(), func(data *guestbook) { change(r, data) })
			if errors.Is(err, sealed.ErrCrossSite) {
				s.refused.Add(1)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			http.Redirect(w, r, "/", http.StatusSeeOther)
		})
	}
	change("/login", func(r *http.Request, data *guestbook) { data.User, data.Flash = r.FormValue("user"), "Welcome." })
	change("/count", func(_ *http.Request, data *guestbook) { data.Count++ })
	change("POST /callback", func(_ *http.Request, data *guestbook) { data.Flash = "called back" })
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		if err := s.m.Destroy(r.Context()); err != nil {
			t.Error(err)
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("/renew", func(w http.ResponseWriter, r *http.Request) {
		if err := s.m.Renew(r.Context()); err != nil {
			t.Error(err)
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		page, ok := s.pages[r.URL.Path]
		s.mu.Unlock()
		if strings.HasSuffix(r.URL.Path, ".js") {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, page)
			return
		}
		if !ok && r.URL.Path != "/" && r.URL.Path != "/other" && r.URL.Path != "/unstored" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/unstored" {
			w.Header().Set("Cache-Control", "no-store")
		}
		data, err := s.m.Get(r.Context())
		flash := ""
		switch {
		case sealed.IsPrefetch(r):
			s.prefetches.Add(1)
		case data.Flash != "":
			flash = data.Flash
			if err := s.m.Update(r.Context(), func(data *guestbook) { data.Flash = "" }); err != nil {
				t.Error(err)
			}
		}
		fmt.Fprintf(w, `<!doctype html><body><p id="state">user=%s count=%d flash=%s session=%v</p><a href="/other">other</a>%s</body>`, data.User, data.Count, flash, err == nil, page)
	})
	s.Server = httptest.NewServer(s.m.Handler(mux))
	t.Cleanup(s.Close)
	return s
}

// page adds one to the site.
func (s *site) page(path, html string) {
	s.mu.Lock()
	s.pages[path] = html
	s.mu.Unlock()
}

// at is the site's address under a name. Browsers take 127.0.0.1 and localhost for two sites.
func (s *site) at(host string) string { return strings.Replace(s.URL, "127.0.0.1", host, 1) }

// Where each browser keeps the secure default cookie.
func TestWhereBrowsersKeepTheCookie(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("| browser | http://localhost | http://127.0.0.1 | the same, with `Insecure` |\n|---|---|---|---|\n")
	for _, name := range []string{"Chromium", "Firefox", "WebKitGTK"} {
		fmt.Fprintf(&rows, "| %s", name)
		for _, try := range []struct {
			host     string
			insecure bool
		}{{"localhost", false}, {"127.0.0.1", false}, {"localhost", true}} {
			s := newSite(t, sealed.Config[guestbook]{Cookie: sealed.Cookie{Insecure: try.insecure}})
			var state string
			if name == "WebKitGTK" {
				w := startWebKit(t)
				w.visit(s.at(try.host) + "/login?user=alice")
				state = w.text("#state")
				w.close()
			} else {
				p := browsers[name](t, options{}).tab()
				p.visit(s.at(try.host) + "/login?user=alice")
				state = p.text("#state")
				p.close()
			}
			word := "dropped"
			if strings.Contains(state, "user=alice") {
				word = "kept"
			}
			fmt.Fprintf(&rows, " | %s", word)
		}
		rows.WriteString(" |\n")
	}
	checkPage(t, "../docs/browsers.md", "browsers", rows.String())
}

// A page that the browser fetches ahead takes no flash message away: the message is on
// the first page that was fetched to be looked at.
func TestPrefetchInBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		s := newSite(t, sealed.Config[guestbook]{})
		p := browsers[name](t, options{}).tab()
		defer p.close()
		p.visit(s.at("localhost") + "/login?user=alice")
		p.want("#state", "flash=Welcome.")
		p.eval(`fetch("/callback", {method: "POST", redirect: "manual"}).then(() => null)`, nil)
		p.eval(map[string]string{
			"Chromium": `(() => { const e = document.createElement("script"); e.type = "speculationrules"; e.textContent = '{"prefetch": [{"urls": ["/other"], "eagerness": "immediate"}]}'; document.body.append(e) })()`,
			"Firefox":  `(() => { const e = document.createElement("link"); e.rel = "prefetch"; e.href = "/other"; document.head.append(e) })()`,
		}[name], nil)
		for end := time.Now().Add(20 * time.Second); s.prefetches.Load() == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the browser fetched nothing ahead")
			}
		}
		p.click(`a`)
		if !strings.Contains(p.text("#state"), "flash=called back") { // the page that was fetched ahead
			p.visit(s.at("localhost"))
		}
		p.want("#state", "flash=called back")
		p.reload()
		p.want("#state", "flash= ")
	})
}

// The back button shows no page of before the logout that had asked not to be stored.
func TestBackAfterLogoutInBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		s := newSite(t, sealed.Config[guestbook]{})
		p := browsers[name](t, options{}).tab()
		defer p.close()
		p.visit(s.at("localhost") + "/login?user=alice")
		p.visit(s.at("localhost") + "/unstored")
		p.want("#state", "user=alice")
		p.visit(s.at("localhost") + "/logout")
		p.want("#state", "user= ")
		p.back()
		p.becomes("#state", "user= ")
	})
}

// What was logged in within a private window ends with it.
func TestPrivateWindowInBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		s := newSite(t, sealed.Config[guestbook]{Persistent: true})
		folder := profile(t)
		for _, private := range []bool{true, true, false} {
			p := browsers[name](t, options{profile: folder, private: private}).tab()
			p.visit(s.at("localhost"))
			p.want("#state", "user= ")
			if private {
				p.visit(s.at("localhost") + "/login?user=alice")
				p.want("#state", "user=alice")
			}
			p.close()
		}
	})
}

// A browser that is closed and opened again has the persistent cookie, and no other.
func TestRestartOfBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		for user, persistent := range map[string]bool{"alice": true, "": false} {
			s := newSite(t, sealed.Config[guestbook]{Persistent: persistent})
			folder := profile(t)
			p := browsers[name](t, options{profile: folder}).tab()
			p.visit(s.at("localhost") + "/login?user=alice")
			p.want("#state", "user=alice")
			p.close()
			p = browsers[name](t, options{profile: folder}).tab()
			p.visit(s.at("localhost"))
			p.want("#state", "user="+user+" ")
			p.close()
		}
	})
}

// Two tabs are one session: a login in one is seen in the other, as is a logout, and
// requests of both at once keep it.
func TestTwoTabsOfBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		s := newSite(t, sealed.Config[guestbook]{Revocations: revoke.NewList(), RenewalGrace: 10 * time.Second})
		b := browsers[name](t, options{})
		defer b.close()
		one := b.tab()
		two := b.tab()
		one.visit(s.at("localhost"))
		two.visit(s.at("localhost"))
		one.visit(s.at("localhost") + "/login?user=alice")
		two.reload()
		two.want("#state", "user=alice")
		// The session gets a new ID, while the other tab sends requests with the old one.
		two.eval(`(() => { window.all = Promise.all(Array.from({length: 12}, (_, i) => fetch("/other?" + i).then(r => r.text()))) })()`, nil)
		one.visit(s.at("localhost") + "/renew")
		var texts []string
		two.eval(`window.all`, &texts)
		for _, text := range texts {
			if !strings.Contains(text, "user=alice") {
				t.Errorf("a request at the same time as the renewal: %s", text)
			}
		}
		for range 3 {
			two.reload()
			two.want("#state", "user=alice")
		}
		one.visit(s.at("localhost") + "/logout")
		two.reload()
		two.want("#state", "user= ")
	})
}

// A form that another site sends, as identity providers do: Update is ErrCrossSite, and
// the visitor's session is as it was.
func TestCrossSitePostInBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		s, other := newSite(t, sealed.Config[guestbook]{}), newSite(t, sealed.Config[guestbook]{})
		other.page("/form", `<form method="post" action="`+s.at("localhost")+`/callback"><button>go</button></form>`)
		p := browsers[name](t, options{}).tab()
		defer p.close()
		p.visit(s.at("localhost") + "/login?user=alice")
		p.visit(other.at("127.0.0.1") + "/form")
		p.click("button")
		if n := s.refused.Load(); n != 1 {
			t.Errorf("%d changes were ErrCrossSite, want 1: %s", n, p.text("body"))
		}
		p.visit(s.at("localhost"))
		p.want("#state", "user=alice")
	})
}

// In a frame of another site a cookie with SameSite None and Partitioned is kept, apart
// from the one of the site itself, and one with Lax is not, which Update says.
func TestFrameInBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		for _, partitioned := range []bool{true, false} {
			config := sealed.Config[guestbook]{}
			if partitioned {
				config.Cookie = sealed.Cookie{SameSite: http.SameSiteNoneMode, Partitioned: true}
			}
			s, other := newSite(t, config), newSite(t, sealed.Config[guestbook]{})
			s.page("/frame", `<a id="in" href="/login?user=framed">log in</a>`)
			other.page("/top", `<iframe src="`+s.at("localhost")+`/login?user=framed" onload="document.title = 'loaded'"></iframe>`)
			other.page("/again", `<iframe src="`+s.at("localhost")+`/"></iframe>`)
			p := browsers[name](t, options{}).tab()
			p.visit(s.at("localhost") + "/login?user=alice")
			p.visit(other.at("127.0.0.1") + "/top")
			p.visit(other.at("127.0.0.1") + "/again")
			want := map[bool]string{true: "user=framed", false: "user= "}[partitioned]
			p.frame().want("#state", want)
			if n := s.refused.Load(); (n == 1) == partitioned {
				t.Errorf("Partitioned %v: %d changes were ErrCrossSite", partitioned, n)
			}
			p.visit(s.at("localhost"))
			p.want("#state", "user=alice")
			p.close()
		}
	})
}

// Requests that pass a service worker log in, change and log out as others do. It leaves
// those alone that are not GET: Firefox says of another site's form that a worker has
// passed on that it were one of the site's own, and withholds the cookie nevertheless.
func TestServiceWorkerInBrowsers(t *testing.T) {
	inEachBrowser(t, func(t *testing.T, name string) {
		s, other := newSite(t, sealed.Config[guestbook]{}), newSite(t, sealed.Config[guestbook]{})
		s.page("/worker.js", `
let seen = 0
addEventListener("install", e => skipWaiting())
addEventListener("activate", e => e.waitUntil(clients.claim()))
addEventListener("fetch", e => { if (e.request.method != "GET") return; seen++; e.respondWith(new URL(e.request.url).pathname == "/seen" ? new Response(seen) : fetch(e.request)) })`)
		other.page("/form", `<form method="post" action="`+s.at("localhost")+`/callback"><button>go</button></form>`)
		p := browsers[name](t, options{}).tab()
		defer p.close()
		p.visit(s.at("localhost"))
		p.eval(`navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready).then(() => null)`, nil)
		p.visit(s.at("localhost") + "/login?user=alice")
		p.want("#state", "user=alice")
		p.visit(s.at("localhost") + "/count")
		p.want("#state", "count=1")
		var seen int
		if p.eval(`fetch("/seen").then(r => r.json())`, &seen); seen < 3 {
			t.Errorf("the worker has seen %d requests", seen)
		}
		p.visit(other.at("127.0.0.1") + "/form")
		p.click("button")
		p.visit(s.at("localhost"))
		p.want("#state", "user=alice")
		if n := s.refused.Load(); n != 1 {
			t.Errorf("%d changes were ErrCrossSite, want 1", n)
		}
		p.visit(s.at("localhost") + "/logout")
		p.want("#state", "user= ")
	})
}
