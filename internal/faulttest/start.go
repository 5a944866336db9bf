package faulttest

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/revoke"
)

var startEntries = flag.Int("entries", 5_000_000, "how many revocations there are when a replica starts")

// Start measures how long a replica takes until it is ready, by the length of the log
// (-entries), on this machine and 5 ms away, and how much memory it takes on the way,
// beside what it takes then. addr is where the server is, and connect connects to it.
func Start(b *testing.B, addr string, connect func(b *testing.B, addr string) revoke.Log) {
	log := connect(b, addr)
	fill(b, log, *startEntries)
	for name, delay := range map[string]time.Duration{"here": 0, "5 ms away": 2500 * time.Microsecond} {
		b.Run(name, func(b *testing.B) {
			proxy := testserver.NewProxy(b, addr)
			proxy.Delay(delay)
			b.ResetTimer()
			for range b.N {
				before := heapNow()
				var most atomic.Uint64
				stop := make(chan struct{})
				var watching sync.WaitGroup
				watching.Go(func() { watchHeap(&most, stop) })
				start := time.Now()
				r, err := revoke.Follow(connect(b, proxy.Addr), revoke.Policy{})
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
				if err := r.Ready(ctx); err != nil {
					b.Fatal(err)
				}
				took := time.Since(start)
				cancel()
				close(stop)
				watching.Wait()
				if n := r.Status().Entries; n != *startEntries {
					b.Fatalf("%d entries of %d", n, *startEntries)
				}
				after := heapNow()
				closeNow(r)
				b.ReportMetric(took.Seconds(), "s")
				b.ReportMetric(float64(after-before)/1e6, "MB-then")
				b.ReportMetric(float64(most.Load()-before)/float64(after-before), "most/then")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// watchHeap notes the most that the heap has, with what was not collected yet.
func watchHeap(most *atomic.Uint64, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most.Store(max(most.Load(), m.HeapAlloc))
	}
}

// fill appends revocations of sessions that end within a day.
func fill(b *testing.B, log revoke.Log, n int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	for done := 0; done < n; {
		batch := make([]sealed.Revocation, min(1000, n-done))
		for i := range batch {
			binary.LittleEndian.PutUint64(batch[i].ID[:], rng.Uint64())
			binary.LittleEndian.PutUint64(batch[i].ID[8:], rng.Uint64())
			batch[i].Until = now.Add(time.Hour + time.Duration(rng.Int64N(int64(23*time.Hour))))
		}
		if err := log.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		done += len(batch)
	}
}
