// Package readtest reads printed symbols by readers that know nothing of how they
// were drawn: two for each kind, of different makers.
package readtest

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/datamatrix"
	"github.com/makiuchi-d/gozxing/qrcode"
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

// QR are the readers of QR codes: zbarimg, and ZXing.
func QR(t testing.TB, pictures ...image.Image) [][]string {
	t.Helper()
	Need(t, "zbarimg")
	return read(t, pictures, qrcode.NewQRCodeReader(), func(files []string) [][]string {
		return eachFile(t, "zbarimg", []string{"--nodbus", "-q", "--raw", "-Sdisable", "-Sqrcode.enable"}, files)
	})
}

// DataMatrix are the readers of Data Matrix: dmtxread, and ZXing.
func DataMatrix(t testing.TB, pictures ...image.Image) [][]string {
	t.Helper()
	Need(t, "dmtxread")
	return read(t, pictures, datamatrix.NewDataMatrixReader(), func(files []string) [][]string {
		return eachFile(t, "dmtxread", []string{"-n", "-N", "1", "-m", "2000"}, files)
	})
}

// read returns, for each picture, what each reader found in it: "" where nothing.
func read(t testing.TB, pictures []image.Image, second gozxing.Reader, first func([]string) [][]string) [][]string {
	t.Helper()
	dir, files := t.TempDir(), []string{}
	for i, m := range pictures {
		name := filepath.Join(dir, fmt.Sprintf("%06d.png", i))
		var file bytes.Buffer
		if err := png.Encode(&file, m); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	found := first(files)
	for i, m := range pictures {
		text := ""
		for _, seen := range aimed(m) {
			if text = zxing(second, seen); text != "" {
				break
			}
		}
		found[i] = append(found[i], text)
	}
	return found
}

// eachFile runs a reader on each file by itself: what it prints does not say which
// file it is of.
func eachFile(t testing.TB, program string, args, files []string) [][]string {
	t.Helper()
	found := make([][]string, len(files))
	for i, file := range files {
		cmd := exec.CommandContext(t.Context(), program, append(args[:len(args):len(args)], file)...)
		cmd.WaitDelay = time.Second
		out, _ := cmd.Output() // nothing found is an exit code too
		found[i] = []string{strings.TrimSuffix(string(out), "\n")}
	}
	return found
}

// aimed is a picture, and parts of it: ZXing looks for a Data Matrix from the middle
// outwards, so somebody aims at it.
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

// Blur is what a camera a little out of focus sees of a picture whose modules have
// a side of some dots: three times as fine, and each point the mean of those within
// a quarter of a module, twice.
func Blur(m image.Image, module int) image.Image {
	const finer = 3
	b := m.Bounds()
	seen := image.NewGray(image.Rect(0, 0, b.Dx()*finer, b.Dy()*finer))
	for i := range seen.Pix {
		seen.Set(i%seen.Stride, i/seen.Stride, m.At(b.Min.X+i%seen.Stride/finer, b.Min.Y+i/seen.Stride/finer))
	}
	return mean(mean(seen, finer*module/4), finer*module/4)
}

func mean(m *image.Gray, radius int) *image.Gray {
	b := m.Bounds()
	out := image.NewGray(b)
	for y := range b.Max.Y {
		for x := range b.Max.X {
			sum, n := 0, 0
			for j := max(y-radius, 0); j <= min(y+radius, b.Max.Y-1); j++ {
				for _, v := range m.Pix[j*m.Stride+max(x-radius, 0) : j*m.Stride+min(x+radius, b.Max.X-1)+1] {
					sum, n = sum+int(v), n+1
				}
			}
			out.Pix[y*out.Stride+x] = uint8(sum / n)
		}
	}
	return out
}

// Pages renders the pages of a PDF by poppler in grey at a dot density.
func Pages(t testing.TB, file []byte, dpi int) []image.Image {
	t.Helper()
	Need(t, "pdftoppm")
	dir := t.TempDir()
	name := filepath.Join(dir, "file.pdf")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	render := exec.CommandContext(t.Context(), "pdftoppm", "-r", fmt.Sprint(dpi), "-gray", "-png", name, filepath.Join(dir, "page"))
	out, err := render.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("pdftoppm: %v: %s", err, out)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "page*.png")) // a pattern that is well formed
	var pages []image.Image
	for _, name := range names {
		pages = append(pages, decode(t, name))
	}
	return pages
}

// Picture renders an SVG by librsvg at a dot density. The size is the one that the
// SVG gives in millimetres.
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
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func decode(t testing.TB, name string) image.Image {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
