// Package readtest reads printed symbols by readers that know nothing of how they were drawn: for each kind two, of different makers.
package readtest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/datamatrix"
	"github.com/makiuchi-d/gozxing/datamatrix/encoder"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/makiuchi-d/gozxing/qrcode/decoder"
	"golang.org/x/image/tiff"

	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// Need skips a test where a program of scripts/install-test-deps.sh is missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
}

// QR returns the texts that readers of QR codes find in each picture: ZXing, and where it finds nothing zbarimg. In a whole run
// each picture is shown to both; then the text of the one that found something else stands beside the other's.
func QR(t testing.TB, pictures ...image.Image) []string {
	t.Helper()
	return read(t, pictures, qrcode.NewQRCodeReader(), func(file string) string { return zbarimg(t, file) })
}

// DataMatrix is QR for Data Matrix: ZXing and dmtxread.
func DataMatrix(t testing.TB, pictures ...image.Image) []string {
	t.Helper()
	return read(t, pictures, datamatrix.NewDataMatrixReader(), func(file string) string {
		Need(t, "dmtxread")
		return firstText(t, "dmtxread", "-n", "-U", "-N", "1", file)
	})
}

// Dmtxread returns the text that dmtxread alone finds in a picture.
func Dmtxread(t testing.TB, m image.Image) string {
	t.Helper()
	Need(t, "dmtxread")
	return firstText(t, "dmtxread", "-n", "-U", "-N", "1", file(t, m))
}

// DmtxreadGS1 is Dmtxread for a symbol with FNC1, for which it has the separator \x1d.
func DmtxreadGS1(t testing.TB, m image.Image) string {
	t.Helper()
	Need(t, "dmtxread")
	return firstText(t, "dmtxread", "-n", "-N", "1", "-G", "29", file(t, m))
}

// Zbarimg returns the text that zbarimg alone finds in a picture.
func Zbarimg(t testing.TB, m image.Image) string {
	t.Helper()
	return zbarimg(t, file(t, m))
}

func zbarimg(t testing.TB, file string) string {
	t.Helper()
	Need(t, "zbarimg")
	return firstText(t, "zbarimg", "--nodbus", "-q", "--raw", "-Sdisable", "-Sqrcode.enable", file)
}

// read shows each picture to the reader in this process, and to the second where the first found nothing, or in a whole run. Where a
// machine is slow or a reader is unlucky with a picture, the other one has it; what counts is that none reads another text.
func read(t testing.TB, pictures []image.Image, first gozxing.Reader, second func(file string) string) (found []string) {
	t.Helper()
	for _, m := range pictures {
		text := ""
		for _, seen := range aimed(m) {
			if text = zxing(first, seen); text != "" {
				break
			}
		}
		if text == "" || testscope.Run() {
			peer := second(file(t, m))
			if text == "" {
				text = peer
			} else if peer != "" && peer != text {
				text += " (another reader: " + peer + ")"
			}
		}
		found = append(found, text)
	}
	return found
}

// file returns a picture as a file.
func file(t testing.TB, m image.Image) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.png")
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, png.Encode(f, m))
	return f.Name()
}

// firstText runs a reader on a file.
func firstText(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.WaitDelay = time.Second
	out, _ := cmd.Output() // nothing found is an exit code too
	return strings.TrimSuffix(string(out), "\n")
}

// WrongQR counts the blocks of a QR code in which a reader has something to correct. The modules are those of the symbol alone.
func WrongQR(t testing.TB, modules [][]bool) int {
	t.Helper()
	parser, err := decoder.NewBitMatrixParser(matrix(t, modules))
	require.NoError(t, err)
	format, err := parser.ReadFormatInformation()
	require.NoError(t, err)
	version, err := parser.ReadVersion()
	require.NoError(t, err)
	codewords, err := parser.ReadCodewords()
	require.NoError(t, err)
	blocks, err := decoder.DataBlock_GetDataBlocks(codewords, version, format.GetErrorCorrectionLevel())
	require.NoError(t, err)
	wrong := 0
	for _, b := range blocks {
		if !undamaged(b.GetCodewords(), len(b.GetCodewords())-b.GetNumDataCodewords(), 0x1d, 1) {
			wrong++
		}
	}
	return wrong
}

// WrongDataMatrix is WrongQR for a Data Matrix.
func WrongDataMatrix(t testing.TB, modules [][]bool) int {
	t.Helper()
	side, err := gozxing.NewDimension(len(modules[0]), len(modules))
	require.NoError(t, err)
	size, err := encoder.SymbolInfo_Lookup(1, encoder.SymbolShapeHint_FORCE_NONE, side, side, true)
	require.NoError(t, err)
	// Where each bit of each codeword stands is asked of the placement: it places the numbers of the codewords, a bit of them at a time.
	wide, high := size.GetSymbolDataWidth(), size.GetSymbolDataHeight()
	codewords := make([]byte, size.GetCodewordCount())
	for bit := range 8 {
		number := make([]int, wide*high)
		for power := 1; power <= len(codewords); power *= 2 {
			ask := make([]byte, len(codewords))
			for i := range ask {
				if (i+1)&power > 0 {
					ask[i] = 1 << bit
				}
			}
			placed := encoder.NewDefaultPlacement(ask, wide, high)
			placed.Place()
			for i := range number {
				if placed.GetBit(i%wide, i/wide) {
					number[i] += power
				}
			}
		}
		for i, n := range number {
			x, y := i%wide, i/wide
			x, y = x+2*(x/size.GetMatrixWidth())+1, y+2*(y/size.GetMatrixHeight())+1
			if n > 0 && n <= len(codewords) && modules[y][x] {
				codewords[n-1] |= 1 << bit
			}
		}
	}
	wrong, blocks := 0, size.GetInterleavedBlockCount()
	for b := range blocks {
		var block []byte
		for i := b; i < len(codewords); i += blocks {
			block = append(block, codewords[i])
		}
		if !undamaged(block, size.GetErrorLengthForInterleavedBlock(b+1), 0x2d, 2) {
			wrong++
		}
	}
	return wrong
}

func matrix(t testing.TB, modules [][]bool) *gozxing.BitMatrix {
	t.Helper()
	bits, err := gozxing.ParseBoolMapToBitMatrix(modules)
	require.NoError(t, err)
	return bits
}

// undamaged reports whether all syndromes of a block are zero: its codewords, as a polynomial over the field of 256 elements in which x⁸
// is the low bits of the field, vanish at so many powers of 2 from the first root on.
func undamaged(codewords []byte, corrections int, low, root byte) bool {
	times := func(a, b byte) (product byte) {
		for ; b > 0; b >>= 1 {
			if b&1 > 0 {
				product ^= a
			}
			carry := a&0x80 > 0
			a <<= 1
			if carry {
				a ^= low
			}
		}
		return product
	}
	for range corrections {
		sum := byte(0)
		for _, c := range codewords {
			sum = times(sum, root) ^ c
		}
		if sum != 0 {
			return false
		}
		root = times(root, 2)
	}
	return true
}

// aimed returns a picture, and parts of it: ZXing looks for a Data Matrix from the middle outwards, so a user aims at it.
func aimed(m image.Image) []image.Image {
	all, b := []image.Image{m}, m.Bounds()
	part, ok := m.(interface {
		SubImage(image.Rectangle) image.Image
	})
	for i := 0; ok && i <= 8; i++ {
		left := b.Min.X + i*b.Dx()/16
		all = append(all, part.SubImage(image.Rect(left, b.Min.Y, left+b.Dx()/2, b.Max.Y)))
	}
	return all
}

func zxing(r gozxing.Reader, m image.Image) string {
	bitmap, err := gozxing.NewBinaryBitmapFromImage(m)
	if err != nil {
		return ""
	}
	found, err := r.Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		return ""
	}
	return found.GetText()
}

// Blur returns a picture as a camera a little out of focus sees it, with modules of some dots: three times as fine, and each point
// the mean of those within a quarter of a module, twice.
func Blur(m image.Image, module int) image.Image {
	const finer = 3
	b := m.Bounds()
	seen := image.NewGray(image.Rect(0, 0, b.Dx()*finer, b.Dy()*finer))
	for y := range b.Dy() {
		for x := range b.Dx() {
			grey := color.GrayModel.Convert(m.At(b.Min.X+x, b.Min.Y+y)).(color.Gray).Y
			for i := range finer * finer {
				seen.Pix[(y*finer+i/finer)*seen.Stride+x*finer+i%finer] = grey
			}
		}
	}
	return mean(mean(seen, finer*module/4), finer*module/4)
}

// mean returns the mean of the points around each, along the rows and then along the columns.
func mean(m *image.Gray, radius int) *image.Gray {
	b := m.Bounds()
	out := image.NewGray(b)
	fn := func(to, from []uint8, begin, step, n int) {
		sum, count := 0, 0
		for i := range min(radius, n) {
			sum, count = sum+int(from[begin+i*step]), count+1
		}
		for i := range n {
			if i+radius < n {
				sum, count = sum+int(from[begin+(i+radius)*step]), count+1
			}
			if i > radius {
				sum, count = sum-int(from[begin+(i-radius-1)*step]), count-1
			}
			to[begin+i*step] = uint8(sum / count)
		}
	}
	rows := image.NewGray(b)
	for y := range b.Max.Y {
		fn(rows.Pix, m.Pix, y*m.Stride, 1, b.Max.X)
	}
	for x := range b.Max.X {
		fn(out.Pix, rows.Pix, x, rows.Stride, b.Max.Y)
	}
	return out
}

// Pages renders the pages of a PDF by poppler in grey at a dot density.
func Pages(t testing.TB, file []byte, dpi int) []image.Image {
	t.Helper()
	Need(t, "pdftoppm")
	dir := t.TempDir()
	name := filepath.Join(dir, "file.pdf")
	require.NoError(t, os.WriteFile(name, file, 0o600))
	render := exec.CommandContext(t.Context(), "pdftoppm", "-r", fmt.Sprint(dpi), "-gray", "-png", name, filepath.Join(dir, "page"))
	out, err := render.CombinedOutput()
	require.True(t, err == nil && len(out) == 0, "pdftoppm: %v: %s", err, out)
	names, _ := filepath.Glob(filepath.Join(dir, "page*.png")) // a pattern that is well formed
	var pages []image.Image
	for _, name := range names {
		pages = append(pages, decode(t, name))
	}
	return pages
}

// Picture renders an SVG by librsvg at a dot density. The size is the one that the SVG gives in millimetres.
func Picture(t testing.TB, file []byte, dpi int) image.Image {
	t.Helper()
	Need(t, "rsvg-convert")
	render := exec.CommandContext(t.Context(), "rsvg-convert", "--format=png",
		fmt.Sprintf("--dpi-x=%d", dpi), fmt.Sprintf("--dpi-y=%d", dpi))
	var drawn, said bytes.Buffer
	render.Stdin, render.Stdout, render.Stderr = bytes.NewReader(file), &drawn, &said
	if err := render.Run(); err != nil || said.Len() > 0 {
		t.Fatalf("rsvg-convert: %v: %s", err, &said)
	}
	m, err := png.Decode(&drawn)
	require.NoError(t, err)
	return m
}

// PostScript renders an EPS picture by Ghostscript in grey at a dot density.
func PostScript(t testing.TB, file []byte, dpi int) image.Image {
	t.Helper()
	Need(t, "gs")
	render := exec.CommandContext(t.Context(), "gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-dEPSCrop", "-sDEVICE=pnggray",
		fmt.Sprintf("-r%d", dpi), "-sOutputFile=-", "-")
	var drawn, said bytes.Buffer
	render.Stdin, render.Stdout, render.Stderr = bytes.NewReader(file), &drawn, &said
	if err := render.Run(); err != nil || said.Len() > 0 {
		t.Fatalf("gs: %v: %s", err, &said)
	}
	m, err := png.Decode(&drawn)
	require.NoError(t, err)
	return m
}

// Plates returns the printing plates with ink, by the name of the ink, into which Ghostscript separates the page of a PDF or EPS file.
func Plates(t testing.TB, file []byte, dpi int) map[string]image.Image {
	t.Helper()
	Need(t, "gs")
	dir := t.TempDir()
	render := exec.CommandContext(t.Context(), "gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-dEPSCrop", "-sDEVICE=tiffsep",
		fmt.Sprintf("-r%d", dpi), "-sOutputFile="+filepath.Join(dir, "page"), "-")
	render.Stdin = bytes.NewReader(file)
	said, err := render.CombinedOutput()
	require.True(t, err == nil && len(said) == 0, "gs: %v: %s", err, said)
	names, _ := filepath.Glob(filepath.Join(dir, "page(*).tif")) // a pattern that is well formed
	plates := map[string]image.Image{}
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(t, err)
		m, err := tiff.Decode(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if slices.Min(m.(*image.Gray).Pix) < 255 {
			plates[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "page("), ").tif")] = m
		}
	}
	return plates
}

func decode(t testing.TB, name string) image.Image {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	m, err := png.Decode(f)
	require.NoError(t, err)
	return m
}
