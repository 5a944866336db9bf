package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/labstack/echo/v4"

	"example.com/sealed"
	"example.com/sealed/examples/moving/fromscs"
	"example.com/sealed/revoke"
)

// The application before the move: echo with scs.
func echoWithSCS(old *scs.SessionManager) http.Handler {
	e := echo.New()
	e.Use(echo.WrapMiddleware(old.LoadAndSave))
	e.POST("/login", func(c echo.Context) error {
		if err := old.RenewToken(c.Request().Context()); err != nil {
			return err
		}
		old.Put(c.Request().Context(), "user", c.QueryParam("user"))
		return c.NoContent(http.StatusNoContent)
	})
	e.POST("/add", func(c echo.Context) error {
		old.Put(c.Request().Context(), "cart", old.GetString(c.Request().Context(), "cart")+c.QueryParam("item"))
		return c.NoContent(http.StatusNoContent)
	})
	e.GET("/", func(c echo.Context) error {
		ctx := c.Request().Context()
		return c.String(http.StatusOK, old.GetString(ctx, "user")+" "+old.GetString(ctx, "cart"))
	})
	return e
}

type echoSession struct {
	User string `cbor:"1,keyasint,omitempty"`
	Cart string `cbor:"2,keyasint,omitempty"`
}

// The application after it: echo with sealed.
func echoWithSealed(t *testing.T, old *scs.SessionManager) http.Handler {
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	m, err := sealed.New(keys, sealed.Config[echoSession]{
		Subject:     func(s echoSession) string { return s.User },
		Revocations: revoke.NewList(),
		Import: fromscs.Import(old, func(ctx context.Context) echoSession {
			return echoSession{old.GetString(ctx, "user"), old.GetString(ctx, "cart")}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	e.Use(echo.WrapMiddleware(m.Handler))
	e.POST("/login", func(c echo.Context) error {
		if err := m.Update(c.Request().Context(), func(s *echoSession) { s.User = c.QueryParam("user") }); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	e.POST("/add", func(c echo.Context) error {
		if err := m.Update(c.Request().Context(), func(s *echoSession) { s.Cart += c.QueryParam("item") }); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	e.POST("/logout", func(c echo.Context) error {
		if err := m.Destroy(c.Request().Context()); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	})
	e.GET("/", func(c echo.Context) error {
		s, err := m.Get(c.Request().Context())
		if err != nil {
			return c.String(http.StatusOK, " ")
		}
		return c.String(http.StatusOK, s.User+" "+s.Cart)
	})
	return e
}

// nginx starts nginx with TLS, as it comes, before a server, and returns its URL and the
// certificate.
func nginx(t *testing.T, upstream string) (string, *x509.CertPool) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("no nginx: install it")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	folder, err := os.MkdirTemp("", "sealed-nginx-") // TempDir is not for nginx's workers, which have another user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	made := httptest.NewTLSServer(nil) // for its certificate
	made.Close()
	certificate := made.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
daemon off;
pid %[1]s/pid;
error_log stderr crit;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl;
		ssl_certificate %[1]s/certificate; ssl_certificate_key %[1]s/key;
		location / { proxy_pass http://%[3]s; }
	}
}`, folder, addr, upstream)
	for name, content := range map[string][]byte{
		"certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		"key":         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"config":      []byte(config),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(folder, 0o711); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", filepath.Join(folder, "config"), "-p", folder)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	pool := x509.NewCertPool()
	pool.AddCert(made.Certificate())
	for range 400 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return "https://" + addr, pool
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("nginx does not listen")
	return "", nil
}

// serve serves on an address, until it is told to stop.
func serve(t *testing.T, addr string, h http.Handler) (string, func()) {
	t.Helper()
	var listener net.Listener
	var err error
	for range 100 { // the connections of the program before may still hold it
		if listener, err = net.Listen("tcp", addr); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(listener)
	return listener.Addr().String(), func() { server.Close() }
}

// An application with scs on echo behind nginx becomes one with sealed: whoever is logged
// in stays so, with what is in the cart, also with two requests at once.
func TestEchoBehindNginx(t *testing.T) {
	old := scs.New()
	addr, stop := serve(t, "127.0.0.1:0", echoWithSCS(old))
	address, pool := nginx(t, addr)
	var visitors []*http.Client
	for range 20 {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		visitors = append(visitors, &http.Client{Jar: jar, Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}})
	}
	do := func(c *http.Client, method, path string) string {
		r, err := http.NewRequest(method, address+path, nil)
		if err != nil {
			t.Error(err)
			return ""
		}
		res, err := c.Do(r)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 {
			t.Errorf("%s %s: %s, %v", method, path, res.Status, err)
		}
		return string(body)
	}
	name := func(i int) string { return fmt.Sprint("visitor", i) }
	for i, c := range visitors {
		do(c, "POST", "/login?user="+name(i))
		do(c, "POST", "/add?item=mug,")
	}

	stop() // the deployment
	_, stop = serve(t, addr, echoWithSealed(t, old))
	defer stop()

	var wg sync.WaitGroup
	for i, c := range visitors {
		for range 2 { // first requests at once
			wg.Go(func() {
				if got := do(c, "GET", "/"); got != name(i)+" mug," {
					t.Errorf("%s: the new program says %q", name(i), got)
				}
			})
		}
	}
	wg.Wait()
	for i, c := range visitors {
		do(c, "POST", "/add?item=tea,")
		if got := do(c, "GET", "/"); got != name(i)+" mug,tea," {
			t.Errorf("%s, after a change: %q", name(i), got)
		}
		if do(c, "POST", "/logout"); strings.TrimSpace(do(c, "GET", "/")) != "" {
			t.Errorf("%s is still there after logout", name(i))
		}
	}
}
