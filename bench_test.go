package sealed_test

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

// reference is the session that all figures of this project are measured with.
type reference struct {
	UserID int64           `cbor:"1,keyasint,omitempty"`
	Role   string          `cbor:"2,keyasint,omitempty"`
	Theme  string          `cbor:"3,keyasint,omitempty"`
	Cart   []referenceItem `cbor:"4,keyasint,omitempty"`
}

type referenceItem struct {
	SKU string `cbor:"1,keyasint"`
	Qty int    `cbor:"2,keyasint"`
}

func referenceSession() reference {
	return reference{UserID: 1042, Role: "user", Theme: "dark", Cart: []referenceItem{{"mug", 1}, {"tee", 2}}}
}

// A sink is a ResponseWriter that costs as little as one can.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}

// serve serves one request again and again. It has the session's cookies, behind
// two that most sites have: of analytics, and of the visitor's consent to them.
func serve(b *testing.B, h http.Handler, cookies ...*http.Cookie) {
	b.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "_ga", Value: "GA1.1.1420183726.1763848267"})
	r.AddCookie(&http.Cookie{Name: "consent", Value: "all"})
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := &sink{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

// benchManager returns a manager, the secret of its key, and the cookies of a
// session that holds data.
func benchManager[T any](b *testing.B, data T, config sealed.Config[T]) (*sealed.Manager[T], sealed.Key, []*http.Cookie) {
	b.Helper()
	key := sealed.GenerateKey()
	keys, err := sealed.NewKeyring(key)
	if err != nil {
		b.Fatal(err)
	}
	m, err := sealed.New(keys, config)
	if err != nil {
		b.Fatal(err)
	}
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *T) { *s = data }); err != nil {
			b.Fatal(err)
		}
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	return m, key, w.Result().Cookies()
}

// BenchmarkUntouched is a request whose handler never asks for the session.
func BenchmarkUntouched(b *testing.B) {
	m, _, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	serve(b, m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), cookies...)
}

// BenchmarkGet is a request whose handler reads the session.
func BenchmarkGet(b *testing.B) {
	m, _, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	serve(b, reads(b, m), cookies...)
}

// reads is a handler that reads the session.
func reads(b *testing.B, m *sealed.Manager[reference]) http.Handler {
	return m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s, err := m.Get(r.Context()); err != nil || s.UserID != 1042 {
			b.Fatal(s, err)
		}
	}))
}

// BenchmarkNewGoroutine is BenchmarkGet and BenchmarkFloorGet with a goroutine for each
// request, as net/http has it over HTTP/2. Its stack is small, and has to grow.
func BenchmarkNewGoroutine(b *testing.B) {
	m, key, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	for name, h := range map[string]http.Handler{"Get": reads(b, m), "FloorGet": newFloor(b, key).reads(b)} {
		b.Run(name, func(b *testing.B) { serve(b, onNewGoroutine(h), cookies...) })
	}
}

func onNewGoroutine(h http.Handler) http.Handler {
	done := make(chan struct{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() {
			defer func() { done <- struct{}{} }() // also after b.Fatal
			h.ServeHTTP(w, r)
		}()
		<-done
	})
}

// longList returns a revocation list of five million entries, made once.
var longList = sync.OnceValue(func() *revoke.List {
	list := revoke.NewList()
	until := time.Now().Add(time.Hour)
	for range 5_000_000 {
		var id sealed.ID
		binary.LittleEndian.PutUint64(id[:], mathrand.Uint64())
		binary.LittleEndian.PutUint64(id[8:], mathrand.Uint64())
		if err := list.Revoke(context.Background(), sealed.Revocation{ID: id, Until: until.Add(time.Duration(mathrand.Int64N(int64(24 * time.Hour))))}); err != nil {
			panic(err)
		}
	}
	return list
})

// BenchmarkGetListed is BenchmarkGet without a revocation list, and with one of five
// million entries. Both hold the list in memory: a larger heap has the garbage
// collector run less often, which is not what is measured.
func BenchmarkGetListed(b *testing.B) {
	list := longList()
	for _, listed := range []bool{false, true} {
		var config sealed.Config[reference]
		if listed {
			config.Revocations = list
		}
		m, _, cookies := benchManager(b, referenceSession(), config)
		b.Run(fmt.Sprintf("list=%v", listed), func(b *testing.B) {
			serve(b, reads(b, m), cookies...)
		})
	}
}

// BenchmarkDeviceGet and BenchmarkDeviceUpdate are BenchmarkGet and BenchmarkUpdate for the
// session of a subject: without device binding, with it and not bound, and bound. There is no list: with one,
// a session that is not bound is asked for twice, and so is one that is in the minutes of its first proof.
func BenchmarkDeviceGet(b *testing.B) {
	benchDevice(b, func(m *sealed.Manager[reference], r *http.Request) error {
		_, err := m.Get(r.Context())
		return err
	})
}

func BenchmarkDeviceUpdate(b *testing.B) {
	benchDevice(b, func(m *sealed.Manager[reference], r *http.Request) error {
		return m.Update(r.Context(), func(s *reference) { s.Cart[0].Qty = 9 })
	})
}

func benchDevice(b *testing.B, use func(*sealed.Manager[reference], *http.Request) error) {
	for _, state := range []string{"off", "unbound", "bound"} {
		config := sealed.Config[reference]{Subject: func(s reference) string { return strconv.FormatInt(s.UserID, 10) }}
		if state != "off" {
			config.DeviceBinding = &sealed.DeviceBinding{}
		}
		m := mustNew(b, mustRing(b), config)
		login := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				if err := m.Update(r.Context(), func(s *reference) { *s = referenceSession() }); err != nil {
					b.Fatal(err)
				}
			} else if _, err := m.Get(r.Context()); err != nil { // which has the cookie sealed with the binding
				b.Fatal(err)
			}
		}))
		d := sealedtest.NewDevice(b, sealedtest.Serve(login))
		client := d.Client()
		if state != "bound" {
			client.Transport = sealedtest.Serve(login)
		}
		for _, path := range []string{"/login", "/"} {
			if _, err := client.Get("https://" + site.Host + path); err != nil {
				b.Fatal(err)
			}
		}
		cookies := d.Jar.Cookies(site)
		if (len(cookies) == 2) != (state == "bound") {
			b.Fatalf("%s: %d cookies", state, len(cookies))
		}
		b.Run(state, func(b *testing.B) {
			serve(b, m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if err := use(m, r); err != nil {
					b.Fatal(err)
				}
			})), cookies...)
			size := 0
			for _, c := range cookies {
				size += len(c.Name) + 1 + len(c.Value)
			}
			b.ReportMetric(float64(size), "cookiebytes")
		})
	}
}

// BenchmarkUpdate is a request whose handler changes the session.
func BenchmarkUpdate(b *testing.B) {
	m, _, cookies := benchManager(b, referenceSession(), sealed.Config[reference]{})
	serve(b, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *reference) { s.Cart[0].Qty = 9 }); err != nil {
			b.Fatal(err)
		}
	})), cookies...)
}

// What a request allocates is part of what it costs, and does not depend on the
// machine.
func TestAllocations(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[reference]{})
	b := newBrowser(t)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *reference) { *s = referenceSession() }); err != nil {
			t.Error(err)
		}
	})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", b.cookie())
	w := &sink{http.Header{}}
	for _, tt := range []struct {
		name        string
		most, bytes float64
		h           http.HandlerFunc
	}{
		{"untouched", 1, 432, func(http.ResponseWriter, *http.Request) {}},
		{"get", 8, 1040, func(_ http.ResponseWriter, r *http.Request) {
			if _, err := m.Get(r.Context()); err != nil {
				t.Error(err)
			}
		}},
		{"update", 13, 1520, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *reference) { s.Cart[0].Qty = 9 }); err != nil {
				t.Error(err)
			}
		}},
	} {
		h := m.Handler(tt.h)
		got, bytes := math.Inf(1), math.Inf(1)
		for range 3 { // what other tests have left behind is collected at the same time, pools too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got = min(got, testing.AllocsPerRun(100, func() { clear(w.header); h.ServeHTTP(w, r) }))
			runtime.ReadMemStats(&after)
			bytes = min(bytes, float64(after.TotalAlloc-before.TotalAlloc)/101) // one to warm up
		}
		if got > tt.most+raceAllocations {
			t.Errorf("%s: %v allocations, at most %v", tt.name, got, tt.most)
		}
		if most := tt.bytes + raceAllocations*512; bytes > most {
			t.Errorf("%s: %.0f bytes, at most %v", tt.name, bytes, most)
		}
	}
}

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

// BenchmarkSize reads and changes sessions of growing size.
func BenchmarkSize(b *testing.B) {
	type blob struct {
		Text string `cbor:"1,keyasint"`
	}
	for _, size := range []int{100, 1 << 10, 2800, 4 << 10, 8 << 10, 16 << 10} {
		m, _, cookies := benchManager(b, blob{strings.Repeat("x", size)}, sealed.Config[blob]{Cookie: sealed.Cookie{MaxChunks: 8}})
		b.Run(fmt.Sprintf("get/%d", size), func(b *testing.B) {
			serve(b, m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err != nil {
					b.Fatal(err)
				}
			})), cookies...)
		})
		b.Run(fmt.Sprintf("update/%d", size), func(b *testing.B) {
			n := 0
			serve(b, m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				n++
				err := m.Update(r.Context(), func(s *blob) { s.Text = strconv.Itoa(n%10) + s.Text[1:] })
				if err != nil {
					b.Fatal(err)
				}
			})), cookies...)
		})
	}
}
