package sealed_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// hijacked has a handler take the connection of a real server over and write to it, and
// returns what the client gets, to the end.
func hijacked(t *testing.T, m *sealed.Manager[Session], set bool, write func(conn net.Conn, rw *bufio.ReadWriter)) string {
	t.Helper()
	s, _ := server(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if set {
			if err := m.Update(r.Context(), func(s *Session) { s.User = "alice" }); err != nil {
				t.Error(err)
			}
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		write(conn, rw)
	})), false)
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	return string(got)
}

const head101 = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"

// wantOneCookie checks that got is a response with the session's cookie, once, and
// otherwise what was written.
func wantOneCookie(t *testing.T, what string, m *sealed.Manager[Session], got, written string) {
	t.Helper()
	head, _, _ := strings.Cut(got, "\r\n\r\n")
	var lines []string
	for line := range strings.SplitSeq(head, "\r\n") {
		if cookie, ok := strings.CutPrefix(line, "Set-Cookie: "); ok {
			lines = append(lines, cookie)
		}
	}
	if len(lines) != 1 {
		t.Errorf("%s: %d cookies in %q", what, len(lines), got)
		return
	}
	if rest := strings.Replace(got, "Set-Cookie: "+lines[0]+"\r\n", "", 1); rest != written {
		t.Errorf("%s: otherwise %q, want %q", what, rest, written)
	}
	pair, _, _ := strings.Cut(lines[0], ";")
	if s, _, err := getWith(m, pair); err != nil || s.User != "alice" {
		t.Errorf("%s: the cookie holds %+v, %v", what, s, err)
	}
}

func TestHijackedResponseGetsTheCookieHoweverItIsWritten(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	const written = head101 + "\r\nframe"
	for what, write := range map[string]func(conn net.Conn, rw *bufio.ReadWriter){
		"to the connection at once": func(conn net.Conn, _ *bufio.ReadWriter) { io.WriteString(conn, written) },
		"byte by byte": func(conn net.Conn, _ *bufio.ReadWriter) {
			for _, b := range []byte(written) {
				if n, err := conn.Write([]byte{b}); n != 1 || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
			}
		},
		"by the buffer": func(_ net.Conn, rw *bufio.ReadWriter) { rw.WriteString(written); rw.Flush() },
		"by the buffer, in pieces": func(_ net.Conn, rw *bufio.ReadWriter) {
			rw.WriteString(head101)
			rw.Flush()
			rw.WriteString("\r\nfra")
			rw.Flush()
			rw.WriteString("me")
			rw.Flush()
		},
		"by a new buffer": func(conn net.Conn, rw *bufio.ReadWriter) {
			rw.Writer.Reset(conn)
			rw.WriteString(written)
			rw.Flush()
		},
		"half of it when it is closed": func(conn net.Conn, _ *bufio.ReadWriter) {
			io.WriteString(conn, written)
			conn.(interface{ CloseWrite() error }).CloseWrite()
		},
	} {
		wantOneCookie(t, what, m, hijacked(t, m, true, write), written)
	}
}

func TestHijackedResponseThatHasTheCookieIsLeft(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	var line string
	s, client := server(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line = w.Header().Get("Set-Cookie")
		fmt.Fprint(rw, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
		w.Header().Write(rw)
		fmt.Fprint(rw, "\r\n")
		rw.Flush()
	})), false)
	res, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header["Set-Cookie"]; len(got) != 1 || got[0] != line {
		t.Errorf("Set-Cookie %q, want %q once", got, line)
	}
}

func TestHijackedResponseAfterAnEarlyOneGetsTheCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	const early, final = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for what, write := range map[string]func(conn net.Conn, rw *bufio.ReadWriter){
		"at once": func(conn net.Conn, _ *bufio.ReadWriter) { io.WriteString(conn, early+final) },
		"apart":   func(conn net.Conn, _ *bufio.ReadWriter) { io.WriteString(conn, early); io.WriteString(conn, final) },
	} {
		got := hijacked(t, m, true, write)
		rest, ok := strings.CutPrefix(got, early)
		if !ok {
			t.Errorf("%s: got %q", what, got)
		}
		wantOneCookie(t, what, m, rest, final)
	}
}

func TestHijackedConnectionWithoutAResponsePassesThrough(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for what, written := range map[string]string{
		"another protocol":   "SSH-2.0-x\r\n\r\n",
		"much of a header":   "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10),
		"more than a header": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
		"part of a header":   "HTTP/1.1 200 OK\r\nX: y",
		"less than a token":  "HT",
	} {
		got := hijacked(t, m, true, func(conn net.Conn, _ *bufio.ReadWriter) {
			for part := written; part != ""; {
				n := min(len(part), 10_000)
				io.WriteString(conn, part[:n])
				part = part[n:]
			}
		})
		if got != written {
			t.Errorf("%s: got %d bytes, want the %d that were written", what, len(got), len(written))
		}
	}
}

// The methods of a connection may be called at the same time, and Close ends a Write that hangs.
func TestHijackedConnectionIsClosedByAnotherGoroutine(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	const head = head101 + "\r\n"
	if got := hijacked(t, m, true, func(conn net.Conn, _ *bufio.ReadWriter) {
		io.WriteString(conn, head[:10]) // which is held back
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { conn.Close() })
		}
		wg.Wait()
	}); got != head[:10] {
		t.Errorf("%q, want what was held back", got)
	}
	hijacked(t, m, true, func(conn net.Conn, _ *bufio.ReadWriter) {
		var wg sync.WaitGroup
		wg.Go(func() { io.WriteString(conn, head+"frame") })
		wg.Go(func() { conn.Close() })
		wg.Wait()
	})
	full, other := net.Pipe() // which takes nothing
	defer other.Close()
	conn := hijackOf(t, m, full)
	wrote := make(chan error)
	go func() {
		_, err := io.WriteString(conn, head+"frame")
		wrote <- err
	}()
	if _, err := io.ReadFull(other, make([]byte, 1)); err != nil { // the rest of the Write hangs
		t.Fatal(err)
	}
	conn.Close()
	if err := <-wrote; err == nil {
		t.Error("a Write to nobody was no error after Close")
	}
}

// Close does not wait for a client that takes nothing for ever.
func TestHijackedConnectionOfAClientThatTakesNothingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{})
		full, other := net.Pipe()
		defer other.Close()
		conn := hijackOf(t, m, full)
		io.WriteString(conn, head101) // which is held back, as it has no end
		began := time.Now()
		conn.Close()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

// A hijackable is a response whose connection is the one given.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// hijackOf returns the connection that a handler takes over after a change, around conn.
func hijackOf(t *testing.T, m *sealed.Manager[Session], conn net.Conn) (taken net.Conn) {
	t.Helper()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.User = "alice" }); err != nil {
			t.Fatal(err)
		}
		var err error
		if taken, _, err = http.NewResponseController(w).Hijack(); err != nil {
			t.Fatal(err)
		}
	})).ServeHTTP(hijackable{httptest.NewRecorder(), conn}, httptest.NewRequest("GET", "/", nil))
	return taken
}

func TestHijackOfAnUnchangedSessionIsTheServersConnection(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	hijacked(t, m, false, func(conn net.Conn, _ *bufio.ReadWriter) {
		if _, ok := conn.(*tls.Conn); !ok {
			t.Errorf("the connection is a %T", conn)
		}
	})
	hijacked(t, m, true, func(conn net.Conn, _ *bufio.ReadWriter) {
		if inner, ok := conn.(interface{ NetConn() net.Conn }); !ok {
			t.Errorf("the connection is a %T", conn)
		} else if _, ok := inner.NetConn().(*tls.Conn); !ok {
			t.Errorf("inside is a %T", inner.NetConn())
		}
	})
}

// failingHijacker says it can be hijacked, and cannot.
type failingHijacker struct{ http.ResponseWriter }

func (failingHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("no")
}

func TestHijackThatFailsCommitsNothing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	s, client := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, _, err := w.(http.Hijacker).Hijack(); err == nil {
				t.Error("hijacked")
			}
			set(t, m, r)
		})).ServeHTTP(failingHijacker{w}, r)
	}), false)
	res, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	wantSession(t, m, res)
}
