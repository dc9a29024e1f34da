package symbol

import (
	"bufio"
	"fmt"
	"io"
	"strconv"

	"github.com/qrjump/qrjump/internal/print/pdf"
)

// SVG writes a drawing as an SVG picture. Text lines are written as outlines, so that no viewer needs the font.
func SVG(w io.Writer, d Drawing) error {
	if d.ink.Ink != "" {
		return errInk
	}
	b := bufio.NewWriter(w)
	// Viewers round a size in millimetres up to whole dots, some with 24-bit floats. If rounding added a row of dots, the row would be
	// black in a picture without transparency, so the written size is slightly too small.
	mm := func(dots int) string {
		return strconv.FormatFloat((float64(dots)-0.0005)*inch/1000/float64(d.DPI), 'f', 6, 64)
	}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%smm" height="%smm" viewBox="0 0 %d %d">`+"\n",
		mm(d.Width), mm(d.Height), d.Width, d.Height)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="%v"/>`+"\n", d.Width, d.Height, d.paper)
	for _, p := range d.symbols {
		fmt.Fprintf(b, `<path fill="%v" shape-rendering="crispEdges" d="`, d.ink)
		for r := range p.rects() {
			width := r.Dx() * d.Module
			fmt.Fprintf(b, "M%d %dh%dv%dh-%dz", p.x+r.Min.X*d.Module, p.y+r.Min.Y*d.Module, width, r.Dy()*d.Module, width)
		}
		fmt.Fprint(b, "\"/>\n")
	}
	for _, l := range d.lines {
		scale := strconv.FormatFloat(float64(d.size)/1000, 'f', -1, 64)
		fmt.Fprintf(b, `<path fill="%v" transform="translate(%d %d) scale(%s -%s)" d="`, d.ink, l.x, l.base, scale, scale)
		end := ""
		for s := range d.font.outline(l.text) {
			if s.Op == 'm' {
				fmt.Fprint(b, end)
				end = "Z"
			}
			fmt.Fprintf(b, "%c", s.Op-'a'+'A')
			for _, p := range s.Points {
				fmt.Fprintf(b, "%.1f %.1f ", p[0], p[1])
			}
		}
		fmt.Fprint(b, end+"\"/>\n")
	}
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}

// PDF writes a drawing as a PDF page of the drawing's size.
func PDF(w io.Writer, d Drawing) error {
	b := bufio.NewWriter(w)
	file := pdf.NewWriter(b, pdf.Info{Title: "Label", Ink: d.ink.Ink})
	mm := func(dots int) float64 { return float64(dots) * inch / 1000 / float64(d.DPI) }
	page := pdf.NewPage(mm(d.Width), mm(d.Height), d.DPI)
	d.On(page, file.Use(d.font), 0, 0)
	if err := file.Add(page); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return b.Flush()
}

// On draws the drawing on a PDF page with the same dots per inch, with the drawing's top left corner at x and y. The parameter font
// is the font of the drawing's style.
func (d Drawing) On(page *pdf.Page, font pdf.Font, x, y int) {
	if d.paper != White {
		d.paper.On(page)
		page.Rect(x, y, d.Width, d.Height)
		page.Fill()
	}
	d.ink.On(page)
	for _, p := range d.symbols {
		for r := range p.rects() {
			page.Rect(x+p.x+r.Min.X*d.Module, y+p.y+r.Min.Y*d.Module, r.Dx()*d.Module, r.Dy()*d.Module)
		}
	}
	if len(d.symbols) > 0 {
		page.Fill()
	}
	for _, l := range d.lines {
		page.Text(font, float64(d.size), x+l.x, y+l.base, l.text)
	}
}
