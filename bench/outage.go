package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
	"example.com/sealed/internal/testserver"
)

// patience is how long a visitor waits for an answer.
const patience = 2 * time.Second

// A site is one contender, and the visitors whose sessions are watched.
type site struct {
	*child
	client  *http.Client
	members [][]*http.Cookie // of visitors who are logged in
	copies  [][]*http.Cookie // of visitors who were, and have logged out

	mu      sync.Mutex
	seconds []results.Second
	slowest time.Duration // while the store was down
}

// watched are those whom outages concern, on Go and on Node.
func watched() []contender.Contender {
	all := slices.Concat(contender.All, []contender.Contender{contender.Stale}, contender.OnNode)
	return slices.DeleteFunc(all, func(c contender.Contender) bool {
		return c.Name == contender.None || c.Name == contender.Map || c.Name == contender.NodeNone
	})
}

// outages watches what visitors meet while the stores cannot be reached, and after
// they have lost their data.
func (r *run) outages() error {
	if err := contender.Install("node"); err != nil {
		return err
	}
	if err := r.emptyStores(); err != nil {
		return err
	}
	err := testserver.Guard(func(h *testserver.Host) error {
		l, e := r.link(h)
		var sites []*site
		for _, c := range watched() {
			s, err := openSite(r.startChild(h, c, e), r.visitors)
			if err != nil {
				return err
			}
			sites = append(sites, s)
		}
		for _, o := range []struct {
			kind string
			mode testserver.Mode
		}{{results.Refused, testserver.Refuse}, {results.Silent, testserver.BlackHole}} {
			r.outage(l, sites, o.kind, o.mode)
		}
		return r.lose(h, e, sites)
	})
	if err != nil {
		return err
	}
	return r.emptyStores()
}

// openSite has visitors log in, and as many more log in and out.
func openSite(x *child, visitors int) (*site, error) {
	s := &site{child: x, client: &http.Client{
		Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * visitors},
	}}
	for range visitors {
		for _, list := range []*[][]*http.Cookie{&s.members, &s.copies} {
			_, cookies, err := s.request(contender.Login, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", x.Name, err)
			}
			*list = append(*list, cookies)
		}
	}
	for _, cookies := range s.copies {
		if _, _, err := s.request(contender.Logout, cookies); err != nil {
			return nil, fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	in, err := s.loggedIn(s.members)
	if err == nil && in != visitors {
		err = fmt.Errorf("%s: %d of %d visitors are logged in", x.Name, in, visitors)
	}
	return s, err
}

// request makes one request, and returns whether it is of somebody who is logged in.
func (s *site) request(operation string, cookies []*http.Cookie) (in bool, set []*http.Cookie, err error) {
	req, err := http.NewRequest(contender.Method(operation), "http://"+s.Application+"/"+operation, nil)
	if err != nil {
		return false, nil, err
	}
	for _, c := range cookies {
		req.AddCookie(c)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return false, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return false, nil, err
	}
	if res.StatusCode != http.StatusOK {
		return false, nil, statusError{res.StatusCode, string(body)}
	}
	return res.Header.Get(contender.UserHeader) != "", res.Cookies(), nil
}

// loggedIn counts whose cookies are of sessions that are logged in.
func (s *site) loggedIn(cookies [][]*http.Cookie) (n int, err error) {
	for _, c := range cookies {
		in, _, err := s.request(contender.Read, c)
		if err != nil {
			return n, err
		}
		if in {
			n++
		}
	}
	return n, nil
}

// pace is how often each visitor comes, and how often a stranger logs in.
const pace = 250 * time.Millisecond

// outage has visitors come to all sites at once while the stores go away and come
// back.
func (r *run) outage(l links, sites []*site, kind string, mode testserver.Mode) {
	start := time.Now()
	from, to := r.well, r.well+r.down
	end := to + r.well + 2*time.Second
	var visiting sync.WaitGroup
	for _, s := range sites {
		s.seconds, s.slowest = make([]results.Second, int(end/time.Second)), 0
		for i := range len(s.members) + 1 {
			visiting.Go(func() {
				next := start.Add(time.Duration(i) * pace / time.Duration(len(s.members)+1))
				for next.Before(start.Add(end)) {
					time.Sleep(time.Until(next))
					began := time.Since(start)
					s.probe(i, began, began >= from && began < to)
					for next = next.Add(pace); next.Before(time.Now()); next = next.Add(pace) {
						s.count(i, next.Sub(start), errWaiting, false)
					}
				}
			})
		}
	}
	for _, step := range []struct {
		at   time.Duration
		mode testserver.Mode
		what string
	}{{0, testserver.Pass, "all is well"}, {from, mode, "the stores are down"}, {to, testserver.Pass, "the stores are back"}} {
		time.Sleep(time.Until(start.Add(step.at)))
		r.say("outage (%s): %s", kind, step.what)
		l.set(step.mode)
	}
	visiting.Wait()
	for _, s := range sites {
		r.results.Outages = append(r.results.Outages, results.Outage{
			Contender: s.Name, Kind: kind, DownFrom: from.Seconds(), DownTo: to.Seconds(), Seconds: s.seconds,
			SlowestDown: float64(s.slowest.Microseconds()) / 1000,
		})
	}
}

// errWaiting is what became of a visit that could not begin: the visitor was still
// waiting for the answer to the one before.
var errWaiting = errors.New("still waiting")

// probe has a member come, or, behind the last of them, a stranger who logs in.
func (s *site) probe(i int, began time.Duration, down bool) {
	var in bool
	var err error
	start := time.Now()
	if i < len(s.members) {
		in, _, err = s.request(contender.Read, s.members[i])
	} else {
		in, err = s.join()
	}
	took := time.Since(start)
	s.count(i, began, err, in)
	if down {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.slowest = max(s.slowest, took)
	}
}

// join has a stranger log in, and reports whether that holds with the next request.
func (s *site) join() (in bool, err error) {
	_, cookies, err := s.request(contender.Login, nil)
	if err != nil {
		return false, err
	}
	in, _, err = s.request(contender.Read, cookies)
	return in, err
}

// count counts a visit by how it ended.
func (s *site) count(i int, began time.Duration, err error, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	second := int(began / time.Second)
	if second >= len(s.seconds) {
		return
	}
	count := &s.seconds[second]
	_, refused := errors.AsType[statusError](err)
	switch {
	case i == len(s.members):
		count.Logins++
		if in {
			count.LoginsOK++
		}
	case refused:
		count.Refused++
	case err != nil:
		count.Hung++
	case in:
		count.Served++
	default:
		count.LoggedOut++
	}
}

// settle is how long all have to recover: longer than a replica of the list takes.
const settle = 6 * time.Second

// lose empties the stores, and restarts processes that keep something themselves.
// Then it counts who is still logged in, and which copies of cookies work.
func (r *run) lose(h *testserver.Host, e contender.Environment, sites []*site) error {
	if err := r.emptyStores(); err != nil {
		return err
	}
	for _, s := range sites {
		if s.Store != contender.OnRedis && s.Store != contender.OnPostgres {
			s.end()
			s.child = r.startChild(h, s.Contender, e)
		}
	}
	r.say("outage: the stores have lost their data")
	time.Sleep(settle)
	for _, s := range sites {
		what := "the store is empty"
		if s.Store != contender.OnRedis && s.Store != contender.OnPostgres {
			what = "the process is restarted"
		}
		loss := results.Loss{Contender: s.Name, What: what, Visitors: len(s.members), Copies: len(s.copies)}
		var err error
		if loss.LoggedIn, err = s.loggedIn(s.members); err == nil {
			loss.CopiesAccepted, err = s.loggedIn(s.copies)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		r.results.Losses = append(r.results.Losses, loss)
	}
	return nil
}
