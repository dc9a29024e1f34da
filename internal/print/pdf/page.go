package pdf

import (
	"image"
	"math"
	"strconv"
)

// Page is a page that is being drawn. Coordinates are printer dots from the top left corner, so that positions are never rounded to
// fractions of a dot.
type Page struct {
	width, height float64 // in points
	scale         float64 // points per dot
	trim          string  // the finished page: left, bottom, right and top in points
	content       []byte
	used          map[use]bool
	chinese       bool   // the page has characters of the viewer's Chinese font
	done          []byte // content, compressed
}

type use struct {
	font int
	char rune
}

// NewPage returns an empty page of the given size in millimetres. Drawing methods take positions in dots, at dpi dots per inch.
func NewPage(width, height float64, dpi int) *Page {
	const inch = 25.4
	p := &Page{width: width / inch * 72, height: height / inch * 72, scale: 72 / float64(dpi), used: map[use]bool{}}
	p.trim = "0 0 " + number(p.width) + " " + number(p.height)
	scale := strconv.FormatFloat(p.scale, 'f', 8, 64)
	p.content = append(p.content, scale+" 0 0 -"+scale+" 0 "+number(p.height)+" cm\n"...)
	return p
}

// Colour sets the colour of subsequent fills, lines and texts; red, green and blue range from 0 to 255. Greys are written as grey
// values, so that black is printed with black ink only.
func (p *Page) Colour(r, g, b uint8) {
	if r == g && g == b {
		v := share(r)
		p.content = append(p.content, v+" g "+v+" G\n"...)
		return
	}
	v := share(r) + " " + share(g) + " " + share(b)
	p.content = append(p.content, v+" rg "+v+" RG\n"...)
}

// Ink selects the ink of a file for a press for subsequent fills, lines and texts. The parameter ink is the Ink of the file's Info.
func (p *Page) Ink(ink string) {
	if ink == K {
		p.content = append(p.content, "0 0 0 1 k 0 0 0 1 K\n"...)
		return
	}
	p.content = append(p.content, "/Ink cs /Ink CS 1 scn 1 SCN\n"...)
}

// Trim sets the part of a page that remains after cutting, in a file for a press; without Trim the full page remains.
func (p *Page) Trim(r image.Rectangle) {
	p.trim = ""
	for _, v := range [...]float64{max(0, float64(r.Min.X)*p.scale), max(0, p.height-float64(r.Max.Y)*p.scale),
		min(p.width, float64(r.Max.X)*p.scale), min(p.height, p.height-float64(r.Min.Y)*p.scale)} {
		p.trim += number(v) + " "
	}
}

func share(v uint8) string { return number(float64(v) / 255) }

// Rect adds a rectangle to the shape that Fill draws.
func (p *Page) Rect(x, y, width, height int) {
	for _, v := range [...]int{x, y, width, height} {
		p.content = append(strconv.AppendInt(p.content, int64(v), 10), ' ')
	}
	p.content = append(p.content, "re\n"...)
}

// Fill fills the rectangles added since the last Fill as one shape, so that touching rectangles show no seam.
func (p *Page) Fill() { p.content = append(p.content, "f\n"...) }

// Line draws a line of the given width.
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

// Text draws a text that starts at x on a base line, with a font size in dots. The font must contain all characters of the text, unless
// it is used with Chinese.
func (p *Page) Text(f Font, size float64, x, base int, text string) {
	if text == "" {
		return
	}
	p.content = append(p.content, "BT "+number(size)+" 0 0 -"+number(size)+" "+strconv.Itoa(x)+" "+strconv.Itoa(base)+" Tm\n"...)
	block := rune(-1)
	for _, r := range text {
		font, next := "/F"+strconv.Itoa(f.index)+"_"+strconv.FormatInt(int64(r>>8), 16), r>>8
		viewers := f.chinese && !f.has(r)
		if viewers {
			font, next = "/Chinese", chineseBlock
			p.chinese = true
		} else {
			p.used[use{f.index, r}] = true
		}
		if next != block {
			if block >= 0 {
				p.content = append(p.content, "> Tj\n"...)
			}
			block = next
			p.content = append(p.content, font+" 1 Tf <"...)
		}
		const digits = "0123456789abcdef"
		if viewers {
			if r > 0xffff {
				r = '〓' // the usual sign for a character that cannot be printed
			}
			p.content = append(p.content, digits[r>>12], digits[r>>8&15])
		}
		p.content = append(p.content, digits[r>>4&15], digits[r&15])
	}
	p.content = append(p.content, "> Tj ET\n"...)
}

// Picture draws a picture scaled to the given rectangle.
func (p *Page) Picture(m Picture, x, y, width, height int) {
	p.content = append(p.content, "q "+strconv.Itoa(width)+" 0 0 -"+strconv.Itoa(height)+" "+strconv.Itoa(x)+" "+strconv.Itoa(y+height)+
		" cm /P"+strconv.Itoa(m.index)+" Do Q\n"...)
}

// Finish compresses the content of the page. The goroutine that drew the page calls Finish, to relieve the goroutine that adds the
// pages. After Finish, the page must not be changed.
func (p *Page) Finish() {
	if p.done == nil {
		p.done, p.content = deflate(p.content), nil
	}
}

// number formats v for PDF: without an exponent, with at most four decimal places, and without a negative zero.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e4)/1e4+0, 'f', -1, 64)
}
