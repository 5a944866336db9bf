package sealed_test

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
)

// A floor opens and seals the same tokens as the manager in a straight line of
// library calls. It leaves out all that makes them sessions: the choice of a
// key, lifetimes, the request's context, errors with reasons, headers for caches.
type floor struct {
	aead   cipher.AEAD
	prefix []byte // of every token
}

// floorRecord is the plaintext of a token.
type floorRecord struct {
	_        struct{} `cbor:",toarray"`
	ID       [16]byte
	Created  int64
	LastUsed int64
	Expires  int64
	Data     reference
}

const floorName = "__Host-session"

func newFloor(b *testing.B, key sealed.Key) *floor {
	b.Helper()
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(key.Text(), "sealed-key-1-"))
	if err != nil {
		b.Fatal(err)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "sealed/v1 aead", chacha20poly1305.KeySize)
	if err != nil {
		b.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(derived)
	if err != nil {
		b.Fatal(err)
	}
	id, err := hex.DecodeString(key.ID())
	if err != nil {
		b.Fatal(err)
	}
	return &floor{aead: aead, prefix: append([]byte{1}, id...)}
}

func (f *floor) associated(token []byte) []byte {
	return append(append(append(make([]byte, 0, 32), token[:5]...), byte(len(floorName))), floorName...)
}

func (f *floor) get(r *http.Request) (rec floorRecord, err error) {
	c, err := r.Cookie(floorName)
	if err != nil {
		return rec, err
	}
	token, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return rec, err
	}
	plaintext, err := f.aead.Open(token[29:29], token[5:29], token[29:], f.associated(token))
	if err != nil {
		return rec, err
	}
	return rec, cbor.Unmarshal(plaintext, &rec)
}

func (f *floor) set(w http.ResponseWriter, rec *floorRecord) error {
	plaintext, err := cbor.Marshal(rec)
	if err != nil {
		return err
	}
	token := make([]byte, 29, 29+len(plaintext)+16)
	copy(token, f.prefix)
	rand.Read(token[5:])
	token = f.aead.Seal(token, token[5:], plaintext, f.associated(token))
	http.SetCookie(w, &http.Cookie{
		Name: floorName, Value: base64.RawURLEncoding.EncodeToString(token),
		Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return nil
}

// BenchmarkFloorGet is what BenchmarkGet is judged by.
func BenchmarkFloorGet(b *testing.B) {
	_, key, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	serve(b, newFloor(b, key).reads(b), cookies...)
}

// reads is a handler that reads the session.
func (f *floor) reads(b *testing.B) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if rec, err := f.get(r); err != nil || rec.Data.UserID != 1042 {
			b.Fatal(rec, err)
		}
	})
}

// BenchmarkFloorUpdate is what BenchmarkUpdate is judged by.
func BenchmarkFloorUpdate(b *testing.B) {
	_, key, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	f := newFloor(b, key)
	serve(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, err := f.get(r)
		if err != nil {
			b.Fatal(err)
		}
		rec.Data.Cart[0].Qty = 9
		if err := f.set(w, &rec); err != nil {
			b.Fatal(err)
		}
	}), cookies...)
}

// BenchmarkStepsGet is what no session in an encrypted cookie can read without: decode base64,
// open, decode CBOR. There is no request, no header and no memory to allocate but for
// what the session holds.
func BenchmarkStepsGet(b *testing.B) {
	steps, value := newSteps(b)
	b.ReportAllocs()
	for b.Loop() {
		if s := steps.get(b, value); s.UserID != 1042 {
			b.Fatal(s)
		}
	}
}

// BenchmarkStepsUpdate is the same for a change: to read, encode CBOR, draw a nonce, seal,
// encode base64.
func BenchmarkStepsUpdate(b *testing.B) {
	steps, value := newSteps(b)
	b.ReportAllocs()
	for b.Loop() {
		s := steps.get(b, value)
		s.Cart[0].Qty = 9
		if text := steps.set(b, &s); len(text) != len(value) {
			b.Fatalf("%d characters, not %d", len(text), len(value))
		}
	}
}

// steps are the library calls by themselves, over a token of a manager.
type steps struct {
	*floor
	token, associated, text []byte
	ahead                   []byte // of the data in the plaintext
}

func newSteps(b *testing.B) (s *steps, value string) {
	b.Helper()
	_, key, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	s = &steps{floor: newFloor(b, key), token: make([]byte, 512), text: make([]byte, 512)}
	value = cookies[0].Value
	token, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		b.Fatal(err)
	}
	s.associated = s.floor.associated(token)
	plaintext, err := s.aead.Open(nil, token[5:29], token[29:], s.associated)
	if err != nil {
		b.Fatal(err)
	}
	data, err := cbor.Marshal(referenceSession())
	if err != nil || !bytes.HasSuffix(plaintext, data) {
		b.Fatal("the record does not end with the data", err)
	}
	s.ahead = plaintext[:len(plaintext)-len(data)]
	return s, value
}

func (s *steps) get(b *testing.B, value string) (v reference) {
	n, err := base64.RawURLEncoding.Decode(s.token, []byte(value))
	if err != nil {
		b.Fatal(err)
	}
	plaintext, err := s.aead.Open(s.token[29:29], s.token[5:29], s.token[29:n], s.associated)
	if err != nil {
		b.Fatal(err)
	}
	if err := cbor.Unmarshal(plaintext[len(s.ahead):], &v); err != nil {
		b.Fatal(err)
	}
	return v
}

func (s *steps) set(b *testing.B, v *reference) []byte {
	data, err := cbor.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	rand.Read(s.token[5:29])
	plaintext := append(append(s.token[29:29], s.ahead...), data...)
	sealed := s.aead.Seal(plaintext[:0], s.token[5:29], plaintext, s.associated)
	text := s.text[:base64.RawURLEncoding.EncodedLen(29+len(sealed))]
	base64.RawURLEncoding.Encode(text, s.token[:29+len(sealed)])
	return text
}
