package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	connectrpc "connectrpc.com/connect"
	gingonic "github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/rs/cors"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/sealed"
	"example.com/sealed/examples/routers/connect"
	"example.com/sealed/examples/routers/gin"
	"example.com/sealed/examples/routers/shop"
)

func init() { gingonic.SetMode(gingonic.ReleaseMode) }

// middlewares are those that people put around a program, or into it.
var middlewares = map[string]func(http.Handler) http.Handler{
	"none":     func(h http.Handler) http.Handler { return h },
	"gzip":     middleware.Compress(5, "text/plain", "application/json", "text/event-stream"),
	"recover":  middleware.Recoverer,
	"cors":     cors.New(cors.Options{AllowedOrigins: []string{"https://other.example"}, AllowCredentials: true}).Handler,
	"otelhttp": otelhttp.NewMiddleware("shop"),
	"timeout":  func(h http.Handler) http.Handler { return http.TimeoutHandler(h, 10*time.Second, "slow") },
	"maxbytes": func(h http.Handler) http.Handler { return http.MaxBytesHandler(h, 1<<20) },
	"csrf":     http.NewCrossOriginProtection().Handler,
}

// A visitor visits a program by real connections, and keeps cookies.
type visitor struct {
	t      *testing.T
	url    string
	client *http.Client
}

func visit(t *testing.T, h http.Handler) *visitor {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := server.Client()
	client.Jar, client.Timeout = jar, 20*time.Second
	return &visitor{t, server.URL, client}
}

// do makes a request, and checks the status; it returns the header and the body.
func (v *visitor) do(method, path string, status int) (http.Header, string) {
	v.t.Helper()
	r, err := http.NewRequest(method, v.url+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("Origin", v.url)
	res, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if len(text) > 0 && res.Header.Get("Content-Encoding") == "gzip" {
		var unzipped *gzip.Reader
		if unzipped, err = gzip.NewReader(bytes.NewReader(text)); err == nil {
			text, err = io.ReadAll(unzipped)
		}
	}
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	if res.StatusCode != status {
		v.t.Errorf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, text)
	}
	return res.Header, string(text)
}

func (v *visitor) cookies() []*http.Cookie {
	u, err := url.Parse(v.url)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.client.Jar.Cookies(u)
}

// story is what a visitor does in every program.
func story(t *testing.T, h http.Handler, streams bool) {
	t.Helper()
	v := visit(t, h)
	v.do("GET", "/cart", http.StatusUnauthorized)
	if header, _ := v.do("POST", "/login?user=alice", http.StatusNoContent); header.Get("Cache-Control") != "no-store" {
		t.Errorf("login has %q", header)
	}
	v.do("POST", "/add/tea", http.StatusNoContent)
	v.do("POST", "/add/milk", http.StatusNoContent)
	header, cart := v.do("GET", "/cart", http.StatusOK)
	if cart != "alice: tea milk" {
		t.Errorf("the cart is %q", cart)
	}
	if vary := strings.Join(header["Vary"], ", "); !strings.Contains(vary, "Cookie") || header.Get("Cache-Control") != "private" {
		t.Errorf("the cart has %q", header)
	}
	v.do("POST", "/fail", http.StatusTeapot)
	if _, cart := v.do("GET", "/cart", http.StatusOK); !strings.HasSuffix(cart, "before the error") {
		t.Errorf("after an error page the cart is %q", cart)
	}
	if _, events := v.do("GET", "/events", http.StatusOK); streams && events != "data: alice 0\n\ndata: alice 1\n\n" {
		t.Errorf("events %q", events)
	}
	stolen := v.cookies()
	v.do("POST", "/logout", http.StatusNoContent)
	if left := v.cookies(); len(left) != 0 {
		t.Errorf("after logout the visitor has %v cookies", len(left))
	}
	v.do("GET", "/cart", http.StatusUnauthorized)
	u, _ := url.Parse(v.url)
	for _, c := range stolen {
		c.Secure, c.Path = true, "/"
	}
	v.client.Jar.SetCookies(u, stolen)
	v.do("GET", "/cart", http.StatusUnauthorized)
}

func sessions(t *testing.T) *shop.Sessions {
	t.Helper()
	m, err := shop.New()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Each router with each middleware, around the sessions and inside of them.
func TestRouters(t *testing.T) {
	for router, program := range programs {
		if router == "connect" {
			continue // see TestConnect
		}
		for name, m := range middlewares {
			streams := name != "timeout" // which holds the response back, and cannot flush
			t.Run(router+"/"+name+" around", func(t *testing.T) { t.Parallel(); story(t, m(program(sessions(t))), streams) })
			t.Run(router+"/"+name+" inside", func(t *testing.T) {
				t.Parallel()
				s := sessions(t)
				story(t, s.Handler(m(program(s))), streams)
			})
		}
	}
}

// The middleware that one writes first works as well: handlers write past the session's
// writer, and the headers follow.
func TestGinWithTheObviousMiddleware(t *testing.T) {
	m := sessions(t)
	story(t, gin.Program(m, func(c *gingonic.Context) {
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c.Request = r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
	}), true)
}

// What is changed after the response is an error, with both.
func TestGinAfterTheResponse(t *testing.T) {
	m := sessions(t)
	e := gingonic.New()
	e.Use(gin.Sessions(m))
	var err error
	e.GET("/", func(c *gingonic.Context) {
		c.String(http.StatusOK, "x")
		err = shop.Login(c.Request.Context(), m, "alice")
	})
	if visit(t, e).do("GET", "/", http.StatusOK); !errors.Is(err, sealed.ErrCommitted) {
		t.Errorf("Update after the response: %v, want ErrCommitted", err)
	}
}

// A panic is answered by the framework, and nothing of the request is set.
func TestGinPanic(t *testing.T) {
	m := sessions(t)
	e := gingonic.New()
	e.Use(gingonic.CustomRecoveryWithWriter(io.Discard, func(c *gingonic.Context, _ any) { c.AbortWithStatus(http.StatusInternalServerError) }), gin.Sessions(m))
	e.GET("/", func(c *gingonic.Context) {
		if err := shop.Login(c.Request.Context(), m, "alice"); err != nil {
			t.Errorf("Login: %v", err)
		}
		panic("oops")
	})
	v := visit(t, e)
	if header, _ := v.do("GET", "/", http.StatusInternalServerError); len(header["Set-Cookie"]) != 0 {
		t.Errorf("a handler that panicked sets %q", header["Set-Cookie"])
	}
}

// A response that took too long was given up: what is changed then is an error, and
// nothing is set.
func TestTimeout(t *testing.T) {
	m := sessions(t)
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"around": func(h http.Handler) http.Handler {
			return http.TimeoutHandler(m.Handler(h), 50*time.Millisecond, "slow")
		},
		"inside": func(h http.Handler) http.Handler {
			return m.Handler(http.TimeoutHandler(h, 50*time.Millisecond, "slow"))
		},
	} {
		done := make(chan error, 1)
		h := wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			done <- shop.Login(r.Context(), m, "alice")
		}))
		if header, _ := visit(t, h).do("GET", "/", http.StatusServiceUnavailable); len(header["Set-Cookie"]) != 0 {
			t.Errorf("%s: set %q", name, header["Set-Cookie"])
		}
		if err := <-done; err == nil {
			t.Errorf("%s: a change after the timeout is no error", name)
		}
	}
}

func TestConnect(t *testing.T) {
	for name, wrap := range middlewares {
		if name == "timeout" {
			continue // it cannot flush, which connect's streams need
		}
		for _, inside := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " around", true: " inside"}[inside], func(t *testing.T) {
				m := sessions(t)
				h := wrap(connect.New(m))
				if inside {
					h = m.Handler(h)
				}
				connectStory(t, visit(t, h))
			})
		}
	}
}

type (
	text  = wrapperspb.StringValue
	empty = emptypb.Empty
)

// call makes a unary call.
func call[Req, Res any](v *visitor, procedure string, msg *Req) (*Res, error) {
	res, err := connectrpc.NewClient[Req, Res](v.client, v.url+procedure).CallUnary(context.Background(), connectrpc.NewRequest(msg))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func connectStory(t *testing.T, v *visitor) {
	if _, err := call[empty, text](v, connect.Cart, &empty{}); connectrpc.CodeOf(err) != connectrpc.CodeUnauthenticated {
		t.Errorf("a cart without a session: %v", err)
	}
	for procedure, value := range map[string]string{connect.Login: "alice"} {
		if _, err := call[text, empty](v, procedure, wrapperspb.String(value)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := call[text, empty](v, connect.Add, wrapperspb.String("tea")); err != nil {
		t.Fatal(err)
	}
	if _, err := call[empty, empty](v, connect.Fail, &empty{}); connectrpc.CodeOf(err) != connectrpc.CodeAborted {
		t.Errorf("a procedure that fails: %v", err)
	}
	if cart, err := call[empty, text](v, connect.Cart, &empty{}); err != nil || cart.Value != "alice: tea before the error" {
		t.Errorf("the cart is %v, %v", cart, err)
	}
	stream, err := connectrpc.NewClient[empty, text](v.client, v.url+connect.Events).CallServerStream(t.Context(), connectrpc.NewRequest(&empty{}))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for stream.Receive() {
		if n++; stream.Msg().Value != "alice" {
			t.Errorf("event %q", stream.Msg().Value)
		}
	}
	if err := stream.Err(); err != nil || n != 2 {
		t.Errorf("%d events, %v", n, err)
	}
	if _, err := call[empty, empty](v, connect.Logout, &empty{}); err != nil {
		t.Errorf("logout: %v", err)
	}
	if _, err := call[empty, text](v, connect.Cart, &empty{}); connectrpc.CodeOf(err) != connectrpc.CodeUnauthenticated || len(v.cookies()) != 0 {
		t.Errorf("after logout: %v, %d cookies", err, len(v.cookies()))
	}
}
