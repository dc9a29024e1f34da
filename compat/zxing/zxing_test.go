// Package zxing_test compares the grades of qrjump with the number of codewords that ZXing, a decoder in Java, corrects.
package zxing_test

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	text       = "https://coffee.example/t/0123456789abcdef" // version 3 at level M: 29 modules, one block
	correction = 26                                          // codewords of error correction, of which half can be corrected
	quiet      = 4                                           // modules around the symbol
)

func output(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = t.Output()
	return cmd.Output()
}

// Unused error correction, as qrjump grades it, is what ZXing leaves unused, for damage of any extent.
func TestGrade_UnusedErrorCorrection(t *testing.T) {
	jars, err := os.ReadFile("target/classpath")
	if err != nil {
		t.Skip("not run: ZXing: not installed here, see compat/run.sh")
	}
	dir, qrjump := t.TempDir(), os.Getenv("QRJUMP_BINARY")
	if qrjump == "" {
		qrjump = filepath.Join(dir, "qrjump")
		if _, err := output(t, "go", "build", "-C", "../..", "-o", qrjump, "./cmd/qrjump"); err != nil {
			t.Fatal(err)
		}
	}
	drawn := filepath.Join(dir, "drawn.png")
	if _, err := output(t, qrjump, "symbol", "draw", text, "--level", "M", "--module", "0.85mm", "--out", drawn); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(drawn)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbol, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	module := symbol.Bounds().Dx() / (29 + 2*quiet)
	java := []string{"-cp", strings.TrimSpace(string(jars)), "Corrected.java"}
	for flips := range 20 {
		java = append(java, damaged(t, dir, symbol, module, flips))
	}
	out, err := output(t, "java", java...)
	if err != nil {
		t.Fatal(err)
	}
	lines, extents := strings.Split(strings.TrimSpace(string(out)), "\n"), map[int]bool{}
	if len(lines) != len(java)-3 {
		t.Fatalf("%d lines for %d pictures", len(lines), len(java)-3)
	}
	for i, line := range lines {
		graded, _ := output(t, qrjump, "grade", java[3+i], "--output", "json")
		var g struct {
			Text       string
			Parameters []struct {
				Parameter string
				Value     float64
			}
		}
		if err := json.Unmarshal(graded, &g); err != nil && line != "unreadable" {
			t.Errorf("%d flipped modules: ZXing reads %q, qrjump %s", i, line, graded)
			continue
		}
		if line == "unreadable" {
			if g.Text != "" {
				t.Errorf("%d flipped modules: ZXing reads nothing, qrjump %q", i, g.Text)
			}
			continue
		}
		var wrong int
		if _, err := fmt.Sscanf(line, "%d "+text, &wrong); err != nil || g.Text != text {
			t.Errorf("%d flipped modules: ZXing reads %q, qrjump %q", i, line, g.Text)
		}
		unused := g.Parameters[len(g.Parameters)-1]
		want := 1 - 2*float64(wrong)/correction
		if unused.Parameter != "unused_error_correction" || math.Abs(unused.Value-want) > 0.006 {
			t.Errorf("%d flipped modules, %d wrong codewords: %s is %v, want %.3f", i, wrong, unused.Parameter, unused.Value, want)
		}
		extents[wrong] = true
	}
	if len(extents) < 8 {
		t.Errorf("ZXing corrected %v codewords: too few different numbers", extents)
	}
}

// damaged draws the symbol with some modules of its data flipped, and returns the file.
func damaged(t *testing.T, dir string, symbol image.Image, module, flips int) string {
	t.Helper()
	m := image.NewGray(symbol.Bounds())
	draw.Draw(m, m.Rect, symbol, symbol.Bounds().Min, draw.Src)
	for _, n := range rand.New(rand.NewPCG(1, 2)).Perm(11 * 11)[:flips] { // rows and columns 9 to 19 have data only
		x, y := (quiet+9+n%11)*module, (quiet+9+n/11)*module
		v := m.GrayAt(x, y).Y
		draw.Draw(m, image.Rect(x, y, x+module, y+module), image.NewUniform(color.Gray{255 - v}), image.Point{}, draw.Src)
	}
	file := filepath.Join(dir, fmt.Sprintf("%02d.png", flips))
	f, err := os.Create(file)
	if err == nil {
		if err = png.Encode(f, m); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}
