package faulttest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/revoke"
)

// Far has a replica that is 100 ms away follow a log to which 2,000 revocations a second
// are added, each by itself, as by many instances. It must not go stale, and know all in
// the end.
func Far(t *testing.T, addr string, connect func(t *testing.T, addr string) revoke.Log) {
	const rate, lasting, writers = 2000, 6 * time.Second, 16
	proxy := testserver.NewProxy(t, addr)
	proxy.Delay(50 * time.Millisecond)
	var stale atomic.Int32
	r, err := revoke.Follow(connect(t, proxy.Addr), revoke.Policy{MaxStale: 3 * time.Second, Observe: func(e revoke.Event) {
		if e.Kind == revoke.EventStale {
			stale.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(r) })
	if err := r.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	var added atomic.Int64
	start := time.Now()
	for w := range writers {
		log := connect(t, addr)
		writing.Go(func() {
			for n := 0; time.Since(start) < lasting; n++ {
				var id sealed.ID
				binary.BigEndian.PutUint64(id[:], uint64(w+1))
				binary.BigEndian.PutUint64(id[8:], uint64(n))
				if err := log.Append(t.Context(), []sealed.Revocation{{ID: id, Until: time.Now().Add(time.Hour)}}); err != nil {
					t.Error(err)
					return
				}
				added.Add(1)
				time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second * writers / rate)))
			}
		})
	}
	writing.Wait()
	for end := time.Now().Add(3 * time.Second); r.Status().Entries < int(added.Load()) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d revocations in %v; the far replica knows %d, %v old", added.Load(), lasting, r.Status().Entries, r.Status().Age.Round(time.Millisecond))
	if r.Status().Entries != int(added.Load()) || stale.Load() > 0 || r.Health() != nil {
		t.Errorf("the far replica knows %d of %d, went stale %d times: %+v", r.Status().Entries, added.Load(), stale.Load(), r.Status())
	}
}

// Herd has ten replicas follow a log of 150,000 entries whose server fails over to one
// that lacks the last. No session is refused, and what they read for it is little: fail
// gets the networks of the replicas.
func Herd(t *testing.T, addr string, connect func(t *testing.T, addr string) revoke.Log, fail func(networks []*testserver.Proxy)) {
	const instances, entries = 10, 150_000
	log := connect(t, addr)
	for n := 0; n < entries; n += 1000 {
		batch := make([]sealed.Revocation, 1000)
		for i := range batch {
			binary.BigEndian.PutUint64(batch[i].ID[:], 1<<40)
			binary.BigEndian.PutUint64(batch[i].ID[8:], uint64(n+i))
			batch[i].Until = time.Now().Add(time.Hour)
		}
		if err := log.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	var gaps, restored atomic.Int32
	var networks []*testserver.Proxy
	var replicas []*revoke.Replica
	for range instances {
		p := testserver.NewProxy(t, addr)
		r, err := revoke.Follow(connect(t, p.Addr), revoke.Policy{Observe: func(e revoke.Event) {
			switch e.Kind {
			case revoke.EventGap:
				gaps.Add(1)
			case revoke.EventRestored:
				restored.Add(1)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeNow(r) })
		if err := r.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		networks, replicas = append(networks, p), append(replicas, r)
	}
	var asked int64
	for _, p := range networks {
		asked -= p.Traffic().Answered
	}
	stop := make(chan struct{})
	var refused atomic.Int64
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			for _, r := range replicas {
				if r.Health() != nil {
					refused.Add(1)
				}
			}
		}
	})
	fail(networks)
	for end := time.Now().Add(20 * time.Second); gaps.Load() < instances && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	close(stop)
	watching.Wait()
	for _, p := range networks {
		asked += p.Traffic().Answered
	}
	t.Logf("%d gaps, %d restored; %d kB read by each; refused %d times in a look at all each 5 ms", gaps.Load(), restored.Load(), asked/instances/1000, refused.Load())
	if gaps.Load() < instances || restored.Load() == 0 {
		t.Errorf("%d gaps and %d restored: did the failover lose anything?", gaps.Load(), restored.Load())
	}
	if refused.Load() > 0 {
		t.Errorf("sessions were refused: %d looks found a replica stale", refused.Load())
	}
	if asked/instances > 1_000_000 {
		t.Errorf("each replica read %d bytes after the failover: that is the whole log", asked/instances)
	}
}
