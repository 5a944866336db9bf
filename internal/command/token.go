package command

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
)

// This file reads tokens by FORMAT.md. The package sealed says nothing of a
// session that it refuses, which is what one wants to see here, so this is a
// reader of its own; the vectors hold both to the same format.

const (
	headerSize = 1 + 4 // version, key ID
	nonceSize  = chacha20poly1305.NonceSizeX
	tagSize    = chacha20poly1305.Overhead
	maxSkew    = 5 * time.Minute
	maxMilli   = 1<<48 - 1
	maxNesting = 32
)

// A token is the parts of a token that show.
type token struct {
	text       string
	bytes      []byte
	version    byte
	keyID      string
	nonce      []byte
	ciphertext []byte // with the tag
}

// A record is what a token holds.
type record struct {
	id                         sealed.ID
	created, lastUsed, expires time.Time
	data                       cbor.RawMessage
	binding                    sealed.ID // to a device's key; zero if there is none
}

// splitToken reads what shows of a token. The error says what is wrong with it.
func splitToken(text string) (token, error) {
	t := token{text: text}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && base64.RawURLEncoding.EncodeToString(b) != text {
		err = errors.New("line breaks") // which the decoder skips
	}
	if err != nil {
		return t, fmt.Errorf("it is not base64url without padding (RFC 4648, section 5)%s", wrongCharacter(text))
	}
	t.bytes = b
	if len(b) == 0 {
		return t, errors.New("it is empty")
	}
	if t.version = b[0]; t.version != 1 {
		return t, fmt.Errorf("it is of version %d, or no token: version 1 is known", t.version)
	}
	if least := headerSize + nonceSize + tagSize; len(b) < least {
		return t, fmt.Errorf("it has %d bytes, and a token at least %d: it was cut off", len(b), least)
	}
	t.keyID = hex.EncodeToString(b[1:headerSize])
	t.nonce, t.ciphertext = b[headerSize:headerSize+nonceSize], b[headerSize+nonceSize:]
	return t, nil
}

func wrongCharacter(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i, c := range text {
		if !strings.ContainsRune(alphabet, c) {
			return fmt.Sprintf(": character %d is %q", i+1, c)
		}
	}
	return ": its length or its last character is not one that an encoder writes"
}

// open returns the token's plaintext, or nil if it does not authenticate.
func (t token) open(key sealed.Key, name, purpose string) ([]byte, error) {
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(key.Text(), "sealed-key-1-"))
	if err != nil {
		return nil, err
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "sealed/v1 aead", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(derived)
	if err != nil {
		return nil, err
	}
	associated := append(bytes.Clone(t.bytes[:headerSize]), byte(len(name)))
	associated = append(append(associated, name...), purpose...)
	plaintext, err := aead.Open(nil, t.nonce, t.ciphertext, associated)
	if err != nil {
		return nil, nil
	}
	return plaintext, nil
}

// openDevice opens a token of device binding, and says what it is. The plaintext is nil
// if it is none.
func (t token) openDevice(key sealed.Key) (plaintext []byte, what string, err error) {
	for i, what := range []string{"a session identifier", "a proof", "a challenge"} {
		plaintext, err := t.open(key, string(rune(i+1)), "")
		if err != nil || plaintext != nil {
			return plaintext, what, err
		}
	}
	return nil, "", nil
}

// recordWire is a record in CBOR. The times are relative, see FORMAT.md.
type recordWire struct {
	_        struct{} `cbor:",toarray"`
	ID       []byte
	Created  uint64
	LastUsed uint64
	Expires  uint64
	Data     cbor.RawMessage
}

// recordWithExtensions is the longer form.
type recordWithExtensions struct {
	_        struct{} `cbor:",toarray"`
	ID       []byte
	Created  uint64
	LastUsed uint64
	Expires  uint64
	Data     cbor.RawMessage
	More     map[uint64]cbor.RawMessage
}

// decoder returns what reads CBOR that a session may hold, so many levels of it.
func decoder(levels int) (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  levels,
		MaxArrayElements: 1 << 16,
		MaxMapPairs:      1 << 16,
	}.DecMode()
}

// parseRecord reads a plaintext. The error says what is wrong with it.
func parseRecord(plaintext []byte) (record, error) {
	decoding, err := decoder(maxNesting + 1) // the record is a level of its own
	if err != nil {
		return record{}, err
	}
	ofData, err := decoder(maxNesting)
	if err != nil {
		return record{}, err
	}
	encoding, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return record{}, err
	}
	var w recordWire
	var binding sealed.ID
	again := any(&w)
	if err := decoding.Unmarshal(plaintext, &w); err != nil {
		var long recordWithExtensions
		if decoding.Unmarshal(plaintext, &long) != nil {
			return record{}, fmt.Errorf("its plaintext is not a record: %w", err)
		}
		for number, value := range long.More {
			if number > 1 {
				return record{}, fmt.Errorf("it has the extension %d, which this version does not know: it may restrict the session", number)
			}
			if value[0]>>5 != 2 { // major type 2, a byte string (RFC 8949, section 3.1)
				return record{}, fmt.Errorf("its extension %d is not a byte string", number)
			}
			if number == 1 && (len(value) != 1+len(binding) || copy(binding[:], value[1:]) == 0 || binding == sealed.ID{}) {
				return record{}, errors.New("its binding to a device is not 16 bytes, or all zero")
			}
		}
		w = recordWire{ID: long.ID, Created: long.Created, LastUsed: long.LastUsed, Expires: long.Expires, Data: long.Data}
		again = &long
	}
	if b, err := encoding.Marshal(again); err != nil || !bytes.Equal(b, plaintext) {
		return record{}, errors.New("its plaintext is a record, but not in the deterministic encoding of RFC 8949, section 4.2.1")
	}
	var data any
	var key *cbor.InvalidMapKeyTypeError // a map in Go cannot have it, while a session can
	if err := ofData.Unmarshal(w.Data, &data); err != nil && !errors.As(err, &key) {
		return record{}, fmt.Errorf("its data is not what a session may hold: %w", err)
	}
	if len(w.ID) != len(sealed.ID{}) {
		return record{}, fmt.Errorf("its session ID has %d bytes in place of %d", len(w.ID), len(sealed.ID{}))
	}
	if max(w.Created, w.LastUsed, w.Expires) > maxMilli || w.LastUsed > w.Expires {
		return record{}, errors.New("its times are out of range")
	}
	at := func(ms uint64) time.Time { return time.UnixMilli(int64(ms)) }
	return record{sealed.ID(w.ID), at(w.Created), at(w.Created + w.LastUsed), at(w.Created + w.Expires), w.Data, binding}, nil
}
