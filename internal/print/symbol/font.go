package symbol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	"github.com/qrjump/qrjump/internal/print/pdf"
)

// Font draws the text lines of a label as outlines, so that they look the same in every output format and no printer needs the font.
type Font struct {
	font *sfnt.Font
	mu   sync.Mutex
	seen map[rune]glyph
}

// glyph is the outline of a character; its unit is a thousandth of the font size, and y grows upwards.
type glyph struct {
	width   float64
	outline []pdf.Segment
	ok      bool
}

// largestFont is the maximum size of a font file in bytes; large Chinese fonts have about twenty million bytes.
const largestFont = 64 << 20

// DefaultFont is the font Go Mono, which contains the European letters.
var DefaultFont = sync.OnceValue(func() *Font {
	f, err := ParseFont(gomono.TTF)
	if err != nil {
		panic(err) // the font is embedded in the program
	}
	return f
})

// ParseFont parses a TrueType or OpenType font, or the first font of a font collection.
func ParseFont(file []byte) (*Font, error) {
	if len(file) > largestFont {
		return nil, fmt.Errorf("a font of more than %d MB", largestFont>>20)
	}
	data, err := onlyOutlines(file)
	if err != nil {
		return nil, err
	}
	f, err := sfnt.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("not a TrueType or OpenType font: %w", err)
	}
	return &Font{font: f, seen: map[rune]glyph{}}, nil
}

// outlineTables lists the font tables from which outlines are read. Tables that are not listed are dropped: the program does not
// use them, and a fault in one of them would make the font unusable.
const outlineTables = "CFF  OS/2 cmap glyf head hhea hmtx loca maxp post"

// onlyOutlines returns a font file that contains only the tables in outlineTables, made from a font or from the first font of a
// collection. In the returned file, each table starts at a multiple of four bytes; the tables in Debian's fonts do not, and the
// font library rejects a font file with such tables.
func onlyOutlines(file []byte) ([]byte, error) {
	errNone := errors.New("not a TrueType or OpenType font: want a file that ends in .ttf, .otf or .ttc")
	part := func(pos, size uint32) []byte {
		if end := uint64(pos) + uint64(size); end > uint64(len(file)) {
			return nil
		}
		return file[pos : pos+size]
	}
	number := binary.BigEndian.Uint32
	begin := uint32(0)
	if head := part(0, 16); head != nil && string(head[:4]) == "ttcf" {
		begin = number(head[12:])
	}
	head := part(begin, 12)
	if head == nil || !slices.Contains([]string{"\x00\x01\x00\x00", "OTTO", "true"}, string(head[:4])) {
		return nil, errNone
	}
	records := part(begin+12, 16*uint32(binary.BigEndian.Uint16(head[4:])))
	type table struct {
		tag     string
		content []byte
	}
	var tables []table
	for record := range slices.Chunk(records, 16) {
		tag := string(record[:4])
		if !slices.Contains(strings.Split(outlineTables, " "), strings.TrimSpace(tag)) {
			continue
		}
		content := part(number(record[8:]), number(record[12:]))
		if content == nil {
			return nil, fmt.Errorf("the font is truncated before its table %s: download the file again", tag)
		}
		tables = append(tables, table{tag, content})
	}
	slices.SortStableFunc(tables, func(a, b table) int { return strings.Compare(a.tag, b.tag) })
	tables = slices.CompactFunc(tables, func(a, b table) bool { return a.tag == b.tag })
	if len(tables) == 0 {
		return nil, errNone
	}
	out := binary.BigEndian.AppendUint16(slices.Clone(head[:4]), uint16(len(tables)))
	out = append(out, make([]byte, 6)...) // fields for a binary search, which the font library does not use
	pos := 12 + 16*len(tables)
	for _, t := range tables {
		out = append(append(out, t.tag...), 0, 0, 0, 0) // checksum, which the font library does not check
		out = binary.BigEndian.AppendUint32(out, uint32(pos))
		out = binary.BigEndian.AppendUint32(out, uint32(len(t.content)))
		pos += (len(t.content) + 3) &^ 3
	}
	for _, t := range tables {
		out = append(append(out, t.content...), make([]byte, -len(t.content)&3)...)
	}
	return out, nil
}

// Glyph implements pdf.Face.
func (f *Font) Glyph(r rune) (width float64, outline []pdf.Segment, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, seen := f.seen[r]
	if !seen {
		g = f.load(r)
		f.seen[r] = g
	}
	return g.width, g.outline, g.ok
}

// load reads the outline of a character at a size of 1000 pixels.
func (f *Font) load(r rune) (g glyph) {
	var b sfnt.Buffer
	index, err := f.font.GlyphIndex(&b, r)
	if err != nil || index == 0 {
		return glyph{}
	}
	const size = 1000 << 6
	advance, err := f.font.GlyphAdvance(&b, index, size, font.HintingNone)
	if err != nil {
		return glyph{}
	}
	segments, err := f.font.LoadGlyph(&b, index, size, nil)
	if err != nil {
		return glyph{}
	}
	g = glyph{width: units(advance), ok: true}
	var last [2]float64
	for _, s := range segments {
		var p [3][2]float64
		for i, arg := range s.Args {
			p[i] = [2]float64{units(arg.X), -units(arg.Y)}
		}
		op, points := byte('c'), p[:]
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			op, points = 'm', p[:1]
		case sfnt.SegmentOpLineTo:
			op, points = 'l', p[:1]
		case sfnt.SegmentOpQuadTo: // a quadratic curve is converted to a cubic curve, because PDF has no quadratic curves
			p = [3][2]float64{interpolate(last, p[0], 2./3), interpolate(p[1], p[0], 2./3), p[1]}
		}
		g.outline = append(g.outline, pdf.Segment{Op: op, Points: points})
		last = points[len(points)-1]
	}
	return g
}

// outline returns the outlines of the characters of a text, one after the other from left to right. A segment is valid until the next one.
func (f *Font) outline(text string) iter.Seq[pdf.Segment] {
	return func(yield func(pdf.Segment) bool) {
		var points [3][2]float64
		pos := 0.0
		for _, r := range text {
			width, outline, _ := f.Glyph(r)
			for _, s := range outline {
				s.Points = append(points[:0], s.Points...)
				for i := range s.Points {
					s.Points[i][0] += pos
				}
				if !yield(s) {
					return
				}
			}
			pos += width
		}
	}
}

func units(v fixed.Int26_6) float64 { return float64(v) / 64 }

func interpolate(a, b [2]float64, share float64) [2]float64 {
	return [2]float64{a[0] + (b[0]-a[0])*share, a[1] + (b[1]-a[1])*share}
}

// Check returns an error that names the first character of a text that the font does not have.
func (f *Font) Check(text string) error {
	for _, r := range text {
		if _, _, ok := f.Glyph(r); !ok || unicode.IsControl(r) {
			return fmt.Errorf("the font has no %q: use --font with a TrueType or OpenType file that has it, for Chinese e.g. %s", r,
				chineseFont)
		}
	}
	return nil
}

// chineseFont is the path of a common Chinese font, from Debian's package fonts-wqy-microhei.
const chineseFont = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"

// width returns the width of a text at a font size, both in dots.
func (f *Font) width(text string, size int) int {
	sum := 0.0
	for _, r := range text {
		w, _, _ := f.Glyph(r)
		sum += w
	}
	return int(math.Ceil(sum * float64(size) / 1000))
}

// draw sets the dots of a text in the bitmap to black.
func (f *Font) draw(b *bitmap, text string, size, x, base int) {
	width, top := f.width(text, size)+2, size+size/4
	ras := vector.NewRasterizer(width, top+size)
	scale := float64(size) / 1000
	point := func(p [2]float64) (float32, float32) {
		return float32(p[0] * scale), float32(float64(top) - p[1]*scale)
	}
	for s := range f.outline(text) {
		x1, y1 := point(s.Points[0])
		switch s.Op {
		case 'm':
			ras.ClosePath() // without effect before the first contour
			ras.MoveTo(x1, y1)
		case 'l':
			ras.LineTo(x1, y1)
		case 'c':
			x2, y2 := point(s.Points[1])
			x3, y3 := point(s.Points[2])
			ras.CubeTo(x1, y1, x2, y2, x3, y3)
		}
	}
	ras.ClosePath()
	cover := image.NewAlpha(image.Rect(0, 0, width, top+size))
	ras.Draw(cover, cover.Bounds(), image.Opaque, image.Point{})
	for i, v := range cover.Pix {
		if v >= 128 {
			b.set(x+i%cover.Stride, base-top+i/cover.Stride)
		}
	}
}
