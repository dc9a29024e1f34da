// Package zxing_test compares the grades of qrjump with the number of codewords that the Java decoder ZXing corrects.
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

	"github.com/qrjump/qrjump/compat/harness"
)

const (
	text       = "https://coffee.example/t/0123456789abcdef" // version 3 at level M: 29 modules, one block
	correction = 26                                          // number of error correction codewords; half as many errors can be corrected
	quiet      = 4                                           // modules around the symbol
)

func output(t *testing.T, name string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = t.Output()
	return cmd.Output()
}

// For any damage, the unused error correction in the grade of qrjump agrees with the number of codewords that ZXing corrects.
func TestGrade_UnusedErrorCorrection(t *testing.T) {
	jars, err := os.ReadFile("target/classpath")
	if err != nil {
		t.Skip("not run: ZXing: not installed here, see compat/run.sh")
	}
	dir, qrjump := t.TempDir(), harness.Binary(t)
	file := filepath.Join(dir, "symbol.png")
	if _, err := output(t, qrjump, "symbol", "draw", text, "--level", "M", "--module", "0.85mm", "--out", file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
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
		java = append(java, drawDamaged(t, dir, symbol, module, flips))
	}
	out, err := output(t, "java", java...)
	if err != nil {
		t.Fatal(err)
	}
	lines, numbers := strings.Split(strings.TrimSpace(string(out)), "\n"), map[int]bool{}
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
		var corrected int
		if _, err := fmt.Sscanf(line, "%d "+text, &corrected); err != nil || g.Text != text {
			t.Errorf("%d flipped modules: ZXing reads %q, qrjump %q", i, line, g.Text)
		}
		unused := g.Parameters[len(g.Parameters)-1]
		want := 1 - 2*float64(corrected)/correction
		if unused.Parameter != "unused_error_correction" || math.Abs(unused.Value-want) > 0.006 {
			t.Errorf("%d flipped modules, %d corrected codewords: %s = %v, want %.3f", i, corrected, unused.Parameter, unused.Value, want)
		}
		numbers[corrected] = true
	}
	if len(numbers) < 8 {
		t.Errorf("ZXing corrected %v codewords, want at least 8 different numbers", numbers)
	}
}

// drawDamaged draws the symbol with flips flipped data modules, and returns the file.
func drawDamaged(t *testing.T, dir string, symbol image.Image, module, flips int) string {
	t.Helper()
	m := image.NewGray(symbol.Bounds())
	draw.Draw(m, m.Rect, symbol, symbol.Bounds().Min, draw.Src)
	for _, n := range rand.New(rand.NewPCG(1, 2)).Perm(11 * 11)[:flips] { // rows and columns 9 to 19 contain only data
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
