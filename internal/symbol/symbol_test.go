package symbol_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os/exec"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/symbol"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
)

const code = "P.URL.CN/0A$-Z0123456789QWER"

var texts = []string{code, "1", "https://coffee.example/t/7?from=door&x=%20", "0123456789", strings.Repeat("A1b", 60)}

// picture is a drawing as its PNG shows it.
func picture(t *testing.T, d symbol.Drawing) image.Image {
	t.Helper()
	var file bytes.Buffer
	if err := symbol.PNG(&file, d); err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(&file)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func style(dpi int) symbol.Style {
	return symbol.Style{Module: 400, DPI: dpi, Ink: symbol.Black, Paper: symbol.White}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestTwoReadersReadWhatIsDrawn(t *testing.T) {
	readtest.Need(t, "pdftoppm")
	for _, kind := range []struct {
		name string
		grid func(string) (symbol.Grid, error)
		read func(testing.TB, ...image.Image) [][]string
	}{
		{"QR", func(text string) (symbol.Grid, error) { return symbol.QR(text, 'M') }, readtest.QR},
		{"Data Matrix", symbol.DataMatrix, readtest.DataMatrix},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var want []string
			var pictures []image.Image
			for _, dpi := range []int{203, 300} {
				for _, text := range texts {
					grid := must[symbol.Grid](t)(kind.grid(text))
					d := must[symbol.Drawing](t)(style(dpi).Draw([]string{"A serial 1"}, grid))
					var file bytes.Buffer
					if err := symbol.PDF(&file, d); err != nil {
						t.Fatal(err)
					}
					sharp := picture(t, d)
					pictures = append(pictures, sharp, readtest.Blur(sharp, d.Module))
					pictures = append(pictures, readtest.Pages(t, file.Bytes(), dpi)...)
					want = append(want, text, text, text)
				}
			}
			for i, found := range kind.read(t, pictures...) {
				for reader, text := range found {
					if text != want[i] {
						t.Errorf("picture %d: reader %d found %q, not %q", i, reader, text, want[i])
					}
				}
			}
		})
	}
}

// A program that draws an SVG for a printer rounds its size up to whole dots: there is
// not one more than those of the PNG, and each is the same.
func TestAnSVGHasTheDotsOfThePrinter(t *testing.T) {
	readtest.Need(t, "rsvg-convert")
	for _, dpi := range []int{203, 254, 300, 600} {
		for _, text := range texts {
			for _, draw := range []func(string) (symbol.Grid, error){
				func(text string) (symbol.Grid, error) { return symbol.QR(text, 'M') }, symbol.DataMatrix,
			} {
				d := must[symbol.Drawing](t)(style(dpi).Draw(nil, must[symbol.Grid](t)(draw(text))))
				var file bytes.Buffer
				if err := symbol.SVG(&file, d); err != nil {
					t.Fatal(err)
				}
				want, got := picture(t, d), readtest.Picture(t, file.Bytes(), dpi)
				if want.Bounds() != got.Bounds() {
					t.Errorf("%d dots an inch: %v dots, not %v", dpi, got.Bounds().Size(), want.Bounds().Size())
				} else if n := different(want, got); n > 0 {
					t.Errorf("%d dots an inch: %d of the dots are not those of the PNG", dpi, n)
				}
			}
		}
	}
}

// different counts the dots of two pictures of one size that are not alike.
func different(a, b image.Image) (n int) {
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if color.GrayModel.Convert(a.At(x, y)) != color.GrayModel.Convert(b.At(x, y)) {
				n++
			}
		}
	}
	return n
}

func TestASizeThatCannotBePrintedNamesOneThatCan(t *testing.T) {
	grid := must[symbol.Grid](t)(symbol.QR(code, 'Q'))
	for _, c := range []struct {
		name   string
		change func(*symbol.Style)
		says   string
	}{
		{"one dot of a label printer", func(s *symbol.Style) { s.Module, s.DPI = 200, 203 },
			"modules of 0.2mm are 1.6 dots of a printer of 203 dots an inch, and need 2: take modules of 0.251mm, or a printer of 254 dots an inch or more"},
		{"smaller than cameras see", func(s *symbol.Style) { s.Module, s.DPI = 100, 2400 },
			"modules of 0.1mm are smaller than cameras tell apart (0.19mm): take modules of 0.191mm"},
		{"a hoarding", func(s *symbol.Style) { s.Module, s.DPI, s.Text = 200_000, 72, 5000 }, "modules of 200mm are larger than 100mm: take modules of 100mm"},
		{"a picture of many dots", func(s *symbol.Style) { s.Module, s.DPI = 100_000, 300 },
			"a picture of 38973×38973 dots is larger than 20000 a side: take modules of 51.308mm"},
		{"a quiet zone of two", func(s *symbol.Style) { s.Quiet = 2 }, "a quiet zone of 2 modules is too small for this symbol: take 4 or more"},
		{"letters of eight dots", func(s *symbol.Style) { s.Text, s.DPI = 1000, 203 },
			"lines of 1mm are 8 dots of a printer of 203 dots an inch, and need 10 to be read: take lines of 1.252mm"},
		{"no such printer", func(s *symbol.Style) { s.DPI = 10 }, "10 dots an inch: want 72 to 4800"},
		{"light ink", func(s *symbol.Style) { s.Ink = symbol.Colour{R: 200, G: 200, B: 200} }, "#c8c8c8 on #ffffff has a contrast of 42 %"},
		{"light on dark", func(s *symbol.Style) { s.Ink, s.Paper = s.Paper, s.Ink }, "light on dark"},
		{"red ink", func(s *symbol.Style) { s.Ink = symbol.Colour{R: 220} }, "under the red light of industrial cameras"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := style(300)
			c.change(&s)
			_, err := s.Draw(nil, grid)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %s", err, c.says)
			}
			size, ok := errors.AsType[*symbol.SizeError](err)
			if !ok || size.Can == 0 {
				return
			}
			s.Module = size.Can // what was named is printed
			if _, err := s.Draw(nil, grid); err != nil {
				t.Errorf("the size that was named: %v", err)
			}
		})
	}
}

func TestColoursThatCamerasReadAreTaken(t *testing.T) {
	for _, c := range [][2]string{{"black", "white"}, {"#1a3c6e", "white"}, {"#0b5d2a", "#fff3c0"}, {"000000", "#ffd28a"}} {
		ink, paper := must[symbol.Colour](t)(symbol.ParseColour(c[0])), must[symbol.Colour](t)(symbol.ParseColour(c[1]))
		s := style(300)
		s.Ink, s.Paper = ink, paper
		d := must[symbol.Drawing](t)(s.Draw(nil, must[symbol.Grid](t)(symbol.QR(code, 'M'))))
		for reader, text := range readtest.QR(t, picture(t, d))[0] {
			if text != code {
				t.Errorf("%v: reader %d found %q", c, reader, text)
			}
		}
		if err := symbol.ZPL(new(bytes.Buffer), d); (err == nil) != (ink == symbol.Black && paper == symbol.White) {
			t.Errorf("%v as ZPL: %v", c, err)
		}
	}
}

func TestADotMatrixIsDrawnAsItIs(t *testing.T) {
	grid := must[symbol.Grid](t)(symbol.DataMatrix("A1B2C3D4E"))
	var row strings.Builder
	for i := range symbol.FieldSide * symbol.FieldSide {
		if grid.Dark(i%symbol.FieldSide-2, i/symbol.FieldSide-1) {
			row.WriteByte('1')
		} else {
			row.WriteByte('0')
		}
	}
	found := must[symbol.Grid](t)(symbol.Field(row.String()))
	d := must[symbol.Drawing](t)(style(203).Draw(nil, found))
	for reader, text := range readtest.DataMatrix(t, picture(t, d))[0] {
		if text != "A1B2C3D4E" {
			t.Errorf("reader %d found %q", reader, text)
		}
	}
	for _, bad := range []string{"", row.String()[1:], strings.Repeat("0", 361), strings.Repeat("2", 361)} {
		if _, err := symbol.Field(bad); err == nil {
			t.Errorf("%.20q... was drawn", bad)
		}
	}
}

// No program was found that draws graphics of EPL2, so what the printer's manual says is read
// here: GW x, y, bytes a row, rows, and the rows, in which 0 is black.
func TestEPLIsThePicture(t *testing.T) {
	d := must[symbol.Drawing](t)(style(203).Draw([]string{"AB12CD34E"}, must[symbol.Grid](t)(symbol.QR(code, 'M'))))
	var label bytes.Buffer
	if err := symbol.EPL(&label, d); err != nil {
		t.Fatal(err)
	}
	var width, length, gap, stride, rows int
	head, rest, found := strings.Cut(label.String(), "GW0,0,")
	if _, err := fmt.Sscanf(head, "\nN\nq%d\nQ%d,%d\n", &width, &length, &gap); !found || err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	if _, err := fmt.Sscanf(rest, "%d,%d,", &stride, &rows); err != nil {
		t.Fatal(err)
	}
	bits := rest[len(fmt.Sprintf("%d,%d,", stride, rows)):]
	if width != 8*stride || length != rows || len(bits) != stride*rows+len("\nP1\n") || !strings.HasSuffix(bits, "\nP1\n") {
		t.Fatalf("a label of %d by %d dots has %d bytes for %d rows of %d", width, length, len(bits), rows, stride)
	}
	drawn := image.NewGray(image.Rect(0, 0, width, rows))
	for i := range drawn.Pix {
		drawn.Pix[i] = 255 * (bits[i/8] >> (7 - i%8) & 1)
	}
	for reader, text := range readtest.QR(t, drawn)[0] {
		if text != code {
			t.Errorf("reader %d found %q", reader, text)
		}
	}
}

func TestTextsWithoutASymbolAreRefused(t *testing.T) {
	for name, draw := range map[string]func() (symbol.Grid, error){
		"empty":                 func() (symbol.Grid, error) { return symbol.QR("", 'M') },
		"too long":              func() (symbol.Grid, error) { return symbol.QR(strings.Repeat("a", 3000), 'M') },
		"no UTF-8":              func() (symbol.Grid, error) { return symbol.QR("\xff", 'M') },
		"no level":              func() (symbol.Grid, error) { return symbol.QR("a", 'X') },
		"a matrix of Chinese":   func() (symbol.Grid, error) { return symbol.DataMatrix("码") },
		"a matrix too long":     func() (symbol.Grid, error) { return symbol.DataMatrix(strings.Repeat("a", 3000)) },
		"a matrix with a break": func() (symbol.Grid, error) { return symbol.DataMatrix("a\nb") },
	} {
		if _, err := draw(); err == nil {
			t.Errorf("%s: there is a symbol", name)
		}
	}
	if _, err := style(300).Draw([]string{"第一"}, symbol.Grid{}); err == nil || !strings.Contains(err.Error(), `the font has no '第'`) {
		t.Errorf("a line that the font cannot write: %v", err)
	}
}

func TestTheLinesOfAPDFAreText(t *testing.T) {
	readtest.Need(t, "pdftotext")
	d := must[symbol.Drawing](t)(style(300).Draw([]string{"AB12CD34E", "Größe ½"}, must[symbol.Grid](t)(symbol.QR(code, 'M'))))
	var file bytes.Buffer
	if err := symbol.PDF(&file, d); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "pdftotext", "-", "-")
	cmd.Stdin = &file
	said, err := cmd.CombinedOutput()
	if err != nil || strings.Join(strings.Fields(string(said)), " ") != "AB12CD34E Größe ½" {
		t.Errorf("pdftotext: %v: %q", err, said)
	}
}
