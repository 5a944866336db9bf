package main

import (
	"bufio"
	"fmt"
	"net"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

// links are the networks between a contender and its stores.
type links struct{ redis, postgres *testserver.Proxy }

// link puts a network between contenders and stores, and returns where to find those.
func (r *run) link(h *host) (links, contender.Environment) {
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

// distant measures operations when the stores are some way off.
func (r *run) distant() error {
	contenders := contender.Select(contender.Sealed, contender.SealedRedis, contender.SCSRedis, contender.SCSPostgres)
	inProcess := []string{contender.Read, contender.Change, contender.Login, contender.Logout}
	overHTTP := []string{contender.Read, contender.Change}
	type key struct {
		contender, operation string
		rtt                  time.Duration
	}
	pings := map[time.Duration]float64{}
	slow, seen := map[key][]float64{}, map[key]*traffic{}
	return guard(func(h *host) error {
		l, e := r.link(h)
		return r.with(contenders, e, func(children []*child) error {
			crowds := map[string]crowd{}
			for _, x := range children {
				var err error
				if crowds[x.Name], err = gather(x, 16, 0); err != nil {
					return err
				}
			}
			for _, rtt := range r.distances {
				l.delay(rtt)
				var err error
				if pings[rtt], err = ping(l.redis.Addr); err != nil {
					return err
				}
			}
			err := r.interleave("network", distantRounds, children, func(x *child) error {
				for _, rtt := range r.distances {
					l.delay(rtt)
					for _, operation := range inProcess {
						m, err := x.measure(operation, 0, r.plan.inProcess)
						if err != nil {
							return err
						}
						k := key{x.Name, operation, rtt}
						slow[k] = append(slow[k], m.Elapsed.Seconds()*1000/float64(m.N))
					}
					for _, operation := range overHTTP {
						k := key{x.Name, operation, rtt}
						if seen[k] == nil {
							seen[k] = &traffic{}
						}
						if err := r.visit(seen[k], x, crowds[x.Name], operation, r.http); err != nil {
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
				for _, operation := range inProcess {
					for _, rtt := range r.distances {
						k := key{x.Name, operation, rtt}
						d := results.Distance{
							Contender: x.Name, Operation: operation, RTTMillis: rtt.Seconds() * 1000,
							PingMillis: pings[rtt], Millis: results.NewSpread(slow[k]),
						}
						if t := seen[k]; t != nil {
							d.PerSecond, d.P99Micros = results.NewSpread(t.perSecond), t.percentile(0.99)
						}
						r.results.Network = append(r.results.Network, d)
					}
				}
			}
			return nil
		})
	})
}
