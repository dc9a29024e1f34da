package pdf

import (
	"math"
	"strconv"
)

// Page is a page that is being made. Its coordinates are dots of the printer from the top left
// corner, so that nothing is rounded to part of a dot.
type Page struct {
	width, height float64 // in points
	content       []byte
	used          map[use]bool
	done          []byte // content, compressed
}

type use struct {
	font int
	char rune
}

// NewPage begins a page of a size in millimetres. What is drawn on it is in dots, of which dpi make an inch.
func NewPage(width, height float64, dpi int) *Page {
	const inch = 25.4
	p := &Page{width: width / inch * 72, height: height / inch * 72, used: map[use]bool{}}
	scale := strconv.FormatFloat(72/float64(dpi), 'f', 8, 64)
	p.content = append(p.content, scale+" 0 0 -"+scale+" 0 "+number(p.height)+" cm\n"...)
	return p
}

// Colour is that of the fills, lines and texts that follow, red, green and blue
// from 0 to 255. Greys are written as such, so that black is printed with black
// ink alone.
func (p *Page) Colour(r, g, b uint8) {
	if r == g && g == b {
		v := share(r)
		p.content = append(p.content, v+" g "+v+" G\n"...)
		return
	}
	v := share(r) + " " + share(g) + " " + share(b)
	p.content = append(p.content, v+" rg "+v+" RG\n"...)
}

func share(v uint8) string { return number(float64(v) / 255) }

// Rect adds a rectangle to what Fill fills.
func (p *Page) Rect(x, y, width, height int) {
	for _, v := range [...]int{x, y, width, height} {
		p.content = append(strconv.AppendInt(p.content, int64(v), 10), ' ')
	}
	p.content = append(p.content, "re\n"...)
}

// Fill fills the rectangles added since the last Fill, as one shape: no seam is
// seen where they touch.
func (p *Page) Fill() { p.content = append(p.content, "f\n"...) }

// Line draws a line of a width.
func (p *Page) Line(x1, y1, x2, y2 int, width float64) {
	p.content = append(p.content, number(width)+" w "...)
	for i, v := range [...]int{x1, y1, x2, y2} {
		p.content = append(strconv.AppendInt(p.content, int64(v), 10), ' ')
		if i == 1 {
			p.content = append(p.content, "m "...)
		}
	}
	p.content = append(p.content, "l S\n"...)
}

// Text draws a text that begins at x, on a base line, in a size of dots. The font
// has all its characters.
func (p *Page) Text(f Font, size float64, x, base int, text string) {
	if text == "" {
		return
	}
	p.content = append(p.content, "BT "+number(size)+" 0 0 -"+number(size)+" "+strconv.Itoa(x)+" "+strconv.Itoa(base)+" Tm\n"...)
	block := rune(-1)
	for _, r := range text {
		p.used[use{f.index, r}] = true
		if r>>8 != block {
			if block >= 0 {
				p.content = append(p.content, "> Tj\n"...)
			}
			block = r >> 8
			p.content = append(p.content, "/F"+strconv.Itoa(f.index)+"_"+strconv.FormatInt(int64(block), 16)+" 1 Tf <"...)
		}
		const digits = "0123456789abcdef"
		p.content = append(p.content, digits[r>>4&15], digits[r&15])
	}
	p.content = append(p.content, "> Tj ET\n"...)
}

// Picture draws a picture.
func (p *Page) Picture(m Picture, x, y, width, height int) {
	p.content = append(p.content, "q "+strconv.Itoa(width)+" 0 0 -"+strconv.Itoa(height)+" "+strconv.Itoa(x)+" "+strconv.Itoa(y+height)+
		" cm /P"+strconv.Itoa(m.index)+" Do Q\n"...)
}

// Finish compresses what was drawn. The goroutine that drew the page calls it, so that the one that
// adds pages need not. Nothing may be drawn after it.
func (p *Page) Finish() {
	if p.done == nil {
		p.done, p.content = deflate(p.content), nil
	}
}

func (p *Page) packed() []byte {
	p.Finish()
	return p.done
}

// number is v as the format writes it: no exponent, four places at most, and no
// minus before a zero.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e4)/1e4+0, 'f', -1, 64)
}
