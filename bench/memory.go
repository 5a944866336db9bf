package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

// A footprint is the memory of a contender and its store at one time, and what they
// have said to each other until then, if that is known.
type footprint struct{ heap, rss, store, disk, asked, answered int64 }

func (f footprint) minus(g footprint) footprint {
	return footprint{f.heap - g.heap, f.rss - g.rss, f.store - g.store, f.disk - g.disk, f.asked - g.asked, f.answered - g.answered}
}

// footprint measures a contender, after a garbage collection.
func (r *run) footprint(x *child, l links) (f footprint, err error) {
	u, err := x.usage(true)
	if err != nil {
		return f, err
	}
	f.heap, f.rss = int64(u.Heap), int64(u.RSS)
	if l.redis != nil {
		t := l.traffic(x)
		f.asked, f.answered = t.Asked, t.Answered
	}
	switch x.Store {
	case contender.OnRedis:
		f.store, err = r.redisMemory()
	case contender.OnPostgres:
		f.store, f.disk, err = r.postgresMemory()
	}
	return f, err
}

var usedMemory = regexp.MustCompile(`(?m)^used_memory:(\d+)`)

// redisMemory returns what Redis says that it uses.
func (r *run) redisMemory() (int64, error) {
	text, err := r.redis.Info(r.ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	found := usedMemory.FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("INFO memory has no used_memory: %q", text)
	}
	return strconv.ParseInt(found[1], 10, 64)
}

// postgresMemory returns the memory of the server's processes, each page that several
// share counted once in all, and the size of the table with its indexes. Of a server
// that is not this run's the former is not known, and 0.
func (r *run) postgresMemory() (memory, disk int64, err error) {
	ctx := r.ctx
	tables, err := r.sessionTables()
	if err != nil {
		return 0, 0, err
	}
	for _, table := range tables {
		var n int64
		if err := r.postgres.QueryRow(ctx, "SELECT pg_total_relation_size($1::regclass)", table).Scan(&n); err != nil {
			return 0, 0, err
		}
		disk += n
	}
	if r.pgServer == nil {
		return 0, disk, nil
	}
	for _, pid := range r.pgServer.PIDs() {
		n, err := memoryOf(pid, "/smaps_rollup", "Pss:")
		if err != nil {
			continue // it has ended since
		}
		memory += int64(n)
	}
	return memory, disk, nil
}

// storeCPU returns the processor time that each process of a contender's store has
// used. Redis says its own, wherever it is; that of a PostgreSQL that is not this run's
// is not known.
func (r *run) storeCPU(x *child) map[int]time.Duration {
	used := map[int]time.Duration{}
	switch {
	case x.Store == contender.OnRedis:
		if seconds, err := r.redisSeconds(); err == nil {
			used[0] = time.Duration(seconds * float64(time.Second))
		}
	case x.Store == contender.OnPostgres && r.pgServer != nil:
		for _, pid := range r.pgServer.PIDs() {
			used[pid] = cpuOf(pid)
		}
	}
	return used
}

// redisSeconds returns the processor time that Redis says to have used.
func (r *run) redisSeconds() (seconds float64, err error) {
	info, err := r.redis.Info(r.ctx, "cpu").Result()
	if err != nil {
		return 0, err
	}
	for _, field := range []string{"used_cpu_sys", "used_cpu_user"} {
		_, rest, _ := strings.Cut(info, "\n"+field+":")
		text, _, _ := strings.Cut(rest, "\r")
		s, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, fmt.Errorf("asking Redis for its %s: %w", field, err)
		}
		seconds += s
	}
	return seconds, nil
}

// since returns what processes have used since before, those that have ended apart.
func since(before, after map[int]time.Duration) (used time.Duration) {
	for pid, now := range after {
		used += max(0, now-before[pid])
	}
	return used
}

// maxOnNode is how many sessions are made at most on Node.
const maxOnNode = 100_000

// memory measures what live sessions take, each contender alone.
func (r *run) memory() error {
	if err := contender.Install("node"); err != nil {
		return err
	}
	for _, c := range slices.Concat(contender.All, contender.OnNode) {
		counts := r.sessions
		switch {
		case c.Name == contender.None, c.Name == contender.NodeNone:
			continue
		case c.Node: // its visitors log in over HTTP, which takes long
			counts = slices.DeleteFunc(slices.Clone(counts), func(n int) bool { return n > maxOnNode })
		}
		if err := r.emptyStores(); err != nil {
			return err
		}
		err := r.with([]contender.Contender{c}, r.stores(), func(children []*child) error {
			return r.fill(children[0], links{}, counts, false, func(n int, f footprint) {
				r.results.Memory = append(r.results.Memory, results.Memory{
					Contender: c.Name, Sessions: n, Heap: f.heap, RSS: f.rss, Store: f.store, Disk: f.disk,
				})
			})
		})
		if err != nil {
			return err
		}
	}
	return r.emptyStores()
}

// fill has visitors log in, and out again if told so, until there were as many as
// each of counts says, and reports what that takes.
func (r *run) fill(x *child, l links, counts []int, out bool, report func(n int, f footprint)) error {
	// A few first: a process that has not yet done anything grows without sessions.
	if err := x.visits(100, out); err != nil {
		return err
	}
	empty, err := r.footprint(x, l)
	if err != nil {
		return err
	}
	done := 0
	for _, n := range counts {
		for done < n {
			r.say("memory: %s: %d of %d visitors", x.Name, done, n)
			some := min(20_000, n-done)
			if err := x.visits(some, out); err != nil {
				return err
			}
			done += some
		}
		full, err := r.footprint(x, l)
		if err != nil {
			return err
		}
		report(n, full.minus(empty))
	}
	return nil
}

// revoked measures what sessions take that were ended early.
func (r *run) revoked() error {
	for _, c := range contender.Select(contender.SealedMemory, contender.SealedRedis) {
		if err := r.emptyStores(); err != nil {
			return err
		}
		err := testserver.Guard(func(h *testserver.Host) error {
			l, e := r.link(h)
			return r.with([]contender.Contender{c}, e, func(children []*child) error {
				return r.fill(children[0], l, r.revocations, true, func(n int, f footprint) {
					r.results.Revocations = append(r.results.Revocations, results.Revocations{
						Contender: c.Name, Count: n, Heap: f.heap, Store: f.store, Asked: f.asked, Answered: f.answered,
					})
				})
			})
		})
		if err != nil {
			return err
		}
	}
	return r.emptyStores()
}
