package sealed

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxTried bounds how many cookies of one name are tried for a session.
	maxTried = 4

	// maxSetCookie is the longest Set-Cookie line we send, in bytes. RFC
	// 6265bis, section 5.6 has browsers take name and value up to 4096; the
	// strictest counts the attributes too.
	maxSetCookie = 4093

	// maxChunkCount bounds Cookie.MaxChunks: servers refuse longer headers.
	maxChunkCount = 16
)

// A cookieFormat writes and reads the cookies of one manager.
type cookieFormat struct {
	name       string
	attributes string // as they end each Set-Cookie line
	maxChunks  int
}

// format checks c and returns how its cookies are written.
func (c Cookie) format() (cookieFormat, error) {
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
	// Name, Domain and Path are bounded so that they leave room for a token.
	attributes, err := c.attributes()
	return cookieFormat{name: c.Name, attributes: attributes, maxChunks: c.MaxChunks}, errors.Join(append(errs, err)...)
}

// prefixErrors checks the promises of the name's prefix, which browsers match
// without regard to case (RFC 6265bis, section 5.7).
func (c Cookie) prefixErrors() (errs []error) {
	has := func(prefix string) bool {
		return len(c.Name) >= len(prefix) && strings.EqualFold(c.Name[:len(prefix)], prefix)
	}
	if has("__Host-") && c.Domain != "" {
		errs = append(errs, fmt.Errorf("Cookie.Domain %q contradicts the __Host- prefix of the name: browsers refuse it; choose a name with __Secure-", c.Domain))
	}
	if has("__Host-") && c.Path != "" && c.Path != "/" {
		errs = append(errs, fmt.Errorf("Cookie.Path %q contradicts the __Host- prefix of the name: browsers refuse it; choose a name with __Secure-", c.Path))
	}
	if c.Insecure && (has("__Host-") || has("__Secure-") || has("__Http-")) {
		errs = append(errs, fmt.Errorf("Cookie.Insecure contradicts the prefix of the name %q: browsers refuse it", c.Name))
	}
	return errs
}

// attributes returns what follows name and value in a Set-Cookie line. What
// net/http would leave out or change in silence is an error.
func (c Cookie) attributes() (string, error) {
	const value = "x"
	cookie := http.Cookie{
		Name: c.Name, Value: value, Path: c.Path, Domain: c.Domain, SameSite: c.SameSite,
		HttpOnly: true, Secure: !c.Insecure, Partitioned: c.Partitioned && !c.Insecure,
	}
	var errs []error
	if err := cookie.Valid(); err != nil {
		errs = append(errs, fmt.Errorf("Cookie: %s (Name %q, Path %q, Domain %q)", strings.TrimPrefix(err.Error(), "http: "), c.Name, c.Path, c.Domain))
	}
	if i := strings.LastIndexByte(c.Name, '.'); i >= 0 {
		if _, chunk := chunkIndex(c.Name[i+1:]); chunk {
			errs = append(errs, fmt.Errorf("Cookie.Name %q ends like the further parts of a split cookie", c.Name))
		}
	}
	if len(c.Name) > 255 {
		errs = append(errs, fmt.Errorf("Cookie.Name has %d bytes, more than 255", len(c.Name)))
	}
	if !strings.HasPrefix(c.Path, "/") || len(c.Path) > maxAttribute {
		errs = append(errs, fmt.Errorf("Cookie.Path %.40q must start with / and have at most %d bytes", c.Path, maxAttribute))
	}
	if len(errs) > 0 {
		return "", errors.Join(errs...) // String would log what it leaves out
	}
	return strings.TrimPrefix(cookie.String(), c.Name+"="+value), nil
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
	return maxSetCookie - f.lineLen(suffix, prefix, maxAge)
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
func (f *cookieFormat) lines(token []byte, maxAge int, leftover uint32) []string {
	if base64url.EncodedLen(len(token)) <= f.room("", "", maxAge) {
		return append([]string{f.line("", "", token, maxAge)}, f.deletions(leftover)...)
	}
	var lines []string
	size := f.chunkLen(maxAge) / 4 * 3
	count := strconv.Itoa((len(token) + size - 1) / size)
	for part := range slices.Chunk(token, size) {
		if i := len(lines); i == 0 {
			lines = append(lines, f.line("", count+".", part, maxAge))
		} else {
			leftover &^= 1 << i
			lines = append(lines, f.line("."+strconv.Itoa(i), "", part, maxAge))
		}
	}
	return append(lines, f.deletions(leftover)...)
}

// deletion returns the line that deletes the session's cookie. A browser
// deletes what has the same name, domain and path (RFC 6265bis, section 5.7).
func (f *cookieFormat) deletion() string { return f.line("", "", nil, 0) }

func (f *cookieFormat) deletions(leftover uint32) []string {
	var lines []string
	for i := 1; leftover>>i != 0; i++ {
		if leftover>>i&1 != 0 {
			lines = append(lines, f.line("."+strconv.Itoa(i), "", nil, 0))
		}
	}
	return lines
}

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

// fits returns ErrTooLarge with the sizes unless the session's cookie can be
// sent, also when its time of last use has grown to its longest encoding.
func (m *Manager[T]) fits(s *session[T], now int64) error {
	longest := s.record
	longest.lastUsed = longest.expires
	token := base64url.EncodedLen(overhead + longest.size())
	limit := m.format.maxTokenLen(s.maxAge(now))
	if token <= limit {
		return nil
	}
	budget := m.format.maxChunks * maxSetCookie
	return fmt.Errorf("%w: Set-Cookie would have %d bytes, more than %d", ErrTooLarge, token+budget-limit, budget)
}

// maxAge returns the cookie's Max-Age in seconds, or -1 for a cookie that ends
// with the browser.
func (s *session[T]) maxAge(now int64) int {
	if !s.terms.Persistent {
		return -1
	}
	left := s.record.created + s.lifetime() - now
	return max(1, int((left+999)/1000))
}
