package sealed

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
)

// This file is FORMAT.md in code: tokens, the records inside them, and the
// lines of the Cookie and Set-Cookie headers. It knows no clock, no network
// and no key.

const (
	tokenVersion = 1
	headerSize   = 1 + keyIDSize
	nonceSize    = 24
	tagSize      = 16
	overhead     = headerSize + nonceSize + tagSize

	// maxTokenText bounds a token outside cookies, in characters, for Seal and
	// Open alike.
	maxTokenText = 64 << 10
)

// A record is what a token seals.
type record struct {
	id       ID
	created  int64  // Unix time in milliseconds
	lastUsed int64  // milliseconds after created
	expires  int64  // milliseconds after created
	data     []byte // one CBOR data item: the application's session
}

// maxMillis bounds each time in a record, so that no sum of two overflows.
// As a Unix time it is in the year 10889.
const maxMillis = 1<<48 - 1

const (
	cborUint   = 0 << 5
	cborBytes  = 2 << 5
	cborText   = 3 << 5
	cborArray  = 4 << 5
	cborMap    = 5 << 5
	cborSimple = 7 << 5

	paddingKey = 0 // of an extension, as an unsigned integer

	recordFields  = 5
	extendedArray = cborArray | recordFields + 1
	recordArray   = cborArray | recordFields
)

// size returns how many bytes append writes.
func (r *record) size() int {
	return 2 + len(r.id) + headSize(r.created) + headSize(r.lastUsed) + headSize(r.expires) + len(r.data)
}

// append appends the record in deterministic CBOR (RFC 8949, section 4.2.1).
func (r *record) append(dst []byte) []byte {
	dst = append(dst, recordArray, cborBytes|byte(len(r.id)))
	dst = append(dst, r.id[:]...)
	dst = appendHead(dst, cborUint, uint64(r.created))
	dst = appendHead(dst, cborUint, uint64(r.lastUsed))
	dst = appendHead(dst, cborUint, uint64(r.expires))
	return append(dst, r.data...)
}

// parseRecord reads what append wrote, and nothing else: every record has one
// encoding. The data is not copied. It may be several items, or none, if there
// are no extensions; its own decoder refuses that. splitItem tells the length
// of the first item in data, and is only asked if extensions follow it.
func parseRecord(b []byte, splitItem func([]byte) (int, error)) (r record, ok bool) {
	if len(b) < 2+len(r.id) || b[0] != recordArray && b[0] != extendedArray || b[1] != cborBytes|byte(len(r.id)) {
		return record{}, false
	}
	extended := b[0] == extendedArray
	b = b[2+copy(r.id[:], b[2:]):]
	created, b, ok1 := cutHead(b, cborUint)
	lastUsed, b, ok2 := cutHead(b, cborUint)
	expires, b, ok3 := cutHead(b, cborUint)
	if !ok1 || !ok2 || !ok3 || created > maxMillis || expires > maxMillis || lastUsed > expires {
		return record{}, false
	}
	r.created, r.lastUsed, r.expires = int64(created), int64(lastUsed), int64(expires)
	if extended {
		n, err := splitItem(b)
		if err != nil || !knownExtensions(b[n:]) {
			return record{}, false
		}
		b = b[:n]
	}
	r.data = b
	return r, true
}

// knownExtensions reports whether b is a map of extensions that this version
// understands, which are none and padding (key 0, a byte string, ignored). A
// token with any other is not ours to open: it may carry a restriction.
func knownExtensions(b []byte) bool {
	if len(b) == 1 {
		return b[0] == cborMap
	}
	if len(b) < 3 || b[0] != cborMap|1 || b[1] != paddingKey {
		return false
	}
	n, rest, ok := cutHead(b[2:], cborBytes)
	return ok && n == uint64(len(rest))
}

// appendHead appends the head of a CBOR item in its shortest form.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

// headSize returns how many bytes appendHead appends for n ≥ 0.
func headSize(n int64) int {
	switch {
	case n < 24:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	case n < 1<<32:
		return 5
	}
	return 9
}

// cutHead reads the head of a CBOR item of that major type. Longer forms of a
// number than the shortest, and indefinite lengths, are refused.
func cutHead(b []byte, major byte) (n uint64, rest []byte, ok bool) {
	if len(b) == 0 || b[0]&^0x1f != major {
		return 0, nil, false
	}
	info := b[0] & 0x1f
	if info < 24 {
		return uint64(info), b[1:], true
	}
	if info > 27 || len(b) < 1+1<<(info-24) {
		return 0, nil, false
	}
	size := 1 << (info - 24)
	for _, c := range b[1 : 1+size] {
		n = n<<8 | uint64(c)
	}
	return n, b[1+size:], headSize(int64(min(n, 1<<62))) == 1+size
}

// appendHeader appends the five bytes that start a token.
func appendHeader(dst []byte, id keyID) []byte {
	return append(append(dst, tokenVersion), id[:]...)
}

// tokenKeyID returns the ID of the key that sealed token, if token has the form
// of one.
func tokenKeyID(token []byte) (id keyID, ok bool) {
	if len(token) < overhead || token[0] != tokenVersion {
		return keyID{}, false
	}
	return keyID(token[1:headerSize]), true
}

// associatedSuffix returns the associated data after the token's header. The
// name's length stands before it, so that no two pairs of name and purpose
// give the same bytes. The name has at most 255 bytes.
func associatedSuffix(name, purpose string) string {
	return string([]byte{byte(len(name))}) + name + purpose
}

var base64url = base64.RawURLEncoding.Strict()

// decodeBase64 decodes unpadded base64url, and refuses all but the one text
// that encodes the same bytes.
func decodeBase64(text string) ([]byte, error) {
	return appendDecoded(nil, text)
}

// appendDecoded is decodeBase64 that appends to dst.
func appendDecoded(dst []byte, text string) ([]byte, error) {
	n := len(dst)
	dst, err := base64url.AppendDecode(dst, []byte(text))
	if err == nil && base64url.EncodedLen(len(dst)-n) != len(text) {
		err = base64.CorruptInputError(0) // the decoder skips line breaks
	}
	return dst, err
}

// A presented is what a request's Cookie headers hold under our name.
type presented struct {
	named    occurrences
	chunks   []occurrences // by number; allocated when the first is seen
	leftover uint32        // bit i: there is a NAME.i, 0 < i < 32
}

// occurrences are the first values of the cookies of one name.
type occurrences struct {
	values [maxTried]string
	count  int // at most maxTried
	more   int // how many were left out
}

func (o *occurrences) add(value string) {
	if o.count == maxTried {
		o.more++
		return
	}
	o.values[o.count] = value
	o.count++
}

// scan finds our cookies in the lines of a Cookie header in one pass, without
// parsing the others. Names are compared byte for byte (RFC 6265bis, section
// 5.7); the work is linear in the header, the memory is not the header's.
func (f *cookieFormat) scan(p *presented, lines []string) {
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
				p.add(f, trimSpace(pair[len(f.name):]))
			}
		}
	}
}

// add takes rest, which follows our name in a Cookie header up to the semicolon.
func (p *presented) add(f *cookieFormat, rest string) {
	if strings.HasPrefix(rest, "=") {
		p.named.add(rest[1:])
		return
	}
	suffix, value, ok := strings.Cut(rest, "=")
	if !ok {
		return
	}
	i, ok := chunkIndex(strings.TrimPrefix(suffix, "."))
	if !ok || suffix[0] != '.' {
		return
	}
	p.leftover |= 1 << i
	if i < f.maxChunks {
		if p.chunks == nil {
			p.chunks = make([]occurrences, f.maxChunks)
		}
		p.chunks[i].add(value)
	}
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

// chunkIndex reads the decimal number of a chunk, 1 to 31, without leading zeros.
func chunkIndex(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && n < 32 && strconv.Itoa(n) == s
}

// tokens returns the candidates for the session's token, in the order of the
// request: a browser sends the longest path first. A candidate that cannot be
// a token, as its chunks are missing or too many, is "".
//
// The n-th split cookie is put together from the n-th chunk of each number. If
// that mixes two tokens, they do not authenticate.
func (p *presented) tokens(f *cookieFormat) []string {
	tokens := p.named.values[:p.named.count]
	split := 0
	for i, value := range tokens {
		head, first, ok := strings.Cut(value, ".") // no token contains a dot
		if !ok {
			continue
		}
		tokens[i] = p.join(f, head, first, split)
		split++
	}
	return tokens
}

func (p *presented) join(f *cookieFormat, head, first string, nth int) string {
	n, ok := chunkIndex(head)
	if !ok || n < 2 || n > f.maxChunks || p.chunks == nil {
		return ""
	}
	parts := []string{first}
	for i := 1; i < n; i++ {
		if chunk := &p.chunks[i]; nth < chunk.count && len(chunk.values[nth]) <= maxSetCookie {
			parts = append(parts, chunk.values[nth])
		} else {
			return ""
		}
	}
	return strings.Join(parts, "")
}

// present reports whether the request has any cookie of ours.
func (p *presented) present() bool { return p.named.count > 0 || p.leftover != 0 }
