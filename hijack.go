package sealed

import (
	"bufio"
	"bytes"
	"net"
	"sync"
	"time"
)

// A hijackedConn is a connection whose taker writes the response. It adds Set-Cookie
// lines to that, unless they are in it: libraries for WebSockets write a header of
// their own. What follows the response's header passes through untouched.
type hijackedConn struct {
	net.Conn

	mu    sync.Mutex // the methods of a net.Conn may be called at the same time
	lines []string   // nil once they are sent
	head  []byte     // of the response, as far as it was written and not sent

	closing sync.Once
}

// closeWriter is a hijackedConn whose connection can close one half.
type closeWriter struct{ *hijackedConn }

func (c closeWriter) CloseWrite() error {
	c.flush()
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// addCookies returns the connection, and its buffers, with a hijackedConn around it.
func addCookies(conn net.Conn, rw *bufio.ReadWriter, lines []string) (net.Conn, *bufio.ReadWriter) {
	c := &hijackedConn{Conn: conn, lines: lines}
	var taken net.Conn = c
	if _, ok := conn.(interface{ CloseWrite() error }); ok {
		taken = closeWriter{c}
	}
	return taken, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(taken, rw.Writer.Size()))
}

// NetConn returns the connection inside, as that of [crypto/tls.Conn] does.
func (c *hijackedConn) NetConn() net.Conn { return c.Conn }

// maxHead bounds the header that is held back, in bytes; of a longer one nothing is
// expected.
const maxHead = 64 << 10

func (c *hijackedConn) Write(b []byte) (int, error) {
	send, whole := c.hold(b)
	if whole {
		return c.Conn.Write(b)
	}
	if len(send) > 0 {
		if _, err := c.Conn.Write(send); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// hold holds b back, and returns what is to be sent now; or whole, if b passes through.
func (c *hijackedConn) hold(b []byte) (send []byte, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines == nil {
		return nil, true
	}
	c.head = append(c.head, b...)
	for {
		start := c.head[:min(len(c.head), len("HTTP/1."))]
		end := bytes.Index(c.head, []byte("\r\n\r\n"))
		switch {
		case string(start) != "HTTP/1."[:len(start)] || len(c.head) > maxHead && end < 0:
			// No response.
		case end < 0:
			return send, false // to be continued
		case informational(c.head):
			send, c.head = append(send, c.head[:end+4]...), c.head[end+4:]
			continue // more follows
		default:
			c.head = withLines(c.head, end+2, c.lines)
		}
		send = append(send, c.head...)
		c.lines, c.head = nil, nil
		return send, false
	}
}

// informational reports whether the response is one before the last (RFC 9110, section
// 15.2). After 101 no other follows.
func informational(head []byte) bool {
	_, status, _ := bytes.Cut(head, []byte(" "))
	return len(status) > 0 && status[0] == '1' && !bytes.HasPrefix(status, []byte("101"))
}

// withLines returns head with those Set-Cookie lines that it lacks, at the end of the
// header, which is at.
func withLines(head []byte, at int, lines []string) []byte {
	var missing []byte
	for _, line := range lines {
		if !bytes.Contains(head[:at], []byte(": "+line+"\r\n")) {
			missing = append(append(append(missing, "Set-Cookie: "...), line...), "\r\n"...)
		}
	}
	return bytes.Join([][]byte{head[:at], missing, head[at:]}, nil)
}

// flush writes what was held back. It does not hold the lock for that: Close must be able to end
// a Write that hangs.
func (c *hijackedConn) flush() error {
	c.mu.Lock()
	head := c.head
	c.head = nil
	c.mu.Unlock()
	if len(head) == 0 {
		return nil
	}
	_, err := c.Conn.Write(head)
	return err
}

// closeWait is for how long Close tries to send what was held back, as crypto/tls does for its last words.
const closeWait = 5 * time.Second

// Close sends what was held back first, also if it is called several times at once.
func (c *hijackedConn) Close() error {
	c.closing.Do(func() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(closeWait)) // the client may take nothing
		c.flush()
	})
	return c.Conn.Close()
}
