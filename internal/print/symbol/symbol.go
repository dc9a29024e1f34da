// Package symbol draws machine-readable symbols at sizes that a printer can draw and a camera can read.
package symbol

import (
	"fmt"
	"image"
	"image/color"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/boombuler/barcode/qr"
)

// Level is the error correction level of a QR code, by the share that may be damaged: L 7 %, M 15 %, Q 25 %, H 30 %.
type Level byte

// levels maps error correction letters to the levels of the QR library.
var levels = map[Level]qr.ErrorCorrectionLevel{'L': qr.L, 'M': qr.M, 'Q': qr.Q, 'H': qr.H}

// The quiet zones that the standards require, in modules: ISO/IEC 18004 and 16022.
const (
	qrQuiet         = 4
	dataMatrixQuiet = 1
)

// FieldSide is the side, in modules, of the dot matrix in a row of a batch. Contract: marketcode §4.2.
const FieldSide = 19

// Grid contains the modules of a symbol without its quiet zone.
type Grid struct {
	Width, Height int
	family        family
	quiet         int // width of the quiet zone in modules that the symbol's standard requires
	dark          []bool
}

// Dark reports whether a module is dark. All modules outside the symbol are light.
func (g Grid) Dark(x, y int) bool {
	return x >= 0 && y >= 0 && x < g.Width && y < g.Height && g.dark[y*g.Width+x]
}

// QR returns the QR code of a text. Texts that contain only digits, capital letters, spaces and $%*+-./: produce smaller symbols.
// QR returns an error if the text is empty, invalid UTF-8, or too long for the level.
func QR(text string, level Level) (Grid, error) {
	if err := checkText(text); err != nil {
		return Grid{}, err
	}
	l, ok := levels[level]
	if !ok {
		return Grid{}, fmt.Errorf("error correction %q: want L, M, Q or H", string(level))
	}
	m, err := qr.Encode(text, l, qr.Auto)
	if err != nil {
		next := "shorten it"
		if level != 'L' {
			next = "shorten it, or use a lower error correction"
		}
		return Grid{}, fmt.Errorf("a text of %d bytes is too long for a QR code of level %c: %s", len(text), level, next)
	}
	return qrGrid(m.Bounds().Dx(), func(x, y int) bool { return m.At(x, y) == color.Black }), nil
}

func checkText(text string) error {
	switch {
	case text == "":
		return fmt.Errorf("the text is empty")
	case !utf8.ValidString(text):
		return fmt.Errorf("the text is not UTF-8")
	}
	return nil
}

// qrGrid returns a QR code whose modules the function dark describes.
func qrGrid(size int, dark func(x, y int) bool) Grid {
	g := Grid{Width: size, Height: size, family: qrCode, quiet: qrQuiet, dark: make([]bool, size*size)}
	for i := range g.dark {
		g.dark[i] = dark(i%size, i/size)
	}
	return g
}

// Field returns the symbol in the dot matrix of a batch row: 19×19 characters row by row, 0 = white, 1 = black. White edges are cut
// off, since a quiet zone is added around the symbol later. Contract: marketcode §4.2.
func Field(dots string) (Grid, error) {
	if len(dots) != FieldSide*FieldSide || strings.Trim(dots, "01") != "" {
		return Grid{}, fmt.Errorf("a dot matrix has %d characters 0 and 1, got %d", FieldSide*FieldSide, len(dots))
	}
	left, top, right, bottom := FieldSide, FieldSide, -1, -1
	for i := range len(dots) {
		if dots[i] == '1' {
			x, y := i%FieldSide, i/FieldSide
			left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
		}
	}
	if right < 0 {
		return Grid{}, fmt.Errorf("the dot matrix has no black dot")
	}
	g := Grid{Width: right - left + 1, Height: bottom - top + 1, family: dataMatrix, quiet: dataMatrixQuiet}
	for y := top; y <= bottom; y++ {
		for x := left; x <= right; x++ {
			g.dark = append(g.dark, dots[y*FieldSide+x] == '1')
		}
	}
	return g, nil
}

// rects yields rectangles, in modules, that cover each dark module exactly once.
func (g Grid) rects() iter.Seq[image.Rectangle] {
	return func(yield func(image.Rectangle) bool) {
		done := make([]bool, len(g.dark))
		for y := range g.Height {
			for x := range g.Width {
				if !g.Dark(x, y) || done[y*g.Width+x] {
					continue
				}
				right := x + 1
				for g.Dark(right, y) && !done[y*g.Width+right] {
					right++
				}
				bottom := y + 1
				for g.darkRow(x, right, bottom, done) {
					bottom++
				}
				for i := y; i < bottom; i++ {
					for j := x; j < right; j++ {
						done[i*g.Width+j] = true
					}
				}
				if !yield(image.Rect(x, y, right, bottom)) {
					return
				}
			}
		}
	}
}

// darkRow reports whether all modules between two columns of a row are dark and not yet covered.
func (g Grid) darkRow(from, to, y int, done []bool) bool {
	for x := from; x < to; x++ {
		if !g.Dark(x, y) || done[y*g.Width+x] {
			return false
		}
	}
	return true
}
