package main

import (
	"example.com/sealed/bench/contender"
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
