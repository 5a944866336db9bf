package sealed

import (
	"context"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// itemLen returns the length of the first CBOR item in b.
func (m *Manager[T]) itemLen(b []byte) (int, error) {
	var item cbor.RawMessage
	rest, err := m.decoding.UnmarshalFirst(b, &item)
	return len(b) - len(rest), err
}

// sealRecord returns the token. The one buffer holds the associated data and,
// behind it, the token.
func (m *Manager[T]) sealRecord(r *record, key *ringKey, suffix string) []byte {
	n := headerSize + len(suffix)
	b := make([]byte, 0, n+overhead+r.size())
	b = append(appendHeader(b, key.key.id), suffix...)
	b = appendHeader(b, key.key.id)
	b = r.append(b[:len(b)+nonceSize])
	return key.seal(b[n:], b[:n])
}

// openRecord opens a token in text and returns the key that sealed it, where
// that is known. The one buffer, buf if it is large enough, is laid out as in
// sealRecord, and the record's data stays in it.
func (m *Manager[T]) openRecord(ctx context.Context, buf []byte, text, suffix string, asked *bool) (r record, key *ringKey, err error) {
	if len(text) > maxTokenText {
		return record{}, nil, rejectMalformed
	}
	n := headerSize + len(suffix)
	b, err := appendDecoded(slices.Grow(buf, n+base64url.DecodedLen(len(text)))[:n], text)
	if err != nil {
		return record{}, nil, rejectMalformed
	}
	token := b[n:]
	id, ok := tokenKeyID(token)
	if !ok {
		return record{}, nil, rejectMalformed
	}
	switch key = m.keys.fetch(ctx, id, asked); {
	case key == nil:
		return record{}, nil, m.keys.unknown()
	case key.revoked:
		return record{}, key, rejectRevokedKey
	}
	copy(b[copy(b, token[:headerSize]):n], suffix)
	plaintext, err := key.open(token, b[:n:n])
	if err != nil {
		return record{}, key, rejectTampered
	}
	if r, ok = parseRecord(plaintext, m.itemLen); !ok {
		return record{}, key, rejectRecord
	}
	return r, key, nil
}
