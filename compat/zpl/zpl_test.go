// Package zpl_test renders the ZPL II of qrjump for label printers with the npm package zpl-renderer-js, and reads the
// pictures with zbarimg.
package zpl_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/compat/harness"
)

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = t.Output()
	cmd.WaitDelay = time.Second
	return cmd
}

func TestZPL_RendererDrawsEveryLabel(t *testing.T) {
	qrjump := harness.Binary(t)
	if _, err := exec.LookPath("zbarimg"); err != nil {
		t.Skip(err)
	}
	texts := []string{"P.URL.CN/0A$-Z0123456789QWER", "https://coffee.example/t/7?from=door", "1"}
	// The renderer's resolution is in whole dots per millimetre: 8 is 203 dpi, 12 is 300, 24 is 600.
	for dpi, dots := range map[int]string{203: "8", 300: "12", 600: "24"} {
		var stream bytes.Buffer
		for _, text := range texts {
			draw := command(t, qrjump, "symbol", text, "--format", "zpl", "--dpi", strconv.Itoa(dpi), "--line", "A 1", "--out", "-")
			draw.Stdout = &stream
			if err := draw.Run(); err != nil {
				t.Fatal(err)
			}
		}
		render := command(t, "node", "render.cjs", "40", "40", dots)
		render.Stdin = &stream
		out, err := render.Output()
		if err != nil {
			t.Fatal(err)
		}
		labels := strings.Fields(string(out))
		if len(labels) != len(texts) {
			t.Fatalf("%d rendered labels, want %d", len(labels), len(texts))
		}
		for i, label := range labels {
			picture, err := base64.StdEncoding.DecodeString(label)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "label.png")
			if err := os.WriteFile(file, picture, 0o600); err != nil {
				t.Fatal(err)
			}
			read, err := exec.CommandContext(t.Context(), "zbarimg", "--nodbus", "-q", "--raw", file).Output()
			if err != nil || strings.TrimSpace(string(read)) != texts[i] {
				t.Errorf("%d dpi, label %d: read %q, %v, want %q", dpi, i, read, err, texts[i])
			}
		}
	}
}
