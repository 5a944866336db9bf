package faulttest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Load has 2,000 sessions a second revoked for ten seconds, on eight replicas in
// turn, and measures how long it takes from when the log has one until the other
// seven refuse it.
func Load(b *testing.B, connect func(b *testing.B) revoke.Log) {
	const rate, seconds, count = 2000, 10, 8
	var replicas []*revoke.Replica
	for range count {
		r, err := revoke.Follow(connect(b), revoke.Policy{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { closeNow(r) })
		ready, cancel := context.WithTimeout(b.Context(), 30*time.Second)
		defer cancel()
		if err := r.Ready(ready); err != nil {
			b.Fatal(err)
		}
		replicas = append(replicas, r)
	}
	var mu sync.Mutex
	var lags, answers []time.Duration
	failed := 0
	var pending sync.WaitGroup
	run := time.Now().UnixNano()
	start := time.Now()
	for n := range rate * seconds {
		time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / rate)))
		pending.Go(func() {
			var id sealed.ID
			binary.BigEndian.PutUint64(id[:], uint64(run))
			binary.BigEndian.PutUint64(id[8:], uint64(n))
			asked := time.Now()
			if err := replicas[n%count].Revoke(b.Context(), sealed.Revocation{ID: id, Until: time.Now().Add(time.Hour)}); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				return
			}
			acknowledged := time.Now()
			for _, r := range replicas {
				for !errors.Is(r.Check(b.Context(), sealed.Info{ID: id}), sealed.ErrRevoked) {
					time.Sleep(time.Millisecond)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			lags, answers = append(lags, time.Since(acknowledged)), append(answers, acknowledged.Sub(asked))
		})
	}
	took := time.Since(start)
	pending.Wait()
	slices.Sort(lags)
	slices.Sort(answers)
	if len(lags) == 0 {
		b.Fatal("nothing was acknowledged")
	}
	at := func(d []time.Duration, percent int) float64 {
		return float64(d[min(len(d)-1, len(d)*percent/100)].Microseconds()) / 1000
	}
	b.ReportMetric(float64(len(lags))/took.Seconds(), "revocations/s")
	b.ReportMetric(at(lags, 50), "ms-lag-p50")
	b.ReportMetric(at(lags, 99), "ms-lag-p99")
	b.ReportMetric(at(answers, 50), "ms-Revoke-p50")
	b.ReportMetric(at(answers, 99), "ms-Revoke-p99")
	b.ReportMetric(float64(failed), "failed")
	b.ReportMetric(0, "ns/op")
}
