package main

import (
	"bufio"
	"fmt"
	"math"
	"net"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

// links are the networks between a contender and its stores.
type links struct{ redis, postgres *testserver.Proxy }

// link puts a network between contenders and stores, and returns where to find those.
func (r *run) link(h *testserver.Host) (links, contender.Environment) {
	l := links{testserver.NewProxy(h, r.redisAddr), testserver.NewProxy(h, r.pgAddr)}
	return l, r.environment(l.redis.Addr, l.postgres.Addr)
}

// delay has each round trip take so much longer.
func (l links) delay(rtt time.Duration) {
	l.redis.Delay(rtt / 2)
	l.postgres.Delay(rtt / 2)
}

func (l links) set(m testserver.Mode) {
	l.redis.Set(m)
	l.postgres.Set(m)
}

// traffic returns what a contender has said to its store.
func (l links) traffic(x *child) testserver.Traffic {
	if x.Store == contender.OnPostgres {
		return l.postgres.Traffic()
	}
	return l.redis.Traffic()
}

// ping returns how long a PING of Redis takes, in milliseconds: the median of some.
func ping(addr string) (float64, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	var millis []float64
	for range 51 {
		start := time.Now()
		if _, err := fmt.Fprint(c, "PING\r\n"); err != nil {
			return 0, err
		}
		if _, err := answers.ReadString('\n'); err != nil {
			return 0, err
		}
		millis = append(millis, time.Since(start).Seconds()*1000)
	}
	return results.NewSpread(millis).Median, nil
}

// distantRounds is how many rounds there are: each has all distances.
const distantRounds = 3

// What is measured at a distance, in process and over HTTP.
var (
	distantInProcess = []string{contender.Read, contender.Change, contender.Login, contender.Logout}
	distantOverHTTP  = []string{contender.Read, contender.Change}
)

// distances gathers what operations take at some distances, over the rounds.
type distances struct {
	*run
	links
	pings  map[time.Duration]float64 // what a PING takes, in milliseconds
	delays map[time.Duration]time.Duration
	millis map[distant][]float64
	loads  gathered[distant]
}

// distant is one operation of a contender at a distance.
type distant struct {
	contender, operation string
	rtt                  time.Duration
}

// atDistance measures operations when the stores are some way off.
func (r *run) atDistance() error {
	contenders := contender.Select(contender.Sealed, contender.SealedRedis, contender.SCSRedis, contender.SCSPostgres)
	return testserver.Guard(func(h *testserver.Host) error {
		l, e := r.link(h)
		d := &distances{r, l, map[time.Duration]float64{}, map[time.Duration]time.Duration{}, map[distant][]float64{}, gathered[distant]{}}
		if err := d.pingAll(); err != nil {
			return err
		}
		return r.with(contenders, e, func(children []*child) error {
			l.delay(0)
			crowds, err := r.gatherAll(children, 16)
			if err != nil {
				return err
			}
			err = r.interleave("network", distantRounds, children, func(x *child) error { return d.measure(x, crowds[x.Name]) })
			if err != nil {
				return err
			}
			for _, x := range children {
				r.results.Network = append(r.results.Network, d.results(x.Name)...)
			}
			return nil
		})
	})
}

// pingAll finds the delay that makes each distance what it is to be, beyond what the
// proxy takes without one: to wait takes longer than asked for, on a virtual machine by
// a tenth of a millisecond. It measures what each distance really is.
func (d *distances) pingAll() error {
	d.delay(0)
	near, err := ping(d.links.redis.Addr)
	if err != nil {
		return err
	}
	for _, rtt := range d.plan.distances {
		d.pings[rtt], d.delays[rtt] = near, 0
		want := near + rtt.Seconds()*1000
		for low, high := time.Duration(0), rtt; high-low > time.Microsecond; {
			delay := (low + high + 1) / 2
			d.delay(delay)
			far, err := ping(d.links.redis.Addr)
			if err != nil {
				return err
			}
			if math.Abs(far-want) < math.Abs(d.pings[rtt]-want) {
				d.pings[rtt], d.delays[rtt] = far, delay
			}
			if far > want {
				high = delay - 1
			} else {
				low = delay
			}
		}
	}
	return nil
}

// measure measures one contender at all distances.
func (d *distances) measure(x *child, c crowd) error {
	for _, rtt := range d.plan.distances {
		d.delay(d.delays[rtt])
		for _, operation := range distantInProcess {
			m, err := x.measure(operation, 0, d.plan.inProcess)
			if err != nil {
				return err
			}
			k := distant{x.Name, operation, rtt}
			d.millis[k] = append(d.millis[k], m.Elapsed.Seconds()*1000/float64(m.N))
		}
		for _, operation := range distantOverHTTP {
			k := distant{x.Name, operation, rtt}
			if err := addRound(d.run, d.loads.of(k), x, c, operation, d.http); err != nil {
				return err
			}
		}
	}
	return nil
}

// results returns the rows of one contender.
func (d *distances) results(name string) (rows []results.Distance) {
	for _, operation := range distantInProcess {
		for _, rtt := range d.plan.distances {
			k := distant{name, operation, rtt}
			row := results.Distance{
				Contender: name, Operation: operation, RTTMillis: rtt.Seconds() * 1000,
				PingMillis: d.pings[rtt], Millis: results.NewSpread(d.millis[k]),
			}
			if t := d.loads[k]; t != nil {
				row.PerSecond, row.P99Micros = results.NewSpread(t.perSecond), t.percentile(0.99)
			}
			rows = append(rows, row)
		}
	}
	return rows
}
