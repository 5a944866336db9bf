package main

import (
	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// costs gathers what some operations of some contenders took, over the rounds.
type costs map[string]map[string]*cost

type cost struct{ ns, bytes, allocs []float64 }

func (c costs) add(contender, operation string, m measurement) {
	if c[contender] == nil {
		c[contender] = map[string]*cost{}
	}
	if c[contender][operation] == nil {
		c[contender][operation] = &cost{}
	}
	x, n := c[contender][operation], float64(m.N)
	x.ns = append(x.ns, float64(m.Elapsed.Nanoseconds())/n)
	x.bytes = append(x.bytes, float64(m.Bytes)/n)
	x.allocs = append(x.allocs, float64(m.Allocs)/n)
}

func (c *cost) spread() results.Spread { return results.NewSpread(c.ns) }

// inProcess measures the time and the allocations of each operation, in the process
// of each contender.
func (r *run) inProcess() error {
	return r.with(contender.All, r.stores(), func(children []*child) error {
		measured, err := r.costs("in process", children, contender.Operations)
		r.results.InProcess = append(r.results.InProcess, measured...)
		return err
	})
}

// costs measures operations of all children in process, after a round that does not count.
func (r *run) costs(what string, children []*child, operations []string) (rows []results.Cost, err error) {
	var all costs
	once := func(x *child) error {
		for _, operation := range operations {
			m, err := x.measure(operation, 0, r.plan.inProcess)
			if err != nil {
				return err
			}
			all.add(x.Name, operation, m)
		}
		return nil
	}
	for _, part := range []struct {
		what   string
		rounds int
	}{{what + ", warming up", 1}, {what, r.rounds}} {
		all = costs{}
		if err := r.interleave(part.what, part.rounds, children, once); err != nil {
			return nil, err
		}
	}
	for _, x := range children {
		for _, operation := range operations {
			c := all[x.Name][operation]
			rows = append(rows, results.Cost{
				Contender: x.Name, Operation: operation, NS: c.spread(),
				Bytes: results.NewSpread(c.bytes).Median, Allocs: results.NewSpread(c.allocs).Median,
			})
		}
	}
	return rows, nil
}
