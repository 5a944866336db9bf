package e2e_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

// protocols are servers of each version of HTTP, with a client of it.
var protocols = map[string]func(t *testing.T, h http.Handler) (url string, transport http.RoundTripper){
	"HTTP/1.1": func(t *testing.T, h http.Handler) (string, http.RoundTripper) { return serveTLS(t, h, false) },
	"HTTP/2.0": func(t *testing.T, h http.Handler) (string, http.RoundTripper) { return serveTLS(t, h, true) },
	"HTTP/3.0": serveHTTP3,
}

func serveTLS(t *testing.T, h http.Handler, http2 bool) (string, http.RoundTripper) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, server.Client().Transport
}

func serveHTTP3(t *testing.T, h http.Handler) (string, http.RoundTripper) {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS() // makes one
	t.Cleanup(certificate.Close)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: certificate.TLS.Certificates})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(conn)
	}()
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() {
		transport.Close()
		server.Close()
		conn.Close()
		<-done
	})
	return "https://" + conn.LocalAddr().String(), transport
}

// Login, many changes and reads at once, a stream, and logout, over each version of HTTP.
func TestEachProtocol(t *testing.T) {
	for protocol, serve := range protocols {
		t.Run(protocol, func(t *testing.T) {
			m := sealedtest.Manager(t, sealed.Config[large]{Subject: func(s large) string { return s.Text }, Revocations: revoke.NewList()})
			more := make(chan struct{})
			mux := http.NewServeMux()
			mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *large) { s.Text = "alice" }); err != nil {
					t.Errorf("Update: %v", err)
				}
				io.Copy(w, strings.NewReader(r.Proto))
			})
			mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
				s, _ := m.Get(r.Context())
				fmt.Fprint(w, s.Text)
			})
			mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
				s, _ := m.Get(r.Context())
				fmt.Fprintln(w, s.Text)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Errorf("Flush: %v", err)
				}
				<-more // which the client sends when it has the first line
				fmt.Fprintln(w, m.Verify(r.Context()) == nil)
			})
			mux.HandleFunc("/logout", func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Destroy(r.Context()); err != nil {
					t.Errorf("Destroy: %v", err)
				}
			})
			url, transport := serve(t, m.Handler(mux))
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
			get := func(path string) string {
				res, err := client.Get(url + path)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != http.StatusOK || res.Proto != protocol {
					t.Errorf("%s: status %d over %s, %v", path, res.StatusCode, res.Proto, err)
				}
				return string(body)
			}
			if got := get("/login"); got != protocol {
				t.Errorf("the server speaks %s", got)
			}
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					if got := get("/me"); got != "alice" {
						t.Errorf("a read among many: %q", got)
					}
				})
			}
			wg.Wait()

			res, err := client.Get(url + "/stream")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			lines := bufio.NewScanner(res.Body)
			if !lines.Scan() || lines.Text() != "alice" {
				t.Errorf("the stream begins with %q, %v", lines.Text(), lines.Err())
			}
			get("/logout")
			close(more)
			if !lines.Scan() || lines.Text() != "false" {
				t.Errorf("after logout the stream says %q, %v, want that its session has ended", lines.Text(), lines.Err())
			}
			if got := get("/me"); got != "" {
				t.Errorf("after logout: %q", got)
			}
		})
	}
}

// Clients that are not Go's, over HTTP/2.
func TestHTTP2Clients(t *testing.T) {
	m := sealedtest.Manager(t, sealed.Config[large]{})
	url, _ := serveTLS(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := m.Get(r.Context()); err == nil {
			fmt.Fprint(w, s.Text, " over ", r.Proto)
			return
		}
		if err := m.Update(r.Context(), func(s *large) { s.Text = "alice" }); err != nil {
			t.Errorf("Update: %v", err)
		}
	})), true)
	out, err := exec.Command("sh", "-c", "cd "+t.TempDir()+" && curl -sk --http2 -c jar "+url+" && curl -sk --http2 -b jar "+url).CombinedOutput()
	if err != nil || string(out) != "alice over HTTP/2.0" {
		t.Errorf("curl: %q, %v", out, err)
	}
	if out, err = exec.Command("nghttp", "-v", url).CombinedOutput(); err != nil || !strings.Contains(string(out), "set-cookie: __Host-session=") {
		t.Errorf("nghttp gets no cookie: %v\n%s", err, out)
	}
}
