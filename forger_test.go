package sealed_test

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
)

// A forger makes tokens from FORMAT.md alone, with the key: what another
// implementation, or an attacker who has the key, could send.
type forger struct {
	t      testing.TB
	secret []byte
}

func newForger(t testing.TB, key sealed.Key) forger {
	t.Helper()
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(key.Text(), "sealed-key-1-"))
	if err != nil || len(secret) != 32 {
		t.Fatalf("key text: %d bytes, %v", len(secret), err)
	}
	return forger{t, secret}
}

func (f forger) derive(info string, n int) []byte {
	b, err := hkdf.Key(sha256.New, f.secret, nil, info, n)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// token seals plaintext for a cookie name and a purpose.
func (f forger) token(plaintext []byte, name, purpose string) string {
	nonce := make([]byte, 24)
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(f.raw(nonce, plaintext, name, purpose))
}

func (f forger) raw(nonce, plaintext []byte, name, purpose string) []byte {
	aead, err := chacha20poly1305.NewX(f.derive("sealed/v1 aead", 32))
	if err != nil {
		f.t.Fatal(err)
	}
	header := append([]byte{1}, f.derive("sealed/v1 key id", 4)...)
	associated := append(append([]byte(nil), header...), byte(len(name)))
	associated = append(append(associated, name...), purpose...)
	return aead.Seal(append(header, nonce...), nonce, plaintext, associated)
}

// plaintext returns a record's CBOR, by the library and not by our own code.
func plaintext(t testing.TB, id [16]byte, created, lastUsed, expires int64, data any, extensions ...any) []byte {
	t.Helper()
	return deterministic(t, append([]any{id[:], created, lastUsed, expires, data}, extensions...))
}

// deterministic encodes v as RFC 8949, section 4.2.1 says.
func deterministic(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const hourMs = 3_600_000

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func keyText(secret []byte) string {
	return "sealed-key-1-" + base64.RawURLEncoding.EncodeToString(secret)
}

// cookie returns the pair that carries plaintext as the default cookie.
func (f forger) cookie(plaintext []byte) string {
	return name + "=" + f.token(plaintext, name, purpose)
}

// mustForge returns a manager, a forger with its key, and its ring.
func mustForge(t testing.TB, config sealed.Config[Session]) (*sealed.Manager[Session], forger, *sealed.Keyring) {
	t.Helper()
	ring, key := ringAndKey(t)
	return mustNew(t, ring, config), newForger(t, key), ring
}
