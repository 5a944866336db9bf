package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// nginx starts nginx, as it comes, in front of a server, and returns its URL.
func nginx(t *testing.T, upstream string) string {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("no nginx: install it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	folder := profile(t)
	config := filepath.Join(folder, "nginx.conf")
	text := fmt.Sprintf(`
daemon off;
pid %[1]s/nginx.pid;
error_log stderr crit;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		location / { proxy_pass %[3]s; }
	}
}`, folder, addr, upstream)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o711); err != nil { // nginx's workers have another user
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config, "-p", folder)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	if !listens(addr) {
		t.Fatal("nginx does not listen")
	}
	return "http://" + addr
}

type large struct {
	Text string `cbor:"1,keyasint"`
}

// longest returns the longest text that Update takes.
func longest(t *testing.T, m *sealed.Manager[large]) int {
	t.Helper()
	low, high := 0, 1<<13
	for high-low > 1 {
		n := (low + high) / 2
		var err error
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			err = m.Update(r.Context(), func(s *large) { s.Text = strings.Repeat("x", n) })
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if err == nil {
			low = n
		} else {
			high = n
		}
	}
	return low
}

// The largest session that fits into the default cookie passes nginx as it comes, there
// and back, with the other headers of a page; with the largest cookie that browsers take
// nginx answers 502.
func TestLargestDefaultCookiePassesNginx(t *testing.T) {
	for name, tt := range map[string]struct {
		cookie sealed.Cookie
		status int
	}{
		"default": {sealed.Cookie{Insecure: true}, 200},
		"largest": {sealed.Cookie{Insecure: true, MaxSize: 4093}, 502},
	} {
		m := sealedtest.Manager(t, sealed.Config[large]{Cookie: tt.cookie, Persistent: true})
		n := longest(t, m)
		server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Security-Policy", "default-src 'self'; "+strings.Repeat("img-src https://cdn.example; ", 12))
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "same-origin")
			h.Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
			if s, err := m.Get(r.Context()); err == nil {
				fmt.Fprint(w, len(s.Text))
				return
			}
			if err := m.Update(r.Context(), func(s *large) { s.Text = strings.Repeat("x", n) }); err != nil {
				t.Error(err)
			}
		})))
		url := nginx(t, server.URL)
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s: a session of %d bytes: status %d, want %d", name, n, res.StatusCode, tt.status)
		}
		if tt.status == 200 && res.StatusCode == 200 {
			req, _ := http.NewRequest("GET", url, nil)
			req.AddCookie(res.Cookies()[0])
			back, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer back.Body.Close()
			var got int
			if _, err := fmt.Fscan(back.Body, &got); err != nil || got != n {
				t.Errorf("%s: came back with %d bytes of %d, %v", name, got, n, err)
			}
			t.Logf("%s: %d bytes of text in a Set-Cookie line of %d bytes pass", name, n, len(res.Header.Get("Set-Cookie")))
		}
		server.Close()
	}
}
