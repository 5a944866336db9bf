package sealed

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"unicode/utf8"
)

// This file is FORMAT.md in code: the bytes of tokens and of the records inside
// them. It knows no clock, no network and no key.

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
	binding  ID     // to a device's key; zero if there is none
}

// maxMillis bounds each time in a record, so that no sum of two overflows.
// As a Unix time it is in the year 10889.
const maxMillis = 1<<48 - 1

const (
	cborUint     = 0 << 5
	cborNegative = 1 << 5
	cborBytes    = 2 << 5
	cborText     = 3 << 5
	cborArray    = 4 << 5
	cborMap      = 5 << 5
	cborTag      = 6 << 5
	cborSimple   = 7 << 5

	paddingKey = 0 // of an extension, as an unsigned integer
	bindingKey = 1

	recordFields  = 5
	extendedArray = cborArray | recordFields + 1
	recordArray   = cborArray | recordFields
)

// size returns how many bytes append writes.
func (r *record) size() int {
	n := 2 + len(r.id) + headSize(r.created) + headSize(r.lastUsed) + headSize(r.expires) + len(r.data)
	if r.bound() {
		n += len(bindingHead) + len(r.binding)
	}
	return n
}

// bound reports whether the session is bound to a device's key.
func (r *record) bound() bool { return r.binding != ID{} }

// bindingHead is the map of extensions up to a binding's ID.
var bindingHead = [...]byte{cborMap | 1, bindingKey, cborBytes | byte(len(ID{}))}

// append appends the record in deterministic CBOR (RFC 8949, section 4.2.1).
func (r *record) append(dst []byte) []byte {
	array := byte(recordArray)
	if r.bound() {
		array = extendedArray
	}
	dst = append(dst, array, cborBytes|byte(len(r.id)))
	dst = append(dst, r.id[:]...)
	dst = appendHead(dst, cborUint, uint64(r.created))
	dst = appendHead(dst, cborUint, uint64(r.lastUsed))
	dst = appendHead(dst, cborUint, uint64(r.expires))
	dst = append(dst, r.data...)
	if r.bound() {
		dst = append(append(dst, bindingHead[:]...), r.binding[:]...)
	}
	return dst
}

// parseRecord reads what append wrote, and nothing else: every record has one
// encoding. The data is not copied. It may be several items, or none, if there
// are no extensions; its own decoder refuses that.
func parseRecord(b []byte) (r record, ok bool) {
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
		n, ok := itemLen(b)
		if !ok || !r.parseExtensions(b[n:]) {
			return record{}, false
		}
		b = b[:n]
	}
	r.data = b
	return r, true
}

// parseExtensions reads a map of extensions that this version understands: padding (key 0, a byte
// string, ignored) and the binding to a device's key (key 1), in that order. A token with any other is
// not ours to open: it may carry a restriction.
func (r *record) parseExtensions(b []byte) bool {
	pairs, b, ok := cutHead(b, cborMap)
	if !ok || pairs > 2 {
		return false
	}
	if pairs > 0 && len(b) > 0 && b[0] == paddingKey {
		n, rest, ok := cutHead(b[1:], cborBytes)
		if !ok || n > uint64(len(rest)) {
			return false
		}
		b, pairs = rest[n:], pairs-1
	}
	if pairs == 1 && len(b) == len(bindingHead)-1+len(r.binding) && b[0] == bindingKey && b[1] == bindingHead[2] {
		b, pairs = b[2+copy(r.binding[:], b[2:]):], 0
		if !r.bound() {
			return false
		}
	}
	return pairs == 0 && len(b) == 0
}

// itemLen returns the length of the first item in b, of any kind and form but an indefinite length. It
// does not descend: items that hold others are heads before them, of which it counts how many are to come.
func itemLen(b []byte) (int, bool) {
	rest := b
	for missing := 1; missing > 0; missing-- {
		if len(rest) == 0 {
			return 0, false
		}
		major, n, size := rest[0]&^0x1f, uint64(rest[0]&0x1f), 1
		if n > 27 {
			return 0, false
		} else if n >= 24 {
			size += 1 << (n - 24)
		}
		if len(rest) < size {
			return 0, false
		}
		if size > 1 {
			n = 0
		}
		for _, c := range rest[1:size] {
			n = n<<8 | uint64(c)
		}
		rest = rest[size:]
		switch major {
		case cborBytes, cborText, cborArray, cborMap:
			if n > uint64(len(rest)) { // each element has a byte
				return 0, false
			}
		}
		switch major {
		case cborBytes, cborText:
			rest = rest[n:]
		case cborArray:
			missing += int(n)
		case cborMap:
			missing += 2 * int(n)
		case cborTag:
			missing++
		}
	}
	return len(b) - len(rest), true
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

// encodeToken lays out a token of the record in one buffer: the header, room for the
// nonce and the plaintext, with capacity for the tag. Its associated data lies before
// it in the same buffer.
func encodeToken(r *record, id keyID, suffix string) (token, associated []byte) {
	n := headerSize + len(suffix)
	b := make([]byte, 0, n+overhead+r.size())
	b = append(append(b, tokenVersion), id[:]...)
	b = append(append(b, suffix...), b[:headerSize]...)
	return r.append(b[:len(b)+nonceSize])[n:], b[:n:n]
}

// decodeToken decodes a token from text, and returns the ID of the key that sealed
// it. It lays both out as encodeToken does, in buf if that is large enough.
func decodeToken(buf []byte, text, suffix string) (token, associated []byte, id keyID, err error) {
	if len(text) > maxTokenText {
		return nil, nil, id, rejectMalformed
	}
	n := headerSize + len(suffix)
	b, err := appendDecoded(slices.Grow(buf, n+base64url.DecodedLen(len(text)))[:n], text)
	switch {
	case err != nil || len(b) == n:
		return nil, nil, id, rejectMalformed
	case b[n] != tokenVersion:
		return nil, nil, id, rejectVersion
	case len(b)-n < overhead:
		return nil, nil, id, rejectMalformed
	}
	copy(b[copy(b, b[n:n+headerSize]):n], suffix)
	return b[n:], b[:n:n], keyID(b[1:headerSize]), nil
}

// associatedSuffix returns the associated data after the token's header. The
// name's length stands before it, so that no two pairs of name and purpose
// give the same bytes. The name has at most 255 bytes.
func associatedSuffix(name, purpose string) string {
	return string([]byte{byte(len(name))}) + name + purpose
}

// cookieName reports whether a name in the associated data is that of a cookie: tokens
// outside cookies have none, and those of a device a control character.
func cookieName(name string) bool { return name != "" && name[0] > ' ' }

// validText reports whether all text in b is UTF-8, where b is what our encoder has
// made of simple types. Items that hold others are only heads before them, so that
// there is nothing to descend into.
func validText(b []byte) bool {
	for len(b) > 0 {
		major := b[0] &^ 0x1f
		if major == cborSimple { // its argument may be a float: no number to check
			n := 1
			if info := b[0] & 0x1f; info >= 24 && info <= 27 {
				n += 1 << (info - 24)
			}
			b = b[min(n, len(b)):]
			continue
		}
		n, rest, ok := cutHead(b, major)
		switch {
		case !ok:
			return false
		case major == cborText, major == cborBytes:
			if n > uint64(len(rest)) || major == cborText && !utf8.Valid(rest[:n]) {
				return false
			}
			rest = rest[n:]
		}
		b = rest
	}
	return true
}

// chunkIndex reads the decimal number of a chunk, 1 to 31, without leading zeros.
func chunkIndex(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && n < 32 && strconv.Itoa(n) == s
}

var base64url = base64.RawURLEncoding.Strict()

// appendDecoded decodes unpadded base64url to dst, and refuses all but the one text that
// encodes the same bytes.
func appendDecoded(dst []byte, text string) ([]byte, error) {
	n := len(dst)
	dst, err := base64url.AppendDecode(dst, []byte(text))
	if err == nil && base64url.EncodedLen(len(dst)-n) != len(text) {
		err = base64.CorruptInputError(0) // the decoder skips line breaks
	}
	return dst, err
}
