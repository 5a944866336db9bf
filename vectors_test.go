package sealed_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

var update = flag.Bool("update", false, "write testdata/vectors.json, from FORMAT.md's steps in forger_test.go")

const vectorFile = "testdata/vectors.json"

// vectors is testdata/vectors.json: see FORMAT.md.
type vectors struct {
	Comment string      `json:"comment"`
	Now     int64       `json:"now"`
	Keys    []keyVector `json:"keys"`
	Accept  []vector    `json:"accept"`
	Refuse  []vector    `json:"refuse"`

	WeakKeys    []weakVector       `json:"weakKeys"`
	Headers     []headerVector     `json:"headers"`
	Revocations []revocationVector `json:"revocations"`
	Bound       []boundVector      `json:"bound"`
	Device      []deviceVector     `json:"device"`
}

type keyVector struct {
	Text    string `json:"text"`
	Secret  string `json:"secret"`
	ID      string `json:"id"`
	AEADKey string `json:"aeadKey"`
}

type vector struct {
	Name      string `json:"name"`
	Key       int    `json:"key"` // index into keys
	Cookie    string `json:"cookie"`
	Purpose   string `json:"purpose"`
	Nonce     string `json:"nonce,omitempty"`
	Plaintext string `json:"plaintext,omitempty"`
	Token     string `json:"token"`

	ID       string `json:"id,omitempty"`
	Created  int64  `json:"created,omitempty"`
	LastUsed int64  `json:"lastUsed,omitempty"`
	Expires  int64  `json:"expires,omitempty"`
	Data     string `json:"data,omitempty"`

	Lifetime int64 `json:"lifetime,omitempty"` // today's, in milliseconds; 400 days if absent
	Idle     int64 `json:"idle,omitempty"`     // the idle timeout, in milliseconds; none if absent

	Reason string `json:"reason,omitempty"` // of a refused one
}

// vectorNow is when a synctest bubble starts: 2000-01-01.
const vectorNow = 946684800000

func vectorKeys(t *testing.T) []sealed.Key {
	var keys []sealed.Key
	for _, s := range []string{"sealed test vector key 1", "sealed test vector key 2"} {
		key, err := sealed.ParseKey(keyText(mustHex(t, sha256Hex(s))))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// makeVectors builds the vectors without the package's token code.
func makeVectors(t *testing.T) vectors {
	v := vectors{
		Comment: "Test vectors of FORMAT.md. The keys are published here: never use them.",
		Now:     vectorNow,
	}
	keys := vectorKeys(t)
	var forgers []forger
	for _, k := range keys {
		f := newForger(t, k)
		forgers = append(forgers, f)
		v.Keys = append(v.Keys, keyVector{k.Text(), hex.EncodeToString(f.secret), hex.EncodeToString(f.derive("sealed/v1 key id", 4)), hex.EncodeToString(f.derive("sealed/v1 aead", 32))})
	}
	nonce := func(name string) []byte { return mustHex(t, sha256Hex(name))[:24] }
	id := [16]byte(mustHex(t, sha256Hex("id"))[:16])
	const hour = 3_600_000
	seal := func(name string, key int, cookie, purpose string, plain []byte) vector {
		token := base64.RawURLEncoding.EncodeToString(forgers[key].raw(nonce(name), plain, cookie, purpose))
		return vector{Name: name, Key: key, Cookie: cookie, Purpose: purpose, Nonce: hex.EncodeToString(nonce(name)), Plaintext: hex.EncodeToString(plain), Token: token}
	}
	accept := func(name string, key int, cookie, purpose string, created, lastUsed, expires int64, data any, extensions ...any) {
		x := seal(name, key, cookie, purpose, plaintext(t, id, created, lastUsed, expires, data, extensions...))
		x.ID, x.Created, x.LastUsed, x.Expires = hex.EncodeToString(id[:]), created, lastUsed, expires
		x.Data = hex.EncodeToString(deterministic(t, data))
		v.Accept = append(v.Accept, x)
	}
	refuse := func(x vector, reason string) {
		x.Reason = reason
		v.Refuse = append(v.Refuse, x)
	}
	data := map[int]any{1: "alice", 2: []string{"mug"}}
	accept("a session", 0, name, "", vectorNow-1000, 500, hour, data)
	accept("never used again, empty data", 0, name, "", vectorNow, 0, hour, map[int]any{})
	accept("another key and name", 1, "session", "", vectorNow-1000, 0, hour, data)
	accept("a purpose", 0, name, "admin", vectorNow-1000, 0, hour, data)
	accept("no cookie", 0, "", "link", vectorNow-1000, 0, hour, data)
	accept("400 days", 0, name, "", vectorNow-86_400_000, 86_000_000, 400*24*hour, data)
	accept("five minutes ahead", 0, name, "", vectorNow+300_000, 0, hour, data)
	accept("padding", 0, name, "", vectorNow-1000, 0, hour, data, map[int]any{0: make([]byte, 30)})
	accept("no extensions", 0, name, "", vectorNow-1000, 0, hour, data, map[int]any{})

	good := plaintext(t, id, vectorNow-1000, 500, hour, data)
	a := seal("of another cookie", 0, "session", "", good)
	a.Cookie = name
	refuse(a, "tampered")
	a = seal("of another purpose", 0, name, "admin", good)
	a.Purpose = ""
	refuse(a, "tampered")
	a = seal("name and purpose run together", 0, name[:6], name[6:], good)
	a.Cookie, a.Purpose = name, ""
	refuse(a, "tampered")
	flip := func(name string, at int, reason string) {
		a := seal(name, 0, "__Host-session", "", good)
		raw, _ := base64.RawURLEncoding.DecodeString(a.Token)
		if at < 0 {
			at += len(raw)
		}
		raw[at] ^= 1
		a.Token = base64.RawURLEncoding.EncodeToString(raw)
		refuse(a, reason)
	}
	flip("version 0", 0, "malformed")
	flip("an unknown key", 4, "unknown key")
	flip("a changed nonce", 5, "tampered")
	flip("a changed ciphertext", 29, "tampered")
	flip("a changed tag", -1, "tampered")
	text := func(name, reason string, edit func(string) string) {
		a := seal(name, 0, "__Host-session", "", good)
		a.Token = edit(a.Token)
		refuse(a, reason)
	}
	text("padded base64", "malformed", func(s string) string { return s + "=" })
	text("a line break", "malformed", func(s string) string { return s[:20] + "\n" + s[20:] })
	text("standard base64", "malformed", func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s) + "+" })
	text("too short", "malformed", func(s string) string { return s[:59] })
	a = seal("loose bits in the last character", 0, name, "", plaintext(t, id, vectorNow-1000, 500, hour, map[int]any{1: "alic"}))
	for tries := 0; len(a.Token)%4 == 0; tries++ {
		if tries == 10 {
			t.Fatal("no token has loose bits")
		}
		a = seal("loose bits in the last character", 0, name, "", plaintext(t, id, vectorNow-1000, 500, hour, map[int]any{1: strings.Repeat("x", len(a.Token)%7+5)}))
	}
	a.Token = a.Token[:len(a.Token)-1] + string(nextBase64(a.Token[len(a.Token)-1]))
	refuse(a, "malformed")
	record := func(name string, plain []byte, reason string) {
		refuse(seal(name, 0, "__Host-session", "", plain), reason)
	}
	record("an unknown extension", plaintext(t, id, vectorNow, 0, hour, data, map[int]any{2: true}), "undecodable")
	record("a number not in its shortest form", append(append(good[:27:27], 0x1a, 0, 0, 1, 0xf4), good[30:]...), "undecodable")
	record("an indefinite array", append(append([]byte{0x9f}, good[1:]...), 0xff), "undecodable")
	record("a trailing byte", append(good[:len(good):len(good)], 0), "undecodable")
	record("duplicate keys in the data", append(good[:35:35], 0xa2, 1, 0x60, 1, 0x60), "undecodable")
	record("last used after its end", plaintext(t, id, vectorNow-2*hour, 2*hour, hour, data), "undecodable")
	record("expired", plaintext(t, id, vectorNow-hour, 0, hour, data), "expired")
	record("from the future", plaintext(t, id, vectorNow+300_001, 0, hour, data), "not yet valid")
	record("used in the future", plaintext(t, id, vectorNow-1000, 301_001, hour, data), "not yet valid")

	// Judged by the terms of today.
	terms := func(x *vector, lifetime, idle int64) { x.Lifetime, x.Idle = lifetime, idle }
	accept("today's lifetime is not over", 0, name, "", vectorNow-hour+1, 0, 2*hour, data)
	terms(&v.Accept[len(v.Accept)-1], hour, 0)
	accept("used within the idle timeout", 0, name, "", vectorNow-hour, hour-59_999, 2*hour, data)
	terms(&v.Accept[len(v.Accept)-1], 0, 60_000)
	accept("a longer lifetime today gives no more", 0, name, "", vectorNow-hour+1, 0, hour, data)
	terms(&v.Accept[len(v.Accept)-1], 3*hour, 0)
	record("today's lifetime is over", plaintext(t, id, vectorNow-hour, 0, 2*hour, data), "expired")
	terms(&v.Refuse[len(v.Refuse)-1], hour, 0)
	record("expired, with a longer lifetime today", plaintext(t, id, vectorNow-hour, 0, hour, data), "expired")
	terms(&v.Refuse[len(v.Refuse)-1], 3*hour, 0)
	record("unused for the idle timeout", plaintext(t, id, vectorNow-hour, hour-60_000, 2*hour, data), "idle")
	terms(&v.Refuse[len(v.Refuse)-1], 0, 60_000)

	v.WeakKeys = weakVectors()
	v.Headers = headerVectors(t, forgers[0])
	v.Revocations = revocationVectors()
	v.Bound, v.Device = deviceVectors(t, forgers[0])
	return v
}

// nextBase64 returns the base64url character after c.
func nextBase64(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)+1]
}

// The vectors of FORMAT.md, which another language can check too.
func TestVectors(t *testing.T) {
	if *update {
		b, err := json.MarshalIndent(makeVectors(t), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Keys) != 2 || len(v.Accept) < 9 || len(v.Refuse) < 18 || len(v.WeakKeys) == 0 || len(v.Headers) == 0 || len(v.Revocations) == 0 || len(v.Bound) == 0 || len(v.Device) == 0 {
		t.Fatalf("%d keys, %d accepted, %d refused: too few", len(v.Keys), len(v.Accept), len(v.Refuse))
	}
	if diff := cmp.Diff(makeVectors(t), v); diff != "" {
		t.Errorf("the file differs from what FORMAT.md's steps give (-want +got):\n%s", diff)
	}
	for i, k := range v.Keys {
		key, err := sealed.ParseKey(k.Text)
		if err != nil || key.ID() != k.ID || key.Text() != k.Text {
			t.Errorf("key %d: ID %s, %v, want %s", i, key.ID(), err, k.ID)
		}
	}
	for _, x := range v.WeakKeys {
		if _, err := sealed.ParseKey(x.Text); err == nil {
			t.Errorf("the key %s was accepted", x.Name)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for _, x := range v.Accept {
			s, info, err := openVector(t, v, x, new(recorder))
			if err != nil {
				t.Errorf("%s: %v", x.Name, err)
				continue
			}
			want := sealed.Info{
				ID: sealed.ID(mustHex(t, x.ID)), Created: time.UnixMilli(x.Created).UTC(), LastUsed: time.UnixMilli(x.Created + x.LastUsed).UTC(),
				Expires: time.UnixMilli(x.Created + x.Expires).UTC(), KeyID: v.Keys[x.Key].ID,
			}
			if x.Lifetime > 0 {
				want.Expires = time.UnixMilli(x.Created + min(x.Expires, x.Lifetime)).UTC()
			}
			if x.Idle > 0 {
				want.IdleExpires = want.LastUsed.Add(time.Duration(x.Idle) * time.Millisecond)
			}
			if diff := cmp.Diff(want, info); diff != "" || hex.EncodeToString(s) != x.Data {
				t.Errorf("%s: data %x, want %s; info (-want +got):\n%s", x.Name, s, x.Data, diff)
			}
		}
		for _, x := range v.Refuse {
			var rec recorder
			_, _, err := openVector(t, v, x, &rec)
			if err == nil || !errors.Is(err, sealed.ErrInvalid) && !errors.Is(err, sealed.ErrExpired) {
				t.Errorf("%s: %v", x.Name, err)
			}
			rec.want(t, x.Name, "rejected "+x.Reason)
		}
		checkHeaders(t, v)
		checkRevocations(t, v)
		checkDevice(t, v)
	})
}

// openVector opens a vector's token, as a cookie or without one.
func openVector(t *testing.T, v vectors, x vector, rec *recorder) (data cbor.RawMessage, info sealed.Info, err error) {
	key, err := sealed.ParseKey(v.Keys[x.Key].Text)
	if err != nil {
		t.Fatal(err)
	}
	config := sealed.Config[anyData]{Purpose: x.Purpose, Observe: rec.observe, Lifetime: 400 * 24 * time.Hour}
	if x.Lifetime > 0 {
		config.Lifetime = time.Duration(x.Lifetime) * time.Millisecond
	}
	config.IdleTimeout = time.Duration(x.Idle) * time.Millisecond
	config.Cookie.Name, config.Cookie.Insecure = x.Cookie, !strings.HasPrefix(x.Cookie, "__")
	m, err := sealed.New(ringOf(t, key), config) // with no other purpose than the vector's
	if err != nil {
		t.Fatal(err)
	}
	if x.Cookie == "" {
		s, info, err := m.Open(t.Context(), x.Token)
		return s.raw, info, err
	}
	return getAny(m, x.Cookie+"="+x.Token)
}
