package sealed

import (
	"context"
	"crypto/rand"
)

// A sealer turns records into tokens for one carrier, and back: for cookies of one
// name, or for tokens outside cookies. It knows nothing of what a session means.
type sealer struct {
	keys   *Keyring
	suffix string // see associatedSuffix
	binds  bool   // records may be bound to a device's key
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
	token, associated, id, err := decodeToken(buf, text, s.suffix)
	if err != nil {
		return record{}, nil, err
	}
	key, expired, err := s.keys.fetch(ctx, id, asked)
	if err != nil {
		return record{}, key, err
	}
	plaintext, err := key.open(token, associated)
	if err != nil {
		return record{}, key, rejectTampered
	}
	r, ok := parseRecord(plaintext)
	if !ok || r.bound() && !s.binds {
		return record{}, key, rejectRecord
	}
	return r, key, expired
}

// seal seals plaintext in place: token is a header, room for a nonce, the
// plaintext, and has capacity for the tag. It fills in the nonce, which is
// random: 192 bits make a repetition after 2^80 tokens a chance of 2^-33.
func (k *ringKey) seal(token, associated []byte) []byte {
	nonce := token[headerSize : headerSize+nonceSize]
	rand.Read(nonce)
	plaintext := token[headerSize+nonceSize:]
	ciphertext := k.aead().Seal(plaintext[:0], nonce, plaintext, associated)
	return token[:headerSize+nonceSize+len(ciphertext)]
}

// open opens token in place and returns its plaintext.
func (k *ringKey) open(token, associated []byte) ([]byte, error) {
	nonce, ciphertext := token[headerSize:headerSize+nonceSize], token[headerSize+nonceSize:]
	return k.aead().Open(ciphertext[:0], nonce, ciphertext, associated)
}
