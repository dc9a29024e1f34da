package labels_test

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// quietZones are the widths of the quiet zones of the standards in modules.
var quietZones = map[labels.Kind]int{labels.QR: 4, labels.DataMatrix: 1, labels.Matrix: 1}

// placedGrid is a symbol of a reference drawing.
type placedGrid struct {
	kind labels.Kind
	grid symbol.Grid
	text string
	x, y int // in dots
}

// drawReference draws a label without lines dot by dot from its grids: the symbols side by side, vertically centered.
func drawReference(t *testing.T, d labels.Design, r labels.Row, module int) (*image.Gray, []placedGrid) {
	t.Helper()
	kinds := []labels.Kind{d.Kind}
	if d.Kind == labels.QRAndMatrix {
		kinds = []labels.Kind{labels.QR, labels.Matrix}
	}
	var all []placedGrid
	width, height := 0, 0
	for _, kind := range kinds {
		p := placedGrid{kind: kind, text: r.Text}
		var err error
		switch kind {
		case labels.QR:
			p.grid, err = symbol.QR(r.Text, d.Level)
		case labels.DataMatrix:
			p.grid, err = symbol.DataMatrix(r.Text, false)
		case labels.Matrix:
			p.text = r.Code
			p.grid, err = symbol.Field(r.Matrix)
		}
		require.NoError(t, err)
		p.x = width + quietZones[kind]*module
		width += (p.grid.Width + 2*quietZones[kind]) * module
		height = max(height, (p.grid.Height+2*quietZones[kind])*module)
		all = append(all, p)
	}
	m := image.NewGray(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		m.Pix[i] = 255
	}
	for i := range all {
		p := &all[i]
		p.y = (height - p.grid.Height*module) / 2
		for y := range p.grid.Height * module {
			for x := range p.grid.Width * module {
				if p.grid.Dark(x/module, y/module) {
					m.SetGray(p.x+x, p.y+y, color.Gray{})
				}
			}
		}
	}
	return m, all
}

// TestLabels_DotsMatchGrid verifies that each kind in each format, at each resolution and level, has the dots of a reference drawing of its
// grids, and that a reader has no codeword to correct. Error correction of a reader would hide rows that are shifted by half a module.
func TestLabels_DotsMatchGrid(t *testing.T) {
	t.Parallel()
	r := newRows(t, 1)[0]
	for _, dpi := range testscope.Select([]int{203, 254, 300, 600}, []int{203, 300}) {
		for _, kind := range []labels.Kind{labels.QR, labels.DataMatrix, labels.Matrix, labels.QRAndMatrix} {
			for _, level := range testscope.Select([]symbol.Level{'L', 'M', 'Q', 'H'}, []symbol.Level{'L', 'Q'}) {
				if level != 'Q' && (kind == labels.DataMatrix || kind == labels.Matrix) {
					continue // they have no levels
				}
				d := newDesign(kind, dpi)
				d.Level, d.Lines = level, nil
				module := require.Value(symbol.ModuleDots(400, dpi))(t)
				want, symbols := drawReference(t, d, r, module)
				for format, render := range renderers {
					rendered := format == "svg" || format == "pdf" || format == "eps"
					if rendered && !testscope.IsComplete() && (dpi != 203 || level != 'Q' || kind == labels.QR || kind == labels.Matrix) {
						continue // starting the external renderer takes longer than all other checks
					}
					name := fmt.Sprintf("%s as %s at %d, level %c", kind, format, dpi, level)
					got := render(t, writeLabel(t, d, r, format), dpi, want.Bounds().Dx())
					size, excess := want.Bounds().Size(), got.Bounds().Size().Sub(want.Bounds().Size())
					// The size of a page is in points, so an external renderer may add a partial dot.
					if excess != (image.Point{}) && (format != "pdf" && format != "eps" || !excess.In(image.Rect(0, 0, 2, 2))) {
						t.Errorf("%s: %v dots, want %v", name, got.Bounds().Size(), size)
					}
					n := countDifferentDots(got, want)
					assert.True(t, n <= 0, "%s: %d dots differ from the grids, want 0", name, n)
					for _, p := range symbols {
						countWrong := readtest.CountDamagedDataMatrix
						if p.kind == labels.QR {
							countWrong = readtest.CountDamagedQR
						}
						n := countWrong(t, sampleModules(got, p, module))
						assert.True(t, n <= 0, "%s: a reader of its %s has to correct %d blocks, want 0", name, p.kind, n)
					}
				}
			}
		}
	}
}

// countDifferentDots returns the number of dots in which two pictures differ.
func countDifferentDots(a, b image.Image) (n int) {
	for y := range min(a.Bounds().Dy(), b.Bounds().Dy()) {
		for x := range min(a.Bounds().Dx(), b.Bounds().Dx()) {
			if isDark(a, x, y) != isDark(b, x, y) {
				n++
			}
		}
	}
	return n
}

func isDark(m image.Image, x, y int) bool {
	r, _, _, _ := m.At(m.Bounds().Min.X+x, m.Bounds().Min.Y+y).RGBA()
	return r < 0x8000
}

// sampleModules returns the modules of a symbol in a picture. It samples the lower right dot of each, because a drawing begins with the
// upper left one.
func sampleModules(m image.Image, p placedGrid, module int) (rows [][]bool) {
	for y := range p.grid.Height {
		var row []bool
		for x := range p.grid.Width {
			row = append(row, isDark(m, p.x+(x+1)*module-1, p.y+(y+1)*module-1))
		}
		rows = append(rows, row)
	}
	return rows
}

// renderers have a function per format that renders a file as a printer or a viewer does.
var renderers = map[labels.Format]func(t *testing.T, file []byte, dpi, width int) image.Image{
	"png": func(t *testing.T, file []byte, _, _ int) image.Image {
		return require.Value(png.Decode(bytes.NewReader(file)))(t)
	},
	"svg": func(t *testing.T, file []byte, dpi, _ int) image.Image { return readtest.RenderSVG(t, file, dpi) },
	"pdf": func(t *testing.T, file []byte, dpi, _ int) image.Image { return readtest.RenderPDF(t, file, dpi)[0] },
	"zpl": func(t *testing.T, file []byte, _, width int) image.Image {
		_, field, found := strings.Cut(string(file), "^GFA,")
		var size, total, stride int
		_, err := fmt.Sscanf(field, "%d,%d,%d,", &size, &total, &stride)
		require.True(t, found && err == nil, "no graphic field in %.80q", file)
		_, data, _ := strings.Cut(field, fmt.Sprintf("%d,%d,%d,\n", size, total, stride))
		return decodeBits(unpackZPL(t, data[:strings.Index(data, "^FS")], stride), stride, width)
	},
	"eps": func(t *testing.T, file []byte, dpi, _ int) image.Image { return readtest.RenderEPS(t, file, dpi) },
	"tspl": func(t *testing.T, file []byte, dpi, width int) image.Image {
		prints := interpretTSPL(t, file, dpi)
		require.Equal(t, len(prints), 1, "labels")
		return prints[0].label.SubImage(image.Rect(0, 0, width, prints[0].label.Rect.Dy()))
	},
}

// unpackZPL decodes the rows of a graphic field according to the manual of ZPL II: hexadecimal digits; before a digit, G to Y repeat it 1
// to 19 times and g to z 20 to 400 times; a comma fills the rest of the row with white, a colon repeats the previous row.
func unpackZPL(t *testing.T, data string, stride int) (bits []byte) {
	t.Helper()
	var row []byte // one digit per byte
	flush := func() {
		for i := 0; i+1 < len(row); i += 2 {
			bits = append(bits, row[i]<<4|row[i+1])
		}
		row = nil
	}
	count := 0
	for i := range len(data) {
		switch c := data[i]; {
		case c == ',':
			row = append(row, make([]byte, 2*stride-len(row))...)
		case c == ':':
			bits = append(bits, bits[len(bits)-stride:]...)
		case 'G' <= c && c <= 'Y':
			count += int(c-'G') + 1
			continue
		case 'g' <= c && c <= 'z':
			count += 20 * (int(c-'g') + 1)
			continue
		default:
			digit := strings.IndexByte("0123456789ABCDEF", c)
			require.True(t, digit >= 0, "%q in a graphic field", c)
			for range cmp.Or(count, 1) {
				row = append(row, byte(digit))
			}
		}
		count = 0
		if len(row) == 2*stride {
			flush()
		}
	}
	return bits
}

// decodeBits returns the picture of a bitmap in which 1 is dark.
func decodeBits(bits []byte, stride, width int) image.Image {
	m := image.NewGray(image.Rect(0, 0, width, len(bits)/stride))
	for y := range m.Rect.Dy() {
		for x := range width {
			m.Pix[y*m.Stride+x] = 255 * (1 - bits[y*stride+x/8]>>(7-x%8)&1)
		}
	}
	return m
}

// TestLabels_FlippedModuleDetected verifies that the readers of TestLabels_DotsMatchGrid report a single flipped module.
func TestLabels_FlippedModuleDetected(t *testing.T) {
	t.Parallel()
	r := newRows(t, 1)[0]
	d := newDesign(labels.QRAndMatrix, 203)
	d.Lines = nil
	m, symbols := drawReference(t, d, r, 3)
	qr, matrix := symbols[0], symbols[1]
	countWrong := func() (int, int) {
		return readtest.CountDamagedQR(t, sampleModules(m, qr, 3)), readtest.CountDamagedDataMatrix(t, sampleModules(m, matrix, 3))
	}
	a, b := countWrong()
	assert.True(t, a == 0 && b == 0, "reference drawing: %d and %d wrong blocks, want 0 and 0", a, b)
	for _, p := range symbols {
		for y := range 3 {
			for x := range 3 {
				i := m.PixOffset(p.x+(p.grid.Width-2)*3+x, p.y+(p.grid.Height-5)*3+y)
				m.Pix[i] = ^m.Pix[i]
			}
		}
	}
	a, b = countWrong()
	assert.True(t, a == 1 && b == 1, "one flipped module per symbol: %d and %d wrong blocks, want 1 and 1", a, b)
}
