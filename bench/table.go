package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"example.com/sealed/bench/results"
)

// A table of figures, for the terminal and for a page.
type table struct {
	title string
	head  []string
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// markdown returns the table for a page. Its first column has names, the others
// figures.
func (t *table) markdown() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	b.WriteString("|---|" + strings.Repeat("---:|", len(t.head)-1) + "\n")
	for _, row := range t.rows {
		line(row)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// print writes the table to a terminal.
func (t *table) print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n\n", t.title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range append([][]string{t.head}, t.rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	return w.Flush()
}

// printTables writes what was measured with, and all tables that have figures.
func printTables(out io.Writer, r *results.Results) error {
	a := r.About
	fmt.Fprintf(out, "%s, %s, %d cores, %s, %s, in %s\n", a.Date, a.CPU, a.Cores, a.System, a.Go, a.Took)
	for _, v := range append(slices.Clone(a.Servers), a.Packages...) {
		fmt.Fprintf(out, "  %s %s\n", v.Name, v.Version)
	}
	for _, build := range tables {
		t := build(r)
		if len(t.rows) == 0 {
			continue
		}
		if err := t.print(out); err != nil {
			return err
		}
	}
	return nil
}

// number writes a figure with three digits that count.
func number(x float64) string {
	if x == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(x))))
	text := strconv.FormatFloat(x, 'f', max(0, digits), 64)
	if digits < 0 { // 12345: the last digits are noise, but zeros would be false
		text = strconv.FormatFloat(math.Round(x), 'f', 0, 64)
	}
	return thousands(text)
}

// thousands separates thousands by commas.
func thousands(text string) string {
	whole, fraction, point := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		whole += "." + fraction
	}
	return whole
}

// micros writes nanoseconds as microseconds: the median, and the quartiles.
func micros(s results.Spread) string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median/1000), number(s.Low/1000), number(s.High/1000))
}

// size writes a number of bytes in the largest unit of which there is one.
func size(n int64) string {
	x, sign := float64(n), ""
	if x < 0 {
		x, sign = -x, "-"
	}
	for _, unit := range []string{"B", "KB", "MB"} {
		if x < 1000 {
			return sign + number(x) + " " + unit
		}
		x /= 1000
	}
	return sign + number(x) + " GB"
}

// orDash writes what may not be known.
func orDash(x float64) string {
	if x == 0 {
		return "–"
	}
	return number(x)
}

func percent(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}

// distinct returns the values of a field in the order in which they come.
func distinct[R any, V comparable](rows []R, field func(R) V) (values []V) {
	for _, row := range rows {
		if v := field(row); !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}
