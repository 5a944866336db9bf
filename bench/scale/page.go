package scale

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"text/template"
	"time"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// sites are those of the page.
var sites = []Site{
	{"A million users", 1e6, 1e6, 3e5, 24 * time.Hour, time.Hour, 4, 50, 0.1},
	{"A hundred million users", 1e8, 5e7, 1e7, 7 * 24 * time.Hour, time.Hour, 200, 50, 0.1},
}

// An assessment is what a site takes with each design.
type Assessment struct {
	Site
	Expected  steady
	Simulated simulated
	loads     []load
	constants constants
}

// Assess says what a site takes, from the figures of a run.
func Assess(s Site, r *results.Results, seed uint64) (*Assessment, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	c, err := takeConstants(r)
	if err != nil {
		return nil, err
	}
	a := &Assessment{Site: s, Expected: s.expect(), Simulated: s.simulate(rand.New(rand.NewPCG(seed, 0))), constants: c}
	for _, design := range designs {
		a.loads = append(a.loads, s.load(design, a.Simulated.peak, c))
	}
	return a, nil
}

// Table compares the designs.
func (a *Assessment) Table() string {
	var b strings.Builder
	row := func(what string, value func(load) string) {
		fmt.Fprintf(&b, "| %s |", what)
		for _, l := range a.loads {
			fmt.Fprintf(&b, " %s |", value(l))
		}
		b.WriteByte('\n')
	}
	row("", func(l load) string { return l.name })
	b.WriteString("|---|" + strings.Repeat("---:|", len(a.loads)) + "\n")
	row("sessions that the store keeps", func(l load) string {
		if l.name == contender.SealedRedis {
			return "0"
		}
		return whole(a.Simulated.peak.sessions)
	})
	row("entries of the list", func(l load) string { return whole(l.entries) })
	row("memory of each instance", func(l load) string { return amount(l.perInstance, "B") })
	row("kept by the store", func(l load) string {
		if l.name == contender.SCSPostgres {
			return amount(l.store, "B") + " on disk"
		}
		return amount(l.store, "B") + " in memory"
	})
	row("questions to the store a second", func(l load) string { return whole(l.messages) })
	row("between instances and store", func(l load) string { return amount(l.wire*8, "bit/s") })
	row("processor cores of the application at the peak", func(l load) string { return cores(l.applicationCores) })
	row("processor cores of the store at the peak", func(l load) string {
		if l.storeCores == 0 {
			return results.NotMeasured
		}
		return cores(l.storeCores)
	})
	row("cookies on the visitors' lines", func(l load) string { return amount(l.visitors*8, "bit/s") })
	return strings.TrimSuffix(b.String(), "\n")
}

// Text says of what size the site is.
func (a *Assessment) Text() string {
	return fmt.Sprintf("%s users, %s logins and %s logouts a day, sessions of %s, %d instances; %.0f requests of a user a day that read the session, %.0f %% of which change it.",
		whole(a.Users), whole(a.Logins), whole(a.Logouts), span(a.Lifetime), a.Instances, a.Requests, 100*a.Changes)
}

// PeakSessions and the like are of the simulation.
func (a *Assessment) PeakSessions() string { return whole(a.Simulated.peak.sessions) }

// MeanSessions is the average of its last day.
func (a *Assessment) MeanSessions() string { return whole(a.Simulated.mean.sessions) }

// PeakEntries is the most entries of the list in that day.
func (a *Assessment) PeakEntries() string { return whole(a.Simulated.peak.entries) }

// MeanEntries is their average.
func (a *Assessment) MeanEntries() string { return whole(a.Simulated.mean.entries) }

// ExpectedSessions is what theory says.
func (a *Assessment) ExpectedSessions() string { return whole(a.Expected.sessions) }

// ExpectedEntries is the same of the list.
func (a *Assessment) ExpectedEntries() string { return whole(a.Expected.entries) }

// Followed is how many sessions were simulated one by one.
func (a *Assessment) Followed() string { return whole(float64(a.Simulated.logins)) }

func span(d time.Duration) string {
	if days := d.Hours() / 24; days > 1 && days == math.Trunc(days) {
		return fmt.Sprintf("%.0f days", days)
	}
	return fmt.Sprintf("%.0f hours", d.Hours())
}

// whole writes a number with commas between thousands.
func whole(x float64) string {
	text := fmt.Sprintf("%.0f", x)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// amount writes an amount in the largest unit of which there is one.
func amount(x float64, unit string) string {
	for _, prefix := range []string{"", "K", "M", "G"} {
		if x < 1000 {
			return fmt.Sprintf("%.3g %s%s", x, prefix, unit)
		}
		x /= 1000
	}
	return fmt.Sprintf("%.3g T%s", x, unit)
}

func cores(n float64) string {
	if n < 0.01 {
		return "less than 0.01"
	}
	return fmt.Sprintf("%.2f", n)
}

// A constant is a row of the page's table of constants.
type constant struct{ What, Value, Source string }

func (a ask) String() string { return fmt.Sprintf("%.2g, %.0f B", a.messages, a.bytes) }

func (p cpu) String() string {
	if p.store == 0 {
		return micros(p.application) + " / " + results.NotMeasured
	}
	return micros(p.application) + " / " + micros(p.store)
}

func micros(seconds float64) string { return fmt.Sprintf("%.1f µs", seconds*1e6) }

// Constants are all that the tables are made of.
func (c constants) Constants() []constant {
	bytes := func(x float64) string { return fmt.Sprintf("%.4g B", x) }
	rows := []constant{
		{"an entry of the list, in an instance", bytes(c.entryHeap), "Revocations: Heap / Count, in memory"},
		{"and beside that in its first five minutes and a half", bytes(c.recentHeap), "the same on Redis, less that"},
		{"an entry of the list, on Redis", bytes(c.entryRedis), "Following: RedisBytes"},
		{"to append it, questions and bytes", c.appended.String(), "Following: Append…"},
		{"for one instance to hear of it, questions and bytes", c.heard.String(), "Following: Hear…"},
		{"of which, if several are heard of together, each takes", bytes(c.heardEntry), "Following: EntryBytes"},
		{"to append it, processor of Redis", micros(c.appendedCPU), "Following: AppendStoreMicros"},
		{"for each question, processor of the instance / Redis", c.askedCPU.String(), "Following: AskMicros / AskStoreMicros"},
		{"an instance that follows Redis, in a second without news", c.idle.String(), "Idle"},
		{"a session of scs on Redis", bytes(c.redisSession), "Memory: Store / Sessions"},
		{"a session of scs in PostgreSQL, with indexes", bytes(c.postgresSession), "Memory: Disk / Sessions"},
	}
	for _, design := range designs {
		rows = append(rows, constant{design + ": Cookie / Set-Cookie", fmt.Sprintf("%.0f B / %.0f B", c.cookie[design], c.set[design]), "Wire"})
	}
	for _, design := range designs[1:] {
		for _, operation := range contender.Operations[1:] {
			rows = append(rows, constant{fmt.Sprintf("%s: %s, questions and bytes", design, operation), c.ask[design][operation].String(), "Wire"})
		}
	}
	for _, design := range designs {
		for _, operation := range []string{contender.Read, contender.Change} {
			p := c.cpu[design][operation]
			value := micros(p.application)
			if design != contender.SealedRedis {
				value = p.String()
			}
			rows = append(rows, constant{fmt.Sprintf("%s: %s, processor of application / store", design, operation), value, "HTTP: ServerCPUMicros less that of no sessions / StoreCPUMicros"})
		}
	}
	return rows
}

//go:embed page.md.tmpl
var pageText string

// Page returns docs/scale.md.
func Page(r *results.Results, seed uint64) ([]byte, error) {
	var sizes []*Assessment
	for _, s := range sites {
		a, err := Assess(s, r, seed)
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, a)
	}
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{"Sites": sizes, "Constants": sizes[0].constants.Constants(), "Peak": peak, "Date": r.About.Date, "Most": whole(mostSimulated)})
	return b.Bytes(), err
}
