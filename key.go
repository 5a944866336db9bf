package sealed

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keySize   = 32 // of the secret, in bytes
	keyIDSize = 4
	keyPrefix = "sealed-key-1-"

	// The HKDF info strings of FORMAT.md. They separate the two values derived
	// from one secret: knowing a key ID, which every token shows, says nothing
	// about the AEAD key (RFC 5869, section 3.2).
	infoKeyID = "sealed/v1 key id"
	infoAEAD  = "sealed/v1 aead"
)

var errZeroKey = errors.New("sealed: the zero Key is no key; use GenerateKey or ParseKey")

type keyID [keyIDSize]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }

// A Key is one 256-bit secret. Make it with [GenerateKey], store it as
// [Key.Text], read it back with [ParseKey].
//
// The zero Key is no key: a [Keyring] refuses it. A Key is immutable and safe
// for concurrent use. Printing, logging or marshalling it, alone or inside
// another value, never shows the secret.
type Key struct {
	id keyID
	// A closure, not the bytes: fmt cannot call methods on the unexported
	// fields of a caller's struct and would print the bytes themselves, and a
	// goroutine trace prints arguments. Neither sees into a closure.
	secret func() []byte
}

// GenerateKey returns a new random key.
func GenerateKey() Key {
	for {
		secret := make([]byte, keySize)
		rand.Read(secret) // never fails: crypto/rand ends the program instead
		if weakness(secret) == "" {
			return newKey(secret)
		}
	}
}

// ParseKey reads the form that [Key.Text] writes: "sealed-key-1-" and 32 bytes
// in 43 characters of unpadded base64url (RFC 4648, section 5).
//
// It refuses a secret that cannot have come from a random source: printable
// text, one value or a short pattern repeated, a short secret filled up. The
// chance that it refuses a random one is below 2^-40. The error never contains
// the text.
func ParseKey(text string) (Key, error) {
	encoded, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("sealed: a key starts with %q", keyPrefix)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // which the decoder skips
		return Key{}, errors.New("sealed: a key is base64url without padding after its prefix")
	}
	if len(secret) != keySize {
		return Key{}, fmt.Errorf("sealed: a key has %d bytes after its prefix, this one has %d", keySize, len(secret))
	}
	if w := weakness(secret); w != "" {
		return Key{}, fmt.Errorf("sealed: not a random key: %s; make one with GenerateKey", w)
	}
	return newKey(secret), nil
}

func newKey(secret []byte) Key {
	k := Key{secret: func() []byte { return secret }}
	copy(k.id[:], k.derive(infoKeyID, keyIDSize))
	return k
}

// derive is HKDF-SHA-256 without salt: the secret is uniformly random already,
// which is the case RFC 5869, section 3.1 needs no salt for.
func (k Key) derive(info string, size int) []byte {
	out, err := hkdf.Key(sha256.New, k.secret(), nil, info, size)
	if err != nil {
		// Only a secret shorter than FIPS 140 allows, or a size above
		// 255*32, can fail; both are constants here.
		panic("sealed: HKDF: " + err.Error())
	}
	return out
}

// aead returns the AEAD of the key, in a closure as the secret is: a deep dump of a
// request, which leads to the keyring, must not show it. Under GODEBUG=fips140=only
// there is none: New reports that, so a ring without one never reaches a request.
func (k Key) aead() func() cipher.AEAD {
	aead, _ := chacha20poly1305.NewX(k.derive(infoAEAD, chacha20poly1305.KeySize))
	return func() cipher.AEAD { return aead }
}

func (k Key) equal(other Key) bool {
	return subtle.ConstantTimeCompare(k.secret(), other.secret()) == 1
}

// weakness says why a secret cannot be random, or is empty. Tokens name their
// key, so nobody can try keys in bulk against one token faster than by guessing
// the secret: a guessable secret is the only way in.
func weakness(secret []byte) string {
	var seen [256]bool
	distinct, printable, arithmetic := 0, true, true
	run, longest := 1, 1
	for i, b := range secret {
		if !seen[b] {
			seen[b] = true
			distinct++
		}
		printable = printable && (b >= ' ' && b <= '~')
		if i > 0 {
			arithmetic = arithmetic && b-secret[i-1] == secret[1]-secret[0]
			if b == secret[i-1] {
				run++
			} else {
				run = 1
			}
			longest = max(longest, run)
		}
	}
	switch {
	case printable:
		return "all of it is printable text, as in a passphrase"
	case arithmetic:
		return "its bytes count up or repeat"
	case longest >= 8:
		return "it is a shorter secret filled up with one byte"
	case distinct <= 16:
		return "its bytes repeat a short pattern"
	}
	return ""
}

// ID returns the key's public name: 8 hexadecimal digits, derived from the
// secret. Every token shows it. It is "00000000" for the zero Key.
func (k Key) ID() string { return k.id.String() }

// Text returns the secret for storage, in the form that [ParseKey] reads, and
// "" for the zero Key. Nothing else in this package reveals a secret.
func (k Key) Text() string {
	if k.secret == nil {
		return ""
	}
	return keyPrefix + base64.RawURLEncoding.EncodeToString(k.secret())
}

// String returns the key's ID in words, never its secret.
func (k Key) String() string { return "sealed key " + k.ID() }

// Format prints what String returns, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// LogValue logs the key's ID.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID()) }

// aeadAvailable reports whether XChaCha20-Poly1305 may be used in this process.
func aeadAvailable() bool {
	_, err := chacha20poly1305.NewX(make([]byte, chacha20poly1305.KeySize))
	return err == nil
}
