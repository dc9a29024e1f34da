package symbol

import (
	"errors"
	"image"
	"slices"
	"strings"
	"testing"

	qrdecoder "github.com/makiuchi-d/gozxing/qrcode/decoder"
	"golang.org/x/image/draw"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// drawDefect draws a symbol with margins and applies filter to the picture.
func drawDefect(g Grid, filter func(*image.Gray) *image.Gray) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, 640, 640))
	draw.Draw(m, m.Rect, image.White, image.Point{}, draw.Src)
	draw.Draw(m, m.Rect.Inset(40), g.Picture(10), image.Point{}, draw.Src)
	return filter(m)
}

// filterSquare returns a filter that computes each pixel from the square of n pixels around it.
func filterSquare(n int, value func(square []byte) byte) func(*image.Gray) *image.Gray {
	return func(m *image.Gray) *image.Gray {
		out := image.NewGray(m.Rect)
		for i := range out.Pix {
			x, y := i%m.Stride-n/2, i/m.Stride-n/2
			var square []byte
			for row := max(y, 0); row < min(y+n, m.Rect.Max.Y); row++ {
				square = append(square, m.Pix[row*m.Stride+max(x, 0):row*m.Stride+min(x+n, m.Stride)]...)
			}
			out.Pix[i] = value(square)
		}
		return out
	}
}

// tilt returns a filter that draws the picture in perspective, with a strength of n thousandths of a pixel per row.
func tilt(n int) func(*image.Gray) *image.Gray {
	return func(m *image.Gray) *image.Gray {
		out := image.NewGray(m.Rect)
		for i := range out.Pix {
			x, y := float64(i%m.Stride), float64(i/m.Stride)
			d := 1 - float64(n)*y/1e6
			out.Pix[i] = max(m.GrayAt(int(320+(x-320)/d), int(y/d)).Y, 30)
		}
		return out
	}
}

func mean(square []byte) byte {
	sum := 0
	for _, v := range square {
		sum += int(v)
	}
	return byte(sum / len(square))
}

// unusedCorrection returns the unused error correction of damaged, computed from the codewords that differ from original with the block
// table of another decoder.
func unusedCorrection(t *testing.T, original, damaged Grid, level qrdecoder.ErrorCorrectionLevel) float64 {
	var blocks [2][]*qrdecoder.DataBlock
	for i, g := range []Grid{original, damaged} {
		bits := require.Value(g.bits())(t)
		parser := require.Value(qrdecoder.NewBitMatrixParser(bits))(t)
		version := require.Value(parser.ReadVersion())(t)
		codewords := require.Value(parser.ReadCodewords())(t)
		blocks[i] = require.Value(qrdecoder.DataBlock_GetDataBlocks(codewords, version, level))(t)
	}
	unused := 1.0
	for b, block := range blocks[0] {
		wrong := 0
		for i, w := range block.GetCodewords() {
			if w != blocks[1][b].GetCodewords()[i] {
				wrong++
			}
		}
		unused = min(unused, 1-2*float64(wrong)/float64(len(block.GetCodewords())-block.GetNumDataCodewords()))
	}
	return unused
}

// TestGrade_Defects verifies that the grades of symbols with known defects fall with the strength of the defect.
func TestGrade_Defects(t *testing.T) {
	text := strings.Repeat("https://coffee.example/t/", 3) + "7"
	original := require.Value(QR(text, 'Q'))(t)
	intact := func(int) func(*image.Gray) *image.Gray { return filterSquare(1, slices.Min) }
	undamaged := func(int) Grid { return original }
	flip := func(module func(k int) int) func(n int) Grid {
		return func(n int) Grid {
			g := original
			g.dark = slices.Clone(g.dark)
			for k := range n {
				g.dark[module(k)] = !g.dark[module(k)]
			}
			return g
		}
	}
	for _, test := range []struct {
		parameter string
		strengths []int
		worst     string // overall grade at the last strength
		grid      func(n int) Grid
		filter    func(n int) func(*image.Gray) *image.Gray
	}{
		{"contrast", []int{60, 155, 190, 220}, "D", undamaged, func(n int) func(*image.Gray) *image.Gray {
			return filterSquare(1, func(square []byte) byte { return max(square[0], byte(n)) })
		}},
		{"modulation", []int{7, 8, 9, 10}, "F", undamaged, func(n int) func(*image.Gray) *image.Gray { return filterSquare(n, mean) }},
		{"reflectance_margin", []int{3, 4, 5, 6}, "D", undamaged,
			func(n int) func(*image.Gray) *image.Gray { return filterSquare(n, slices.Min) }},
		{"fixed_pattern_damage", []int{1, 2, 3}, "D", flip(func(k int) int { return []int{0, 6, 6 * original.Width}[k] }), intact},
		{"unused_error_correction", []int{12, 24, 36, 108}, "F",
			flip(func(k int) int { return (25+k/36)*original.Width + 9 + k%36 }), intact},
		{"grid_nonuniformity", []int{50, 100, 150, 200}, "F", undamaged, tilt},
	} {
		t.Run(test.parameter, func(t *testing.T) {
			before, parameter := "A", "A"
			for _, n := range test.strengths {
				grid := test.grid(n)
				g, err := Grade(drawDefect(grid, test.filter(n)))
				require.NoErrorf(t, err, "strength %d", n)
				i := slices.IndexFunc(g.Parameters, func(p GradedParameter) bool { return p.Parameter == test.parameter })
				if got := g.Parameters[i].Grade; got < parameter || g.Overall < before || got > g.Overall {
					t.Errorf("strength %d: %s %s and overall %s, want at most %s and %s",
						n, test.parameter, got, g.Overall, parameter, before)
				}
				before, parameter = g.Overall, g.Parameters[i].Grade
				want := rounded(unusedCorrection(t, original, grid, qrdecoder.ErrorCorrectionLevel_Q))
				if got := g.Parameters[6].Value; got != want || g.Text != text {
					t.Errorf("strength %d: unused error correction %v of %q, want %v of %q", n, got, g.Text, want, text)
				}
			}
			if before != test.worst || parameter != test.worst {
				t.Errorf("at the last strength: overall %s, %s %s, want %s", before, test.parameter, parameter, test.worst)
			}
		})
	}
	sheet := image.NewGray(image.Rect(0, 0, 1280, 640))
	for i := range 2 {
		draw.Draw(sheet, sheet.Rect.Add(image.Pt(640*i, 0)), drawDefect(original, intact(0)), image.Point{}, draw.Src)
	}
	if _, err := Grade(sheet); !errors.Is(err, ErrSeveral) {
		t.Errorf("Grade of two codes: %v, want ErrSeveral", err)
	}
	if _, err := Grade(image.NewGray(image.Rect(0, 0, 300, 300))); !errors.Is(err, ErrNoSymbol) {
		t.Errorf("Grade of a black picture: %v, want ErrNoSymbol", err)
	}
}
