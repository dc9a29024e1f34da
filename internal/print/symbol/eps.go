package symbol

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/print/pdf"
)

// epsOperators are the procedures of an EPS picture: r adds a rectangle to the path, and m, l and c draw outlines.
const epsOperators = "5 dict begin\n/r{4 2 roll moveto 1 index 0 rlineto 0 exch rlineto neg 0 rlineto closepath}bind def\n" +
	"/m{moveto}bind def/l{lineto}bind def/c{curveto}bind def\n"

// EPS writes a drawing as an EPS picture for a press: symbols and text lines are outlines, and black is only the black ink or a spot ink.
func EPS(w io.Writer, d Drawing) error {
	b := bufio.NewWriter(w)
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	points := func(dots int) float64 { return float64(dots) * 72 / float64(d.DPI) }
	width, height := points(d.Width), points(d.Height)
	fmt.Fprintf(b, "%%!PS-Adobe-3.0 EPSF-3.0\n%%%%BoundingBox: 0 0 %.0f %.0f\n%%%%HiResBoundingBox: 0 0 %.4f %.4f\n%%%%LanguageLevel: 2\n",
		math.Ceil(width), math.Ceil(height), width, height)
	if name, ok := strings.CutPrefix(d.ink.Ink, pdf.Spot); ok {
		fmt.Fprintf(b, "%%%%DocumentCustomColors: (%[1]s)\n%%%%CMYKCustomColor: 0 0 0 1 (%[1]s)\n", name)
	}
	fmt.Fprintf(b, "%%%%EndComments\ngsave\n%s", epsOperators)
	fmt.Fprintf(b, "%[1]s %[1]s neg scale 0 %[2]d neg translate\n", number(72/float64(d.DPI)), d.Height)
	if d.paper != White {
		fmt.Fprintf(b, "%s newpath 0 0 %d %d r fill\n", d.paper.postScript(), d.Width, d.Height)
	}
	fmt.Fprintf(b, "%s newpath\n", d.ink.postScript())
	for _, p := range d.symbols {
		for r := range p.rects() {
			fmt.Fprintf(b, "%d %d %d %d r\n", p.x+r.Min.X*d.Module, p.y+r.Min.Y*d.Module, r.Dx()*d.Module, r.Dy()*d.Module)
		}
	}
	fmt.Fprintln(b, "fill")
	for _, l := range d.lines {
		scale := number(float64(d.size) / 1000)
		fmt.Fprintf(b, "gsave %d %d translate %s %s neg scale newpath\n", l.x, l.base, scale, scale)
		for s := range d.font.outline(l.text) {
			for _, p := range s.Points {
				fmt.Fprintf(b, "%.1f %.1f ", p[0], p[1])
			}
			fmt.Fprintf(b, "%c\n", s.Op)
		}
		fmt.Fprintln(b, "fill grestore")
	}
	fmt.Fprintf(b, "end grestore\n%%%%EOF\n")
	return b.Flush()
}

// postScript returns the operators that select the colour; a grey has only the black ink.
func (c Colour) postScript() string {
	if name, ok := strings.CutPrefix(c.Ink, pdf.Spot); ok {
		return fmt.Sprintf("[/Separation <%x> cvn /DeviceCMYK {0 0 0 4 -1 roll}] setcolorspace 1 setcolor", name)
	}
	share := func(v uint8) string { return strconv.FormatFloat(float64(v)/255, 'f', 4, 64) }
	if c.R == c.G && c.G == c.B {
		return "0 0 0 " + share(255-c.R) + " setcmykcolor"
	}
	return share(c.R) + " " + share(c.G) + " " + share(c.B) + " setrgbcolor"
}
