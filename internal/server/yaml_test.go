package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/safeyaml"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestYAML_RejectsDeepNestingBeforeParse verifies that safeyaml rejects each kind of deep nesting and aliases with little memory, before
// the YAML parser would allocate much more than the length of the text.
func TestYAML_RejectsDeepNestingBeforeParse(t *testing.T) {
	block := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"lists in brackets":          "settings: " + strings.Repeat("[", 20_000),
		"closed ones":                "settings: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"maps in braces":             "settings: " + strings.Repeat("{a: ", 5_000),
		"brackets on lines":          "settings:\n" + strings.Repeat(" [\n", 7_000),
		"lists on one line":          strings.Repeat("- ", 10_000) + "x",
		"lists of maps on one line":  strings.Repeat("- a:\n", 1) + "  " + strings.Repeat("- ", 10_000) + "x",
		"keys by question marks":     strings.Repeat("? ", 10_000) + "x",
		"maps by indentation":        block(200),
		"both":                       block(20) + strings.Repeat(" ", 20) + strings.Repeat("[", 20),
		"quoted keys by indentation": strings.ReplaceAll(block(200), "a", `"a"`),
		"aliases":                    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := safeyaml.Check([]byte(text))
		runtime.ReadMemStats(&after)
		assert.True(t, err != nil && strings.HasPrefix(err.Error(), "line ") && !strings.Contains(err.Error(), "\n"), "%s: %v", name, err)
		allocated := after.TotalAlloc - before.TotalAlloc
		assert.True(t, allocated <= 4000*uint64(len(text))+1<<20, "%s: Check of %d bytes allocated %d bytes", name, len(text), allocated)
		seed := filepath.Join(t.TempDir(), "seed.yaml")
		require.NoError(t, os.WriteFile(seed, []byte(text), 0o600))
		c := server.Default()
		c.Data, c.Listen, c.Dev, c.Seed = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", true, seed
		if s, err := server.Start(t.Context(), c, &strings.Builder{}, server.TestHooks{}); err == nil ||
			!strings.Contains(err.Error(), "nested deeper") && !strings.Contains(err.Error(), "aliases") {
			t.Errorf("%s: start with it as seed = %v, want an error about nesting or aliases", name, err)
			if err == nil {
				s.Close()
			}
		}
	}
	for name, text := range map[string]string{
		"empty":                "",
		"brackets in texts":    strings.Repeat("- \"[[[[[[[[[[{{{{{{{{\"\n- a[[[[[[[\n# [[[[[[[[\n- '{{{{{{'\n", 100),
		"many side by side":    strings.Repeat("- {a: [x, {b: [y]}]}\n", 1000),
		"back and forth":       strings.Repeat("- a:\n    b:\n      - c: x\n", 1000),
		"text over many lines": "a: |\n" + strings.Repeat("  - - - - [[[[ {{{{\n", 100),
	} {
		assert.NoErrorf(t, safeyaml.Check([]byte(text)), "%s", name)
	}
}
