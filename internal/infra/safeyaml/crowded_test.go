package safeyaml

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// A map with too many keys is rejected before its text is split into words: what that takes is in proportion to the bound, not to the text.
func TestCheck_CrowdedMapTakesLittle(t *testing.T) {
	many := func(format, join string) string {
		keys := make([]string, 200_000)
		for i := range keys {
			keys[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(keys, join)
	}
	for name, text := range map[string]string{
		"block":     many("key%06d: 1", "\n"),
		"nested":    "rules:\n  - prefix: a\n    " + many("key%06d: 1", "\n    "),
		"braces":    "{" + many("key%06d: 1", ", ") + "}",
		"JSON":      `{"rules": {` + many(`"key%06d":1`, ",\n") + "}}",
		"literal":   "- a: |\n    text\n  " + many("key%06d: 1", "\n  "),
		"quoted":    many("'key: %06d': 1", "\n"),
		"after URL": "a: https://x/{01}\nb: it's {\n" + many("key%06d: 1", "\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Check([]byte(text))
		runtime.ReadMemStats(&after)
		took := after.TotalAlloc - before.TotalAlloc
		assert.True(t, err != nil && strings.Contains(err.Error(), "more than 1000 keys") && took <= 16<<20,
			"Check(%s) = %v with %d bytes, want more than 1000 keys with few", name, err, took)
	}
}

// What only looks like very many keys of one map is none.
func TestCheck_ManyLinesAreNoCrowd(t *testing.T) {
	for name, text := range map[string]string{
		"list":    "rules:\n" + strings.Repeat("  - prefix: a\n    path: b\n", 2000),
		"literal": "a: |\n" + strings.Repeat("  key: 1\n", 2000) + "b: 1\n",
		"braces":  "rules:\n" + strings.Repeat("  - {prefix: 'https://x/', path: b}\n", 2000),
		"JSON":    `{"rules":[` + strings.Repeat(`{"a":1,"b":"x: {"},`, 2000) + `{}]}`,
	} {
		err := Check([]byte(text))
		assert.NoErrorf(t, err, "Check(%s) = %v, want none", name, err)
	}
}

// A file has one document, with or without its marks; nothing of another is left out silently.
func TestCheck_OneDocument(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"a: 1":                             "",
		"# note\n---\na: 1\n...\n# end\n":  "",
		"%YAML 1.2\n---\na: 1\n":           "",
		"a: 1\n---\nb: 1\n":                "line 2: a second document",
		"---\na: 1\n---\nb: 1\n":           "line 3: a second document",
		"---\n---\nb: 1\n":                 "line 2: a second document",
		"a: 1\n...\nb: 1\n":                "line 3: a second document",
		"a: |\n  ---\n  ...\n  text\nb: 1": "",
	} {
		err := Check([]byte(text))
		assert.True(t, want == "" && err == nil || want != "" && strings.HasPrefix(fmt.Sprint(err), want), "%q: %v", text, err)
	}
}

func TestPieces_KeepLines(t *testing.T) {
	var text strings.Builder
	text.WriteString("# head\nrules:\n")
	for i := range 1203 {
		fmt.Fprintf(&text, "- prefix: p%d\n  path: |\n    x\n\n", i)
	}
	pieces, ok := Pieces([]byte(text.String()), "rules")
	entries, parts := 0, 0
	for piece := range pieces {
		parts++
		for n, line := range strings.Split(string(piece), "\n") {
			if strings.HasPrefix(line, "- ") {
				if want := 3 + 4*entries; n+1 != want || line != fmt.Sprintf("- prefix: p%d", entries) {
					t.Fatalf("entry %d is on line %d as %q, want line %d", entries, n+1, line, want)
				}
				entries++
			}
		}
	}
	assert.True(t, ok && entries == 1203 && parts == 3, "Pieces = %d entries in %d parts, %v, want 1203 in 3", entries, parts, ok)
	_, ok = Pieces([]byte("other: "+strings.Repeat("x", maxWhole)), "rules")
	assert.True(t, !ok, "a long text of another form is taken")
}
