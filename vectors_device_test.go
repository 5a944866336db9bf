package sealed_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

// The vectors of device-bound sessions: see FORMAT.md.

// A boundVector is what a request's Cookie lines give where sessions are bound.
type boundVector struct {
	Name   string   `json:"name"`
	Key    int      `json:"key"`
	Cookie string   `json:"cookie"`
	Lines  []string `json:"lines"`
	Result string   `json:"result"` // "valid", "unproven", or "refused"

	Binding string `json:"binding,omitempty"` // that the session has from now on
	Proven  int64  `json:"proven,omitempty"`
}

// A deviceVector is a token of a device: an identifier or a challenge.
type deviceVector struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"` // "identifier" or "challenge"
	Key   int    `json:"key"`
	Token string `json:"token"`
	OK    bool   `json:"ok"`

	Plaintext string `json:"plaintext,omitempty"`
	ID        string `json:"id,omitempty"` // of the binding; of a challenge, what it is for

	Algorithm int    `json:"algorithm,omitempty"` // of an identifier
	PublicKey string `json:"publicKey,omitempty"`
	From      string `json:"from,omitempty"`

	For int `json:"for,omitempty"` // of a challenge: 0, 1 or 2
}

// vectorDevice is the private key of the device in the vectors.
func vectorDevice(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), mustHex(t, sha256Hex("sealed test vector device")))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const minuteMs, dayMs = 60_000, 24 * hourMs

func deviceVectors(t *testing.T, f forger) (bound []boundVector, tokens []deviceVector) {
	id := func(n byte) [16]byte { return [16]byte{n, 0xdb} }
	raw := func(what string, plain []byte, cookie, purpose string) string {
		return base64.RawURLEncoding.EncodeToString(f.raw(mustHex(t, sha256Hex(what))[:24], plain, cookie, purpose))
	}
	data := map[int]any{1: "alice"}
	session := func(what string, n byte, extensions ...any) string {
		return name + "=" + raw("session "+what, plaintext(t, id(n), vectorNow-hourMs, 0, dayMs, data, extensions...), name, "")
	}
	proof := func(what string, made, expires int64, binding, from byte, purpose string) string {
		of, tag := id(from), id(binding)
		return name + "-proof-" + hex.EncodeToString(tag[:4]) + "=" + raw("proof "+what, plaintext(t, id(binding), made, 0, expires, []any{of[:], 0}), purpose, "")
	}
	const proofs = "\x02"
	binding := func(n byte) map[int]any { b := id(n); return map[int]any{1: b[:]} }
	add := func(what, result string, n byte, proven int64, lines ...string) {
		x := boundVector{Name: what, Cookie: name, Lines: lines, Result: result, Proven: proven}
		if n != 0 {
			b := id(n)
			x.Binding = hex.EncodeToString(b[:])
		}
		bound = append(bound, x)
	}
	const made, life = vectorNow - 5*minuteMs, 10*minuteMs + 30_000
	good := proof("good", made, life, 7, 1, proofs)
	s := session("bound", 1, binding(7))
	add("not bound", "valid", 0, 0, session("unbound", 2))
	add("bound, with its proof", "valid", 7, made, s+"; "+good)
	add("the proof in another line, before", "valid", 7, made, good, s)
	add("bound, without a proof", "unproven", 0, 0, s)
	add("the last millisecond of a proof", "valid", 7, vectorNow-life+1, s+"; "+proof("last", vectorNow-life+1, life, 7, 1, proofs))
	add("a proof that has ended", "unproven", 0, 0, s+"; "+proof("ended", vectorNow-life, life, 7, 1, proofs))
	add("a proof from more than five minutes ahead", "unproven", 0, 0, s+"; "+proof("ahead", vectorNow+300_001, life, 7, 1, proofs))
	add("the proof of another binding", "unproven", 0, 0, s+"; "+proof("other", made, life, 8, 2, proofs))
	add("a challenge for a proof", "unproven", 0, 0, s+"; "+proof("challenge", made, life, 7, 1, "\x03"))
	add("one good proof of two", "valid", 7, made, s+"; "+proof("other", made, life, 8, 2, proofs)+"; "+good)
	add("the later of two", "valid", 7, made+1, s+"; "+good+"; "+proof("later", made+1, life, 7, 1, proofs))
	add("not bound, with the proof of its registration", "valid", 7, made, session("before", 1)+"; "+good)
	add("bound to the key before, with the proof of the next", "valid", 9, made, s+"; "+proof("next", made, life, 9, 7, proofs))
	add("padding and a binding", "valid", 7, made, session("padded", 1, map[int]any{0: make([]byte, 5), 1: binding(7)[1]})+"; "+good)
	add("a binding of zeros", "refused", 0, 0, session("zero", 1, map[int]any{1: make([]byte, 16)})+"; "+good)
	add("a binding of 15 bytes", "refused", 0, 0, session("short", 1, map[int]any{1: make([]byte, 15)})+"; "+good)
	add("another extension beside a binding", "refused", 0, 0, session("unknown", 1, map[int]any{1: binding(7)[1], 2: true})+"; "+good)

	token := func(what, kind, name string, ok bool, plain []byte, x deviceVector) {
		x.Name, x.Kind, x.Plaintext, x.OK = what, kind, hex.EncodeToString(plain), ok
		x.Token = raw(kind+" "+what, plain, name, "")
		tokens = append(tokens, x)
	}
	public, err := vectorDevice(t).PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	from, b := id(1), id(7)
	identifier := func(what string, ok bool, alg int, key []byte, age int64, name string) {
		token(what, "identifier", name, ok, plaintext(t, b, vectorNow-age, 0, 400*dayMs, []any{alg, key, []any{from[:], 1}}),
			deviceVector{ID: hex.EncodeToString(b[:]), Algorithm: alg, PublicKey: hex.EncodeToString(key), From: hex.EncodeToString(from[:])})
	}
	offCurve := append([]byte{}, public...)
	offCurve[64] ^= 1
	identifier("ES256", true, -7, public, 0, "\x01")
	identifier("400 days old", false, -7, public, 400*dayMs, "\x01")
	identifier("a key off the curve", false, -7, offCurve, 0, "\x01")
	identifier("another algorithm", false, -8, public, 0, "\x01")
	identifier("sealed as a proof", false, -7, public, 0, "\x02")
	challenge := func(what string, ok bool, kind int, age int64, name string) {
		token(what, "challenge", name, ok, plaintext(t, b, vectorNow-age, 0, minuteMs, kind), deviceVector{ID: hex.EncodeToString(b[:]), For: kind})
	}
	challenge("for a proof", true, 1, 0, "\x03")
	challenge("in its last millisecond", true, 1, minuteMs-1, "\x03")
	challenge("a minute old", false, 1, minuteMs, "\x03")
	challenge("for a registration", false, 0, 0, "\x03")
	challenge("for another key", false, 2, 0, "\x03")
	challenge("sealed as an identifier", false, 1, 0, "\x01")
	return bound, tokens
}

// checkDevice checks the vectors by requests.
func checkDevice(t *testing.T, v vectors) {
	key, err := sealed.ParseKey(v.Keys[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sealed.New(ringOf(t, key), sealed.Config[Session]{Subject: user, DeviceBinding: &sealed.DeviceBinding{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range v.Bound {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Cookie"] = x.Lines
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			info, err := m.Info(r.Context())
			want := map[string]error{"unproven": sealed.ErrUnproven, "refused": sealed.ErrInvalid}[x.Result]
			if !errors.Is(err, want) || info.Bound != (x.Binding != "") || info.Bound && info.Proven.UnixMilli() != x.Proven {
				t.Errorf("%s: %v, bound %v, proven %v; want %+v", x.Name, err, info.Bound, info.Proven, x)
			}
		})).ServeHTTP(w, r)
	}
	var identifier string
	for _, x := range v.Device {
		r := httptest.NewRequest("POST", "/device-binding", nil)
		want := http.StatusForbidden // sign the challenge
		r.Header.Set("Sec-Secure-Session-Id", x.Token)
		if x.Kind == "challenge" {
			signed, err := sealedtest.SignChallenge(vectorDevice(t), x.Token, false)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Sec-Secure-Session-Id", identifier)
			r.Header.Set("Secure-Session-Response", signed)
			want = http.StatusOK
		} else if x.OK {
			identifier = x.Token
		}
		w := httptest.NewRecorder()
		m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
		if (w.Code == want) != x.OK {
			t.Errorf("%s: %d, want accepted: %v", x.Name, w.Code, x.OK)
		}
	}
}
