package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/examples/shop/app"
	"example.com/sealed/keystore"
	"example.com/sealed/revoke"
)

var soakTime = flag.Duration("soak", 10*time.Second, "how long TestSoak runs")

// The shop over TLS for as long as -soak says: with visitors whose sessions are held to what
// they did, some of them on devices that bind sessions; keys that rotate and are dropped;
// logouts of one session and of all; and clients that misbehave. No session may get lost, no copy of one that
// ended may work, and the process may not grow.
func TestSoak(t *testing.T) {
	before := runtime.NumGoroutine()
	s := openSoak(t)
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() { s.stay(i) })
	}
	for i := range 2 {
		clients.Go(func() { s.comeAndGo(i) })
	}
	clients.Go(s.misbehave)
	samples := s.watch()
	clients.Wait()
	s.close()

	for _, tt := range []struct {
		what     string
		n, least int64
	}{
		{"requests", s.requests.Load(), 100}, {"keys that sealed", s.keysSeen(), 2}, {"logouts", s.logouts.Load(), 3},
		{"abuses", s.abuses.Load(), 14}, {"signatures", s.signatures.Load(), 8}, {"keys that were dropped", s.dropped.Load(), int64(*soakTime/(2*retain()) - 1)},
	} {
		t.Logf("%s: %d", tt.what, tt.n)
		if tt.n < tt.least {
			t.Errorf("%s: %d, want %d at least", tt.what, tt.n, tt.least)
		}
	}
	for what, n := range s.events() {
		t.Logf("event %s: %d", what, n)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks())
			break
		}
	}
	flat(t, samples)
}

// A soak is the shop, and what has happened in it.
type soak struct {
	t    *testing.T
	ctx  context.Context // until the end
	base string
	pool *x509.CertPool
	list *revoke.List
	stop []func()

	requests, logouts, abuses, signatures, dropped atomic.Int64

	mu   sync.Mutex
	seen map[string]int // events
	keys map[string]bool
}

// retain is how long a key that seals no more is kept: less than sessions last, as who comes
// by in that time gets a cookie under the new one.
func retain() time.Duration { return max(*soakTime/6, time.Minute) }

func openSoak(t *testing.T) *soak {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *soakTime)
	s := &soak{t: t, ctx: ctx, list: revoke.NewList(), pool: x509.NewCertPool(), seen: map[string]int{}, keys: map[string]bool{}}
	wrapping := []sealed.Key{sealed.GenerateKey()}
	policy := keystore.Policy{
		CreateIfEmpty: true, RotateEvery: max(*soakTime/30, 3*time.Second), Lead: time.Second, Poll: 300 * time.Millisecond,
		Retain: retain(), Observe: func(e keystore.Event) {
			if e.Kind == keystore.EventRemoved {
				s.dropped.Add(1)
			}
		},
	}
	keys, err := keystore.Open(context.WithoutCancel(ctx), keystore.NewFile(filepath.Join(t.TempDir(), "keys")), wrapping, policy)
	if err != nil {
		t.Fatal(err)
	}
	shop, err := app.New(app.Config{
		Keys: keys, Policy: policy, Revocations: s.list, Bind: true, Log: slog.New(slog.DiscardHandler), Observe: s.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	certificate, _, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	s.pool.AddCert(leaf)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s.base = "https://localhost:" + port
	server := &http.Server{
		Handler: shop, ReadHeaderTimeout: 2 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan struct{})
	go func() { defer close(served); server.ServeTLS(listener, "", "") }()
	s.stop = []func(){cancel, func() { server.Close() }, func() { <-served }, keys.Close}
	return s
}

func (s *soak) close() {
	for _, stop := range s.stop {
		stop()
	}
}

func (s *soak) observe(_ context.Context, e sealed.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[strings.TrimSuffix(string(e.Kind)+" "+string(e.Reason), " ")]++
	if e.Kind == sealed.EventSealed {
		s.keys[e.KeyID] = true
	}
}

func (s *soak) events() map[string]int { s.mu.Lock(); defer s.mu.Unlock(); return s.seen }
func (s *soak) keysSeen() int64        { s.mu.Lock(); defer s.mu.Unlock(); return int64(len(s.keys)) }

// pace is how often a visitor comes.
const pace = 150 * time.Millisecond

// until calls f at a pace until the end.
func (s *soak) until(pace time.Duration, f func(n int)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; s.ctx.Err() == nil && !s.t.Failed(); n++ {
		f(n)
		select {
		case <-tick.C:
		case <-s.ctx.Done():
		}
	}
}

func (s *soak) transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2}
}

// A sample is the heap after a collection, and how many revocations the list has.
type sample struct{ heap, listed int }

// watch samples forty times until the end.
func (s *soak) watch() (samples []sample) {
	s.until(*soakTime/40, func(n int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		samples = append(samples, sample{int(m.HeapAlloc), s.list.Len()})
		if n%4 == 0 {
			s.t.Logf("%5.1f %%: heap %5d kB, %3d goroutines, %6d requests, %d in the list, %d keys have sealed",
				float64(n)/0.4, m.HeapAlloc>>10, runtime.NumGoroutine(), s.requests.Load(), s.list.Len(), s.keysSeen())
		}
	})
	return samples
}

// flat compares the last quarter with the second: the list keeps what was logged out until
// it would have expired, which is longer than this takes, and nothing else may grow.
func flat(t *testing.T, samples []sample) {
	t.Helper()
	quarter := len(samples) / 4
	if quarter == 0 {
		t.Fatalf("%d samples", len(samples))
	}
	median := func(all []sample) sample {
		return slices.SortedFunc(slices.Values(all), func(a, b sample) int { return a.heap - b.heap })[len(all)/2]
	}
	early, late := median(samples[quarter:2*quarter]), median(samples[3*quarter:])
	grown := late.listed - early.listed
	t.Logf("heap: %d kB in the second quarter, %d kB in the last, with %d more in the list", early.heap>>10, late.heap>>10, grown)
	if most := early.heap + 200*max(0, grown) + 1<<20; late.heap > most {
		t.Errorf("the heap has grown from %d to %d bytes, more than to %d", early.heap, late.heap, most)
	}
}

func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}
