package e2e_test

import (
	"context"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// What the cookie costs on the wire: the bytes of the HEADERS and CONTINUATION frames of a
// request over HTTP/2 (RFC 9113, section 6.2), as they arrive at the server inside TLS.

// An h2Site serves sessions of any size over HTTP/2, and notes the frames.
type h2Site struct {
	t       *testing.T
	address string
	spki    string

	mu    sync.Mutex
	sizes map[string]int // of the header block, by path and query, of the last request
}

func newH2Site(t *testing.T, h http.Handler) *h2Site {
	t.Helper()
	certificate, spki := selfSigned(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &h2Site{t: t, spki: spki, sizes: map[string]int{}}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s.address = "https://" + boundHost + ":" + port
	// The server sees the plaintext only, so that its frames can be read on their way.
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, frameKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.sizes[r.URL.RequestURI()] = int(r.Context().Value(frameKey{}).(*frameCounter).block.Load())
			s.mu.Unlock()
			h.ServeHTTP(w, r)
		}),
		Protocols: new(http.Protocols),
		ErrorLog:  log.New(io.Discard, "", 0), // browsers open connections that they do not use
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(frameListener{listener})
	t.Cleanup(func() { server.Close() })
	return s
}

type frameKey struct{}

// A frameListener ends TLS, and counts frames.
type frameListener struct{ net.Listener }

func (l frameListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &frameCounter{Conn: conn}, nil
}

func (s *h2Site) size(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sizes[path]
}

// A frameCounter reads the frames that pass a connection. The server has one request at a
// time.
type frameCounter struct {
	net.Conn
	pending []byte
	skip    int // bytes of a payload that are still to come
	preface int // bytes of the client's preface that have passed
	block   atomic.Int64
}

func (c *frameCounter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if left := len(http2.ClientPreface) - c.preface; left > 0 {
			k := min(left, len(rest))
			c.preface, rest = c.preface+k, rest[k:]
			continue
		}
		if c.skip > 0 {
			k := min(c.skip, len(rest))
			c.skip, rest = c.skip-k, rest[k:]
			continue
		}
		k := min(9-len(c.pending), len(rest))
		c.pending, rest = append(c.pending, rest[:k]...), rest[k:]
		if len(c.pending) < 9 {
			continue
		}
		length := int(binary.BigEndian.Uint32(append([]byte{0}, c.pending[:3]...)))
		switch http2.FrameType(c.pending[3]) {
		case http2.FrameHeaders:
			c.block.Store(int64(length))
		case http2.FrameContinuation:
			c.block.Add(int64(length))
		}
		c.pending, c.skip = c.pending[:0], length
	}
	return n, err
}

// wireApp sets a session whose cookie has about so many bytes, changes it, or only serves.
// Bytes below 100 are those of an ID.
func wireApp(t *testing.T) http.Handler {
	m := sealedtest.Manager(t, sealed.Config[large]{Cookie: sealed.Cookie{MaxSize: 4093, MaxChunks: 4}})
	return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		switch r.URL.Path {
		case "/set", "/change":
			if size < 100 {
				http.SetCookie(w, &http.Cookie{Name: "session_id", Value: randomText(r.URL.Query().Get("n"), size-len("session_id=")), Path: "/", Secure: true})
				return
			}
			const others = len("__Host-session=") + 88 // what is not the text, in base64
			if err := m.Update(r.Context(), func(s *large) { s.Text = strings.Repeat(r.URL.Query().Get("n"), (size-others)*3/4) }); err != nil {
				t.Errorf("Update: %v", err)
			}
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<p>served</p>")
	}))
}

// randomText is what an ID looks like.
func randomText(seed string, n int) string {
	sum := sha512.Sum512([]byte(seed))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:n]
}

// visits of one client: nothing, then twice with the cookie, then once after a change. What
// is asked for is the same each time but for the number.
var wireVisits = []string{"/get?v=1", "/get?v=2", "/get?v=3", "/set?size=%d&n=a", "/get?v=4", "/get?v=5", "/get?v=6", "/change?size=%d&n=b", "/get?v=7"}

// A wireClient makes all visits over one connection.
type wireClient struct {
	name  string
	visit func(t *testing.T, s *h2Site, paths []string)
}

var wireClients = []wireClient{
	{"Go", func(t *testing.T, s *h2Site, paths []string) {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		address := strings.Replace(s.address, boundHost, "127.0.0.1", 1)
		client := &http.Client{Jar: jar, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		for _, path := range paths {
			res, err := client.Get(address + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
	}},
	{"curl", func(t *testing.T, s *h2Site, paths []string) {
		address := strings.Replace(s.address, boundHost, "localhost", 1)
		args := []string{"-sk", "--http2", "-c", filepath.Join(t.TempDir(), "jar")}
		for _, path := range paths {
			args = append(args, "-o", os.DevNull, address+path)
		}
		if out, err := exec.Command("curl", args...).CombinedOutput(); err != nil {
			t.Fatalf("curl: %v\n%s", err, out)
		}
	}},
	{"Chromium", func(t *testing.T, s *h2Site, paths []string) {
		browse(t, bindingChromium(t, "", s.spki), s.address, paths)
	}},
	{"Firefox", func(t *testing.T, s *h2Site, paths []string) {
		browse(t, startFirefox(t, options{}), strings.Replace(s.address, boundHost, "localhost", 1), paths)
	}},
}

func browse(t *testing.T, b *browser, address string, paths []string) {
	p := b.tab()
	defer p.close()
	p.visit(address + "/page")
	for _, path := range paths {
		p.eval(fmt.Sprintf(`fetch(%q).then(r => r.text()).then(() => null)`, path), nil)
	}
}

var wireSizes = []int{61, 176, 500, 1000, 2000, 3000, 3900, 8000}

// Over HTTP/2 a cookie that does not change costs a byte or two a request, up to where it no
// longer fits the table of the connection (RFC 7541, section 4).
func TestWireOfHTTP2InBrowsers(t *testing.T) {
	rows := "| bytes of cookie |"
	for _, c := range wireClients {
		rows += " " + c.name + " |"
	}
	rows += " quic-go, HTTP/3 |\n|---:|" + strings.Repeat("---:|", len(wireClients)+1) + "\n"
	app := wireApp(t)
	overQUIC := overHTTP3(t, app)
	for _, size := range wireSizes {
		rows += fmt.Sprintf("| %d |", size)
		for _, c := range wireClients {
			s := newH2Site(t, app)
			var paths []string
			for _, path := range wireVisits {
				if strings.Contains(path, "%d") {
					path = fmt.Sprintf(path, size)
				}
				paths = append(paths, path)
			}
			c.visit(t, s, paths)
			none, unchanged, changed := s.size("/get?v=3"), s.size("/get?v=6"), s.size("/get?v=7")
			if none == 0 || unchanged == 0 || changed == 0 {
				t.Fatalf("%s: %v", c.name, s.sizes)
			}
			rows += fmt.Sprintf(" +%d / +%d |", unchanged-none, changed-none)
			if size <= 1000 && unchanged-none > 2 {
				t.Errorf("%s: a cookie of %d bytes costs %d bytes unchanged", c.name, size, unchanged-none)
			}
		}
		rows += fmt.Sprintf(" +%d |\n", overQUIC(size))
	}
	checkNear(t, "../docs/wire.md", "wire", rows)
}

// overHTTP3 returns what a cookie of a size adds to the bytes of a request over HTTP/3.
func overHTTP3(t *testing.T, h http.Handler) func(size int) int {
	url, _ := serveHTTP3(t, h)
	return func(size int) int {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		counted := &packetCounter{PacketConn: conn}
		over := &quic.Transport{Conn: counted}
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http3.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			Dial: func(ctx context.Context, addr string, config *tls.Config, qc *quic.Config) (*quic.Conn, error) {
				to, err := net.ResolveUDPAddr("udp", addr)
				if err != nil {
					return nil, err
				}
				return over.DialEarly(ctx, to, config, qc)
			},
		}
		client := &http.Client{Jar: jar, Transport: transport}
		defer func() { transport.Close(); over.Close(); conn.Close() }()
		get := func(path string) {
			res, err := client.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
		// The median of many: a packet that only acknowledges may fall between two requests.
		median := func() int {
			var all []int
			for i := range 31 {
				before := counted.sent.Load()
				get(fmt.Sprintf("/get?v=%d", i%10))
				all = append(all, int(counted.sent.Load()-before))
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		none := median()
		get(fmt.Sprintf("/set?size=%d&n=a", size))
		return median() - none
	}
}

type packetCounter struct {
	net.PacketConn
	sent atomic.Int64
}

func (c *packetCounter) WriteTo(b []byte, to net.Addr) (int, error) {
	c.sent.Add(int64(len(b)))
	return c.PacketConn.WriteTo(b, to)
}

// checkNear is checkPage for figures that differ a little each time: by a tenth, and by as
// much as one other header that has its place in the table or not.
func checkNear(t *testing.T, path, name, table string) {
	t.Helper()
	if *update {
		checkPage(t, path, name, table)
		return
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "<!-- "+name+": written by the test -->\n")
	had, _, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no section %q", path, name)
	}
	number := regexp.MustCompile(`\d+`)
	if number.ReplaceAllString(had, "0") != number.ReplaceAllString(table, "0") {
		t.Fatalf("%s has\n%s\nwant\n%s", path, had, table)
	}
	want := number.FindAllString(table, -1)
	for i, text := range number.FindAllString(had, -1) {
		a, _ := strconv.Atoi(text)
		b, _ := strconv.Atoi(want[i])
		if diff := max(a-b, b-a); diff > 80+max(a, b)/10 {
			t.Errorf("%s has %d, and it is %d now:\n%s\n%s", path, a, b, had, table)
			return
		}
	}
}
