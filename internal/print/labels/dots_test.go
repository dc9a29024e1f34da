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

// quiets are the quiet zones that the standards demand, in modules.
var quiets = map[labels.Kind]int{labels.QR: 4, labels.DataMatrix: 1, labels.Matrix: 1}

// placedGrid is a symbol of a plain drawing.
type placedGrid struct {
	kind labels.Kind
	grid symbol.Grid
	text string
	x, y int // in dots
}

// drawnPlainly is a label without lines, drawn dot by dot from its grids: symbols beside each other, each in the middle of the height.
func drawnPlainly(t *testing.T, d labels.Design, r labels.Row, module int) (*image.Gray, []placedGrid) {
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
		p.x = width + quiets[kind]*module
		width += (p.grid.Width + 2*quiets[kind]) * module
		height = max(height, (p.grid.Height+2*quiets[kind])*module)
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

// Issue 28: of labels with two symbols the PNG and ZPL shifted rows of the QR code by half a module, and readers corrected it as
// long as they could. Every kind in every format, at every resolution and level, has the dots of a plain drawing of its grids, and a
// reader has no codeword to correct.
func TestLabels_DotsMatchGrid(t *testing.T) {
	t.Parallel()
	r := made(t, 1)[0]
	for _, dpi := range testscope.Choose([]int{203, 254, 300, 600}, []int{203, 300}) {
		for _, kind := range []labels.Kind{labels.QR, labels.DataMatrix, labels.Matrix, labels.QRAndMatrix} {
			for _, level := range testscope.Choose([]symbol.Level{'L', 'M', 'Q', 'H'}, []symbol.Level{'L', 'Q'}) {
				if level != 'Q' && (kind == labels.DataMatrix || kind == labels.Matrix) {
					continue // they have no levels
				}
				d := design(kind, dpi)
				d.Level, d.Lines = level, nil
				module, err := symbol.ModuleDots(400, dpi)
				require.NoError(t, err)
				want, symbols := drawnPlainly(t, d, r, module)
				for format, see := range seenAs {
					rendered := format == "svg" || format == "pdf" || format == "eps"
					if rendered && !testscope.Run() && (dpi != 203 || level != 'Q' || kind == labels.QR || kind == labels.Matrix) {
						continue // another program draws these, and its start costs more than all dots here
					}
					name := fmt.Sprintf("%s as %s at %d, level %c", kind, format, dpi, level)
					var file []byte
					require.NoErrorf(t, d.Labels(batch, each([]labels.Row{r}), format, func(_ labels.Row, label []byte) error {
						file = label
						return nil
					}), "%s", name)
					got := see(t, file, dpi, want.Bounds().Dx())
					size, more := want.Bounds().Size(), got.Bounds().Size().Sub(want.Bounds().Size())
					// A page is measured in points: the dot that it ends in counts where another program renders it.
					if more != (image.Point{}) && (format != "pdf" && format != "eps" || !more.In(image.Rect(0, 0, 2, 2))) {
						t.Errorf("%s: %v dots, not %v", name, got.Bounds().Size(), size)
					}
					n := otherDots(got, want)
					assert.True(t, n <= 0, "%s: %d dots are others than those of the grids", name, n)
					for _, p := range symbols {
						wrong := readtest.WrongDataMatrix
						if p.kind == labels.QR {
							wrong = readtest.WrongQR
						}
						n := wrong(t, sampled(got, p, module))
						assert.True(t, n <= 0, "%s: a reader of its %s has to correct %d blocks", name, p.kind, n)
					}
				}
			}
		}
	}
}

// otherDots counts the dots of two pictures that are not alike.
func otherDots(a, b image.Image) (n int) {
	for y := range min(a.Bounds().Dy(), b.Bounds().Dy()) {
		for x := range min(a.Bounds().Dx(), b.Bounds().Dx()) {
			if dark(a, x, y) != dark(b, x, y) {
				n++
			}
		}
	}
	return n
}

func dark(m image.Image, x, y int) bool {
	r, _, _, _ := m.At(m.Bounds().Min.X+x, m.Bounds().Min.Y+y).RGBA()
	return r < 0x8000
}

// sampled are the modules of a symbol of a picture, each at its lower right dot: the upper left one is where a drawing begins it.
func sampled(m image.Image, p placedGrid, module int) (rows [][]bool) {
	for y := range p.grid.Height {
		var row []bool
		for x := range p.grid.Width {
			row = append(row, dark(m, p.x+(x+1)*module-1, p.y+(y+1)*module-1))
		}
		rows = append(rows, row)
	}
	return rows
}

// seenAs draws a file of a format as its printer or its program does.
var seenAs = map[labels.Format]func(t *testing.T, file []byte, dpi, width int) image.Image{
	"png": func(t *testing.T, file []byte, _, _ int) image.Image {
		m, err := png.Decode(bytes.NewReader(file))
		require.NoError(t, err)
		return m
	},
	"svg": func(t *testing.T, file []byte, dpi, _ int) image.Image { return readtest.Picture(t, file, dpi) },
	"pdf": func(t *testing.T, file []byte, dpi, _ int) image.Image { return readtest.Pages(t, file, dpi)[0] },
	"zpl": func(t *testing.T, file []byte, _, width int) image.Image {
		_, field, found := strings.Cut(string(file), "^GFA,")
		var all, same, stride int
		_, err := fmt.Sscanf(field, "%d,%d,%d,", &all, &same, &stride)
		require.True(t, found && err == nil, "no graphic field: %.80q", file)
		_, data, _ := strings.Cut(field, fmt.Sprintf("%d,%d,%d,\n", all, same, stride))
		return inked(unpackedZPL(t, data[:strings.Index(data, "^FS")], stride), stride, width)
	},
	"eps": func(t *testing.T, file []byte, dpi, _ int) image.Image { return readtest.PostScript(t, file, dpi) },
	"tspl": func(t *testing.T, file []byte, dpi, width int) image.Image {
		prints := printedTSPL(t, file, dpi)
		require.Equal(t, len(prints), 1, "labels")
		return prints[0].label.SubImage(image.Rect(0, 0, width, prints[0].label.Rect.Dy()))
	},
}

// unpackedZPL reads the rows of a graphic field as the manual of ZPL II tells: hexadecimal digits; before one, G to Y for 1 to 19 of it
// and g to z for 20 to 400; a comma ends a row that is white from there on, a colon is the row before.
func unpackedZPL(t *testing.T, data string, stride int) (bits []byte) {
	t.Helper()
	var row []byte // a digit a byte
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

// inked is a picture of one bit a dot, in which 1 is ink.
func inked(bits []byte, stride, width int) image.Image {
	m := image.NewGray(image.Rect(0, 0, width, len(bits)/stride))
	for y := range m.Rect.Dy() {
		for x := range width {
			m.Pix[y*m.Stride+x] = 255 * (1 - bits[y*stride+x/8]>>(7-x%8)&1)
		}
	}
	return m
}

// A reader that may correct nothing is what the test above trusts: one module that is turned round is one that it misses.
func TestLabels_FlippedModuleDetected(t *testing.T) {
	t.Parallel()
	r := made(t, 1)[0]
	d := design(labels.QRAndMatrix, 203)
	d.Lines = nil
	m, symbols := drawnPlainly(t, d, r, 3)
	qr, matrix := symbols[0], symbols[1]
	wrong := func() (int, int) {
		return readtest.WrongQR(t, sampled(m, qr, 3)), readtest.WrongDataMatrix(t, sampled(m, matrix, 3))
	}
	a, b := wrong()
	assert.True(t, a == 0 && b == 0, "a plain drawing has %d and %d wrong blocks", a, b)
	for _, p := range symbols {
		for y := range 3 {
			for x := range 3 {
				at := m.PixOffset(p.x+(p.grid.Width-2)*3+x, p.y+(p.grid.Height-5)*3+y)
				m.Pix[at] = ^m.Pix[at]
			}
		}
	}
	a, b = wrong()
	assert.True(t, a == 1 && b == 1, "a wrong module in each symbol is %d and %d wrong blocks", a, b)
}
