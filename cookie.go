package sealed

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxTried bounds how many cookies of one name are tried for a session.
	maxTried = 4

	// maxSetCookie is the longest Set-Cookie line that may be sent, in bytes. RFC
	// 6265bis, section 5.6 has browsers take name and value up to 4096; the
	// strictest counts the attributes too.
	maxSetCookie = 4093

	defaultMaxSize = 3072 // see Cookie.MaxSize
	minMaxSize     = 512
	minChunk       = 128                            // characters of a token that a line must hold
	maxMaxAge      = int(maxLifetime / time.Second) // which is sent in the most digits

	// maxChunkCount bounds Cookie.MaxChunks: servers refuse longer headers.
	maxChunkCount = 16
)

// A cookieFormat writes and reads the cookies of one manager.
type cookieFormat struct {
	name       string
	attributes string // as they end each Set-Cookie line
	domain     string
	path       string
	sameSite   http.SameSite
	maxSize    int // of a Set-Cookie line
	maxChunks  int
}

// newCookieFormat checks c and returns how its cookies are written.
func newCookieFormat(c Cookie) (cookieFormat, error) {
	if c.Name == "" {
		c.Name = defaultName
		if c.Insecure {
			c.Name = defaultInsecureName
		}
	}
	errs := c.prefixErrors()
	if c.Path == "" {
		c.Path = "/"
	}
	if c.SameSite == 0 || c.SameSite == http.SameSiteDefaultMode {
		c.SameSite = http.SameSiteLaxMode
	}
	if c.MaxSize == 0 {
		c.MaxSize = defaultMaxSize
		if c.MaxChunks > 1 {
			c.MaxSize = maxSetCookie
		}
	}
	if c.MaxSize < minMaxSize || c.MaxSize > maxSetCookie {
		errs = append(errs, fmt.Errorf("Cookie.MaxSize %d is not between %d and %d bytes", c.MaxSize, minMaxSize, maxSetCookie))
	}
	if c.MaxChunks == 0 {
		c.MaxChunks = 1
	}
	if c.MaxChunks < 1 || c.MaxChunks > maxChunkCount {
		errs = append(errs, fmt.Errorf("Cookie.MaxChunks %d is not between 1 and %d", c.MaxChunks, maxChunkCount))
	}
	if c.SameSite < http.SameSiteLaxMode || c.SameSite > http.SameSiteNoneMode {
		errs = append(errs, fmt.Errorf("Cookie.SameSite %d is unknown", c.SameSite))
	}
	if c.SameSite == http.SameSiteNoneMode && c.Insecure {
		errs = append(errs, errors.New("Cookie.SameSite None needs Secure, which Insecure omits: browsers refuse it"))
	}
	if c.Partitioned && c.Insecure {
		errs = append(errs, errors.New("Cookie.Partitioned needs Secure, which Insecure omits: browsers refuse it"))
	}
	attributes, err := c.attributes()
	f := cookieFormat{name: c.Name, attributes: attributes, domain: c.Domain, path: c.Path, sameSite: c.SameSite, maxSize: c.MaxSize, maxChunks: c.MaxChunks}
	if errs = append(errs, err); errors.Join(errs...) == nil && f.chunkLen(maxMaxAge) < minChunk {
		errs = append(errs, fmt.Errorf("Cookie.MaxSize %d leaves no room for a token beside Name, Domain and Path", c.MaxSize))
	}
	return f, errors.Join(errs...)
}

// maxTokenLen returns the length of the longest token that fits.
func (f *cookieFormat) maxTokenLen(maxAge int) int {
	if f.maxChunks == 1 {
		return f.room("", "", maxAge)
	}
	return max(f.room("", "", maxAge), f.maxChunks*f.chunkLen(maxAge))
}

// chunkLen returns how much of a token, as text, each of several cookies holds: a
// multiple of four characters, which are three bytes.
func (f *cookieFormat) chunkLen(maxAge int) int {
	last := strconv.Itoa(f.maxChunks)
	return min(f.room("."+last, "", maxAge), f.room("", last+".", maxAge)) &^ 3
}

// room returns how many bytes of a token fit into one Set-Cookie line.
func (f *cookieFormat) room(suffix, prefix string, maxAge int) int {
	return f.maxSize - f.lineLen(suffix, prefix, maxAge)
}

func (f *cookieFormat) lineLen(suffix, value string, maxAge int) int {
	n := len(f.name) + len(suffix) + 1 + len(value) + len(f.attributes)
	if maxAge >= 0 {
		n += len(maxAgeAttribute) + len(strconv.Itoa(maxAge))
	}
	return n
}

const maxAgeAttribute = "; Max-Age="

// line writes one Set-Cookie line for a token, or a part of one. Every part of it is
// ASCII that needs no quoting: New has checked the name and attributes, and the value
// is base64url. A negative maxAge leaves the attribute out: the cookie ends with the
// browser.
func (f *cookieFormat) line(suffix, prefix string, token []byte, maxAge int) string {
	var b strings.Builder
	b.Grow(f.lineLen(suffix, prefix, maxAge) + base64url.EncodedLen(len(token)))
	b.WriteString(f.name)
	b.WriteString(suffix)
	b.WriteByte('=')
	b.WriteString(prefix)
	var text [512]byte // a piece at a time: only the line is to be allocated
	for len(token) > 0 {
		n := min(len(token), len(text)/4*3)
		b.Write(base64url.AppendEncode(text[:0], token[:n]))
		token = token[n:]
	}
	if maxAge >= 0 {
		b.WriteString(maxAgeAttribute)
		b.Write(strconv.AppendInt(text[:0], int64(maxAge), 10))
	}
	b.WriteString(f.attributes)
	return b.String()
}

// lines returns the Set-Cookie lines that set token, and delete what an
// earlier, longer one left behind.
func (f *cookieFormat) lines(token []byte, maxAge int, stale uint32) []string {
	if base64url.EncodedLen(len(token)) <= f.room("", "", maxAge) {
		return append([]string{f.line("", "", token, maxAge)}, f.deletions(stale)...)
	}
	var lines []string
	size := f.chunkLen(maxAge) / 4 * 3
	count := strconv.Itoa((len(token) + size - 1) / size)
	for part := range slices.Chunk(token, size) {
		if i := len(lines); i == 0 {
			lines = append(lines, f.line("", count+".", part, maxAge))
		} else {
			stale &^= 1 << i
			lines = append(lines, f.line("."+strconv.Itoa(i), "", part, maxAge))
		}
	}
	return append(lines, f.deletions(stale)...)
}

// deletion returns the line that deletes the session's cookie. A browser
// deletes what has the same name, domain and path (RFC 6265bis, section 5.7).
func (f *cookieFormat) deletion() string { return f.line("", "", nil, 0) }

func (f *cookieFormat) deletions(stale uint32) []string {
	var lines []string
	for i := 1; stale>>i != 0; i++ {
		if stale>>i&1 != 0 {
			lines = append(lines, f.line("."+strconv.Itoa(i), "", nil, 0))
		}
	}
	return lines
}

// scope is what a browser keeps a cookie under, beside its name.
func (f *cookieFormat) scope() string { return f.domain + f.path }

// owns reports whether a Set-Cookie line sets a cookie of ours.
func (f *cookieFormat) owns(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	rest, ok := strings.CutPrefix(trimSpace(name), f.name)
	if !ok || rest == "" {
		return ok
	}
	_, ok = chunkIndex(strings.TrimPrefix(rest, "."))
	return ok && rest[0] == '.'
}

// fits returns ErrTooLarge with the sizes unless a token with the record can be
// sent, also when its time of last use has grown to its longest encoding.
func (f *cookieFormat) fits(r record, persistent bool) error {
	r.lastUsed = r.expires
	maxAge := -1
	if persistent {
		maxAge = int(r.expires/1000) + 1 // it only becomes less
	}
	token := base64url.EncodedLen(overhead + r.size())
	limit := f.maxTokenLen(maxAge)
	if token <= limit {
		return nil
	}
	budget := f.maxChunks * f.maxSize
	return fmt.Errorf("%w: Set-Cookie would have %d bytes, more than %d", ErrTooLarge, token+budget-limit, budget)
}

func trimSpace(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// covers reports whether browsers send a cookie of the format's path with a request
// for a path (RFC 6265bis, section 5.1.4).
func (f *cookieFormat) covers(path string) bool {
	rest, ok := strings.CutPrefix(path, f.path)
	return ok && (rest == "" || strings.HasSuffix(f.path, "/") || rest[0] == '/')
}

// withheld reports whether the request comes from another site and browsers withhold the
// cookie from it for that: all do so for SameSite=Strict, and for Lax unless it is a
// navigation of the whole window with a safe method (RFC 6265bis, section 5.8.3). They say
// where it comes from, but not over plain HTTP (Fetch Metadata, section 2).
func (f *cookieFormat) withheld(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") != "cross-site" {
		return false
	}
	switch f.sameSite {
	case http.SameSiteStrictMode:
		return true
	case http.SameSiteLaxMode:
		return !safeMethod(r.Method) || r.Header.Get("Sec-Fetch-Dest") != "document"
	}
	return false
}

// safeMethod reports whether a method only reads (RFC 9110, section 9.2.1).
func safeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// A cookieHeader is what a request's Cookie headers hold under our name.
type cookieHeader struct {
	named    sameNamed
	chunks   []sameNamed // by number; allocated when the first is seen
	numbered uint32      // bit i: there is a NAME.i, 0 < i < 32
}

// A sameNamed has the first values of the cookies of one name.
type sameNamed struct {
	values [maxTried]string
	count  int // at most maxTried
	more   int // how many were left out
}

func (n *sameNamed) add(value string) {
	if n.count == maxTried {
		n.more++
		return
	}
	n.values[n.count] = value
	n.count++
}

// scan finds our cookies in the lines of a Cookie header in one pass, without
// parsing the others. Names are compared byte for byte (RFC 6265bis, section
// 5.7); the work is linear in the header, the memory is not the header's. The values
// of split cookies are put together: see join.
func (f *cookieFormat) scan(h *cookieHeader, lines []string) {
	f.find(h, lines)
	h.join(f)
}

// find is scan for values as they are: those of another library may have dots.
func (f *cookieFormat) find(h *cookieHeader, lines []string) {
	for _, line := range lines {
		for len(line) > 0 {
			pair := line
			if i := strings.IndexByte(line, ';'); i >= 0 {
				pair, line = line[:i], line[i+1:]
			} else {
				line = ""
			}
			for pair != "" && (pair[0] == ' ' || pair[0] == '\t') {
				pair = pair[1:]
			}
			if strings.HasPrefix(pair, f.name) {
				h.add(f, trimSpace(pair[len(f.name):]))
			}
		}
	}
}

// add takes rest, which follows our name in a Cookie header up to the semicolon.
func (h *cookieHeader) add(f *cookieFormat, rest string) {
	if strings.HasPrefix(rest, "=") {
		h.named.add(rest[1:])
		return
	}
	if !strings.HasPrefix(rest, ".") { // a longer name, as that of a device's proof
		return
	}
	suffix, value, ok := strings.Cut(rest[1:], "=")
	if !ok {
		return
	}
	i, ok := chunkIndex(suffix)
	if !ok {
		return
	}
	h.numbered |= 1 << i
	if i < f.maxChunks {
		if h.chunks == nil {
			h.chunks = make([]sameNamed, f.maxChunks)
		}
		h.chunks[i].add(value)
	}
}

// join puts split tokens together, each from the parts that have its place among
// their namesakes: the n-th split cookie from the n-th NAME.i of each number. If that
// mixes two tokens, they do not authenticate. A token whose parts are missing, or
// more than are allowed, becomes "".
//
// The order is that of the request: a browser sends the longest path first.
func (h *cookieHeader) join(f *cookieFormat) {
	split := 0
	for i, value := range h.named.values[:h.named.count] {
		if head, first, ok := strings.Cut(value, "."); ok { // no token contains a dot
			h.named.values[i] = h.joined(f, head, first, split)
			split++
		}
	}
}

func (h *cookieHeader) joined(f *cookieFormat, head, first string, nth int) string {
	n, ok := chunkIndex(head)
	if !ok || n < 2 || n > f.maxChunks || h.chunks == nil {
		return ""
	}
	parts := []string{first}
	for i := 1; i < n; i++ {
		if chunk := &h.chunks[i]; nth < chunk.count && len(chunk.values[nth]) <= maxSetCookie {
			parts = append(parts, chunk.values[nth])
		} else {
			return ""
		}
	}
	return strings.Join(parts, "")
}
