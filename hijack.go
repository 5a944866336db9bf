package sealed

import (
	"bufio"
	"bytes"
	"net"
)

// A hijackedConn is a connection whose taker writes the response. It adds Set-Cookie
// lines to that, unless they are in it: libraries for WebSockets write a header of
// their own. What follows the response's header passes through untouched.
type hijackedConn struct {
	net.Conn
	lines []string // nil once they are sent
	head  []byte   // of the response, as far as it was written
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
	if c.lines == nil {
		return c.Conn.Write(b)
	}
	c.head = append(c.head, b...)
	start := c.head[:min(len(c.head), len("HTTP/1."))]
	end := bytes.Index(c.head, []byte("\r\n\r\n"))
	switch {
	case string(start) != "HTTP/1."[:len(start)] || len(c.head) > maxHead && end < 0:
		c.lines = nil // no response
	case end < 0:
		return len(b), nil // to be continued
	case informational(c.head):
		// More follows: see the next one.
		if rest := c.head[end+4:]; len(rest) > 0 {
			if _, err := c.Conn.Write(c.head[:end+4]); err != nil {
				return 0, err
			}
			c.head = nil
			if _, err := c.Write(rest); err != nil {
				return 0, err
			}
			return len(b), nil
		}
	default:
		c.head = withLines(c.head, end+2, c.lines)
		c.lines = nil
	}
	return len(b), c.flush()
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

// flush writes what was held back.
func (c *hijackedConn) flush() error {
	head := c.head
	c.head = nil
	if len(head) == 0 {
		return nil
	}
	_, err := c.Conn.Write(head)
	return err
}

// Close sends what was held back first.
func (c *hijackedConn) Close() error {
	c.flush()
	return c.Conn.Close()
}
