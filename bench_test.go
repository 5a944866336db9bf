package sealed_test

import (
	"context"
	"encoding/binary"
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

func (s *sink) Header() http.Header { return s.header }

func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

func (s *sink) WriteHeader(int) {}

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
