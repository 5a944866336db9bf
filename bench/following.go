package main

import (
	"os"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// redisStream is the key of the list's log: see redisstore.Config.Prefix.
const redisStream = "sealed:revocations"

// lonelyEvery is so long that a replica has heard of a logout before the next.
const lonelyEvery = 60 * time.Millisecond

// following measures what logouts take where the list is on Redis: for the instance
// where they happen, for each that hears of them, and for Redis.
func (r *run) following() error {
	if err := r.emptyStores(); err != nil {
		return err
	}
	c := contender.Select(contender.SealedRedis)[0]
	err := testserver.Guard(func(h *testserver.Host) error {
		here, e := r.link(h)
		there, f := r.link(h)
		x := r.startChild(h, c, e)
		r.startChild(h, c, f)                      // which only hears of what happens there
		if err := x.visits(20, true); err != nil { // the stream is there, and its first pages
			return err
		}
		w := watch{r, here, there, x}
		time.Sleep(r.idle / 4) // until both have heard of those
		idle, alone, err := w.idleAndAlone()
		if err != nil {
			return err
		}
		together, err := w.during(func() error { return w.logouts(0) })
		if err != nil {
			return err
		}
		asked, answered, err := w.asking()
		if err != nil {
			return err
		}
		figures := compare(float64(r.lonely), alone, together.less(idle), asked, answered)
		r.results.Following = append(r.results.Following, figures)
		return nil
	})
	if err != nil {
		return err
	}
	return r.emptyStores()
}

// A watch is two instances that follow the log, each over its own link.
type watch struct {
	*run
	here, there links
	x           *child // where logouts happen
}

// A use is what they and Redis have used.
type use [uses]float64

const (
	seconds    = iota
	memory     // of the stream, in bytes
	storeCPU   // of Redis, in seconds
	hereBytes  // between the instance where logouts happen and Redis
	hereAsks   // how often it says something
	thereBytes // the same of the one that only hears of them
	thereAsks
	uses
)

// less returns what is left of u without what other uses in the same time.
func (u use) less(other use) use {
	scale := u[seconds] / other[seconds]
	for i := range u {
		u[i] -= scale * other[i]
	}
	return u
}

// during returns what is used while f runs, and everybody hears of it.
func (w watch) during(f func() error) (u use, err error) {
	start := time.Now()
	before, err := w.used()
	if err != nil {
		return u, err
	}
	if err := f(); err != nil {
		return u, err
	}
	time.Sleep(lonelyEvery)
	u, err = w.used()
	for i := range u {
		u[i] -= before[i]
	}
	u[seconds] = time.Since(start).Seconds()
	return u, err
}

// idleAndAlone returns what is used while nobody logs out, and, beyond that, by logouts
// of which each is by itself.
func (w watch) idleAndAlone() (idle, alone use, err error) {
	if idle, err = w.during(func() error { time.Sleep(w.idle / 2); return nil }); err != nil {
		return idle, alone, err
	}
	alone, err = w.during(func() error { return w.logouts(lonelyEvery) })
	return idle, alone.less(idle), err
}

// logouts has visitors log out, one so long after the other, or as soon as the one
// before has: none of them share an append.
func (w watch) logouts(every time.Duration) error {
	start := time.Now()
	for i := range w.lonely {
		w.say("one logout each %v: %d of %d", every, i+1, w.lonely)
		time.Sleep(time.Until(start.Add(time.Duration(i) * every)))
		if err := w.x.visits(1, true); err != nil {
			return err
		}
	}
	return nil
}

// used returns what was used up to now.
func (w watch) used() (u use, err error) {
	stream, err := w.redis.MemoryUsage(w.ctx, redisStream, 0).Result()
	if err != nil {
		return u, err
	}
	if u[storeCPU], err = w.redisSeconds(); err != nil {
		return u, err
	}
	h, t := w.here.redis.Traffic(), w.there.redis.Traffic()
	u[memory] = float64(stream)
	u[hereBytes], u[hereAsks] = float64(h.Asked+h.Answered), float64(h.Messages)
	u[thereBytes], u[thereAsks] = float64(t.Asked+t.Answered), float64(t.Messages)
	return u, nil
}

// asking returns the processor time, in microseconds, that an instance takes to ask
// Redis for news and that Redis takes to answer, if both are busy. When they wake up
// for it, they take several times as much: Go's runtime looks about for a while.
func (w watch) asking() (asker, store float64, err error) {
	s, err := redisstore.New(w.redis, redisstore.Config{})
	if err != nil {
		return 0, 0, err
	}
	page := revoke.Page{More: true}
	for page.More && err == nil {
		page, err = s.Read(w.ctx, page.Cursor)
	}
	if err != nil {
		return 0, 0, err
	}
	before, err := w.redisSeconds()
	if err != nil {
		return 0, 0, err
	}
	own, times := cpuOf(os.Getpid()), 10*w.lonely
	for range times {
		if _, err := s.Read(w.ctx, page.Cursor); err != nil {
			return 0, 0, err
		}
	}
	own = cpuOf(os.Getpid()) - own
	after, err := w.redisSeconds()
	return own.Seconds() / float64(times) * 1e6, (after - before) / float64(times) * 1e6, err
}

// compare makes the figures of n logouts, each by itself and one right after the other,
// and of what asking returns.
func compare(n float64, alone, together use, asked, answered float64) results.Following {
	f := results.Following{
		Contender: contender.SealedRedis, Logouts: int(n), EveryMillis: lonelyEvery.Seconds() * 1000,
		RedisBytes:  alone[memory] / n,
		AppendBytes: (alone[hereBytes] - alone[thereBytes]) / n, AppendMessages: (alone[hereAsks] - alone[thereAsks]) / n,
		HearBytes: alone[thereBytes] / n, HearMessages: alone[thereAsks] / n,
		AskMicros: asked, AskStoreMicros: answered,
	}
	// Those that come together are heard of in fewer readings. What they take beyond
	// those readings is each one's own.
	readings := together[thereAsks] / f.HearMessages
	f.Together = n / readings
	f.EntryBytes = (together[thereBytes] - readings*f.HearBytes) / (n - readings)
	f.AppendStoreMicros = (together[storeCPU]*1e6 - 2*together[thereAsks]*answered) / n // two have heard of it
	return f
}
