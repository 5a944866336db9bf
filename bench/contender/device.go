package contender

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// Sessions that are bound to a key of the visitor's device, and sessions of browsers that cannot bind them.
const (
	Unbound = "sealed, device binding on, not bound"
	Bound   = "sealed, bound to a device"
)

// bindable is sealed with device binding on.
type bindable struct {
	sealedSessions
	key string
}

func openBindable(_ context.Context, e Environment) (Sessions, func(), error) {
	x, err := newBindable(e)
	return x, func() {}, err
}

func newBindable(e Environment) (x bindable, err error) {
	x.key = e.Key
	keys, err := sealed.ParseKeyring(e.Key)
	if err == nil {
		x.m, err = sealed.New(keys, sealed.Config[Session]{Subject: subject, DeviceBinding: &sealed.DeviceBinding{}})
	}
	return x, err
}

// Cookies returns those of a session that began an hour ago and is not bound, as the browser
// cannot: each change asks it once more, from its second minute on. It is made from FORMAT.md.
func (b bindable) Cookies() ([]*http.Cookie, error) {
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(b.key, "sealed-key-1-"))
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Key(sha256.New, secret, nil, "sealed/v1 key id", 4)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "sealed/v1 aead", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	created := time.Now().Add(-time.Hour).UnixMilli()
	encoding, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	plaintext, err := encoding.Marshal([]any{make([]byte, 16), created, 0, (24 * time.Hour).Milliseconds(), reference})
	if err != nil {
		return nil, err
	}
	const name = "__Host-session"
	token := append([]byte{1}, id...)
	associated := append(append(slices.Clone(token), byte(len(name))), name...)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	token = aead.Seal(append(token, nonce...), nonce, plaintext, associated)
	return []*http.Cookie{{Name: name, Value: base64.RawURLEncoding.EncodeToString(token)}}, nil
}

// bound is the same with a device that registers its key.
type bound struct{ bindable }

func openBound(_ context.Context, e Environment) (Sessions, func(), error) {
	x, err := newBindable(e)
	return bound{x}, func() {}, err
}

// Cookies logs in from a device, and returns its cookies once the session is bound.
func (b bound) Cookies() ([]*http.Cookie, error) {
	const site = "https://shop.example"
	d := sealedtest.NewDevice(program{}, sealedtest.Serve(NewApplication(b)))
	for _, path := range []string{"/login", "/read", "/read"} {
		r, err := http.NewRequest(Method(path[1:]), site+path, nil)
		if err != nil {
			return nil, err
		}
		if _, err := d.Client().Do(r); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(site)
	if err != nil {
		return nil, err
	}
	cookies := d.Jar.Cookies(u)
	if len(cookies) != 2 {
		return nil, fmt.Errorf("%d cookies, want the session's and the proof's", len(cookies))
	}
	return cookies, nil
}

// A program is a [testing.TB] that ends with a panic: package sealedtest is for tests.
type program struct{ testing.TB }

func (program) Helper()                   {}
func (program) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
