package symbol

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
)

// bitmap is a picture with one bit per dot, 1 = ink, in rows of whole bytes.
type bitmap struct {
	width, height, stride int
	bits                  []byte
}

func (b *bitmap) set(x, y int) {
	if x >= 0 && y >= 0 && x < b.width && y < b.height {
		b.bits[y*b.stride+x/8] |= 0x80 >> (x % 8)
	}
}

func (b *bitmap) inked(x, y int) bool {
	return x >= 0 && y >= 0 && x < b.width && y < b.height && b.bits[y*b.stride+x/8]&(0x80>>(x%8)) != 0
}

func (b *bitmap) row(y int) []byte { return b.bits[y*b.stride : (y+1)*b.stride] }

// raster renders the drawing as dots. Several symbols share the same rows of dots, so each symbol is combined with a row by OR and
// never overwrites the row.
func (d Drawing) raster() *bitmap {
	b := &bitmap{width: d.Width, height: d.Height, stride: (d.Width + 7) / 8}
	b.bits = make([]byte, b.stride*b.height)
	// buffer for one row of modules of one symbol
	item := &bitmap{width: d.Width, height: 1, stride: b.stride, bits: make([]byte, b.stride)}
	for _, p := range d.symbols {
		for y := range p.Height {
			clear(item.bits)
			for x := range p.Width * d.Module {
				if p.Dark(x/d.Module, y) {
					item.set(p.x+x, 0)
				}
			}
			for i := range d.Module {
				for pos, dots := range item.bits {
					b.row(p.y + y*d.Module + i)[pos] |= dots
				}
			}
		}
	}
	for _, l := range d.lines {
		d.font.draw(b, l.text, d.size, l.x, l.base)
	}
	return b
}

// PNG writes a drawing as a PNG file with one bit per dot and with the drawing's dot density.
func PNG(w io.Writer, d Drawing) error {
	if d.ink.Ink != "" {
		return errInk
	}
	b := d.dots()
	m := image.NewPaletted(image.Rect(0, 0, b.width, b.height),
		color.Palette{color.RGBA{d.paper.R, d.paper.G, d.paper.B, 255}, color.RGBA{d.ink.R, d.ink.G, d.ink.B, 255}})
	for y := range b.height {
		for x := range b.width {
			m.Pix[y*m.Stride+x] = b.bits[y*b.stride+x/8] >> (7 - x%8) & 1
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, m); err != nil {
		return err
	}
	// The PNG library does not write a dot density. The dot density is inserted after the PNG header, which is 33 bytes long.
	const header = 33
	perMetre := uint32(math.Round(float64(d.DPI) * 1e6 / inch))
	chunk := binary.BigEndian.AppendUint32(nil, 9)
	chunk = append(chunk, "pHYs"...)
	chunk = binary.BigEndian.AppendUint32(chunk, perMetre)
	chunk = binary.BigEndian.AppendUint32(chunk, perMetre)
	chunk = append(chunk, 1)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
	for _, part := range [][]byte{file.Bytes()[:header], chunk, file.Bytes()[header:]} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// ZPL writes a drawing as a ZPL II label, for a printer with the drawing's dots per inch. The label is a single graphic field,
// because a printer that draws a symbol itself chooses the symbol's size and mask.
func ZPL(w io.Writer, d Drawing) error {
	b, copies, err := d.onMedia()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "^XA^PW%d^LL%d^LH0,0^FO0,0^GFA,%d,%d,%d,\n", b.stride*8, b.height, len(b.bits), len(b.bits), b.stride)
	var line []byte
	for y := range b.height {
		line = zplRow(line[:0], b.row(y))
		if y > 0 && bytes.Equal(b.row(y), b.row(y-1)) {
			line = append(line[:0], ':')
		}
		out.Write(line)
	}
	fmt.Fprint(out, "^FS")
	if copies > 1 {
		fmt.Fprintf(out, "^PQ%d", copies)
	}
	fmt.Fprint(out, "^XZ\n")
	return out.Flush()
}

// zplRow appends a row in hexadecimal digits with run lengths: the letters G to Y mean 1 to 19, g to z mean 20 to 400. A comma ends
// a row whose remaining dots are white.
func zplRow(to, row []byte) []byte {
	const digits = "0123456789ABCDEF"
	nibble := func(i int) byte { return row[i/2] >> (4 - 4*(i%2)) & 15 }
	count := 2 * len(row)
	for i := 0; i < count; {
		run := i + 1
		for run < count && nibble(run) == nibble(i) {
			run++
		}
		if run == count && nibble(i) == 0 {
			return append(to, ',')
		}
		for n := run - i; n > 0; {
			part := min(n, 20*20+19)
			if part >= 20 {
				to = append(to, byte('g'-1+part/20))
			}
			if part > 1 && part%20 > 0 {
				to = append(to, byte('G'-1+part%20))
			}
			to = append(to, digits[nibble(i)])
			n -= part
		}
		i = run
	}
	return to
}

// TSPL writes a drawing as a TSPL label, for TSC printers and compatible ones with the drawing's dots per inch: a single bitmap, in which 0
// is black. If Media.Gap is 0, the printer keeps its own gap setting.
func TSPL(w io.Writer, d Drawing) error {
	b, copies, err := d.onMedia()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	// The size is rounded up, so that no dot at the edge is lost.
	mm := func(dots int) float64 { return math.Ceil(float64(dots)*inch/10/float64(d.DPI)) / 100 }
	fmt.Fprintf(out, "SIZE %v mm,%v mm\r\n", mm(b.width), mm(b.height))
	if d.media.Gap > 0 {
		fmt.Fprintf(out, "GAP %v mm,0 mm\r\n", d.media.Gap.Millimetres())
	}
	fmt.Fprintf(out, "REFERENCE 0,0\r\nCLS\r\nBITMAP 0,0,%d,%d,0,", b.stride, b.height)
	for _, v := range b.bits {
		out.WriteByte(^v)
	}
	fmt.Fprintf(out, "\r\nPRINT 1,%d\r\n", copies)
	return out.Flush()
}
