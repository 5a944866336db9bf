package e2e_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

var update = flag.Bool("update", false, "write the measured table into docs/proxies.md")

const proxyPage = "../docs/proxies.md"

// proxies are how each is started in front of a server. The texts are configurations, with
// the folder, the address to listen on and that of the server.
var proxies = []struct {
	name   string
	args   func(folder, addr, upstream string) []string
	config string
}{
	{"nginx, as it comes", nginxArgs, nginxConfig("")},
	{"nginx, `large_client_header_buffers 4 4k`", nginxArgs, nginxConfig("large_client_header_buffers 4 4k;")},
	{"nginx, `proxy_buffer_size 64k`, `proxy_buffers 8 64k`, `large_client_header_buffers 4 64k`", nginxArgs, nginxConfig("proxy_buffer_size 64k; proxy_buffers 8 64k; large_client_header_buffers 4 64k;")},
	{"HAProxy, as it comes", haproxyArgs, haproxyConfig("")},
	{"HAProxy, `tune.bufsize 65536`", haproxyArgs, haproxyConfig("tune.bufsize 65536")},
	{"Apache, as it comes", apacheArgs, apacheConfig("")},
	{"Apache, `LimitRequestFieldSize 65536`, `ResponseFieldSize 65536`", apacheArgs, apacheConfig("LimitRequestFieldSize 65536\nProxyPass / http://%[3]s/ responsefieldsize=65536")},
	{"Caddy, as it comes", caddyArgs, caddyConfig},
	{"Varnish, as it comes", varnishArgs(), varnishConfig},
	{"Varnish, `http_req_hdr_len`, `http_req_size`, `http_resp_size` 128k, `workspace_*` 256k", varnishArgs("http_req_hdr_len=96k", "http_req_size=128k", "http_resp_size=128k", "workspace_client=256k", "workspace_backend=256k"), varnishConfig},
}

func nginxArgs(folder, _, _ string) []string {
	return []string{"nginx", "-c", filepath.Join(folder, "config"), "-p", folder}
}

func nginxConfig(lines string) string {
	return `
daemon off;
pid %[1]s/nginx.pid;
error_log /dev/null;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		` + lines + `
		location / { proxy_pass http://%[3]s; }
	}
}`
}

func haproxyArgs(folder, _, _ string) []string {
	return []string{"haproxy", "-f", filepath.Join(folder, "config")}
}

func haproxyConfig(line string) string {
	return `
global
	` + line + `
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
listen proxy
	bind %[2]s
	server app %[3]s
# %[1]s
`
}

func apacheArgs(folder, _, _ string) []string {
	return []string{"apache2", "-f", filepath.Join(folder, "config"), "-DFOREGROUND"}
}

func apacheConfig(lines string) string {
	text := `
ServerRoot %[1]s
ServerName localhost
PidFile %[1]s/apache.pid
Listen %[2]s
User www-data
Group www-data
ErrorLog /dev/null
Mutex posixsem
`
	for _, module := range []string{"mpm_event", "authz_core", "proxy", "proxy_http"} {
		text += "LoadModule " + module + "_module /usr/lib/apache2/modules/mod_" + module + ".so\n"
	}
	if strings.Contains(lines, "ProxyPass") {
		return text + lines
	}
	return text + lines + "\nProxyPass / http://%[3]s/\n"
}

func caddyArgs(folder, _, _ string) []string {
	return []string{"caddy", "run", "--adapter", "caddyfile", "--config", filepath.Join(folder, "config")}
}

const caddyConfig = `
{
	admin off
	auto_https off
}
# %[1]s
http://%[2]s {
	reverse_proxy %[3]s
}
`

func varnishArgs(parameters ...string) func(folder, addr, upstream string) []string {
	return func(folder, addr, _ string) []string {
		args := []string{"varnishd", "-F", "-a", addr, "-f", filepath.Join(folder, "config"), "-n", filepath.Join(folder, "varnish"), "-s", "malloc,16m"}
		for _, p := range parameters {
			args = append(args, "-p", p)
		}
		return args
	}
}

const varnishConfig = `
vcl 4.1;
import std;
# %[1]s %[2]s
backend default { .host = "%[4]s"; .port = "%[5]s"; }
`

// startProxy starts a proxy in front of a server, and returns its URL.
func startProxy(t *testing.T, args func(folder, addr, upstream string) []string, config, upstream string) string {
	t.Helper()
	addr := freeAddress(t)
	folder := profile(t)
	if err := os.Chmod(folder, 0o711); err != nil { // workers have another user
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(upstream)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(config, folder, addr, upstream, host, port)
	text, _, _ = strings.Cut(text, "%!(EXTRA")
	if err := os.WriteFile(filepath.Join(folder, "config"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	command := args(folder, addr, upstream)
	cmd := exec.Command(command[0], command[1:]...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder, "XDG_DATA_HOME="+folder) // Caddy writes there
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	if listens(addr) {
		return "http://" + addr
	}
	cmd.Process.Kill()
	cmd.Wait()
	t.Fatalf("%s does not listen: %s", command[0], said.String())
	return ""
}

// A carrier is an application that sets a session of any size, and reads it.
type carrier struct {
	t       *testing.T
	m       *sealed.Manager[large]
	server  *httptest.Server
	longest int
}

func newCarrier(t *testing.T, cookie sealed.Cookie) *carrier {
	t.Helper()
	cookie.Insecure = true
	m := sealedtest.Manager(t, sealed.Config[large]{Cookie: cookie, Persistent: true})
	c := &carrier{t: t, m: m}
	c.server = httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header() // of a page: 300 bytes
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'self'; img-src https://cdn.example"+strings.Repeat(" https://other.example", 6))
		h.Set("X-Content-Type-Options", "nosniff")
		n := 0
		if _, err := fmt.Sscan(r.URL.Query().Get("set"), &n); err == nil {
			if err := m.Update(r.Context(), func(s *large) { s.Text = strings.Repeat("x", n) }); err != nil {
				t.Errorf("Update: %v", err)
			}
			return
		}
		s, _ := m.Get(r.Context())
		fmt.Fprint(w, len(s.Text))
	})))
	t.Cleanup(c.server.Close)
	low, high := 0, 1<<17
	for high-low > 1 {
		n := (low + high) / 2
		if _, ok := c.cookies(n); ok {
			low = n
		} else {
			high = n
		}
	}
	c.longest = low
	return c
}

// cookies returns the cookies of a session with n bytes, made without a proxy.
func (c *carrier) cookies(n int) ([]*http.Cookie, bool) {
	w := httptest.NewRecorder()
	var err error
	c.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		err = c.m.Update(r.Context(), func(s *large) { s.Text = strings.Repeat("x", n) })
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	return w.Result().Cookies(), err == nil
}

var proxyClient = &http.Client{
	Transport:     &http.Transport{MaxResponseHeaderBytes: 1 << 20, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       10 * time.Second,
}

// responsePasses reports whether a response that sets a session of n bytes arrives whole.
func (c *carrier) responsePasses(url string, n int) bool {
	c.t.Helper()
	want, _ := c.cookies(n)
	res, err := proxyClient.Get(fmt.Sprintf("%s/?set=%d", url, n))
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK && len(res.Cookies()) == len(want)
}

// requestPasses reports whether a request with a session of n bytes arrives whole.
func (c *carrier) requestPasses(url string, n int) bool {
	c.t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	cookies, _ := c.cookies(n)
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	res, err := proxyClient.Do(r)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusOK && string(body) == fmt.Sprint(n)
}

// most returns how many bytes of cookies pass at most, for the table.
func (c *carrier) most(passes func(n int) bool) string {
	if passes(c.longest) {
		return "all"
	}
	low, high := 0, c.longest
	for high-low > 1 {
		if n := (low + high) / 2; passes(n) {
			low = n
		} else {
			high = n
		}
	}
	cookies, _ := c.cookies(low)
	bytes := 0
	for _, cookie := range cookies {
		bytes += len(cookie.Name) + len(cookie.Value) + 3
	}
	const varies = 60 // bytes: what proxies add, as ports and request IDs
	return fmt.Sprint((bytes - varies) / 100 * 100)
}

// What each proxy lets through is what the page says. The default cookie passes all.
func TestProxies(t *testing.T) {
	one, split := newCarrier(t, sealed.Cookie{MaxSize: 4093}), newCarrier(t, sealed.Cookie{MaxSize: 4093, MaxChunks: 16})
	usual := newCarrier(t, sealed.Cookie{})
	var rows strings.Builder
	rows.WriteString("| proxy | response, one cookie | response, split | request, one cookie | request, split |\n|---|---:|---:|---:|---:|\n")
	for _, p := range proxies {
		urls := map[*carrier]string{}
		for _, c := range []*carrier{one, split, usual} {
			urls[c] = startProxy(t, p.args, p.config, c.server.Listener.Addr().String())
		}
		if !usual.responsePasses(urls[usual], usual.longest) || !usual.requestPasses(urls[usual], usual.longest) {
			t.Errorf("%s: the default cookie does not pass", p.name)
		}
		fmt.Fprintf(&rows, "| %s", p.name)
		for _, passes := range []func(c *carrier) func(int) bool{
			func(c *carrier) func(int) bool { return func(n int) bool { return c.responsePasses(urls[c], n) } },
			func(c *carrier) func(int) bool { return func(n int) bool { return c.requestPasses(urls[c], n) } },
		} {
			fmt.Fprintf(&rows, " | %s | %s", one.most(passes(one)), split.most(passes(split)))
		}
		rows.WriteString(" |\n")
	}
	checkPage(t, proxyPage, "proxies", rows.String())
}

// checkPage compares a table with the one in a page, or writes it there.
func checkPage(t *testing.T, path, name, table string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)<!-- ` + name + `: written by the test -->\n(.*?)<!-- /` + name + ` -->`)
	found := section.FindSubmatchIndex(page)
	if found == nil {
		t.Fatalf("%s has no section %q", path, name)
	}
	if got := string(page[found[2]:found[3]]); got == table {
		return
	} else if !*update {
		t.Errorf("%s has\n%s\nwant\n%s(go test -run %s -update writes it)", path, got, table, t.Name())
		return
	}
	page = append(page[:found[2]:found[2]], append([]byte(table), page[found[3]:]...)...)
	if err := os.WriteFile(path, page, 0o644); err != nil {
		t.Fatal(err)
	}
}
