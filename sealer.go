package sealed

import (
	"context"
)

// A sealer turns records into tokens for one carrier, and back: for cookies of one
// name, or for tokens outside cookies. It knows nothing of what a session means.
type sealer struct {
	keys    *Keyring
	suffix  string                    // see associatedSuffix
	itemLen func([]byte) (int, error) // the length of the first CBOR item
}

// seal returns the token.
func (s *sealer) seal(r *record, key *ringKey) []byte {
	token, associated := encodeToken(r, key.key.id, s.suffix)
	return key.seal(token, associated)
}

// open opens a token in text and returns the key that sealed it, where that is
// known. If the ring has expired, the error says so of a token that is good
// otherwise. The record's data stays in buf, if that is large enough. For asked see
// Keyring.fetch.
func (s *sealer) open(ctx context.Context, buf []byte, text string, asked *bool) (record, *ringKey, error) {
	token, associated, id, ok := decodeToken(buf, text, s.suffix)
	if !ok {
		return record{}, nil, rejectMalformed
	}
	key, expired, err := s.keys.fetch(ctx, id, asked)
	if err != nil {
		return record{}, key, err
	}
	plaintext, err := key.open(token, associated)
	if err != nil {
		return record{}, key, rejectTampered
	}
	r, ok := parseRecord(plaintext, s.itemLen)
	if !ok {
		return record{}, key, rejectRecord
	}
	return r, key, expired
}
