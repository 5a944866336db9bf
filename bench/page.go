package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

//go:embed page.md.tmpl
var pageText string

// pageTables are the tables that the page names.
var pageTables = map[string]func(*results.Results) *table{
	"cost": costTable, "ratio": ratioTable, "allocation": allocationTable, "network": networkTable, "node": nodeTable, "limit": limitTable, "protocol": protocolTable, "wire": wireTable,
	"store": storeTable, "size": sizeTable, "sizeHTTP": sizeHTTPTable, "outage": outageTable, "loss": lossTable,
	"memory": memoryTable, "revocation": revocationTable, "following": followingTable,
	contender.Untouched: loadTable(contender.Untouched), contender.Read: loadTable(contender.Read), contender.Change: loadTable(contender.Change),
}

// facts are what the page says of a run.
type facts struct{ *results.Results }

// page returns docs/benchmarks.md.
func page(r *results.Results) ([]byte, error) {
	functions := template.FuncMap{
		"figure": figure,
		"table": func(name string) (string, error) {
			build := pageTables[name]
			if build == nil {
				return "", fmt.Errorf("no table %q", name)
			}
			return build(r).markdown(), nil
		},
	}
	t, err := template.New("page").Funcs(functions).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, facts{r})
	return b.Bytes(), err
}

// figure shows a chart, in the colours that the reader has chosen.
func figure(name string) (string, error) {
	i := slices.IndexFunc(charts, func(c chart) bool { return c.name == name })
	if i < 0 {
		return "", fmt.Errorf("no chart %q", name)
	}
	file := path.Join(chartFolder, name)
	return fmt.Sprintf(`<picture><source media="(prefers-color-scheme: dark)" srcset="%s-dark.svg"><img alt="%s" src="%s-light.svg"></picture>`,
		file, charts[i].alt, file), nil
}

// Operations are those that were measured over HTTP.
func (f facts) Operations() []string {
	return distinct(f.HTTP, func(l results.Load) string { return l.Operation })
}

// wire returns the bytes of a request.
func (f facts) wire(name, operation string) (w results.Wire) {
	i := slices.IndexFunc(f.Wire, func(w results.Wire) bool { return w.Contender == name && w.Operation == operation })
	if i >= 0 {
		w = f.Wire[i]
	}
	return w
}

// CookieBytes is how long the Cookie header of a sealed session is.
func (f facts) CookieBytes() int { return f.wire(contender.Sealed, contender.Read).Cookie }

// SCSCookieBytes is how long that of scs is.
func (f facts) SCSCookieBytes() int { return f.wire(contender.SCSRedis, contender.Read).Cookie }

// ExtraRequest is how many bytes more a read sends than with scs.
func (f facts) ExtraRequest() int {
	return f.wire(contender.Sealed, contender.Read).Request - f.wire(contender.SCSRedis, contender.Read).Request
}

// ExtraResponse is how many bytes more a change answers with than with scs.
func (f facts) ExtraResponse() int {
	return f.wire(contender.Sealed, contender.Change).Response - f.wire(contender.SCSRedis, contender.Change).Response
}

func (f facts) share(operation string) string {
	return number(100*ratio(f.Results, contender.Map, operation)) + " %"
}

// MapRead is the part of a sealed read's time that a map's takes.
func (f facts) MapRead() string { return f.share(contender.Read) }

// MapChange is the same of a change.
func (f facts) MapChange() string { return f.share(contender.Change) }

func (f facts) took(name, operation string) string {
	return duration(costOf(f.Results, name, operation).NS.Median / 1000)
}

// ReadRatio is how many times as long as sealed's a contender's read takes.
func (f facts) ReadRatio(name string) string { return number(ratio(f.Results, name, contender.Read)) }

// Untouched is what a request costs that does not ask for its sealed session.
func (f facts) Untouched() string { return f.took(contender.Sealed, contender.Untouched) }

// LogoutRedis is how long a logout takes with the list on Redis.
func (f facts) LogoutRedis() string { return f.took(contender.SealedRedis, contender.Logout) }

// LogoutSCS is how long one takes with scs on Redis.
func (f facts) LogoutSCS() string { return f.took(contender.SCSRedis, contender.Logout) }

// A crossover says from what size on a rival is better than sealed, in three ways.
type crossover struct{ Rival, Read, Change, HTTP string }

// Crossovers are those of all rivals.
func (f facts) Crossovers() (all []crossover) {
	for _, rival := range distinct(f.Sizes, func(s results.Size) string { return s.Contender }) {
		if rival == contender.Sealed {
			continue
		}
		from := func(better func(rival, own results.Size) bool) string { return f.crossover(rival, better) }
		all = append(all, crossover{
			rival,
			from(func(rival, own results.Size) bool { return rival.ReadNS.Median < own.ReadNS.Median }),
			from(func(rival, own results.Size) bool { return rival.ChangeNS.Median < own.ChangeNS.Median }),
			from(func(rival, own results.Size) bool { return rival.ReadHTTP.Median > own.ReadHTTP.Median }),
		})
	}
	return all
}

// crossover returns from what size on a rival is better: at it and at all larger ones.
func (f facts) crossover(rival string, better func(rival, own results.Size) bool) string {
	at, largest, smallest := 0, 0, 0
	for _, own := range f.Sizes {
		if own.Contender != contender.Sealed {
			continue
		}
		if largest = own.Notes; smallest == 0 {
			smallest = own.Notes
		}
		i := slices.IndexFunc(f.Sizes, func(s results.Size) bool { return s.Contender == rival && s.Notes == own.Notes })
		switch {
		case i < 0 || f.Sizes[i].Error != "" || !better(f.Sizes[i], own):
			at = 0
		case at == 0:
			at = own.Notes
		}
	}
	switch at {
	case 0:
		return fmt.Sprintf("not up to %s B", count(float64(largest)))
	case smallest:
		return "at all sizes"
	}
	return fmt.Sprintf("%s B", count(float64(at)))
}

// An uplink is how long a cookie takes to be sent.
type uplink struct{ Notes, Cookie, At1, At10, At100 string }

// Uplinks are those of sealed sessions of all sizes.
func (f facts) Uplinks() (all []uplink) {
	for _, s := range f.Sizes {
		if s.Contender == contender.Sealed {
			at := func(megabits float64) string { return number(float64(s.Cookie) * 8 / megabits / 1000) }
			all = append(all, uplink{count(float64(s.Notes)), count(float64(s.Cookie)), at(1), at(10), at(100)})
		}
	}
	return all
}

// Distances are the round trips between application and store, in milliseconds.
func (f facts) Distances() string {
	var all []string
	for _, ms := range distinct(f.Network, func(d results.Distance) float64 { return d.RTTMillis }) {
		all = append(all, strconv.FormatFloat(ms, 'f', -1, 64))
	}
	return strings.Join(all, ", ")
}

// StoreReads say how long a read of scs on Redis took, by distance.
func (f facts) StoreReads() (all []string) {
	for _, d := range f.Network {
		if d.Contender == contender.SCSRedis && d.Operation == contender.Read {
			all = append(all, fmt.Sprintf("%s ms at a PING of %s ms", number(d.Millis.Median), number(d.PingMillis)))
		}
	}
	return all
}

// DistantRounds is over how many rounds the figures with a network are.
func (f facts) DistantRounds() int { return distantRounds }

// Busy is with how many connections processor times are compared.
func (f facts) Busy() int { return results.BusyConnections(f.HTTP) }

// Down is for how many seconds the store was away.
func (f facts) Down() float64 { return f.outage().DownTo - f.outage().DownFrom }

// DownFrom is from which second on.
func (f facts) DownFrom() float64 { return f.outage().DownFrom }

func (f facts) outage() (o results.Outage) {
	if len(f.Outages) > 0 {
		o = f.Outages[0]
	}
	return o
}

// The README's section stands between these marks.
const (
	sectionStart = "<!-- figures of one run: written by the program in bench -->\n"
	sectionEnd   = "<!-- end of the figures -->\n"
)

// inReadme puts the section into the README's text.
func inReadme(text []byte, r *results.Results) ([]byte, error) {
	before, rest, ok1 := strings.Cut(string(text), sectionStart)
	_, after, ok2 := strings.Cut(rest, sectionEnd)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("the README has no section between %q and %q", sectionStart, sectionEnd)
	}
	return []byte(before + sectionStart + section(r) + sectionEnd + after), nil
}

// section returns what the README shows: one table of two rows.
func section(r *results.Results) string {
	f := facts{r}
	t := &table{head: []string{"one request's part", "read", "change", "bytes of cookie", "memory of " + f.mostSessions() + " sessions", "served in an outage of ten seconds"}}
	for _, name := range []string{contender.SealedRedis, contender.SCSRedis} {
		t.add(name, f.took(name, contender.Read), f.took(name, contender.Change), fmt.Sprint(f.wire(name, contender.Read).Cookie), f.memoryOf(name), f.servedBy(name))
	}
	return t.markdown() + "\n"
}

// mostSessions is how many the largest number of sessions is.
func (f facts) mostSessions() string {
	most := 0
	for _, m := range f.Memory {
		most = max(most, m.Sessions)
	}
	return count(float64(most))
}

// memoryOf is what the largest number of sessions takes in all.
func (f facts) memoryOf(name string) (text string) {
	for _, m := range f.Memory {
		if m.Contender == name {
			text = size(max(0, m.Heap+m.Store))
			if !m.StoreKnown() {
				text += " in the application"
			}
			if m.Disk > 0 {
				text += ", and " + size(m.Disk) + " on disk"
			}
		}
	}
	return text
}

// servedBy is the share of visitors who are served while the store is down.
func (f facts) servedBy(name string) string {
	for _, o := range f.Outages {
		if o.Contender == name && o.Kind == results.Refused {
			s := down(o)
			return percent(s.Served, s.Visits())
		}
	}
	return "–"
}

// writeReadme writes the README's section.
func writeReadme(file string, r *results.Results) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if text, err = inReadme(text, r); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o666)
}
