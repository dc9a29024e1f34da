package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// drawing is one plot: lines over the number of rules, or bars.
type drawing struct {
	title      string
	bars, logY bool
	list       []Series
}

const (
	plotWidth, plotHeight          = 760, 420
	plotLeft, plotRight            = 70, 20
	plotTop, plotBottom            = 48, 56
	barHeight, barLabels, barsEdge = 34, 290, 70
)

// colours are distinguishable with colour vision deficiencies (Okabe and Ito).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// svg returns the plot; ok is false if there is too little data.
func (d drawing) svg() (string, bool) {
	switch {
	case len(d.list) == 0:
		return "", false
	case d.bars:
		return d.drawBars(), true
	case !slices.ContainsFunc(d.list, func(s Series) bool { return len(s.X) > 1 }):
		return "", false
	}
	return d.drawLines(), true
}

func writeHeader(b *strings.Builder, width, height int, title string) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#222">
<title>%s</title>
<rect width="%d" height="%d" fill="#fff"/>
<text x="%d" y="24" font-size="15" text-anchor="middle">%s</text>
`, width, height, width, height, escape(title), width, height, width/2, escape(title))
}

func (d drawing) drawBars() string {
	list := slices.Clone(d.list)
	slices.SortStableFunc(list, func(a, b Series) int { return int(math.Copysign(1, a.Y[0]-b.Y[0])) })
	highest := 0.0
	for _, s := range list {
		highest = math.Max(highest, s.Y[0])
	}
	var b strings.Builder
	height := plotTop + len(list)*barHeight + 34
	writeHeader(&b, plotWidth, height, d.title)
	for i, s := range list {
		y := plotTop + i*barHeight
		colour := "#999"
		if strings.HasPrefix(s.Name, "qrjump") {
			colour = colours[0]
		}
		length := s.Y[0] / highest * (plotWidth - barLabels - barsEdge)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%s</text>
`, barLabels-8, y+21, escape(s.Name), barLabels, y+5, length, barHeight-10, colour, barLabels+length+6, y+21, number(s.Y[0]))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>
</svg>
`, barLabels+(plotWidth-barLabels-barsEdge)/2, height-12, escape(list[0].YLabel))
	return b.String()
}

func (d drawing) drawLines() string {
	lowX, highX, lowY, highY := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, s := range d.list {
		for i := range s.X {
			lowX, highX = math.Min(lowX, s.X[i]), math.Max(highX, s.X[i])
			lowY, highY = math.Min(lowY, s.Y[i]), math.Max(highY, s.Y[i])
		}
	}
	place := func(v, low, high float64, logarithmic bool) float64 {
		if logarithmic {
			v, low, high = math.Log10(v), math.Log10(low), math.Log10(high)
		}
		return (v - low) / (high - low)
	}
	var gridLines []float64
	if d.logY {
		lowY, highY = math.Pow(10, math.Floor(math.Log10(lowY))), math.Pow(10, math.Ceil(math.Log10(highY)))
		for v := lowY; v <= highY*1.001; v *= 10 {
			gridLines = append(gridLines, v)
		}
	} else {
		step := niceStep(highY * 1.08)
		lowY, highY = 0, math.Ceil(highY*1.08/step)*step
		for v := 0.0; v <= highY*1.001; v += step {
			gridLines = append(gridLines, v)
		}
	}
	top := plotTop + 18*((len(d.list)+1)/2)
	x := func(v float64) float64 { return plotLeft + place(v, lowX, highX, true)*(plotWidth-plotLeft-plotRight) }
	y := func(v float64) float64 {
		return float64(plotHeight-plotBottom) - place(v, lowY, highY, d.logY)*float64(plotHeight-plotBottom-top)
	}
	var b strings.Builder
	writeHeader(&b, plotWidth, plotHeight, d.title)
	for _, v := range gridLines {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>
`, plotLeft, y(v), plotWidth-plotRight, plotLeft-8, y(v)+4, number(math.Round(v*1e6)/1e6))
	}
	var ticks []float64
	for _, s := range d.list {
		ticks = append(ticks, s.X...)
	}
	slices.Sort(ticks)
	for _, v := range slices.Compact(ticks) {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>
`, x(v), top, plotHeight-plotBottom, x(v), plotHeight-plotBottom+18, sizeName(int(math.Round(v))))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>
<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>
`, (plotWidth+plotLeft-plotRight)/2, plotHeight-14, escape(d.list[0].XLabel), (plotHeight-plotBottom+top)/2, escape(d.list[0].YLabel))
	for i, s := range d.list {
		colour, dashes := colours[i%len(colours)], ""
		if i%2 == 1 {
			dashes = ` stroke-dasharray="6 4"`
		}
		var line strings.Builder
		for j := range s.X {
			fmt.Fprintf(&line, "%.1f,%.1f ", x(s.X[j]), y(s.Y[j]))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>
`, x(s.X[j]), y(s.Y[j]), colour)
		}
		left, row := plotLeft+i%2*330, plotTop+i/2*18
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>
<path d="M%d %dh26" stroke="%s" stroke-width="2"%s/><text x="%d" y="%d">%s</text>
`, strings.TrimSpace(line.String()), colour, dashes, left, row-4, colour, dashes, left+34, row, escape(s.Name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// niceStep returns a round step that divides an axis into four to ten parts.
func niceStep(high float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, part := range []float64{0.1, 0.2, 0.5} {
		if high/(step*part) <= 8 {
			return step * part
		}
	}
	return step
}
