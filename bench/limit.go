package main

import (
	"cmp"
	"fmt"
	"slices"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// nearLimit measures reads and changes beside what they cannot do without, and with device
// binding, in process.
func (r *run) nearLimit() error {
	all := append(contender.Select(contender.None, contender.Sealed, contender.SCSCBOR, contender.SCSMemory, contender.Gorilla), contender.Limits...)
	return r.with(all, r.stores(), func(children []*child) error {
		measured, err := r.costs("limit", children, readAndChange)
		r.results.Limit = append(r.results.Limit, measured...)
		return err
	})
}

// limitTable says how near each is to what it cannot do without. The harness's own part is
// that of an application without sessions.
func limitTable(r *results.Results) *table {
	t := &table{
		title: "In process, beyond an application without sessions, µs: and as a multiple of the steps alone",
		head:  []string{"", "read", "of the steps", "bytes / allocations", "change", "of the steps", "bytes / allocations"},
	}
	of := func(name, operation string) (c results.Cost) {
		if i := slices.IndexFunc(r.Limit, func(c results.Cost) bool { return c.Contender == name && c.Operation == operation }); i >= 0 {
			c = r.Limit[i]
		}
		return c
	}
	beyond := func(name, operation string) float64 {
		return of(name, operation).NS.Median - of(contender.None, operation).NS.Median
	}
	names := distinct(r.Limit, func(c results.Cost) string { return c.Contender })
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(beyond(a, contender.Read), beyond(b, contender.Read))
	})
	for _, name := range names {
		if name == contender.None {
			continue
		}
		row := []string{name}
		for _, operation := range readAndChange {
			c := of(name, operation)
			row = append(row, number(beyond(name, operation)/1000), "× "+number(beyond(name, operation)/beyond(contender.Steps, operation)),
				fmt.Sprintf("%s / %.0f", count(c.Bytes), c.Allocs))
		}
		t.add(row...)
	}
	return t
}
