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

// tsplPrint is the label of a PRINT command.
type tsplPrint struct {
	label  *image.Gray
	gap    string
	copies int
}

// interpretTSPL interprets a stream according to the programming manual of TSPL: one command per line, lengths in mm, BITMAP followed by
// its bytes, in which 0 is a printed dot. The printer draws into its memory, which CLS clears. Other commands fail the test.
func interpretTSPL(t *testing.T, stream []byte, dpi int) (prints []tsplPrint) {
	t.Helper()
	millimetres := func(text string) int {
		number, found := strings.CutSuffix(strings.TrimSpace(text), " mm")
		v, err := strconv.ParseFloat(number, 64)
		require.True(t, found && err == nil, "%q is not a length of TSPL", text)
		return int(v * float64(dpi) / 25.4)
	}
	integers := func(text string, n int) (list []int) {
		for part := range strings.SplitSeq(text, ",") {
			v := require.Value(strconv.Atoi(part))(t)
			list = append(list, v)
		}
		require.Equal(t, len(list), n, "number of arguments")
		return list
	}
	var memory *image.Gray
	var width, height int
	gap := ""
	for len(stream) > 0 {
		end := strings.IndexAny(string(stream), " \r")
		require.True(t, end > 0, "%.40q is not a command", stream)
		command := string(stream[:end])
		if command == "BITMAP" {
			rest := string(stream[end+1:])
			parts := strings.SplitN(rest, ",", 6)
			require.Equal(t, len(parts), 6, "number of parts of BITMAP")
			v := integers(strings.Join(parts[:5], ","), 5)
			data := parts[5]
			require.True(t, memory != nil && v[4] == 0 && len(data) >= v[2]*v[3]+2, "BITMAP %v before CLS, or with %d bytes", v, len(data))
			for i := range v[2] * 8 * v[3] {
				x, y := v[0]+i%(v[2]*8), v[1]+i/(v[2]*8)
				isDark := data[i/8]&(0x80>>(i%8)) == 0
				if !(image.Point{x, y}).In(memory.Rect) {
					require.True(t, !isDark, "dark dot at %d,%d outside a label of %v", x, y, memory.Rect.Size())
					continue
				}
				memory.SetGray(x, y, color.Gray{Y: map[bool]uint8{true: 0, false: 255}[isDark]})
			}
			require.Equal(t, data[v[2]*v[3]:][:2], "\r\n", "end of BITMAP")
			stream = []byte(data[v[2]*v[3]+2:])
			continue
		}
		line, rest, found := strings.Cut(string(stream), "\r\n")
		require.True(t, found, "%q has no line end", stream)
		arguments := strings.TrimSpace(line[end:])
		stream = []byte(rest)
		switch command {
		case "SIZE":
			w, h, _ := strings.Cut(arguments, ",")
			width, height = millimetres(w), millimetres(h)
		case "GAP":
			gap = arguments
		case "REFERENCE":
			require.Equal(t, arguments, "0,0", "reference point")
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
			t.Fatalf("%q is not a command of a label", line)
		}
	}
	return prints
}

// TestTSPL_ParserDrawsSampleOfManual verifies interpretTSPL with the sample of BITMAP in the manual, an arrow.
func TestTSPL_ParserDrawsSampleOfManual(t *testing.T) {
	t.Parallel()
	sample := "SIZE 101.6 mm,50.8 mm\r\nGAP 0 mm,0 mm\r\nCLS\r\nBITMAP 200,200,2,16,0," +
		"\x00\x00\x00\x00\x00\x00\x07\xff\x03\xff\x11\xff\x18\xff\x1c\x7f" +
		"\x1e\x3f\x1f\x1f\x1f\x8f\x1f\xc7\x1f\xe3\x1f\xe7\x1f\xff\x1f\xff" +
		"\r\nPRINT 1,1\r\n"
	prints := interpretTSPL(t, []byte(sample), 203)
	require.Equal(t, len(prints), 1, "number of labels")
	label := prints[0].label
	for _, p := range []struct {
		x, y int
		want bool
	}{{200, 200, true}, {215, 202, true}, {202, 215, true}, {203, 215, false}, {215, 203, false}, {206, 206, true}, {203, 206, false},
		{199, 200, false}, {211, 212, true}} {
		assert.Equal(t, isDark(label, p.x, p.y), p.want, "dark dot at %d,%d", p.x, p.y)
	}
}

// TestLabels_OnMediaOfPrinters verifies that the labels for three printers have the dots of the PNG, centered on the label and moved by the
// offset, in the configured number of copies, and that a QR reader reads them.
func TestLabels_OnMediaOfPrinters(t *testing.T) {
	t.Parallel()
	r := newRows(t, 1)[0]
	for _, dpi := range []int{203, 300, 600} {
		p := labels.Printing{DPI: dpi, Label: "60x40mm", Gap: "2.5mm", Offset: "-1mm,0.5mm", Copies: 3,
			Lines: []string{"{serial}"}}.OrUsual()
		d := require.Value(p.Design())(t)
		plain := require.Value(labels.Printing{DPI: dpi, Lines: p.Lines}.OrUsual().Design())(t)
		dots := func(mm float64) int { return int(mm*float64(dpi)/25.4 + 0.5) }
		picture := renderers["png"](t, writeLabel(t, plain, r, "png"), dpi, 0)
		want := image.NewGray(image.Rect(0, 0, dots(60), dots(40)))
		for i := range want.Pix {
			want.Pix[i] = 255
		}
		left, top := (dots(60)-picture.Bounds().Dx())/2-dots(1), (dots(40)-picture.Bounds().Dy())/2+dots(0.5)
		for y := range picture.Bounds().Dy() {
			for x := range picture.Bounds().Dx() {
				if isDark(picture, x, y) {
					want.SetGray(left+x, top+y, color.Gray{})
				}
			}
		}
		prints := interpretTSPL(t, writeLabel(t, d, r, "tspl"), dpi)
		require.Equal(t, len(prints), 1, "number of labels")
		assert.True(t, prints[0].copies == 3 && prints[0].gap == "2.5 mm,0 mm", "%d copies, gap %q, want 3, 2.5 mm", prints[0].copies,
			prints[0].gap)
		zpl := writeLabel(t, d, r, "zpl")
		pictures := map[labels.Format]image.Image{"tspl": prints[0].label, "zpl": renderers["zpl"](t, zpl, dpi, dots(60))}
		assert.True(t, strings.HasSuffix(string(zpl), "^FS^PQ3^XZ\n"), "ZPL does not print 3 copies")
		for format, got := range pictures {
			size := got.Bounds().Size().Sub(want.Rect.Size())
			assert.True(t, size.In(image.Rect(0, 0, 2, 2)), "%s at %d: %v dots, want %v", format, dpi, got.Bounds(), want.Rect)
			assert.Equal(t, countDifferentDots(got, want), 0, "%s at %d: different dots", format, dpi)
			assert.Equal(t, readtest.QR(t, got)[0], r.Text, "%s at %d: text of the QR code", format, dpi)
		}
	}
	for _, bad := range []labels.Printing{{Label: "10x10mm"}, {Offset: "-5mm,0mm"}, {Label: "9000x40mm"}} {
		d := require.Value(bad.OrUsual().Design())(t)
		drawing := require.Value(d.Draw(batch, r))(t)
		for name, write := range map[string]func(io.Writer, symbol.Drawing) error{"tspl": symbol.TSPL, "zpl": symbol.ZPL} {
			assert.True(t, write(io.Discard, drawing) != nil, "%+v was written as %s, want an error", bad, name)
		}
	}
	assert.True(t, assert.ErrorOf((labels.Printing{Copies: 10_000}).OrUsual().Design()) != nil,
		"Design of 10,000 copies succeeded, want an error")
}
