package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// caches are proxies that keep responses, as operators set them up.
var caches = map[string]struct {
	args   func(folder, addr, upstream string) []string
	config string
}{
	"nginx": {nginxArgs, strings.NewReplacer(
		"server {", "proxy_cache_path %[1]s/cache keys_zone=pages:1m;\n	server {",
		"location / {", "location / { proxy_cache pages; proxy_cache_valid 200 60s;",
	).Replace(nginxConfig(""))},
	"Varnish": {varnishArgs(), varnishConfig},
	"Varnish that keeps pages in spite of cookies": {varnishArgs(), varnishConfig + `
sub vcl_recv { if (req.method == "GET") { return (hash); } }`},
}

// A guest visits through a proxy, and keeps cookies.
type guest struct {
	t      *testing.T
	url    string
	client *http.Client
}

func newGuest(t *testing.T, address string) *guest {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t, address, &http.Client{Jar: jar, Timeout: 10 * time.Second}}
}

func (v *guest) get(path string) string {
	v.t.Helper()
	res, err := v.client.Get(v.url + path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		v.t.Fatalf("%s: status %d, %v", path, res.StatusCode, err)
	}
	return string(body)
}

func (v *guest) cookie() string {
	u, err := url.Parse(v.url)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range v.client.Jar.Cookies(u) {
		return c.Value
	}
	return ""
}

// No cache hands a page or a cookie of one visitor to another, also if the application has
// told it to keep the page; what reads no session is kept.
func TestCachesKeepSessionsApart(t *testing.T) {
	for name, cache := range caches {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int32
			m := sealedtest.Manager(t, sealed.Config[large]{Cookie: sealed.Cookie{Insecure: true}})
			mux := http.NewServeMux()
			mux.HandleFunc("/login", func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *large) { s.Text = r.URL.Query().Get("user") }); err != nil {
					t.Errorf("Update: %v", err)
				}
			})
			show := func(w http.ResponseWriter, r *http.Request) {
				s, _ := m.Get(r.Context())
				fmt.Fprintf(w, "%s.", strings.TrimRight(s.Text, "+"))
			}
			mux.HandleFunc("/me", show)
			// The application, or a framework around it, asks caches to keep all pages.
			mux.HandleFunc("/kept/me", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60")
				show(w, r)
			})
			mux.HandleFunc("/kept/change", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60")
				w.Header().Set("X-Accel-Expires", "60")
				if err := m.Update(r.Context(), func(s *large) { s.Text += "+" }); err != nil {
					t.Errorf("Update: %v", err)
				}
				show(w, r)
			})
			mux.HandleFunc("/public", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60")
				fmt.Fprint(w, served.Add(1))
			})
			server := httptest.NewServer(m.Handler(mux))
			defer server.Close()
			address := startProxy(t, cache.args, cache.config, server.Listener.Addr().String())
			alice, bob, nobody := newGuest(t, address), newGuest(t, address), newGuest(t, address)
			alice.get("/login?user=alice")
			bob.get("/login?user=bob")
			for round := range 2 {
				for _, path := range []string{"/me", "/kept/me", "/kept/change"} {
					for v, want := range map[*guest]string{alice: "alice.", bob: "bob.", nobody: "."} {
						if v == nobody && path == "/kept/change" {
							continue
						}
						if got := v.get(path); got != want {
							t.Errorf("round %d, %s: got the page of %q, want that of %q", round, path, got, want)
						}
					}
				}
			}
			if alice.cookie() == bob.cookie() || alice.cookie() == "" || bob.cookie() == "" || nobody.cookie() != "" {
				t.Error("a cookie of one visitor went to another")
			}
			nobody.get("/public")
			if newGuest(t, address).get("/public"); served.Load() != 1 {
				t.Errorf("a page that reads no session was made %d times, want once", served.Load())
			}
		})
	}
}
