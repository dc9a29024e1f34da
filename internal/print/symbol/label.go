package symbol

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// Style is the format of printed labels.
type Style struct {
	Module Length // side of a module, rounded to whole printer dots
	DPI    int    // printer resolution in dots per inch
	Quiet  *int   // quiet zone around a symbol in modules; nil = the width that the symbol's standard requires
	Text   Length // font size of the text lines; 0 = 2mm
	Beside bool   // true = text lines to the right of the symbols; false = below the symbols
	Ink    Colour
	Paper  Colour
	Font   *Font // nil = DefaultFont
	Media  Media // of label printers
}

// maxQuietZone is the maximum width of the quiet zone in modules.
const maxQuietZone = 100

const (
	defaultText = Length(2000)
	// minText is the minimum font size in dots at which the letters of a text line stay legible.
	minText = 10
	// lineHeight is the distance between two text lines, in percent of the font size.
	lineHeight = 120
)

// Drawing is a label that is laid out and ready for output; its unit is a dot, counted from the top left corner. The symbols, with their
// quiet zones, are placed from left to right; the text lines are below the symbols or to their right.
type Drawing struct {
	Width, Height, DPI int
	Module             int // side of a module in printer dots
	ink, paper         Colour
	symbols            []placed
	lines              []line
	size               int // of the lines
	font               *Font
	media              Media
	dots               func() *bitmap // the dots of the label, rendered once, at the first use
	// Content contains the texts that were read back from the symbols, from left to right. For a given dot matrix that this program cannot
	// read, the text is "".
	Content []string
}

type placed struct {
	Grid
	x, y int
}

type line struct {
	text    string
	x, base int
}

// ModuleLength returns the side of a module after rounding to whole dots.
func (d Drawing) ModuleLength() Length { return LengthOf(d.Module, d.DPI) }

// Check returns an error if labels cannot be printed with this style. The error is a *SizeError if another size can be printed.
func (s Style) Check() error {
	if _, err := ModuleDots(s.Module, s.DPI); err != nil {
		return err
	}
	if s.Quiet != nil && (*s.Quiet < 0 || *s.Quiet > maxQuietZone) {
		return fmt.Errorf("a quiet zone of %d modules: want at most %d", *s.Quiet, maxQuietZone)
	}
	if size := s.textDots(); size < minText {
		return &SizeError{Reason: fmt.Sprintf("lines of %v are %d dots at %d dots per inch, and must be at least %d dots to be readable", s.text(), size,
			s.DPI, minText), Next: fmt.Sprintf("use lines of %v", LengthOf(minText, s.DPI)+1)}
	}
	return CheckContrast(s.Ink, s.Paper)
}

func (s Style) text() Length  { return cmp.Or(s.Text, defaultText) }
func (s Style) textDots() int { return s.text().Dots(s.DPI) }

// Face returns the font of the text lines.
func (s Style) Face() *Font {
	if s.Font == nil {
		return DefaultFont()
	}
	return s.Font
}

// Draw lays out a label from symbols and text lines. Draw returns the error of Check, or an error if a quiet zone is too small, the
// font lacks a letter of a line, or the picture is too large.
func (s Style) Draw(lines []string, symbols ...Grid) (Drawing, error) {
	if err := s.Check(); err != nil {
		return Drawing{}, err
	}
	module, err := ModuleDots(s.Module, s.DPI)
	if err != nil {
		return Drawing{}, err
	}
	d := Drawing{DPI: s.DPI, Module: module, ink: s.Ink, paper: s.Paper, size: s.textDots(), font: s.Face(), media: s.Media}
	for _, g := range symbols {
		if s.Quiet != nil && *s.Quiet < g.quiet {
			return Drawing{}, &SizeError{Reason: fmt.Sprintf("a quiet zone of %s is too small for this symbol", modules(*s.Quiet)),
				Next: fmt.Sprintf("use %d or more", g.quiet)}
		}
		d.Height = max(d.Height, (g.Height+2*s.quiet(g))*module)
	}
	for _, g := range symbols {
		quiet := s.quiet(g) * module
		d.symbols = append(d.symbols, placed{g, d.Width + quiet, (d.Height - g.Height*module) / 2})
		d.Width += g.Width*module + 2*quiet
	}
	if err := d.place(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == "" }), s.Beside); err != nil {
		return Drawing{}, err
	}
	if d.Width > MaxDots || d.Height > MaxDots {
		return Drawing{}, &SizeError{Reason: fmt.Sprintf("an image of %d×%d pixels is larger than %d pixels on a side", d.Width, d.Height, MaxDots),
			Can: s.smaller(MaxDots, max(d.Width, d.Height))}
	}
	d.dots = sync.OnceValue(d.raster)
	return d, nil
}

// quiet returns the quiet zone of a symbol in modules.
func (s Style) quiet(g Grid) int {
	if s.Quiet != nil {
		return *s.Quiet
	}
	return g.quiet
}

func modules(n int) string {
	if n == 1 {
		return "1 module"
	}
	return fmt.Sprintf("%d modules", n)
}

// smaller returns the module size at which a side of a label has at most the given number of dots (room) instead of the current (needed).
func (s Style) smaller(room, needed int) Length {
	dots, err := ModuleDots(s.Module, s.DPI)
	if err != nil || needed == 0 {
		return 0
	}
	can := LengthOf(dots*room/needed, s.DPI)
	if _, err := ModuleDots(can, s.DPI); err != nil {
		return 0
	}
	return can
}

// place positions the text lines: ok = true means to the right of the symbols, false means centred below the symbols.
func (d *Drawing) place(lines []string, ok bool) error {
	if len(lines) == 0 {
		return nil
	}
	step, widest := d.size*lineHeight/100, 0
	for _, text := range lines {
		if err := d.font.Check(text); err != nil {
			return err
		}
		widest = max(widest, d.font.width(text, d.size))
	}
	block := step * len(lines)
	x, top := 0, d.Height
	switch {
	case ok:
		x, d.Height = d.Width, max(d.Height, block)
		top = (d.Height - block) / 2
		d.shift(0, (d.Height-d.symbolsHeight())/2)
		d.Width += widest + d.size/2
	default:
		if widest+d.size > d.Width {
			d.shift((widest+d.size-d.Width)/2, 0)
			d.Width = widest + d.size
		}
		d.Height += block + d.size/4
	}
	for i, text := range lines {
		pos := x
		if !ok {
			pos = (d.Width - d.font.width(text, d.size)) / 2
		}
		d.lines = append(d.lines, line{text, pos, top + i*step + d.size})
	}
	return nil
}

// symbolsHeight returns the height of the tallest symbol with its quiet zone.
func (d *Drawing) symbolsHeight() (height int) {
	for _, p := range d.symbols {
		height = max(height, 2*p.y+p.Height*d.Module)
	}
	return height
}

func (d *Drawing) shift(x, y int) {
	for i := range d.symbols {
		d.symbols[i].x += x
		d.symbols[i].y += y
	}
}
