package revoke_test

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

var benchEntries = flag.Int("entries", 5_000_000, "how many revocations the benchmarks hold")

// mapList is the plain way to do it, which the list is measured beside.
type mapList struct {
	mu       sync.RWMutex
	sessions map[sealed.ID]int64
}

func (l *mapList) Revoke(_ context.Context, r sealed.Revocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[r.ID] = r.Until.Unix() / 3600
	return nil
}

func (l *mapList) Check(_ context.Context, s sealed.Info) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, ok := l.sessions[s.ID]; ok {
		return sealed.ErrRevoked
	}
	return nil
}

// heap returns the bytes in use, and how long a collection of them stops the
// program, and lasts in all.
func heap() (used uint64, pause, collection time.Duration) {
	runtime.GC()
	before := debug.GCStats{}
	debug.ReadGCStats(&before)
	start := time.Now()
	runtime.GC()
	collection = time.Since(start)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	after := debug.GCStats{}
	debug.ReadGCStats(&after)
	return m.HeapAlloc, after.PauseTotal - before.PauseTotal, collection
}

// BenchmarkList measures the list with 5 million entries (-entries for more), whose
// sessions end within a day, beside a map of as many, in one run. Each is built
// once; bytes and the collector's times are of the built list.
func BenchmarkList(b *testing.B) {
	for name, empty := range map[string]func() sealed.RevocationList{
		"sealed": func() sealed.RevocationList { return revoke.NewList() },
		"map":    func() sealed.RevocationList { return &mapList{sessions: map[sealed.ID]int64{}} },
	} {
		b.Run(name, func(b *testing.B) { benchList(b, empty()) })
	}
}

func benchList(b *testing.B, list sealed.RevocationList) {
	n := *benchEntries
	info := func(rng *rand.Rand, start time.Time) sealed.Info {
		var s sealed.Info
		binary.LittleEndian.PutUint64(s.ID[:], rng.Uint64())
		binary.LittleEndian.PutUint64(s.ID[8:], rng.Uint64())
		s.Expires = start.Add(time.Duration(rng.Int64N(int64(24 * time.Hour))))
		return s
	}
	start := time.Now()
	before, _, _ := heap()
	rng := rand.New(rand.NewPCG(1, 1))
	for range n {
		s := info(rng, start)
		if err := list.Revoke(b.Context(), sealed.Revocation{ID: s.ID, Until: s.Expires.Add(5 * time.Minute)}); err != nil {
			b.Fatal(err)
		}
	}
	filled := time.Since(start)
	after, pause, collection := heap()
	if after < before {
		b.Fatal("the list weighs nothing")
	}
	perEntry := float64(after-before) / float64(n)

	// The sessions are asked for in another order than they came, and are more than
	// fit into the processor's nearest caches.
	sample := 1 << 18
	for sample > n {
		sample /= 2
	}
	type session struct {
		id      sealed.ID
		expires int64
	}
	ask := func(b *testing.B, rng *rand.Rand, step int, want error) {
		sessions := make([]session, sample)
		for i := range sessions {
			for range step - 1 {
				info(rng, start)
			}
			s := info(rng, start)
			sessions[i] = session{s.ID, s.Expires.Unix()}
		}
		rng.Shuffle(sample, func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			s := &sessions[i&(sample-1)]
			if err := list.Check(context.Background(), sealed.Info{ID: s.id, Expires: time.Unix(s.expires, 0)}); err != want {
				b.Fatalf("%v, want %v", err, want)
			}
			i++
		}
	}
	b.Run("miss", func(b *testing.B) {
		ask(b, rand.New(rand.NewPCG(2, 2)), 1, nil)
		b.ReportMetric(perEntry, "B/entry")
		b.ReportMetric(float64(pause.Microseconds()), "GC-pause-µs")
		b.ReportMetric(float64(collection.Microseconds())/1000, "GC-ms")
		b.ReportMetric(float64(filled.Nanoseconds())/float64(n), "ns/insert")
	})
	b.Run("hit", func(b *testing.B) {
		ask(b, rand.New(rand.NewPCG(1, 1)), max(1, n/sample), sealed.ErrRevoked)
	})
	runtime.KeepAlive(list)
}
