package main

import (
	"slices"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// This file measures the contenders of Node beside those of Go. What is compared is how far each is from
// its runtime's zero line, a server that keeps no sessions: the runtimes themselves are not compared.

// nodeConnections is with how many: one process of Node has one processor, and is busy then.
const nodeConnections = 16

// nodeRivals are those of Go that are measured in the same rounds.
var nodeRivals = []string{contender.None, contender.SealedMemory, contender.SCSMemory}

// onNode measures requests over loopback, and what live sessions take.
func (r *run) onNode() error {
	if err := contender.Install("node"); err != nil {
		return err
	}
	operations := []string{contender.Untouched, contender.Read, contender.Change}
	seen := gathered[loaded]{}
	all := append(contender.Select(nodeRivals...), contender.OnNode...)
	err := r.with(all, r.stores(), func(children []*child) error {
		crowds, err := r.gatherAll(children, nodeConnections)
		if err != nil {
			return err
		}
		err = r.interleave("Node, warming up", 1, children, func(x *child) error {
			for _, operation := range operations { // long enough for Node to compile
				if err := addRound(r, &traffic{}, x, crowds[x.Name], operation, 2*r.http); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = r.interleave("Node", r.rounds, children, func(x *child) error {
			for _, operation := range operations {
				k := loaded{x.Name, operation, nodeConnections}
				if err := addRound(r, seen.of(k), x, crowds[x.Name], operation, r.http); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, x := range children {
			for _, operation := range operations {
				k := loaded{x.Name, operation, nodeConnections}
				r.results.Node = append(r.results.Node, seen[k].load(k))
			}
			v := crowds[x.Name][0]
			r.results.NodeCookies = append(r.results.NodeCookies, results.CookieSize{Contender: x.Name, Bytes: v.cookieBytes()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.emptyStores()
}

// cookieBytes returns the length of the Cookie header that the visitor sends.
func (v *visitor) cookieBytes() int {
	n := 0
	for name, value := range v.request.Header.Cookies() {
		if n > 0 {
			n += len("; ")
		}
		n += len(name) + len("=") + len(value)
	}
	return n
}

// nodeTable says what each contender adds to its runtime's zero line.
func nodeTable(r *results.Results) *table {
	t := &table{
		title: "Processor time of the application for a request, µs: beyond the zero line of the same runtime, which is the first",
		head:  []string{"", "read", "change", "store: read", "change", "requests/s: read", "change", "Cookie, bytes"},
	}
	of := func(name, operation string) (l results.Load) {
		if i := slices.IndexFunc(r.Node, func(l results.Load) bool { return l.Contender == name && l.Operation == operation }); i >= 0 {
			l = r.Node[i]
		}
		return l
	}
	for _, name := range distinct(r.Node, func(l results.Load) string { return l.Contender }) {
		c, err := contender.Find(name)
		if err != nil {
			continue
		}
		zero := contender.None
		if c.Node {
			zero = contender.NodeNone
		}
		row := []string{name}
		for _, operation := range []string{contender.Read, contender.Change} {
			own, line := of(name, operation).ServerCPUMicros.Median, of(zero, operation).ServerCPUMicros.Median
			if name == zero {
				row = append(row, number(own))
			} else {
				row = append(row, "+"+number(max(0, own-line)))
			}
		}
		for _, operation := range []string{contender.Read, contender.Change} {
			row = append(row, orDash(of(name, operation).StoreCPUMicros.Median))
		}
		for _, operation := range []string{contender.Read, contender.Change} {
			row = append(row, count(of(name, operation).PerSecond.Median))
		}
		bytes := 0.0
		for _, s := range r.NodeCookies {
			if s.Contender == name {
				bytes = float64(s.Bytes)
			}
		}
		t.add(append(row, orDash(bytes))...)
	}
	return t
}
