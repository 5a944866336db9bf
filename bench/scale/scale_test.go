package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/bench/results"
	"example.com/sealed/revoke"
)

var small = site{
	name: "a small one", users: 1000, logins: 3000, logouts: 2000, lifetime: 10 * time.Hour, stay: 2 * time.Hour,
	instances: 2, requests: 10, changes: 0.1,
}

// The simulation counts the entries that a real list has, hour by hour.
func TestSimulationHasTheListsEntries(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{"hours": small.lifetime, "days": 5 * day} {
		t.Run(name, func(t *testing.T) {
			s := small
			s.lifetime = lifetime
			simulated := s.simulate(rand.New(rand.NewPCG(7, 0)))
			last := s.simulatedMinutes()
			var ended []visit
			for v := range s.visits(rand.New(rand.NewPCG(7, 0)), 1, last) {
				if v.ends < v.expires {
					ended = append(ended, v)
				}
			}
			slices.SortFunc(ended, func(a, b visit) int { return a.ends - b.ends })
			synctest.Test(t, func(t *testing.T) {
				list, start := revoke.NewList(), time.Now()
				at := func(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }
				next, compared := 0, 0
				for minute := range last {
					time.Sleep(time.Until(at(minute).Add(time.Second))) // after what the list does on the hour
					for ; next < len(ended) && ended[next].ends <= minute; next++ {
						var id sealed.ID
						binary.BigEndian.PutUint64(id[:], uint64(next)+1)
						if err := list.Revoke(context.Background(), sealed.Revocation{ID: id, Until: at(ended[next].expires + 5)}); err != nil {
							t.Fatal(err)
						}
					}
					if minute < last-1440 {
						continue
					}
					compared++
					if want := int(simulated.minutes[minute-(last-1440)].entries); list.Len() != want {
						t.Fatalf("minute %d: the list has %d entries, the simulation %d", minute, list.Len(), want)
					}
				}
				if compared != 1440 || next < 1000 {
					t.Errorf("compared %d minutes, %d sessions ended early", compared, next)
				}
			})
		})
	}
}

// Theory and simulation, which share no line, say the same.
func TestTheoryAndSimulationAgree(t *testing.T) {
	for _, s := range append(slices.Clone(sites), small) {
		theory, simulated := s.expect(), s.simulate(rand.New(rand.NewPCG(1, 0)))
		for what, x := range map[string][2]float64{
			"sessions": {theory.sessions, simulated.mean.sessions},
			"entries":  {theory.entries, simulated.mean.entries},
		} {
			if math.Abs(x[0]/x[1]-1) > 0.06 {
				t.Errorf("%s: %s: theory %.0f, simulation %.0f", s.name, what, x[0], x[1])
			}
		}
		if simulated.peak.sessions < simulated.mean.sessions || simulated.peak.entries < simulated.mean.entries {
			t.Errorf("%s: the most is less than the average: %+v", s.name, simulated)
		}
	}
}

// The page is what the program makes of results.json.
func TestPageIsTrue(t *testing.T) {
	r, err := results.Read("../results.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := makePage(r, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("../../docs/scale.md"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/scale.md is not what results.json gives (%v): run go run ./scale -page ../docs/scale.md", err)
	}
}

// A number that makes no sense is an error, and so are results without the constants.
func TestBadInput(t *testing.T) {
	for _, args := range [][]string{
		{"-users", "0"}, {"-logins", "NaN"}, {"-logouts", "2e6"}, {"-changes", "2"}, {"-lifetime", "1s"}, {"-instances", "-1"}, {"-results", "missing.json"},
	} {
		if err := run(append([]string{"-results", "../results.json"}, args...), new(strings.Builder)); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if _, err := takeConstants(&results.Results{}); err == nil || !strings.Contains(err.Error(), "a session on Redis") {
		t.Errorf("results without figures: %v", err)
	}
}
