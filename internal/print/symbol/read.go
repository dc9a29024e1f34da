package symbol

import (
	"fmt"
	"image"
	"strings"

	"github.com/makiuchi-d/gozxing"
	dmdecoder "github.com/makiuchi-d/gozxing/datamatrix/decoder"
	qrdecoder "github.com/makiuchi-d/gozxing/qrcode/decoder"
)

// family is the kind of a symbol and selects the reader that decodes the symbol.
type family byte

const (
	qrCode family = iota + 1
	dataMatrix
)

// Read decodes the text of a symbol from its modules; if the symbol begins with FNC1, the text starts with the identifier that
// readers send.
func (g Grid) Read() (string, error) {
	bits, err := g.bits()
	if err != nil {
		return "", fmt.Errorf("read a symbol: %w", err)
	}
	if g.family == qrCode {
		found, err := qrdecoder.NewDecoder().Decode(bits, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_CHARACTER_SET: "UTF-8"})
		if err != nil {
			return "", fmt.Errorf("read a QR code: %w", err)
		}
		if m := found.GetSymbologyModifier(); m == 3 || m == 4 { // FNC1 in first position, with or without ECI
			return GS1QRIdentifier + found.GetText(), nil
		}
		return found.GetText(), nil
	}
	found, err := dmdecoder.NewDecoder().Decode(bits)
	if err != nil {
		return "", fmt.Errorf("read a Data Matrix: %w", err)
	}
	if elements, is := strings.CutPrefix(found.GetText(), fnc1); is {
		return GS1DataMatrixIdentifier + elements, nil
	}
	return found.GetText(), nil
}

// bits returns the modules in the form of the decoders.
func (g Grid) bits() (*gozxing.BitMatrix, error) {
	rows := make([][]bool, g.Height)
	for y := range rows {
		rows[y] = g.dark[y*g.Width : (y+1)*g.Width]
	}
	return gozxing.ParseBoolMapToBitMatrix(rows)
}

// Grids returns the symbols of a drawing, from left to right, as recovered from the printed dots. Grids returns an error unless the
// dots are whole modules in a white quiet zone and equal the rectangles that SVG and PDF draw.
func (d Drawing) Grids() ([]Grid, error) {
	b := d.dots()
	var grids []Grid
	for n, p := range d.symbols {
		seen := Grid{Width: p.Width, Height: p.Height, family: p.family, quiet: p.quiet, dark: make([]bool, len(p.dark))}
		for y := range p.Height {
			for x := range p.Width {
				seen.dark[y*p.Width+x] = b.inked(p.x+x*d.Module, p.y+y*d.Module)
			}
		}
		if pos, wrong := p.wrongDot(b, d.Module); wrong {
			return nil, fmt.Errorf("symbol %d is not drawn in whole modules: the dots of row %d do not match its modules", n+1, pos)
		}
		outlined := make([]bool, len(p.dark))
		for r := range p.rects() {
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for x := r.Min.X; x < r.Max.X; x++ {
					outlined[y*p.Width+x] = true
				}
			}
		}
		for i, dark := range outlined {
			if dark != seen.dark[i] {
				return nil, fmt.Errorf("symbol %d: the outline of module %v does not match its dots", n+1, image.Pt(i%p.Width, i/p.Width))
			}
		}
		grids = append(grids, seen)
	}
	return grids, nil
}

// wrongDot finds a row of dots, in a symbol or in its quiet zone, that differs from the symbol's modules.
func (p placed) wrongDot(b *bitmap, module int) (row int, wrong bool) {
	n := p.quiet * module
	left, right := p.x-n, p.x+p.Width*module+n
	line := func(ink func(x int) bool) []byte {
		item := &bitmap{width: b.width, height: 1, stride: b.stride, bits: make([]byte, b.stride)}
		for x := max(left, 0); x < min(right, b.width); x++ {
			if ink(x) {
				item.set(x, 0)
			}
		}
		return item.bits
	}
	mask, white := line(func(int) bool { return true }), line(func(int) bool { return false })
	if left < 0 || right > b.width || p.y-n < 0 || p.y+p.Height*module+n > b.height {
		return p.y, true
	}
	for y := -p.quiet; y < p.Height+p.quiet; y++ {
		want := white
		if y >= 0 && y < p.Height {
			want = line(func(x int) bool { return x >= p.x && p.Dark((x-p.x)/module, y) })
		}
		for pos := p.y + y*module; pos < p.y+(y+1)*module; pos++ {
			for i, dots := range b.row(pos) {
				if dots&mask[i] != want[i] {
					return pos, true
				}
			}
		}
	}
	return 0, false
}
