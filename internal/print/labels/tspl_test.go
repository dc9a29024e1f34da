package labels_test

import (
	"image"
	"image/color"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// tsplPrint holds the label that a PRINT command prints.
type tsplPrint struct {
	label  *image.Gray
	gap    string
	copies int
}

// printedTSPL interprets a stream as the programming manual of TSPL tells: a command a line, lengths in mm, BITMAP with its bytes, in
// which 0 is a printed dot. The printer draws into its memory, which CLS clears, and every other command is a failure.
func printedTSPL(t *testing.T, stream []byte, dpi int) (prints []tsplPrint) {
	t.Helper()
	millimetres := func(text string) int {
		number, found := strings.CutSuffix(strings.TrimSpace(text), " mm")
		v, err := strconv.ParseFloat(number, 64)
		require.True(t, found && err == nil, "%q is no length of TSPL", text)
		return int(v * float64(dpi) / 25.4)
	}
	integers := func(text string, n int) (list []int) {
		for part := range strings.SplitSeq(text, ",") {
			v, err := strconv.Atoi(part)
			require.NoError(t, err)
			list = append(list, v)
		}
		require.Equal(t, len(list), n, "the number of arguments")
		return list
	}
	var memory *image.Gray
	var width, height int
	gap := ""
	for len(stream) > 0 {
		end := strings.IndexAny(string(stream), " \r")
		require.True(t, end > 0, "%.40q is no command", stream)
		command := string(stream[:end])
		if command == "BITMAP" {
			rest := string(stream[end+1:])
			parts := strings.SplitN(rest, ",", 6)
			require.Equal(t, len(parts), 6, "the number of parts")
			v := integers(strings.Join(parts[:5], ","), 5)
			data := parts[5]
			require.True(t, memory != nil && v[4] == 0 && len(data) >= v[2]*v[3]+2, "BITMAP %v before CLS, or with %d bytes", v, len(data))
			for i := range v[2] * 8 * v[3] {
				x, y := v[0]+i%(v[2]*8), v[1]+i/(v[2]*8)
				inked := data[i/8]&(0x80>>(i%8)) == 0
				if !(image.Point{x, y}).In(memory.Rect) {
					require.True(t, !inked, "ink at %d,%d of a label of %v", x, y, memory.Rect.Size())
					continue
				}
				memory.SetGray(x, y, color.Gray{Y: map[bool]uint8{true: 0, false: 255}[inked]})
			}
			require.Equal(t, data[v[2]*v[3]:][:2], "\r\n", "what ends BITMAP")
			stream = []byte(data[v[2]*v[3]+2:])
			continue
		}
		line, rest, found := strings.Cut(string(stream), "\r\n")
		require.True(t, found, "%q has no end", stream)
		arguments := strings.TrimSpace(line[end:])
		stream = []byte(rest)
		switch command {
		case "SIZE":
			w, h, _ := strings.Cut(arguments, ",")
			width, height = millimetres(w), millimetres(h)
		case "GAP":
			gap = arguments
		case "REFERENCE":
			require.Equal(t, arguments, "0,0", "the reference point")
		case "CLS":
			memory = image.NewGray(image.Rect(0, 0, width, height))
			for i := range memory.Pix {
				memory.Pix[i] = 255
			}
		case "PRINT":
			v := integers(arguments, 2)
			require.Equal(t, v[0], 1, "sets")
			prints = append(prints, tsplPrint{memory, gap, v[1]})
		default:
			t.Fatalf("%q is no command of a label", line)
		}
	}
	return prints
}

// The parser above draws the arrow of the manual's sample for BITMAP, whose bytes are given there.
func TestTSPL_ParserDrawsSampleOfManual(t *testing.T) {
	t.Parallel()
	sample := "SIZE 101.6 mm,50.8 mm\r\nGAP 0 mm,0 mm\r\nCLS\r\nBITMAP 200,200,2,16,0," +
		"\x00\x00\x00\x00\x00\x00\x07\xff\x03\xff\x11\xff\x18\xff\x1c\x7f" +
		"\x1e\x3f\x1f\x1f\x1f\x8f\x1f\xc7\x1f\xe3\x1f\xe7\x1f\xff\x1f\xff" +
		"\r\nPRINT 1,1\r\n"
	prints := printedTSPL(t, []byte(sample), 203)
	require.Equal(t, len(prints), 1, "the number of parts")
	label := prints[0].label
	for _, p := range []struct {
		x, y  int
		inked bool
	}{{200, 200, true}, {215, 202, true}, {202, 215, true}, {203, 215, false}, {215, 203, false}, {206, 206, true}, {203, 206, false},
		{199, 200, false},
		{211, 212, true}} {
		assert.Equal(t, dark(label, p.x, p.y), p.inked, "the dot %d,%d", p.x, p.y)
	}
}

// The labels of three printers have the dots of the picture, in the middle of the label and moved by the offset, in as many copies as
// wanted, and a QR reader reads them.
func TestLabels_OnMediaOfPrinters(t *testing.T) {
	t.Parallel()
	r := made(t, 1)[0]
	for _, dpi := range []int{203, 300, 600} {
		p := labels.Printing{DPI: dpi, Label: "60x40mm", Gap: "2.5mm", Offset: "-1mm,0.5mm", Copies: 3,
			Lines: []string{"{serial}"}}.OrUsual()
		d, err := p.Design()
		require.NoError(t, err)
		plain, err := labels.Printing{DPI: dpi, Lines: p.Lines}.OrUsual().Design()
		require.NoError(t, err)
		dots := func(mm float64) int { return int(mm*float64(dpi)/25.4 + 0.5) }
		files := map[labels.Format][]byte{}
		write := func(d labels.Design, format labels.Format) []byte {
			require.NoError(t, d.Labels(batch, each([]labels.Row{r}), format, func(_ labels.Row, label []byte) error {
				files[format] = label
				return nil
			}))
			return files[format]
		}
		picture := seenAs["png"](t, write(plain, "png"), dpi, 0)
		want := image.NewGray(image.Rect(0, 0, dots(60), dots(40)))
		for i := range want.Pix {
			want.Pix[i] = 255
		}
		left, top := (dots(60)-picture.Bounds().Dx())/2-dots(1), (dots(40)-picture.Bounds().Dy())/2+dots(0.5)
		for y := range picture.Bounds().Dy() {
			for x := range picture.Bounds().Dx() {
				if dark(picture, x, y) {
					want.SetGray(left+x, top+y, color.Gray{})
				}
			}
		}
		prints := printedTSPL(t, write(d, "tspl"), dpi)
		require.Equal(t, len(prints), 1, "the number of parts")
		assert.True(t, prints[0].copies == 3 && prints[0].gap == "2.5 mm,0 mm", "%d copies, gap %q", prints[0].copies, prints[0].gap)
		pictures := map[labels.Format]image.Image{"tspl": prints[0].label, "zpl": seenAs["zpl"](t, write(d, "zpl"), dpi, dots(60))}
		assert.True(t, strings.HasSuffix(string(files["zpl"]), "^FS^PQ3^XZ\n"), "copies of zpl")
		for format, got := range pictures {
			size := got.Bounds().Size().Sub(want.Rect.Size())
			assert.True(t, size.In(image.Rect(0, 0, 2, 2)), "%s at %d: %v dots, want %v", format, dpi, got.Bounds(), want.Rect)
			assert.Equal(t, otherDots(got, want), 0, "%s at %d: other dots", format, dpi)
			assert.Equal(t, readtest.QR(t, got)[0], r.Text, "%s at %d: read", format, dpi)
		}
	}
	for _, bad := range []labels.Printing{{Label: "10x10mm"}, {Offset: "-5mm,0mm"}, {Label: "9000x40mm"}} {
		d, err := bad.OrUsual().Design()
		require.NoError(t, err)
		drawing, err := d.Draw(batch, r)
		require.NoError(t, err)
		for name, write := range map[string]func(io.Writer, symbol.Drawing) error{"tspl": symbol.TSPL, "zpl": symbol.ZPL} {
			assert.True(t, write(io.Discard, drawing) != nil, "%+v was written as %s", bad, name)
		}
	}
	assert.True(t, assert.ErrorOf((labels.Printing{Copies: 10_000}).OrUsual().Design()) != nil, "10,000 copies")
}
