package symbol_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/font/gofont/gomono"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

const code = "P.URL.CN/0A$-Z0123456789QWER"

var texts = []string{code, "1", "https://coffee.example/t/7?from=door&x=%20", "0123456789", strings.Repeat("A1b", 60)}

// drawPNG returns the picture of the PNG file of a drawing.
func drawPNG(t *testing.T, d symbol.Drawing) image.Image {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, symbol.PNG(&file, d))
	return require.Value(png.Decode(&file))(t)
}

func newStyle(dpi int) symbol.Style {
	return symbol.Style{Module: 400, DPI: dpi, Ink: symbol.Black, Paper: symbol.White}
}

func squareDataMatrix(text string) (symbol.Grid, error) { return symbol.DataMatrix(text, false) }

func TestSymbol_DrawingReadable(t *testing.T) {
	t.Parallel()
	readtest.RequirePrograms(t, "pdftoppm")
	for _, kind := range []struct {
		name string
		grid func(string) (symbol.Grid, error)
		read func(testing.TB, ...image.Image) []string
	}{
		{"QR", func(text string) (symbol.Grid, error) { return symbol.QR(text, 'M') }, readtest.QR},
		{"Data Matrix", squareDataMatrix, readtest.DataMatrix},
	} {
		for _, dpi := range testscope.Select([]int{203, 300}, []int{203}) {
			for i, text := range texts {
				d := require.Value(newStyle(dpi).Draw([]string{"A serial 1"}, require.Value(kind.grid(text))(t)))(t)
				sharp := drawPNG(t, d)
				pictures := []image.Image{sharp, readtest.Blur(sharp, d.Module)}
				if testscope.IsComplete() || i == 0 {
					var file bytes.Buffer
					require.NoError(t, symbol.PDF(&file, d))
					pictures = append(pictures, readtest.RenderPDF(t, file.Bytes(), dpi)...)
				}
				for n, found := range kind.read(t, pictures...) {
					assert.Equal(t, found, text, "%s at %d, picture %d", kind.name, dpi, n)
				}
			}
		}
	}
}

// TestSymbol_SVGMatchesPrinterDots verifies that a rendered SVG has the size and the dots of the PNG, although a renderer rounds the size
// up to full dots.
func TestSymbol_SVGMatchesPrinterDots(t *testing.T) {
	t.Parallel()
	readtest.RequirePrograms(t, "rsvg-convert")
	for _, dpi := range testscope.Select([]int{203, 254, 300, 600}, []int{254}) {
		for _, text := range testscope.Select(texts, texts[:1]) {
			for _, draw := range []func(string) (symbol.Grid, error){
				func(text string) (symbol.Grid, error) { return symbol.QR(text, 'M') }, squareDataMatrix,
			} {
				d := require.Value(newStyle(dpi).Draw(nil, require.Value(draw(text))(t)))(t)
				var file bytes.Buffer
				require.NoError(t, symbol.SVG(&file, d))
				want, got := drawPNG(t, d), readtest.RenderSVG(t, file.Bytes(), dpi)
				if want.Bounds() != got.Bounds() {
					t.Errorf("%d dots per inch: %v dots, want %v", dpi, got.Bounds().Size(), want.Bounds().Size())
				} else if n := countDifferentDots(want, got); n > 0 {
					t.Errorf("%d dots per inch: %d dots differ from the PNG, want 0", dpi, n)
				}
			}
		}
	}
}

// countDifferentDots returns the number of dots in which two pictures of one size differ.
func countDifferentDots(a, b image.Image) (n int) {
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if color.GrayModel.Convert(a.At(x, y)) != color.GrayModel.Convert(b.At(x, y)) {
				n++
			}
		}
	}
	return n
}

// TestDataMatrix_SmallestEncodation verifies that the smallest encodation is chosen and that another reader reads each symbol.
func TestDataMatrix_SmallestEncodation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		side int
		name string
	}{
		{"A1B2C3D4E", 14, "C40 that ends before the end of its symbol"},
		{"AB", 10, "two letters of ASCII"},
		{"ABCDEF", 12, "C40 that fills its symbol and needs no unlatch"},
		{"0123456789", 12, "digits, two per codeword"},
		{strings.Repeat("abcdefghij", 4), 22, "text"},
		{strings.Repeat("ABCDEFGHIJ", 4), 22, "C40"},
		{code, 22, "a code text"},
		{"https://coffee.example/t/7?from=door&x=%20", 26, "text with shifts"},
		{"{\"batch\": 500000001, \"Index\": [7, 8, 9], \"name\": `~|}\x7e^_@!", 0, "all shifts"},
		{"Größe ½ äöüÄÖÜßéèêëàâ", 0, "base 256 among text"},
		{strings.Repeat("äöü", 100), 0, "base 256 with a long length"},
		{"é", 10, "one character of base 256"},
		{"CAFÉ", 14, "C40 or ASCII, and one character of base 256"},
		{strings.Repeat("A1b", 300), 0, "several blocks"},
	} {
		grid := require.Value(squareDataMatrix(c.text))(t)
		assert.True(t, (c.side <= 0 || grid.Width == c.side) && grid.Width == grid.Height,
			"%s: %d×%d modules, want %d per side", c.name, grid.Width, grid.Height, c.side)
		got, err := grid.Read()
		assert.True(t, got == c.text && err == nil, "%s: Read() = %q, %v, want %q", c.name, got, err, c.text)
		d := require.Value(newStyle(203).Draw(nil, grid))(t)
		assert.Equal(t, readtest.Dmtxread(t, drawPNG(t, d)), c.text, "%s: dmtxread", c.name)
	}
	for text := range strings.FieldsSeq("0 A a 1A AB Ab aB !a 12 123 A12 ABC abc ABCD abcd ABCDE 9ABCabc é 1é ABCé abcé12 éA" +
		" éABCDEFGHI") { // each length of the remainder
		for n := range testscope.Select(40, 8) {
			text := strings.Repeat(text, n+1)
			got, err := require.Value(symbol.DataMatrix(text, false))(t).Read()
			assert.True(t, got == text && err == nil, "%q is read as %q: %v", text, got, err)
		}
	}
}

// TestDataMatrix_Rectangular verifies that two readers read each of the six rectangular symbols at the resolutions of label printers,
// without a wrong codeword.
func TestDataMatrix_Rectangular(t *testing.T) {
	t.Parallel()
	for n, size := range map[int]image.Point{4: {18, 8}, 9: {32, 8}, 15: {26, 12}, 21: {36, 12}, 31: {36, 16}, 48: {48, 16}} {
		text := strings.Repeat("a,1B;", 10)[:n] // ASCII characters, one per codeword
		grid := require.Value(symbol.DataMatrix(text, true))(t)
		assert.Equal(t, image.Pt(grid.Width, grid.Height), size, "size of %d characters", n)
		for _, dpi := range []int{203, 300, 600} {
			m := drawPNG(t, require.Value(newStyle(dpi).Draw(nil, grid))(t))
			assert.Equal(t, readtest.Dmtxread(t, m), text, "%v at %d by dmtxread", size, dpi)
			assert.Equal(t, readtest.DataMatrix(t, m)[0], text, "%v at %d", size, dpi)
		}
		var rows [][]bool
		for y := range grid.Height {
			rows = append(rows, nil)
			for x := range grid.Width {
				rows[y] = append(rows[y], grid.Dark(x, y))
			}
		}
		assert.Equal(t, readtest.CountDamagedDataMatrix(t, rows), 0, "wrong blocks of %v", size)
	}
	_, err := symbol.DataMatrix(strings.Repeat("a,", 25), true)
	assert.True(t, err != nil && strings.Contains(err.Error(), "use a square one"), "50 characters: %v", err)
}

// TestFont_TrueTypeCollection verifies that ParseFont accepts collections, such as the Chinese fonts of Debian, with tables at any offset.
func TestFont_TrueTypeCollection(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("/usr/share/fonts/truetype/*/*.ttc")
	require.NoError(t, err)
	// A collection of one font whose tables have unaligned offsets.
	out := []byte("ttcf\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10")
	tables := int(binary.BigEndian.Uint16(gomono.TTF[4:]))
	out = append(out, gomono.TTF[:12+16*tables]...)
	for i := range tables {
		record := out[16+12+16*i:][:16]
		offset, size := binary.BigEndian.Uint32(record[8:]), binary.BigEndian.Uint32(record[12:])
		for len(out)%4 != 1 {
			out = append(out, 0)
		}
		binary.BigEndian.PutUint32(out[16+12+16*i+8:], uint32(len(out)))
		out = append(out, gomono.TTF[offset:offset+size]...)
	}
	fonts := map[string][]byte{"Go Mono in a collection": out}
	for _, name := range files {
		if slices.Contains([]string{"wqy-microhei.ttc", "wqy-zenhei.ttc", "uming.ttc"}, filepath.Base(name)) {
			fonts[name] = require.Value(os.ReadFile(name))(t)
		}
	}
	for name, file := range fonts {
		font, err := symbol.ParseFont(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := "防伪码 第一件 ABC123"
		if name == "Go Mono in a collection" {
			text = "ABC123"
		}
		s := newStyle(300)
		s.Font, s.Text = font, 3000
		blank := newStyle(300)
		blank.Text = 3000
		d := require.Value(s.Draw([]string{text}, require.Value(symbol.QR(code, 'M'))(t)))(t)
		without := require.Value(blank.Draw(nil, require.Value(symbol.QR(code, 'M'))(t)))(t)
		n := countDark(drawPNG(t, d)) - countDark(drawPNG(t, without))
		assert.True(t, n >= 500, "%s: the line of text has %d dark dots, want at least 500", name, n)
	}
	for name, file := range map[string][]byte{"nothing": nil, "a picture": []byte("\x89PNG\r\n\x1a\n0123456789"),
		"a cut font": gomono.TTF[:2000], "a collection of nothing": []byte("ttcf\x00\x01\x00\x00\x00\x00\x00\x01\xff\xff\xff\xf0")} {
		_, err := symbol.ParseFont(file)
		assert.True(t, err != nil && strings.Contains(err.Error(), "font"), "%s: %v", name, err)
	}
}

func countDark(m image.Image) (n int) {
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			if r, _, _, _ := m.At(x, y).RGBA(); r == 0 {
				n++
			}
		}
	}
	return n
}

func TestSymbol_InvalidSizeSuggestsValid(t *testing.T) {
	grid := require.Value(symbol.QR(code, 'Q'))(t)
	for _, c := range []struct {
		name   string
		change func(*symbol.Style)
		want   string
	}{
		{"one dot of a label printer", func(s *symbol.Style) { s.Module, s.DPI = 200, 203 },
			"modules of 0.2mm are 1.6 dots at 203 dots per inch, and must be at least 2 dots: use modules of 0.251mm, or a printer with at least 254 dots per inch"},
		{"smaller than cameras see", func(s *symbol.Style) { s.Module, s.DPI = 100, 2400 },
			"modules of 0.1mm are smaller than cameras can resolve (0.19mm): use modules of 0.191mm"},
		{"a hoarding", func(s *symbol.Style) { s.Module, s.DPI, s.Text = 200_000, 72, 5000 },
			"modules of 200mm are larger than 100mm: use modules of 100mm"},
		{"a picture of many dots", func(s *symbol.Style) { s.Module, s.DPI = 100_000, 300 },
			"an image of 38973×38973 pixels is larger than 20000 pixels on a side: use modules of 51.308mm"},
		{"a quiet zone of two", func(s *symbol.Style) { s.Quiet = new(2) },
			"a quiet zone of 2 modules is too small for this symbol: use 4 or more"},
		{"no quiet zone", func(s *symbol.Style) { s.Quiet = new(0) },
			"a quiet zone of 0 modules is too small for this symbol: use 4 or more"},
		{"letters of eight dots", func(s *symbol.Style) { s.Text, s.DPI = 1000, 203 },
			"lines of 1mm are 8 dots at 203 dots per inch, and must be at least 10 dots to be readable: use lines of 1.252mm"},
		{"no such printer", func(s *symbol.Style) { s.DPI = 10 }, "10 dots an inch: want 72 to 4800"},
		{"light ink", func(s *symbol.Style) { s.Ink = symbol.Colour{R: 200, G: 200, B: 200} }, "#c8c8c8 on #ffffff has a contrast of 42 %"},
		{"light on dark", func(s *symbol.Style) { s.Ink, s.Paper = s.Paper, s.Ink }, "light on dark"},
		{"a background on a press", func(s *symbol.Style) { s.Ink.Ink, s.Paper = "k", symbol.Colour{R: 255} }, "remove the background"},
		{"red ink", func(s *symbol.Style) { s.Ink = symbol.Colour{R: 220} }, "under the red light of industrial cameras"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStyle(300)
			c.change(&s)
			_, err := s.Draw(nil, grid)
			require.True(t, err != nil && strings.Contains(err.Error(), c.want), "%v, want %s", err, c.want)
			size, ok := errors.AsType[*symbol.SizeError](err)
			if !ok || size.Can == 0 {
				return
			}
			s.Module = size.Can
			assert.NoErrorf(t, assert.ErrorOf(s.Draw(nil, grid)), "Draw with the suggested module size")
		})
	}
}

func TestSymbol_ColorContrast(t *testing.T) {
	for _, c := range [][2]string{{"black", "white"}, {"#1a3c6e", "white"}, {"#0b5d2a", "#fff3c0"}, {"000000", "#ffd28a"}} {
		ink, paper := require.Value(symbol.ParseColour(c[0]))(t), require.Value(symbol.ParseColour(c[1]))(t)
		s := newStyle(300)
		s.Ink, s.Paper = ink, paper
		d := require.Value(s.Draw(nil, require.Value(symbol.QR(code, 'M'))(t)))(t)
		assert.Equal(t, readtest.QR(t, drawPNG(t, d))[0], code, "text of a QR code with colours %v", c)
		err := symbol.ZPL(new(bytes.Buffer), d)
		assert.True(t, (err == nil) == (ink == symbol.Black && paper == symbol.White), "%v as ZPL: %v", c, err)
	}
}

func TestSymbolField_DrawnUnchanged(t *testing.T) {
	grid := require.Value(symbol.DataMatrix("A1B2C3D4E", false))(t)
	var row strings.Builder
	for i := range symbol.FieldSide * symbol.FieldSide {
		if grid.Dark(i%symbol.FieldSide-2, i/symbol.FieldSide-1) {
			row.WriteByte('1')
		} else {
			row.WriteByte('0')
		}
	}
	found := require.Value(symbol.Field(row.String()))(t)
	d := require.Value(newStyle(203).Draw(nil, found))(t)
	assert.Equal(t, readtest.DataMatrix(t, drawPNG(t, d))[0], "A1B2C3D4E", "text of the field")
	for _, bad := range []string{"", row.String()[1:], strings.Repeat("0", 361), strings.Repeat("2", 361)} {
		assert.True(t, assert.ErrorOf(symbol.Field(bad)) != nil, "Field(%.20q...) succeeded, want an error", bad)
	}
}

func TestSymbol_RejectsUnencodableText(t *testing.T) {
	for name, draw := range map[string]func() (symbol.Grid, error){
		"empty":                 func() (symbol.Grid, error) { return symbol.QR("", 'M') },
		"too long":              func() (symbol.Grid, error) { return symbol.QR(strings.Repeat("a", 3000), 'M') },
		"no UTF-8":              func() (symbol.Grid, error) { return symbol.QR("\xff", 'M') },
		"no level":              func() (symbol.Grid, error) { return symbol.QR("a", 'X') },
		"a matrix of Chinese":   func() (symbol.Grid, error) { return symbol.DataMatrix("码", false) },
		"a matrix too long":     func() (symbol.Grid, error) { return symbol.DataMatrix(strings.Repeat("a", 3000), false) },
		"a matrix with a break": func() (symbol.Grid, error) { return symbol.DataMatrix("a\nb", false) },
	} {
		assert.True(t, assert.ErrorOf(draw()) != nil, "%s: encoding succeeded, want an error", name)
	}
	_, err := newStyle(300).Draw([]string{"第一"}, symbol.Grid{})
	assert.True(t, err != nil && strings.Contains(err.Error(), `the font has no '第'`), "a line that the font cannot write: %v", err)
}

func TestSymbol_PDFTextLines(t *testing.T) {
	readtest.RequirePrograms(t, "pdftotext")
	d := require.Value(newStyle(300).Draw([]string{"AB12CD34E", "Größe ½"}, require.Value(symbol.QR(code, 'M'))(t)))(t)
	var file bytes.Buffer
	require.NoError(t, symbol.PDF(&file, d))
	cmd := exec.CommandContext(t.Context(), "pdftotext", "-", "-")
	cmd.Stdin = &file
	out, err := cmd.CombinedOutput()
	assert.True(t, err == nil && strings.Join(strings.Fields(string(out)), " ") == "AB12CD34E Größe ½", "pdftotext: %v: %q", err, out)
}
