package main

import (
	"errors"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// maxCookies is over how many cookies a session may be split here: the largest needs
// that many.
const maxCookies = 8

// growth gathers how cost grows with the size of a session, over the rounds.
type growth struct {
	*run
	rows      map[sized]*results.Size
	crowds    map[sized]crowd
	costs     map[int]costs // by size
	perSecond map[sized][]float64
}

// sized is a contender with sessions of one size.
type sized struct {
	contender string
	notes     int
}

// grow measures how cost grows with the size of a session.
func (r *run) grow() error {
	contenders := contender.Select(contender.Sealed, contender.Map, contender.SCSMemory, contender.SCSRedis, contender.SCSPostgres, contender.Gorilla)
	e := r.stores()
	e.Cookies = maxCookies
	g := &growth{r, map[sized]*results.Size{}, map[sized]crowd{}, map[int]costs{}, map[sized][]float64{}}
	return r.with(contenders, e, func(children []*child) error {
		for _, x := range children {
			if err := g.welcome(x); err != nil {
				return err
			}
		}
		if err := r.interleave("sizes", r.rounds, children, g.measure); err != nil {
			return err
		}
		for _, x := range children {
			for _, notes := range r.sizes {
				r.results.Sizes = append(r.results.Sizes, g.size(sized{x.Name, notes}))
			}
		}
		return nil
	})
}

// welcome has visitors come with sessions of all sizes that a contender takes.
func (g *growth) welcome(x *child) error {
	for _, notes := range g.sizes {
		k, row := sized{x.Name, notes}, &results.Size{Contender: x.Name, Notes: notes}
		g.rows[k] = row
		c, err := gather(x, 16, notes)
		if refusal, ok := errors.AsType[statusError](err); ok { // it has a limit
			row.Error = refusal.Error()
			continue
		}
		if err != nil {
			return err
		}
		g.crowds[k] = c
		for name, value := range c[0].request.Header.Cookies() {
			row.Cookies++
			row.Cookie += len(name) + len("=") + len(value) + len("; ")
		}
		row.Cookie += len("Cookie: \r\n") - len("; ")
	}
	return nil
}

// measure measures one contender with all sizes that it takes.
func (g *growth) measure(x *child) error {
	for _, notes := range g.sizes {
		k := sized{x.Name, notes}
		if g.rows[k].Error != "" {
			continue
		}
		if g.costs[notes] == nil {
			g.costs[notes] = costs{}
		}
		for _, operation := range []string{contender.Read, contender.Change} {
			m, err := x.measure(operation, notes, g.plan.inProcess/2)
			if err != nil {
				return err
			}
			g.costs[notes].add(x.Name, operation, m)
		}
		var t traffic
		if err := addRound(g.run, &t, x, g.crowds[k], contender.Read, g.http/2); err != nil {
			return err
		}
		g.perSecond[k] = append(g.perSecond[k], t.perSecond...)
	}
	return nil
}

// size returns the row of the results.
func (g *growth) size(k sized) results.Size {
	row := *g.rows[k]
	if c := g.costs[k.notes][k.contender]; c != nil {
		row.ReadNS, row.ChangeNS = c[contender.Read].spread(), c[contender.Change].spread()
		row.ReadHTTP = results.NewSpread(g.perSecond[k])
	}
	return row
}
