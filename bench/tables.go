package main

import (
	"fmt"
	"slices"
	"strconv"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// tables are all that there are, in the order of the page.
var tables = []func(*results.Results) *table{
	costTable, allocationTable, ratioTable, limitTable, loadTable(contender.Untouched), loadTable(contender.Read), loadTable(contender.Change),
	protocolTable, nodeTable, networkTable, wireTable, storeTable, sizeTable, sizeHTTPTable, outageTable, lossTable, memoryTable, revocationTable, followingTable,
}

// costOf returns what an operation costs in process, or nothing.
func costOf(r *results.Results, name, operation string) (c results.Cost) {
	i := slices.IndexFunc(r.InProcess, func(c results.Cost) bool { return c.Contender == name && c.Operation == operation })
	if i >= 0 {
		c = r.InProcess[i]
	}
	return c
}

func costTable(r *results.Results) *table {
	t := &table{title: "Time of one operation in process, µs: median (quartiles)", head: append([]string{""}, contender.Operations...)}
	for _, name := range distinct(r.InProcess, func(c results.Cost) string { return c.Contender }) {
		row := []string{name}
		for _, operation := range contender.Operations {
			row = append(row, micros(costOf(r, name, operation).NS))
		}
		t.add(row...)
	}
	return t
}

func allocationTable(r *results.Results) *table {
	t := &table{title: "Memory allocated by one operation in process, bytes / allocations", head: append([]string{""}, contender.Operations...)}
	for _, name := range distinct(r.InProcess, func(c results.Cost) string { return c.Contender }) {
		row := []string{name}
		for _, operation := range contender.Operations {
			c := costOf(r, name, operation)
			row = append(row, fmt.Sprintf("%s / %.0f", count(c.Bytes), c.Allocs))
		}
		t.add(row...)
	}
	return t
}

// rivals are whom sealed is compared with, one by one.
var rivals = []string{contender.Map, contender.SCSMemory, contender.SCSCBOR, contender.SCSRedis, contender.SCSPostgres, contender.Gorilla}

// ratio returns how many times as long a rival takes as sealed, in process.
func ratio(r *results.Results, rival, operation string) float64 {
	own := costOf(r, contender.Sealed, operation).NS.Median
	if own == 0 {
		return 0
	}
	return costOf(r, rival, operation).NS.Median / own
}

func ratioTable(r *results.Results) *table {
	t := &table{title: "Time in process, as a multiple of sealed's", head: append([]string{""}, contender.Operations...)}
	if len(r.InProcess) == 0 {
		return t
	}
	for _, name := range rivals {
		row := []string{name}
		for _, operation := range contender.Operations {
			row = append(row, "× "+number(ratio(r, name, operation)))
		}
		t.add(row...)
	}
	return t
}

func loadTable(operation string) func(*results.Results) *table {
	return func(r *results.Results) *table {
		rows := slices.DeleteFunc(slices.Clone(r.HTTP), func(l results.Load) bool { return l.Operation != operation })
		connections := distinct(rows, func(l results.Load) int { return l.Connections })
		t := &table{title: "Over HTTP, " + operation + ": requests a second, and p50 / p99 / p99.9 in µs", head: []string{""}}
		for _, n := range connections {
			t.head = append(t.head, fmt.Sprintf("%d: requests/s", n), "p50 / p99 / p99.9")
		}
		t.head = append(t.head, fmt.Sprintf("CPU µs with %d: application", results.BusyConnections(r.HTTP)), "store")
		for _, name := range distinct(rows, func(l results.Load) string { return l.Contender }) {
			row, cpu, store := []string{name}, "", ""
			for _, l := range rows {
				if l.Contender != name {
					continue
				}
				s := l.PerSecond
				row = append(row, fmt.Sprintf("%s (%s–%s)", count(s.Median), count(s.Low), count(s.High)),
					fmt.Sprintf("%s / %s / %s", number(l.P50Micros), orDash(l.P99Micros), orDash(l.P999Micros)))
				if l.Connections == results.BusyConnections(r.HTTP) {
					cpu, store = number(l.ServerCPUMicros.Median), orDash(l.StoreCPUMicros.Median)
				}
			}
			t.add(append(row, cpu, store)...)
		}
		return t
	}
}

func networkTable(r *results.Results) *table {
	t := &table{title: "With a network between the application and its store: ms an operation, and requests a second over 16 connections", head: []string{""}}
	for _, rtt := range distinct(r.Network, func(d results.Distance) float64 { return d.RTTMillis }) {
		i := slices.IndexFunc(r.Network, func(d results.Distance) bool { return d.RTTMillis == rtt })
		t.head = append(t.head, fmt.Sprintf("PING %s ms", number(r.Network[i].PingMillis)), "requests/s")
	}
	for _, name := range distinct(r.Network, func(d results.Distance) string { return d.Contender }) {
		for _, operation := range contender.Operations {
			row := []string{name + ": " + operation}
			for _, d := range r.Network {
				if d.Contender == name && d.Operation == operation {
					row = append(row, number(d.Millis.Median), orDash(d.PerSecond.Median))
				}
			}
			if len(row) > 1 {
				t.add(row...)
			}
		}
	}
	return t
}

func wireTable(r *results.Results) *table {
	t := &table{title: "Bytes of one request / of its response, over HTTP/1.1", head: append([]string{""}, contender.Operations...)}
	t.head = append(t.head, "of which cookie")
	for _, name := range distinct(r.Wire, func(w results.Wire) string { return w.Contender }) {
		row, cookie := []string{name}, 0
		for _, w := range r.Wire {
			if w.Contender == name {
				row = append(row, fmt.Sprintf("%d / %d", w.Request, w.Response))
				cookie = max(cookie, w.Cookie)
			}
		}
		t.add(append(row, strconv.Itoa(cookie))...)
	}
	return t
}

func storeTable(r *results.Results) *table {
	t := &table{title: "Between the application and its store: bytes to it / from it (messages to it) for one request", head: append([]string{""}, contender.Operations...)}
	t.head = append(t.head, "idle, bytes a second")
	for _, idle := range r.Idle {
		row := []string{idle.Contender}
		for _, w := range r.Wire {
			if w.Contender == idle.Contender {
				row = append(row, fmt.Sprintf("%.0f / %.0f (%s)", w.StoreAsked, w.StoreAnswered, strconv.FormatFloat(w.StoreMessages, 'f', 1, 64)))
			}
		}
		t.add(append(row, fmt.Sprintf("%.0f / %.0f", idle.AskedPerSecond, idle.AnsweredPerSecond))...)
	}
	return t
}

func sizeTable(r *results.Results) *table {
	return bySize(r, "in process: µs to read / to change", func(s results.Size) string {
		return number(s.ReadNS.Median/1000) + " / " + number(s.ChangeNS.Median/1000)
	})
}

func sizeHTTPTable(r *results.Results) *table {
	return bySize(r, "over HTTP with 16 connections: reads a second (bytes of the Cookie header, cookies)", func(s results.Size) string {
		return fmt.Sprintf("%s (%d, %d)", count(s.ReadHTTP.Median), s.Cookie, s.Cookies)
	})
}

// bySize returns a table with a column for each size.
func bySize(r *results.Results, title string, cell func(results.Size) string) *table {
	t := &table{title: "By size of the session, " + title, head: []string{""}}
	for _, notes := range distinct(r.Sizes, func(s results.Size) int { return s.Notes }) {
		t.head = append(t.head, count(float64(notes))+" B")
	}
	for _, name := range distinct(r.Sizes, func(s results.Size) string { return s.Contender }) {
		row := []string{name}
		for _, s := range r.Sizes {
			switch {
			case s.Contender != name:
			case s.Error != "":
				row = append(row, "refused")
			default:
				row = append(row, cell(s))
			}
		}
		t.add(row...)
	}
	return t
}

// down adds up the seconds of an outage that lie within it.
func down(o results.Outage) (sum results.Second) {
	for i, s := range o.Seconds {
		if float64(i) >= o.DownFrom && float64(i) < o.DownTo {
			sum.Served += s.Served
			sum.LoggedOut += s.LoggedOut
			sum.Refused += s.Refused
			sum.Hung += s.Hung
			sum.Logins += s.Logins
			sum.LoginsOK += s.LoginsOK
		}
	}
	return sum
}

func outageTable(r *results.Results) *table {
	t := &table{title: "While the store is away: what its visitors meet", head: []string{"", "store", "requests", "served", "logged out", "refused (503)", "waiting", "slowest, ms", "logins"}}
	for _, kind := range []string{results.Refused, results.Silent} {
		for _, o := range r.Outages {
			if o.Kind != kind {
				continue
			}
			s := down(o)
			n := s.Visits()
			t.add(o.Contender, kind, strconv.Itoa(n), percent(s.Served, n), percent(s.LoggedOut, n), percent(s.Refused, n),
				percent(s.Hung, n), number(o.SlowestDown), fmt.Sprintf("%d of %d", s.LoginsOK, s.Logins))
		}
	}
	return t
}

func lossTable(r *results.Results) *table {
	t := &table{title: "After the data is gone", head: []string{"", "what", "still logged in", "cookies logged out before that work again"}}
	for _, l := range r.Losses {
		t.add(l.Contender, l.What, fmt.Sprintf("%d of %d", l.LoggedIn, l.Visitors), fmt.Sprintf("%d of %d", l.CopiesAccepted, l.Copies))
	}
	return t
}

func memoryTable(r *results.Results) *table {
	t := &table{title: "Memory of live sessions: heap of the application (its resident memory) / of the store", head: []string{""}}
	counts := distinct(r.Memory, func(m results.Memory) int { return m.Sessions })
	for _, n := range counts {
		t.head = append(t.head, count(float64(n)))
	}
	t.head = append(t.head, "on disk")
	for _, name := range distinct(r.Memory, func(m results.Memory) string { return m.Contender }) {
		row, disk := []string{name}, "–"
		for _, n := range counts {
			i := slices.IndexFunc(r.Memory, func(m results.Memory) bool { return m.Contender == name && m.Sessions == n })
			if i < 0 {
				row = append(row, results.NotMeasured)
				continue
			}
			m := r.Memory[i]
			cell := fmt.Sprintf("%s (%s)", size(max(0, m.Heap)), size(max(0, m.RSS)))
			if c, err := contender.Find(name); err == nil && (c.Store == contender.OnRedis || c.Store == contender.OnPostgres) {
				cell += " / " + storeSize(m)
			}
			row = append(row, cell)
			if m.Disk > 0 {
				disk = size(m.Disk)
			}
		}
		t.add(append(row, disk)...)
	}
	return t
}

func storeSize(m results.Memory) string {
	if !m.StoreKnown() {
		return results.NotMeasured
	}
	return size(max(0, m.Store))
}

func revocationTable(r *results.Results) *table {
	t := &table{title: "Sessions that were logged out early", head: []string{"", "sessions", "application", "an entry", "Redis", "an entry", "bytes to Redis / back, each"}}
	for _, v := range r.Revocations {
		n := float64(v.Count)
		store, entry, traffic := "–", "–", "–"
		if v.Store != 0 {
			store, entry = size(v.Store), number(float64(v.Store)/n)+" B"
			traffic = fmt.Sprintf("%.0f / %.0f", float64(v.Asked)/n, float64(v.Answered)/n)
		}
		t.add(v.Contender, count(n), size(v.Heap), number(float64(v.Heap)/n)+" B", store, entry, traffic)
	}
	return t
}

func followingTable(r *results.Results) *table {
	t := &table{title: "One logout by itself, with the list on Redis", head: []string{"", "bytes (messages)", "processor of Redis, µs", "of the instance, µs"}}
	for _, f := range r.Following {
		t.add("the instance where it happens appends", fmt.Sprintf("%.0f (%.1f)", f.AppendBytes, f.AppendMessages), number(f.AppendStoreMicros), "–")
		t.add("each instance hears of it", fmt.Sprintf("%.0f (%.1f)", f.HearBytes, f.HearMessages), number(f.AskStoreMicros*f.HearMessages), number(f.AskMicros*f.HearMessages))
		t.add(fmt.Sprintf("each more of %.0f that it hears of together", f.Together), fmt.Sprintf("%.0f", f.EntryBytes), "–", "–")
		t.add("Redis keeps", fmt.Sprintf("%.0f", f.RedisBytes), "–", "–")
	}
	return t
}
