package main

import (
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"example.com/sealed/bench/contender"
	"example.com/sealed/bench/results"
)

// A chart shows some figures, in one or more panels below each other.
type chart struct {
	name   string
	height float64 // of a panel, in points
	legend float64 // how wide it is; 0 for none
	alt    string  // for who cannot see it
	panels func(theme, *results.Results) ([]*panel, error)
}

const chartWidth = 720 // points

// charts are all that there are.
var charts = []chart{
	{"process", 330, 70, "Bars: the time that reading and changing a session takes with each contender", processChart},
	{"http", 300, 110, "Bars: requests a second of each contender, by the number of connections", httpChart},
	{"network", 230, 135, "Lines: the time of an operation against the round trip to the store", networkChart},
	{"wire", 400, 110, "Bars: bytes of a request and of its response with each contender", wireChart},
	{"http2", 300, 110, "Lines: what an unchanged session cookie adds to a request over HTTP/2 and HTTP/3, against its size", http2Chart},
	{"sizes", 240, 130, "Lines: time and requests a second against the size of the session", sizesChart},
	{"outage", 170, 200, "Lines: the share of visitors who are served, before, while and after the store is away", outageChart},
	{"memory", 280, 135, "Lines: memory against the number of live sessions", memoryChart},
}

// svgs draws a chart in each theme.
func (c chart) svgs(r *results.Results) (map[string][]byte, error) {
	drawn := map[string][]byte{}
	for _, t := range themes {
		panels, err := c.panels(t, r)
		if err == nil {
			drawn[c.name+"-"+t.name+".svg"], err = svg(vg.Points(chartWidth), vg.Points(c.height), vg.Points(c.legend), panels...)
		}
		if err != nil {
			return nil, fmt.Errorf("chart %s: %w", c.name, err)
		}
	}
	return drawn, nil
}

func processChart(t theme, r *results.Results) ([]*panel, error) {
	names := slices.DeleteFunc(distinct(r.InProcess, func(c results.Cost) string { return c.Contender }), func(name string) bool { return name == contender.None })
	operations := []string{contender.Read, contender.Change}
	values := make([][]float64, len(operations))
	for i, operation := range operations {
		for _, name := range names {
			values[i] = append(values[i], costOf(r, name, operation).NS.Median/1000)
		}
	}
	return []*panel{t.barChart("One request in process: time for the session (each line is ten times the one before)", "", names, operations, values, 0.1, duration)}, nil
}

func httpChart(t theme, r *results.Results) (panels []*panel, err error) {
	for _, operation := range []string{contender.Read, contender.Change} {
		names := distinct(r.HTTP, func(l results.Load) string { return l.Contender })
		connections := distinct(r.HTTP, func(l results.Load) int { return l.Connections })
		var series []string
		values := make([][]float64, len(connections))
		for i, n := range connections {
			series = append(series, fmt.Sprintf("%d connections", n))
			for _, name := range names {
				for _, l := range r.HTTP {
					if l.Contender == name && l.Operation == operation && l.Connections == n {
						values[i] = append(values[i], l.PerSecond.Median)
					}
				}
			}
		}
		panels = append(panels, t.barChart("Requests a second over HTTP: "+operation, "", names, series, values, 0, count))
	}
	return panels, nil
}

func networkChart(t theme, r *results.Results) (panels []*panel, err error) {
	for _, operation := range []string{contender.Read, contender.Change} {
		p := t.newPanel("A store some way off: time of one "+operation, "round trip between the application and its store (a PING), ms")
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, powersOfTen(func(ms float64) string { return duration(ms * 1000) })
		var lines []line
		for _, name := range distinct(r.Network, func(d results.Distance) string { return d.Contender }) {
			l := line{name: name}
			for _, d := range r.Network {
				if d.Contender == name && d.Operation == operation {
					l.points = append(l.points, plotter.XY{X: d.PingMillis, Y: d.Millis.Median})
				}
			}
			lines = append(lines, l)
		}
		if err := t.draw(p, lines); err != nil {
			return nil, err
		}
		p.X.Min, p.Y.Min = 0, 0.001
		p.Y.Max = max(p.Y.Max, 10)
		panels = append(panels, p)
	}
	return panels, nil
}

func wireChart(t theme, r *results.Results) ([]*panel, error) {
	names := distinct(r.Wire, func(w results.Wire) string { return w.Contender })
	series := []string{"read: request", "read: response", "change: request", "change: response"}
	values := make([][]float64, len(series))
	for _, w := range r.Wire {
		i := slices.Index([]string{contender.Read, contender.Change}, w.Operation)
		if i >= 0 {
			values[2*i], values[2*i+1] = append(values[2*i], float64(w.Request)), append(values[2*i+1], float64(w.Response))
		}
	}
	return []*panel{t.barChart("Bytes of one request over HTTP/1.1", "", names, series, values, 0, count)}, nil
}

func sizesChart(t theme, r *results.Results) (panels []*panel, err error) {
	notes := distinct(r.Sizes, func(s results.Size) int { return s.Notes })
	var ticks []float64
	for _, n := range notes {
		ticks = append(ticks, float64(n))
	}
	for _, kind := range []struct {
		title       string
		value       func(results.Size) float64
		label       func(float64) string
		logarithmic bool
	}{
		{"By size of the session: time of a change in process", func(s results.Size) float64 { return s.ChangeNS.Median / 1000 }, duration, true},
		{"By size of the session: reads a second over HTTP, 16 connections", func(s results.Size) float64 { return s.ReadHTTP.Median }, count, false},
	} {
		p := t.newPanel(kind.title, "bytes in the session, beside the reference session")
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, these{ticks, count}
		if kind.logarithmic {
			p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, powersOfTen(kind.label)
		} else {
			p.Y.Tick.Marker = labelled{plot.DefaultTicks{}, kind.label}
		}
		var lines []line
		for _, name := range distinct(r.Sizes, func(s results.Size) string { return s.Contender }) {
			l := line{name: name}
			for _, s := range r.Sizes {
				if s.Contender == name && s.Error == "" {
					l.points = append(l.points, plotter.XY{X: float64(s.Notes), Y: kind.value(s)})
				}
			}
			lines = append(lines, l)
		}
		if err := t.draw(p, lines); err != nil {
			return nil, err
		}
		panels = append(panels, p)
	}
	panels[1].Y.Min = 0
	return panels, nil
}

func outageChart(t theme, r *results.Results) (panels []*panel, err error) {
	for _, o := range []struct{ kind, title string }{
		{results.Refused, "The store is down for %v seconds, connections are refused: visitors served, %%"},
		{results.Silent, "The store is unreachable for %v seconds, packets vanish: visitors served, %%"},
	} {
		p := t.newPanel(fmt.Sprintf(o.title, facts{r}.Down()), "seconds")
		p.Y.Min, p.Y.Max = -4, 104
		p.Y.Tick.Marker = these{[]float64{0, 50, 100}, count}
		var lines []line
		for _, name := range []string{contender.Sealed, contender.SealedRedis, contender.SealedStale, contender.SCSRedis, contender.SCSPostgres} {
			l := line{name: name}
			for _, x := range r.Outages {
				if x.Contender != name || x.Kind != o.kind {
					continue
				}
				for second, s := range x.Seconds {
					if n := s.Visits(); n > 0 {
						l.points = append(l.points, plotter.XY{X: float64(second) + 0.5, Y: 100 * float64(s.Served) / float64(n)})
					}
				}
			}
			lines = append(lines, l)
		}
		if err := t.draw(p, lines); err != nil {
			return nil, err
		}
		p.X.Min = 0
		panels = append(panels, p)
	}
	return panels, nil
}

func memoryChart(t theme, r *results.Results) ([]*panel, error) {
	p := t.newPanel("Memory of live sessions, application and store together (PostgreSQL: without its disk)", "live sessions")
	var ticks []float64
	for _, n := range distinct(r.Memory, func(m results.Memory) int { return m.Sessions }) {
		ticks = append(ticks, float64(n))
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, these{ticks, count}
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, powersOfTen(func(b float64) string { return size(int64(b)) })
	var lines []line
	for _, name := range []string{contender.Sealed, contender.SealedRedis, contender.Map, contender.SCSMemory, contender.SCSRedis, contender.SCSPostgres} {
		l := line{name: name}
		for _, m := range r.Memory {
			if m.Contender == name && m.StoreKnown() {
				// What a garbage collection leaves of nothing may be less than before.
				l.points = append(l.points, plotter.XY{X: float64(m.Sessions), Y: float64(max(1000, m.Heap+m.Store))})
			}
		}
		if len(l.points) > 0 {
			lines = append(lines, l)
		}
	}
	return []*panel{p}, t.draw(p, lines)
}
