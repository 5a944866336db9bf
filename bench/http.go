package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// traffic gathers what a crowd has seen, over the rounds.
type traffic struct {
	perSecond []float64
	cpu       []float64 // microseconds of the application's process, for a request
	storeCPU  []float64 // and of the store's, if it is this run's
	micros    []float64 // of each request
}

// gathered is the traffic of each of some loads.
type gathered[K comparable] map[K]*traffic

func (g gathered[K]) of(k K) *traffic {
	if g[k] == nil {
		g[k] = &traffic{}
	}
	return g[k]
}

// addRound adds one round to t.
func addRound[D doer](r *run, t *traffic, x *child, c []D, operation string, d time.Duration) error {
	before, err := x.usage(false)
	if err != nil {
		return err
	}
	storeBefore := r.storeCPU(x)
	micros, elapsed, err := visitAll(c, operation, d)
	if err != nil {
		return fmt.Errorf("%s: %w", x.Name, err)
	}
	after, err := x.usage(false)
	if err != nil {
		return err
	}
	n := float64(len(micros))
	if used := since(storeBefore, r.storeCPU(x)); used > 0 {
		t.storeCPU = append(t.storeCPU, float64(used.Microseconds())/n)
	}
	t.perSecond = append(t.perSecond, n/elapsed.Seconds())
	t.cpu = append(t.cpu, float64((after.CPU-before.CPU).Microseconds())/n)
	t.micros = append(t.micros, micros...)
	return nil
}

// percentile returns the time that a share of all requests did not exceed, or 0
// where fewer than ten did: they would be chance.
func (t *traffic) percentile(share float64) float64 {
	n := len(t.micros)
	if float64(n)*(1-share) < 10 {
		return 0
	}
	slices.Sort(t.micros)
	return t.micros[int(math.Ceil(float64(n)*share))-1]
}

// loaded is one operation of a contender with so many connections.
type loaded struct {
	contender, operation string
	connections          int
}

// overHTTP measures requests over loopback.
func (r *run) overHTTP() error {
	operations := []string{contender.Untouched, contender.Read, contender.Change}
	seen := gathered[loaded]{}
	return r.with(contender.All, r.stores(), func(children []*child) error {
		crowds, err := r.gatherAll(children, slices.Max(r.connections))
		if err != nil {
			return err
		}
		err = r.interleave("HTTP, warming up", 1, children, func(x *child) error {
			return addRound(r, &traffic{}, x, crowds[x.Name], contender.Read, r.http)
		})
		if err != nil {
			return err
		}
		err = r.interleave("HTTP", r.rounds, children, func(x *child) error {
			for _, n := range r.connections {
				for _, operation := range operations {
					k := loaded{x.Name, operation, n}
					if err := addRound(r, seen.of(k), x, crowds[x.Name][:n], operation, r.http); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, x := range children {
			for _, operation := range operations {
				for _, n := range r.connections {
					k := loaded{x.Name, operation, n}
					r.results.HTTP = append(r.results.HTTP, seen[k].load(k))
				}
			}
		}
		return nil
	})
}

// load returns the row of the results.
func (t *traffic) load(k loaded) results.Load {
	return results.Load{
		Contender: k.contender, Operation: k.operation, Connections: k.connections,
		PerSecond: results.NewSpread(t.perSecond), ServerCPUMicros: results.NewSpread(t.cpu),
		StoreCPUMicros: results.NewSpread(t.storeCPU),
		P50Micros:      t.percentile(0.5), P99Micros: t.percentile(0.99), P999Micros: t.percentile(0.999),
		Requests: len(t.micros),
	}
}
