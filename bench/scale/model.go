// Package scale says what sessions in cookies, and sessions in a store, take at a site
// of some size: on paper, and by simulating each login. Every constant is a figure of
// one run of the benchmark.
package scale

import (
	"errors"
	"fmt"
	"math"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// A Site is who visits, and how many instances serve them.
type Site struct {
	Name      string
	Users     float64 // in a day
	Logins    float64 // a day
	Logouts   float64 // a day, by those who do not just stay away
	Lifetime  time.Duration
	Stay      time.Duration // from login to logout, on average
	Instances int
	Requests  float64 // of a user, a day, that read the session
	Changes   float64 // which share of them changes it
}

const day = 24 * time.Hour

func (s Site) check() error {
	var errs []error
	for name, x := range map[string]float64{"users": s.Users, "logins": s.Logins, "requests": s.Requests, "instances": float64(s.Instances)} {
		if !(x > 0) || math.IsInf(x, 0) {
			errs = append(errs, fmt.Errorf("%s must be more than nothing", name))
		}
	}
	if s.Logouts < 0 || s.Logouts > s.Logins {
		errs = append(errs, errors.New("there are at most as many logouts as logins"))
	}
	if s.Changes < 0 || s.Changes > 1 {
		errs = append(errs, errors.New("changes is a share, from 0 to 1"))
	}
	if s.Lifetime < time.Minute || s.Lifetime > 400*day || s.Stay < time.Minute {
		errs = append(errs, errors.New("lifetime is from a minute to 400 days, stay at least a minute"))
	}
	return errors.Join(errs...)
}

// Constants are what one session, one entry of the list and one request take. All of
// them are figures of one run of the benchmark.
type constants struct {
	entryHeap  float64 // bytes of a list's entry in an instance
	recentHeap float64 // and what it takes beside that in the first minutes: see recent
	entryRedis float64 // and on Redis
	appended   ask     // what an instance says to Redis to revoke
	heard      ask     // and each instance to hear of it, if it comes alone
	heardEntry float64 // and what of its bytes each takes that come together
	idle       ask     // and in a second in which nothing happens

	appendedCPU float64 // of Redis, in seconds
	askedCPU    cpu     // of an instance and of Redis, for one question of those that follow

	redisSession    float64 // bytes of a session on Redis
	postgresSession float64 // bytes of a session in PostgreSQL, on disk with its indexes

	cookie map[string]float64 // of a contender: bytes of the Cookie header
	set    map[string]float64 // and of Set-Cookie when the session changes

	ask map[string]map[string]ask // by contender and operation
	cpu map[string]map[string]cpu
}

// ask is what a request has to say to the store.
type ask struct{ messages, bytes float64 }

// cpu is the processor time of a request, in seconds, beyond that of one without a
// session.
type cpu struct{ application, store float64 }

// designs are those that the page compares.
var designs = []string{contender.SealedRedis, contender.SCSRedis, contender.SCSPostgres}

// takeConstants takes them from a run's figures, all of which there must be.
func takeConstants(r *results.Results) (c constants, err error) {
	c = constants{cookie: map[string]float64{}, set: map[string]float64{}, ask: map[string]map[string]ask{}, cpu: map[string]map[string]cpu{}}
	for _, v := range r.Revocations { // the last is of the most
		switch each := float64(v.Heap) / float64(v.Count); v.Contender {
		case contender.SealedMemory:
			c.entryHeap = each
		case contender.SealedRedis: // which were all revoked in the last minutes
			c.recentHeap = each - c.entryHeap
		}
	}
	for _, i := range r.Idle {
		if i.Contender == contender.SealedRedis {
			c.idle = ask{i.MessagesPerSecond, i.AskedPerSecond + i.AnsweredPerSecond}
		}
	}
	for _, f := range r.Following {
		c.entryRedis = f.RedisBytes
		c.appended, c.heard, c.heardEntry = ask{f.AppendMessages, f.AppendBytes}, ask{f.HearMessages, f.HearBytes}, f.EntryBytes
		c.appendedCPU = f.AppendStoreMicros / 1e6
		c.askedCPU = cpu{f.AskMicros / 1e6, f.AskStoreMicros / 1e6}
	}
	for _, m := range r.Memory {
		switch m.Contender {
		case contender.SCSRedis:
			c.redisSession = float64(m.Store) / float64(m.Sessions)
		case contender.SCSPostgres:
			c.postgresSession = float64(m.Disk) / float64(m.Sessions)
		}
	}
	for _, w := range r.Wire {
		if c.ask[w.Contender] == nil {
			c.ask[w.Contender] = map[string]ask{}
		}
		c.ask[w.Contender][w.Operation] = ask{w.StoreMessages, w.StoreAsked + w.StoreAnswered}
		switch w.Operation {
		case contender.Read:
			c.cookie[w.Contender] = float64(w.Cookie)
		case contender.Change:
			c.set[w.Contender] = float64(w.SetCookie)
		}
	}
	c.takeCPU(r.HTTP)
	for what, x := range map[string]float64{
		"a revocation in memory": c.entryHeap, "a revocation of the last minutes": c.recentHeap, "a revocation on Redis": c.entryRedis, "to revoke": c.appended.bytes,
		"to hear of a revocation": c.heard.bytes, "to hear of one more": c.heardEntry,
		"the processor time of an append": c.appendedCPU, "the processor time of following": min(c.askedCPU.application, c.askedCPU.store),
		"an idle replica's traffic": c.idle.bytes, "a session on Redis": c.redisSession, "a session in PostgreSQL": c.postgresSession,
		"a cookie": c.cookie[contender.SealedRedis], "a read's messages": c.ask[contender.SCSRedis][contender.Read].messages,
		"the processor time of Redis": c.cpu[contender.SCSRedis][contender.Read].store,
	} {
		if !(x > 0) {
			err = errors.Join(err, fmt.Errorf("the results do not say what %s takes", what))
		}
	}
	return c, err
}

// takeCPU takes the processor times of a load that is neither light nor so heavy that
// all wait.
func (c *constants) takeCPU(loads []results.Load) {
	zero, busy := map[string]float64{}, results.BusyConnections(loads)
	for _, l := range loads {
		if l.Contender == contender.None && l.Connections == busy {
			zero[l.Operation] = l.ServerCPUMicros.Median
		}
	}
	for _, l := range loads {
		if l.Connections != busy {
			continue
		}
		if c.cpu[l.Contender] == nil {
			c.cpu[l.Contender] = map[string]cpu{}
		}
		c.cpu[l.Contender][l.Operation] = cpu{
			max(0, l.ServerCPUMicros.Median-zero[l.Operation]) / 1e6, l.StoreCPUMicros.Median / 1e6,
		}
	}
}

// skew is how much longer than its session an entry of the list is kept, for clocks
// that differ, and half the hour by which the list forgets.
const skew = 5*time.Minute + 30*time.Minute

// steady is how many there are of something, on average, when the site has run for
// longer than a session lasts.
type steady struct{ sessions, entries float64 }

// expect returns what theory says (Little's law: how many come, times how long they
// stay). Who logs out does so after an exponential time, unless the session ends
// before.
func (s Site) expect() steady {
	life, stay := s.Lifetime.Hours(), s.Stay.Hours()
	early := 1 - math.Exp(-life/stay) // of those who mean to log out, who do before the end
	served := stay * early            // how long their sessions last, on average
	perHour := s.Logins / 24
	leaves := s.Logouts / s.Logins
	return steady{
		sessions: perHour * (leaves*served + (1-leaves)*life),
		entries:  perHour * leaves * (life - served + early*skew.Hours()),
	}
}

// rest is how long a replica of the list waits after it has heard of something: what
// comes in between is heard of together. It is that of a revoke.Policy without a Poll.
const rest = 20 * time.Millisecond

// hears returns how often a second a replica hears of something, if so many logouts a
// second come independently of each other: it rests, and then waits for the next unless
// one has come.
func hears(logouts float64) float64 {
	if logouts == 0 {
		return 0
	}
	return 1 / (rest.Seconds() + math.Exp(-logouts*rest.Seconds())/logouts)
}

// A load is what one design takes, on average unless it says otherwise.
type load struct {
	name             string
	entries          float64
	perInstance      float64 // bytes of memory
	store            float64 // bytes, of memory on Redis and on disk in PostgreSQL
	messages         float64 // to the store, a second
	wire             float64 // bytes a second between instances and store
	applicationCores float64 // at the peak
	storeCores       float64 // at the peak
	visitors         float64 // bytes of cookies a second, in both directions
}

// recent is for how long a replica remembers what it has read of the log, beside the list, so that it
// need not read all of it after a failover: ten places, thirty seconds apart, and the one that is next.
const recent = 5*time.Minute + 30*time.Second

// peak is how many times the average the busiest minute of the day has: see shape.
const peak = 1.8

// load returns what a design takes with so many sessions and entries at a time.
func (s Site) load(design string, at steady, c constants) load {
	seconds := day.Seconds()
	reads, changes := s.Users*s.Requests*(1-s.Changes)/seconds, s.Users*s.Requests*s.Changes/seconds
	l := load{name: design}
	add := func(operation string, perSecond float64) {
		a, p := c.ask[design][operation], c.cpu[design][operation]
		l.messages += a.messages * perSecond
		l.wire += a.bytes * perSecond
		l.applicationCores += p.application * perSecond * peak
		l.storeCores += p.store * perSecond * peak
	}
	l.visitors = (reads+changes)*c.cookie[design] + changes*c.set[design]
	if design == contender.SealedRedis {
		// Reads, changes and logins ask nobody. Each instance follows.
		instances, logouts := float64(s.Instances), s.Logouts/seconds
		l.entries = at.entries
		l.perInstance = at.entries*c.entryHeap + peak*logouts*recent.Seconds()*c.recentHeap
		l.store = at.entries * c.entryRedis
		heard := hears(logouts)
		asked := c.idle.messages + heard*c.heard.messages
		l.messages = instances*asked + logouts*c.appended.messages
		l.wire = instances*(c.idle.bytes+heard*(c.heard.bytes-c.heardEntry)+logouts*c.heardEntry) + logouts*c.appended.bytes
		asked = c.idle.messages + hears(peak*logouts)*c.heard.messages
		l.applicationCores = instances*asked*c.askedCPU.application +
			peak*(reads*c.cpu[design][contender.Read].application+changes*c.cpu[design][contender.Change].application)
		l.storeCores = instances*asked*c.askedCPU.store + peak*logouts*c.appendedCPU
		return l
	}
	add(contender.Read, reads)
	add(contender.Change, changes)
	add(contender.Login, s.Logins/seconds)
	add(contender.Logout, s.Logouts/seconds)
	if l.store = at.sessions * c.redisSession; design == contender.SCSPostgres {
		l.store = at.sessions * c.postgresSession
	}
	return l
}
