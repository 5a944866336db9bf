package contender

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"net/http"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"
)

// What sealed is held against in process: the library calls that an encrypted cookie cannot do without.
const (
	Steps = "the steps alone"
	Line  = "library calls in a line"
)

// straight has a session in a cookie, encoded and encrypted by the libraries that sealed uses, as they
// come, and nothing of what makes it one: no lifetimes, no keys to choose from, no revocation, no headers for caches.
type straight struct{ aead cipher.AEAD }

func newStraight() (straight, error) {
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	aead, err := chacha20poly1305.NewX(key)
	return straight{aead}, err
}

const (
	straightName = "session"
	straightHead = 5 // a version and a key ID
)

var straightData = []byte{1, 0, 0, 0, 0, 0} // associated

// record is a session with its times.
type record struct {
	_                          struct{} `cbor:",toarray"`
	ID                         [16]byte
	Created, LastUsed, Expires int64
	Data                       Session
}

func (straight) Wrap(h http.Handler) http.Handler { return h }

// line is such a session with the calls that one writes down: net/http's for cookies,
// and memory where they take it.
type line struct{ straight }

func openLine(context.Context, Environment) (Sessions, func(), error) {
	s, err := newStraight()
	return line{s}, func() {}, err
}

// read returns the session of a request. Whoever has no cookie of ours is a stranger.
func (l line) read(r *http.Request) (rec record) {
	c, err := r.Cookie(straightName)
	if err != nil {
		return record{}
	}
	token, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(token) < straightHead+chacha20poly1305.NonceSizeX {
		return record{}
	}
	nonce, text := token[straightHead:straightHead+chacha20poly1305.NonceSizeX], token[straightHead+chacha20poly1305.NonceSizeX:]
	plaintext, err := l.aead.Open(text[:0], nonce, text, straightData)
	if err != nil || cbor.Unmarshal(plaintext, &rec) != nil {
		return record{}
	}
	return rec
}

func (l line) write(w http.ResponseWriter, rec *record) error {
	plaintext, err := cbor.Marshal(rec)
	if err != nil {
		return err
	}
	const n = straightHead + chacha20poly1305.NonceSizeX
	token := make([]byte, n, n+len(plaintext)+chacha20poly1305.Overhead)
	rand.Read(token[straightHead:])
	token = l.aead.Seal(token, token[straightHead:], plaintext, straightData)
	http.SetCookie(w, &http.Cookie{
		Name: straightName, Value: base64.RawURLEncoding.EncodeToString(token),
		Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return nil
}

func (l line) Get(r *http.Request) (Session, error) { return l.read(r).Data, nil }

func (l line) Change(w http.ResponseWriter, r *http.Request, change func(*Session)) error {
	rec := l.read(r)
	change(&rec.Data)
	return l.write(w, &rec)
}

func (l line) Login(w http.ResponseWriter, _ *http.Request, s Session) error {
	rec := record{Created: 1_700_000_000_000, Expires: 86_400_000, Data: s}
	rand.Read(rec.ID[:])
	return l.write(w, &rec)
}

func (line) Logout(w http.ResponseWriter, _ *http.Request) error {
	http.SetCookie(w, &http.Cookie{Name: straightName, Path: "/", MaxAge: -1})
	return nil
}

// steps has only the steps: base64, XChaCha20-Poly1305 and CBOR, in memory that is there. It
// looks for no cookie but takes the first, and what it writes at a change goes nowhere. What stands
// before the session in a record is as long as in one of sealed, and not decoded. It is not for concurrent use.
type steps struct {
	line
	token, text []byte
}

func openSteps(context.Context, Environment) (Sessions, func(), error) {
	s, err := newStraight()
	return &steps{line{s}, make([]byte, 1024), make([]byte, 1024)}, func() {}, err
}

const stepsAhead = 34 // bytes of a record before its data

func (s *steps) Login(w http.ResponseWriter, _ *http.Request, v Session) error {
	text, err := s.seal(&v)
	if err == nil {
		http.SetCookie(w, &http.Cookie{Name: straightName, Value: string(text)})
	}
	return err
}

func (s *steps) seal(v *Session) ([]byte, error) {
	data, err := cbor.Marshal(v)
	if err != nil {
		return nil, err
	}
	const n = straightHead + chacha20poly1305.NonceSizeX
	rand.Read(s.token[straightHead:n])
	plaintext := append(s.token[n:n+stepsAhead], data...)
	sealed := s.aead.Seal(plaintext[:0], s.token[straightHead:n], plaintext, straightData)
	text := s.text[:base64.RawURLEncoding.EncodedLen(n+len(sealed))]
	base64.RawURLEncoding.Encode(text, s.token[:n+len(sealed)])
	return text, nil
}

func (s *steps) Get(r *http.Request) (v Session, err error) {
	value := r.Header["Cookie"][0][len(straightName)+1:]
	n, err := base64.RawURLEncoding.Decode(s.token, []byte(value))
	if err != nil {
		return v, err
	}
	const head = straightHead + chacha20poly1305.NonceSizeX
	data, err := s.aead.Open(s.token[head:head], s.token[straightHead:head], s.token[head:n], straightData)
	if err != nil {
		return v, err
	}
	return v, cbor.Unmarshal(data[stepsAhead:], &v)
}

func (s *steps) Change(_ http.ResponseWriter, r *http.Request, change func(*Session)) error {
	v, err := s.Get(r)
	if err != nil {
		return err
	}
	change(&v)
	_, err = s.seal(&v)
	return err
}
