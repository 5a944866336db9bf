package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"example.com/sealed/bench/results"
)

// http2Chart shows the table of docs/wire.md, which the tests in e2e write.
func http2Chart(t theme, _ *results.Results) ([]*panel, error) {
	rows, err := onWire(wirePage)
	if err != nil {
		return nil, err
	}
	p := t.newPanel("What an unchanged session cookie adds to each request, in bytes", "bytes of cookie")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, these{rows.cookies, count}
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, powersOfTen(count)
	lines := []line{{name: "HTTP/1.1"}}
	for _, cookie := range rows.cookies {
		lines[0].points = append(lines[0].points, plotter.XY{X: cookie, Y: cookie})
	}
	for i, client := range rows.clients {
		name := "HTTP/2: " + client
		if strings.Contains(client, "HTTP/3") {
			name = "HTTP/3: " + strings.TrimSuffix(client, ", HTTP/3")
		}
		l := line{name: name}
		for j, cookie := range rows.cookies {
			l.points = append(l.points, plotter.XY{X: cookie, Y: rows.added[j][i]})
		}
		lines = append(lines, l)
	}
	return []*panel{p}, t.draw(p, lines)
}

// wirePage has that table between two marks.
const wirePage = "../docs/wire.md"

// A wireRows is what each client adds to a request for an unchanged cookie.
type wireRows struct {
	clients []string
	cookies []float64   // bytes
	added   [][]float64 // by cookie, by client
}

func onWire(page string) (w wireRows, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return w, err
	}
	_, table, _ := strings.Cut(string(text), "<!-- wire:")
	table, _, found := strings.Cut(table, "<!-- /wire -->")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if !found || len(lines) < 4 {
		return w, fmt.Errorf("%s has no table", page)
	}
	cells := func(line string) []string {
		parts := strings.Split(strings.Trim(line, "| "), "|")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return parts
	}
	w.clients = cells(lines[1])[1:]
	for _, line := range lines[3:] {
		var numbers []float64
		for _, cell := range cells(line) {
			unchanged, _, _ := strings.Cut(cell, " /")
			n, err := strconv.ParseFloat(strings.TrimPrefix(unchanged, "+"), 64)
			if err != nil {
				return w, fmt.Errorf("%s: %w", page, err)
			}
			numbers = append(numbers, n)
		}
		if len(numbers) != 1+len(w.clients) {
			return w, fmt.Errorf("%s: a row of %d cells", page, len(numbers))
		}
		w.cookies, w.added = append(w.cookies, numbers[0]), append(w.added, numbers[1:])
	}
	return w, nil
}
