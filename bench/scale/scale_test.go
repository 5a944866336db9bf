package scale

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/revoke"
)

var small = Site{
	Name: "a small one", Users: 1000, Logins: 3000, Logouts: 2000, Lifetime: 10 * time.Hour, Stay: 2 * time.Hour,
	Instances: 2, Requests: 10, Changes: 0.1,
}

// The simulation counts the entries that a real list has, hour by hour.
func TestSimulationHasTheListsEntries(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{"hours": small.Lifetime, "days": 5 * day} {
		t.Run(name, func(t *testing.T) {
			s := small
			s.Lifetime = lifetime
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
				t.Errorf("%s: %s: theory %.0f, simulation %.0f", s.Name, what, x[0], x[1])
			}
		}
		if simulated.peak.sessions < simulated.mean.sessions || simulated.peak.entries < simulated.mean.entries {
			t.Errorf("%s: the most is less than the average: %+v", s.Name, simulated)
		}
	}
}

// What makes no sense is an error, and so are results without the constants.
func TestBadInput(t *testing.T) {
	for name, spoil := range map[string]func(*Site){
		"no users":           func(s *Site) { s.Users = 0 },
		"logins":             func(s *Site) { s.Logins = math.NaN() },
		"more logouts":       func(s *Site) { s.Logouts = s.Logins + 1 },
		"negative logouts":   func(s *Site) { s.Logouts = -1 },
		"changes":            func(s *Site) { s.Changes = 2 },
		"no time":            func(s *Site) { s.Lifetime = time.Second },
		"more than 400 days": func(s *Site) { s.Lifetime = 401 * day },
		"no stay":            func(s *Site) { s.Stay = 0 },
		"no instances":       func(s *Site) { s.Instances = 0 },
		"infinite requests":  func(s *Site) { s.Requests = math.Inf(1) },
	} {
		s := small
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if spoil(&s); s.check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := takeConstants(&results.Results{}); err == nil || !strings.Contains(err.Error(), "a session on Redis") {
		t.Errorf("results without figures: %v", err)
	}
}

// counted is a log that counts its hints.
type counted struct {
	*revoke.Memory
	hints atomic.Int64
}

func (c *counted) Wait(ctx context.Context, cursor string) error {
	err := c.Memory.Wait(ctx, cursor)
	if err == nil {
		c.hints.Add(1)
	}
	return err
}

// A real replica hears of logouts as often as the arithmetic says.
func TestReplicasHearAsOften(t *testing.T) {
	for _, perSecond := range []float64{0.5, 10, 50, 120, 1000} {
		synctest.Test(t, func(t *testing.T) {
			log := &counted{Memory: &revoke.Memory{}}
			replica, err := revoke.Follow(log, revoke.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			defer replica.Close(context.Background())
			rng, start := rand.New(rand.NewPCG(3, 0)), time.Now()
			const logouts = 10_000
			for n := range logouts {
				time.Sleep(time.Duration(rng.ExpFloat64() / perSecond * float64(time.Second)))
				var id sealed.ID
				binary.BigEndian.PutUint64(id[:], uint64(n)+1)
				if err := log.Append(t.Context(), []sealed.Revocation{{ID: id, Until: time.Now().Add(time.Hour)}}); err != nil {
					t.Fatal(err)
				}
			}
			got, want := float64(log.hints.Load())/time.Since(start).Seconds(), hears(logouts/time.Since(start).Seconds())
			if math.Abs(got/want-1) > 0.03 {
				t.Errorf("%v logouts a second: a replica hears of something %v times a second, and not %v", perSecond, got, want)
			}
		})
	}
}

// What was not measured, as a server was taken by its address, is no figure.
func TestNotMeasured(t *testing.T) {
	r, err := results.Read("../results.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.HTTP {
		if r.HTTP[i].Contender == contender.SCSPostgres {
			r.HTTP[i].StoreCPUMicros = results.Spread{}
		}
	}
	a, err := Assess(small, r, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(a.Table(), results.NotMeasured); n != 1 {
		t.Errorf("%d times %q, want once:\n%s", n, results.NotMeasured, a.Table())
	}
}

// Instances that hear of several logouts together cost less than for each alone, and
// more logouts never cost less.
func TestFollowingCosts(t *testing.T) {
	c := constants{
		appended: ask{1, 500}, heard: ask{2, 1000}, heardEntry: 100, idle: ask{2, 700},
		appendedCPU: 50e-6, askedCPU: cpu{100e-6, 30e-6},
	}
	site := small
	var last load
	for _, logouts := range []float64{0, 1e4, 1e6, 1e8} {
		site.Logouts = logouts
		l := site.load(contender.SealedRedis, steady{}, c)
		perSecond := logouts / day.Seconds()
		alone := float64(site.Instances)*(c.idle.bytes+perSecond*c.heard.bytes) + perSecond*c.appended.bytes
		if l.wire > alone*1.0001 || perSecond > 100 && l.wire > 0.9*alone {
			t.Errorf("%v logouts a day: %v bytes a second, each alone %v", logouts, l.wire, alone)
		}
		if logouts > 0 && !(l.wire > last.wire && l.messages > last.messages && l.storeCores > last.storeCores && l.applicationCores > last.applicationCores) {
			t.Errorf("%v logouts a day take %+v, fewer %+v", logouts, l, last)
		}
		last = l
	}
}
