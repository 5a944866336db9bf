package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A theme is the colours of a chart: one for a light page, and one for a dark one.
type theme struct {
	name                    string
	paper, ink, faint, rule color.Color
	series                  []color.Color
}

func hex(digits string) color.Color {
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		panic(digits) // they are constants
	}
	return color.RGBA{R: uint8(n >> 16), G: uint8(n >> 8), B: uint8(n), A: 255}
}

func hexes(all ...string) (colors []color.Color) {
	for _, digits := range all {
		colors = append(colors, hex(digits))
	}
	return colors
}

// The series' colours can be told apart by those who see red and green as one (after
// Okabe and Ito).
var themes = []theme{
	{"light", hex("ffffff"), hex("1f2328"), hex("59636e"), hex("d8dee4"),
		hexes("0072b2", "e69f00", "009e73", "cc79a7", "d55e00", "56b4e9", "8a6d00", "6e7781")},
	{"dark", hex("0d1117"), hex("e6edf3"), hex("9198a1"), hex("30363d"),
		hexes("58a6ff", "f0b429", "3fc99a", "e59bc5", "ff8a50", "8fd3ff", "d4c15a", "a0a8b0")},
}

// A panel is one plot, with its legend beside it, where nothing is hidden behind it.
type panel struct {
	*plot.Plot
	legend plot.Legend
}

// newPanel returns an empty one in the colours of a theme.
func (t theme) newPanel(title, x string) *panel {
	p := &panel{plot.New(), plot.NewLegend()}
	p.BackgroundColor = t.paper
	p.Title.Text, p.X.Label.Text = title, x
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.legend.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Label.TextStyle, &p.Y.Tick.Label} {
		style.Font.Variant = "Sans"
	}
	p.Title.TextStyle.Color, p.legend.TextStyle.Color = t.ink, t.ink
	p.Title.TextStyle.Font.Size, p.Title.Padding = vg.Points(13), vg.Points(8)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = t.rule, t.rule
		axis.Label.TextStyle.Color, axis.Tick.Label.Color = t.faint, t.ink
		axis.Label.TextStyle.Font.Size, axis.Tick.Label.Font.Size = vg.Points(10), vg.Points(10)
	}
	p.legend.TextStyle.Font.Size, p.legend.ThumbnailWidth, p.legend.Padding = vg.Points(10), vg.Points(16), vg.Points(3)
	p.legend.Top, p.legend.Left = true, true
	return p
}

// grid draws lines behind what is added later.
func (t theme) grid(p *panel, vertical, horizontal bool) {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = t.rule, t.rule
	if !vertical {
		g.Vertical.Color = nil
	}
	if !horizontal {
		g.Horizontal.Color = nil
	}
	p.Add(g)
}

// bars are horizontal bars, in groups: a value of each series for each name, the
// first name on top. The plotting library's own cannot stand on a logarithmic axis,
// where there is no zero.
type bars struct {
	values [][]float64 // by series, by name; 0 for none
	colors []color.Color
	labels func(float64) string
	ink    color.Color
	from   float64 // where the axis begins
}

func (b bars) names() int { return len(b.values[0]) }

// Plot implements [plot.Plotter].
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	toX, toY := p.Transforms(&c)
	unit := toY(1) - toY(0)
	height := unit * vg.Length(0.78/float64(len(b.values)))
	for s, values := range b.values {
		for i, value := range values {
			if value <= 0 {
				continue
			}
			middle := toY(float64(b.names()-1-i)) + unit*0.39 - height*vg.Length(float64(s)+0.5)
			left, right := toX(b.from), toX(max(value, b.from))
			c.FillPolygon(b.colors[s], []vg.Point{
				{X: left, Y: middle - height*0.46}, {X: right, Y: middle - height*0.46},
				{X: right, Y: middle + height*0.46}, {X: left, Y: middle + height*0.46},
			})
			style := p.X.Tick.Label
			style.Color, style.XAlign, style.YAlign = b.ink, draw.XLeft, draw.YCenter
			style.Font.Size = vg.Points(9)
			c.FillText(style, vg.Point{X: right + vg.Points(4), Y: middle}, b.labels(value))
		}
	}
}

// DataRange implements [plot.DataRanger].
func (b bars) DataRange() (xmin, xmax, ymin, ymax float64) {
	most := b.from
	for _, values := range b.values {
		for _, value := range values {
			most = max(most, value)
		}
	}
	return b.from, most, -0.6, float64(b.names()) - 0.4
}

// thumbnail is a square of one colour, for the legend.
type thumbnail struct{ color color.Color }

// Thumbnail implements [plot.Thumbnailer].
func (t thumbnail) Thumbnail(c *draw.Canvas) {
	side := c.Max.Y - c.Min.Y
	c.FillPolygon(t.color, []vg.Point{c.Min, {X: c.Min.X + side, Y: c.Min.Y}, {X: c.Min.X + side, Y: c.Max.Y}, {X: c.Min.X, Y: c.Max.Y}})
}

// barChart returns horizontal bars. With a logarithmic axis that begins at from,
// which is more than zero, a bar ten times as long as another is not.
func (t theme) barChart(title, unit string, names, series []string, values [][]float64, from float64, label func(float64) string) *panel {
	p := t.newPanel(title, unit)
	b := bars{values: values, colors: t.series, labels: label, ink: t.ink, from: from}
	if from > 0 {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, powersOfTen(label)
	} else {
		p.X.Tick.Marker = labelled{plot.DefaultTicks{}, label}
	}
	t.grid(p, true, false)
	p.Add(b)
	p.X.Min = from
	if p.X.Max *= 1.12; from > 0 { // room for the labels
		p.X.Max *= 2.5
	}
	backwards := make([]string, len(names))
	for i, name := range names {
		backwards[len(names)-1-i] = name
	}
	p.NominalY(backwards...)
	p.Y.Tick.Label.Color, p.Y.LineStyle.Width, p.Y.Tick.Length = t.ink, 0, 0
	p.Y.Min, p.Y.Max = -0.6, float64(len(names))-0.4
	if len(series) > 1 {
		for i, s := range series {
			p.legend.Add(s, thumbnail{t.series[i]})
		}
	}
	return p
}

// A line is a series of a line chart.
type line struct {
	name   string
	points plotter.XYs
}

// draw draws lines with marks on their points.
func (t theme) draw(p *panel, lines []line) error {
	t.grid(p, true, true)
	for i, l := range lines {
		drawn, marks, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width = t.series[i%len(t.series)], vg.Points(1.4+0.5*float64(len(lines)-1-i)) // those behind others are wider
		marks.Color, marks.Radius = drawn.Color, vg.Points(2.6)
		marks.Shape = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.CrossGlyph{}}[i%4]
		p.Add(drawn, marks)
		p.legend.Add(l.name, drawn, marks)
	}
	return nil
}

// labelled are the ticks of another, with labels of their own.
type labelled struct {
	plot.Ticker
	label func(float64) string
}

// Ticks implements [plot.Ticker].
func (l labelled) Ticks(low, high float64) []plot.Tick {
	ticks := l.Ticker.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = tick(l.label(ticks[i].Value))
		}
	}
	return ticks
}

// powersOfTen are the ticks of a logarithmic axis.
type powersOfTen func(float64) string

// Ticks implements [plot.Ticker].
func (label powersOfTen) Ticks(low, high float64) (ticks []plot.Tick) {
	for e := math.Floor(math.Log10(low)); math.Pow(10, e) <= high*1.0001; e++ {
		if x := math.Pow(10, e); x >= low*0.9999 {
			ticks = append(ticks, plot.Tick{Value: x, Label: tick(label(x))})
		}
	}
	return ticks
}

// these are ticks at some values only.
type these struct {
	values []float64
	label  func(float64) string
}

// Ticks implements [plot.Ticker].
func (t these) Ticks(low, high float64) (ticks []plot.Tick) {
	for _, x := range t.values {
		if x >= low && x <= high {
			ticks = append(ticks, plot.Tick{Value: x, Label: t.label(x)})
		}
	}
	return ticks
}

// fontFamily is how the plotting library names its font in SVG, which most readers
// lack: they would get one with serifs.
var fontFamily = regexp.MustCompile(`font-family:[^;"]*`)

// svg draws panels below each other.
func svg(width, height, legend vg.Length, panels ...*panel) ([]byte, error) {
	canvas := vgsvg.New(width, height*vg.Length(len(panels)))
	all := draw.New(canvas)
	all.SetColor(panels[0].BackgroundColor)
	all.Fill(all.Rectangle.Path())
	const margin = vg.Length(8)
	for i, p := range panels {
		area := draw.Crop(all, margin, -margin, all.Max.Y-height*vg.Length(i+1)+margin, -height*vg.Length(i)-margin)
		if legend > 0 {
			p.legend.YOffs = -vg.Points(24) // below the title
			p.legend.Draw(draw.Crop(area, width-2*margin-legend, 0, 0, 0))
			area = draw.Crop(area, 0, -legend-margin, 0, 0)
		}
		p.Draw(area)
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	return fontFamily.ReplaceAll(b.Bytes(), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif")), nil
}

// zeros are digits of a label that say nothing.
var zeros = regexp.MustCompile(`(?:\.0+|(\.\d*[1-9])0+)( |$)`)

// tick writes a label as short as it can be: 1.00 as 1.
func tick(label string) string { return zeros.ReplaceAllString(label, "$1$2") }

// duration writes microseconds with their unit.
func duration(micros float64) string {
	switch {
	case micros >= 1e6:
		return number(micros/1e6) + " s"
	case micros >= 1000:
		return number(micros/1000) + " ms"
	case micros >= 0.1:
		return number(micros) + " µs"
	}
	return number(micros*1000) + " ns"
}

func count(x float64) string { return thousands(fmt.Sprintf("%.0f", x)) }
