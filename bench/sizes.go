package main

import (
	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// maxCookies is over how many cookies a session may be split here: the largest needs
// that many.
const maxCookies = 8

// grow measures how cost grows with the size of a session.
func (r *run) grow() error {
	contenders := contender.Select(contender.Sealed, contender.Map, contender.SCSMemory, contender.SCSRedis, contender.SCSPostgres, contender.Gorilla)
	e := r.stores()
	e.Cookies = maxCookies
	type key struct {
		contender string
		notes     int
	}
	sizes, perSecond, all := map[key]*results.Size{}, map[key][]float64{}, map[int]costs{}
	for _, notes := range r.sizes {
		all[notes] = costs{}
	}
	return r.with(contenders, e, func(children []*child) error {
		crowds := map[key]crowd{}
		for _, x := range children {
			for _, notes := range r.sizes {
				k := key{x.Name, notes}
				sizes[k] = &results.Size{Contender: x.Name, Notes: notes}
				c, err := gather(x, 16, notes)
				if err != nil {
					sizes[k].Error = err.Error() // it has a limit
					continue
				}
				crowds[k] = c
				c[0].request.Header.VisitAllCookie(func(name, value []byte) {
					sizes[k].Cookies++
					sizes[k].Cookie += len(name) + len("=") + len(value) + len("; ")
				})
				sizes[k].Cookie += len("Cookie: \r\n") - len("; ")
			}
		}
		err := r.interleave("sizes", r.rounds, children, func(x *child) error {
			for _, notes := range r.sizes {
				k := key{x.Name, notes}
				if sizes[k].Error != "" {
					continue
				}
				for _, operation := range []string{contender.Read, contender.Change} {
					m, err := x.measure(operation, notes, r.plan.inProcess/2)
					if err != nil {
						return err
					}
					all[notes].add(x.Name, operation, m)
				}
				var t traffic
				if err := r.visit(&t, x, crowds[k], contender.Read, r.http/2); err != nil {
					return err
				}
				perSecond[k] = append(perSecond[k], t.perSecond...)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, x := range children {
			for _, notes := range r.sizes {
				k := key{x.Name, notes}
				s := sizes[k]
				if c := all[notes][x.Name]; c != nil {
					s.ReadNS, s.ChangeNS = c[contender.Read].spread(), c[contender.Change].spread()
					s.ReadHTTP = results.NewSpread(perSecond[k])
				}
				r.results.Sizes = append(r.results.Sizes, *s)
			}
		}
		return nil
	})
}
