// Package readtest reads printed symbols with independent readers, two of different makers for each kind of symbol.
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

// RequirePrograms skips a test if a program is not installed. scripts/install-test-deps.sh installs them.
func RequirePrograms(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
}

// QR returns the texts of the QR codes in each picture, as read by ZXing, or by zbarimg if ZXing finds none. In a complete run both read
// each picture. If they disagree, the result has both texts.
func QR(t testing.TB, pictures ...image.Image) []string {
	t.Helper()
	return read(t, pictures, qrcode.NewQRCodeReader(), func(file string) string { return zbarimg(t, file) })
}

// DataMatrix is QR for Data Matrix, with ZXing and dmtxread.
func DataMatrix(t testing.TB, pictures ...image.Image) []string {
	t.Helper()
	return read(t, pictures, datamatrix.NewDataMatrixReader(), func(file string) string {
		RequirePrograms(t, "dmtxread")
		return firstText(t, "dmtxread", "-n", "-U", "-N", "1", file)
	})
}

// Dmtxread returns the text that dmtxread reads in a picture.
func Dmtxread(t testing.TB, m image.Image) string {
	t.Helper()
	RequirePrograms(t, "dmtxread")
	return firstText(t, "dmtxread", "-n", "-U", "-N", "1", file(t, m))
}

// DmtxreadGS1 is Dmtxread for a symbol with FNC1, which it returns as the separator \x1d.
func DmtxreadGS1(t testing.TB, m image.Image) string {
	t.Helper()
	RequirePrograms(t, "dmtxread")
	return firstText(t, "dmtxread", "-n", "-N", "1", "-G", "29", file(t, m))
}

// Zbarimg returns the text that zbarimg reads in a picture.
func Zbarimg(t testing.TB, m image.Image) string {
	t.Helper()
	return zbarimg(t, file(t, m))
}

func zbarimg(t testing.TB, file string) string {
	t.Helper()
	RequirePrograms(t, "zbarimg")
	return firstText(t, "zbarimg", "--nodbus", "-q", "--raw", "-Sdisable", "-Sqrcode.enable", file)
}

// read reads each picture with first and, if first finds nothing or in a complete run, with second. A single reader may fail on a valid
// picture or on a slow machine. No reader may return a wrong text.
func read(t testing.TB, pictures []image.Image, first gozxing.Reader, second func(file string) string) (found []string) {
	t.Helper()
	for _, m := range pictures {
		text := ""
		for _, part := range cropped(m) {
			if text = zxing(first, part); text != "" {
				break
			}
		}
		if text == "" || testscope.IsComplete() {
			other := second(file(t, m))
			if text == "" {
				text = other
			} else if other != "" && other != text {
				text += " (another reader: " + other + ")"
			}
		}
		found = append(found, text)
	}
	return found
}

// file writes a picture to a PNG file and returns its name.
func file(t testing.TB, m image.Image) string {
	t.Helper()
	f := require.Value(os.CreateTemp(t.TempDir(), "*.png"))(t)
	defer f.Close()
	require.NoError(t, png.Encode(f, m))
	return f.Name()
}

// firstText runs a reader and returns its output, "" if it finds nothing.
func firstText(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.WaitDelay = time.Second
	out, _ := cmd.Output() // a reader that finds nothing ends with an error
	return strings.TrimSuffix(string(out), "\n")
}

// CountDamagedQR returns the number of blocks of a QR code with errors that a reader must correct. modules are the symbol without quiet
// zone.
func CountDamagedQR(t testing.TB, modules [][]bool) int {
	t.Helper()
	parser := require.Value(decoder.NewBitMatrixParser(matrix(t, modules)))(t)
	format := require.Value(parser.ReadFormatInformation())(t)
	version := require.Value(parser.ReadVersion())(t)
	codewords := require.Value(parser.ReadCodewords())(t)
	blocks := require.Value(decoder.DataBlock_GetDataBlocks(codewords, version, format.GetErrorCorrectionLevel()))(t)
	damaged := 0
	for _, b := range blocks {
		if !isIntact(b.GetCodewords(), len(b.GetCodewords())-b.GetNumDataCodewords(), 0x1d, 1) {
			damaged++
		}
	}
	return damaged
}

// CountDamagedDataMatrix is CountDamagedQR for a Data Matrix.
func CountDamagedDataMatrix(t testing.TB, modules [][]bool) int {
	t.Helper()
	side := require.Value(gozxing.NewDimension(len(modules[0]), len(modules)))(t)
	size := require.Value(encoder.SymbolInfo_Lookup(1, encoder.SymbolShapeHint_FORCE_NONE, side, side, true))(t)
	// The position of each bit of each codeword follows from the placement of the codewords' numbers, one bit of the number at a time.
	width, height := size.GetSymbolDataWidth(), size.GetSymbolDataHeight()
	codewords := make([]byte, size.GetCodewordCount())
	for bit := range 8 {
		codewordAt := make([]int, width*height)
		for power := 1; power <= len(codewords); power *= 2 {
			bits := make([]byte, len(codewords))
			for i := range bits {
				if (i+1)&power > 0 {
					bits[i] = 1 << bit
				}
			}
			placement := encoder.NewDefaultPlacement(bits, width, height)
			placement.Place()
			for i := range codewordAt {
				if placement.GetBit(i%width, i/width) {
					codewordAt[i] += power
				}
			}
		}
		for i, n := range codewordAt {
			x, y := i%width, i/width
			x, y = x+2*(x/size.GetMatrixWidth())+1, y+2*(y/size.GetMatrixHeight())+1
			if n > 0 && n <= len(codewords) && modules[y][x] {
				codewords[n-1] |= 1 << bit
			}
		}
	}
	damaged, blocks := 0, size.GetInterleavedBlockCount()
	for b := range blocks {
		var block []byte
		for i := b; i < len(codewords); i += blocks {
			block = append(block, codewords[i])
		}
		if !isIntact(block, size.GetErrorLengthForInterleavedBlock(b+1), 0x2d, 2) {
			damaged++
		}
	}
	return damaged
}

func matrix(t testing.TB, modules [][]bool) *gozxing.BitMatrix {
	t.Helper()
	bits := require.Value(gozxing.ParseBoolMapToBitMatrix(modules))(t)
	return bits
}

// isIntact reports whether all Reed-Solomon syndromes of a block are zero: its codewords, as a polynomial over GF(256), are zero at
// corrections successive powers of 2, from root on. low has the lower 8 bits of the field's polynomial.
func isIntact(codewords []byte, corrections int, low, root byte) bool {
	multiply := func(a, b byte) (product byte) {
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
			sum = multiply(sum, root) ^ c
		}
		if sum != 0 {
			return false
		}
		root = multiply(root, 2)
	}
	return true
}

// cropped returns a picture and parts of it: ZXing searches a Data Matrix from the middle outwards, so the symbol must be in the middle.
func cropped(m image.Image) []image.Image {
	pictures, b := []image.Image{m}, m.Bounds()
	part, ok := m.(interface {
		SubImage(image.Rectangle) image.Image
	})
	for i := 0; ok && i <= 8; i++ {
		left := b.Min.X + i*b.Dx()/16
		pictures = append(pictures, part.SubImage(image.Rect(left, b.Min.Y, left+b.Dx()/2, b.Max.Y)))
	}
	return pictures
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

// Blur returns a picture as a camera slightly out of focus records it: enlarged three times, then twice averaged over a quarter of a
// module. module is the size of a module in pixels.
func Blur(m image.Image, module int) image.Image {
	const scale = 3
	b := m.Bounds()
	enlarged := image.NewGray(image.Rect(0, 0, b.Dx()*scale, b.Dy()*scale))
	for y := range b.Dy() {
		for x := range b.Dx() {
			grey := color.GrayModel.Convert(m.At(b.Min.X+x, b.Min.Y+y)).(color.Gray).Y
			for i := range scale * scale {
				enlarged.Pix[(y*scale+i/scale)*enlarged.Stride+x*scale+i%scale] = grey
			}
		}
	}
	return mean(mean(enlarged, scale*module/4), scale*module/4)
}

// mean returns a picture with the mean of the pixels within radius of each, along the rows and then along the columns (box blur).
func mean(m *image.Gray, radius int) *image.Gray {
	b := m.Bounds()
	out := image.NewGray(b)
	average := func(to, from []uint8, begin, step, n int) {
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
		average(rows.Pix, m.Pix, y*m.Stride, 1, b.Max.X)
	}
	for x := range b.Max.X {
		average(out.Pix, rows.Pix, x, rows.Stride, b.Max.Y)
	}
	return out
}

// RenderPDF renders the pages of a PDF in greyscale with poppler.
func RenderPDF(t testing.TB, file []byte, dpi int) []image.Image {
	t.Helper()
	RequirePrograms(t, "pdftoppm")
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

// RenderSVG renders an SVG with librsvg, in the size in millimetres that the SVG states.
func RenderSVG(t testing.TB, file []byte, dpi int) image.Image {
	t.Helper()
	return convert(t, file, "rsvg-convert", "--format=png", fmt.Sprintf("--dpi-x=%d", dpi), fmt.Sprintf("--dpi-y=%d", dpi))
}

// RenderEPS renders an EPS picture in greyscale with Ghostscript.
func RenderEPS(t testing.TB, file []byte, dpi int) image.Image {
	t.Helper()
	return convert(t, file, "gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-dEPSCrop", "-sDEVICE=pnggray",
		fmt.Sprintf("-r%d", dpi), "-sOutputFile=-", "-")
}

// convert runs a program that converts file, its standard input, to a PNG picture on its standard output.
func convert(t testing.TB, file []byte, program string, args ...string) image.Image {
	t.Helper()
	RequirePrograms(t, program)
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(file), &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%s: %v: %s", program, err, &errs)
	}
	m := require.Value(png.Decode(&out))(t)
	return m
}

// SeparatePlates separates the page of a PDF or EPS file into printing plates with Ghostscript. It returns the plates with ink, by the
// ink's name.
func SeparatePlates(t testing.TB, file []byte, dpi int) map[string]image.Image {
	t.Helper()
	RequirePrograms(t, "gs")
	dir := t.TempDir()
	render := exec.CommandContext(t.Context(), "gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-dEPSCrop", "-sDEVICE=tiffsep",
		fmt.Sprintf("-r%d", dpi), "-sOutputFile="+filepath.Join(dir, "page"), "-")
	render.Stdin = bytes.NewReader(file)
	errs, err := render.CombinedOutput()
	require.True(t, err == nil && len(errs) == 0, "gs: %v: %s", err, errs)
	names, _ := filepath.Glob(filepath.Join(dir, "page(*).tif")) // a pattern that is well formed
	plates := map[string]image.Image{}
	for _, name := range names {
		f := require.Value(os.Open(name))(t)
		m := require.Value(tiff.Decode(f))(t)
		require.NoError(t, f.Close())
		if slices.Min(m.(*image.Gray).Pix) < 255 {
			plates[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "page("), ").tif")] = m
		}
	}
	return plates
}

func decode(t testing.TB, name string) image.Image {
	t.Helper()
	f := require.Value(os.Open(name))(t)
	defer f.Close()
	m := require.Value(png.Decode(f))(t)
	return m
}
