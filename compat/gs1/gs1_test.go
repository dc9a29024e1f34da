// Package gs1_test compares qrjump's GS1 parser and resolver with third-party programs and with GS1's schemas.
package gs1_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/qrjump/qrjump/compat/harness"
)

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.WaitDelay = time.Second
	return cmd
}

// TestGS1Parsers_SameResult reads 100,000 random texts of all keys and qualifiers, half of them corrupted, with bwip-js,
// gs1-barcode-parser-mod and biip. GS1_CASES is the number of texts, GS1_SEED the seed of the random generator.
func TestGS1Parsers_SameResult(t *testing.T) {
	node, python := absolute(t, "driver.cjs"), absolute(t, "driver.py")
	cmd := command(t, "go", "test", "-count=1", "-v", "-timeout", "5h", "-run", "^TestGS1_RecordedPeerResults$|^TestGS1_BiipPeerValues$",
		"./internal/infra/gs1")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GS1_PEER=node "+node, "GS1_VALUES="+absolute(t, ".venv/bin/python")+" "+python,
		"GS1_CASES="+cmp.Or(os.Getenv("GS1_CASES"), "100000"))
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGS1Symbols_ExternalDecoders draws symbols of each kind for the valid recorded random texts, reads them with ZXing-C++ and
// libdmtx, and compares their contents with biip.
func TestGS1Symbols_ExternalDecoders(t *testing.T) {
	if _, err := exec.LookPath("dmtxread"); err != nil {
		t.Skip(err)
	}
	recorded, err := os.Open("../../internal/infra/gs1/testdata/values.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer recorded.Close()
	kinds := map[string][]string{"uri": {"gs1-digital-link"}, "brackets": {"gs1-qr", "gs1-datamatrix"}}
	qrjump, folder := harness.Binary(t), t.TempDir()
	var drawn bytes.Buffer
	for lines, list := json.NewDecoder(recorded), json.NewEncoder(&drawn); ; {
		var c struct {
			Kind, Text string
			OK         bool
		}
		if err := lines.Decode(&c); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds[c.Kind] {
			if !c.OK {
				continue
			}
			file := filepath.Join(folder, fmt.Sprintf("%d.png", drawn.Len()))
			draw := exec.CommandContext(t.Context(), qrjump, "symbol", "draw", c.Text, "--kind", kind, "--format", "png", "--out", file)
			out, err := draw.CombinedOutput()
			if err != nil {
				t.Logf("%s of %q is not drawn: %s", kind, c.Text, out) // a known difference between qrjump and biip
				continue
			}
			_ = list.Encode(map[string]string{"kind": kind, "text": c.Text, "file": file})
		}
	}
	cmd := command(t, absolute(t, ".venv/bin/python"), "symbols.py")
	cmd.Stdin = &drawn
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// TestGS1Resolver_SchemaValid validates responses with GS1's schemas, which this project may not distribute; see README.md.
func TestGS1Resolver_SchemaValid(t *testing.T) {
	linkset, description := os.Getenv("GS1_LINKSET_SCHEMA"), os.Getenv("GS1_DESCRIPTION_SCHEMA")
	if linkset == "" && description == "" {
		t.Skip("GS1_LINKSET_SCHEMA and GS1_DESCRIPTION_SCHEMA are not set")
	}
	qrjump := harness.Binary(t)
	script := `exec node schemas.cjs "$QRJUMP_SERVER" id.example`
	if linkset != "" {
		for _, path := range []string{"/01/09506000134352?linkType=linkset", "/01/09506000134352/10/ABC/21/5?linkType=linkset"} {
			script += ` "` + path + `" "$GS1_LINKSET_SCHEMA"`
		}
	}
	if description != "" {
		script += ` /.well-known/gs1resolver "$GS1_DESCRIPTION_SCHEMA"`
	}
	if err := command(t, qrjump, "run", "--seed", "seed.yaml", "--", "sh", "-c", script).Run(); err != nil {
		t.Error(err)
	}
}
