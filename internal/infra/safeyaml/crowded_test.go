package safeyaml

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestCheck_CrowdedMapTakesLittle verifies that a map with too many keys is rejected before its text is tokenized, so that the allocated
// memory is proportional to the limit and not to the text.
func TestCheck_CrowdedMapTakesLittle(t *testing.T) {
	repeatKeys := func(format, separator string) string {
		keys := make([]string, 200_000)
		for i := range keys {
			keys[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(keys, separator)
	}
	for name, text := range map[string]string{
		"block":     repeatKeys("key%06d: 1", "\n"),
		"nested":    "rules:\n  - prefix: a\n    " + repeatKeys("key%06d: 1", "\n    "),
		"braces":    "{" + repeatKeys("key%06d: 1", ", ") + "}",
		"JSON":      `{"rules": {` + repeatKeys(`"key%06d":1`, ",\n") + "}}",
		"literal":   "- a: |\n    text\n  " + repeatKeys("key%06d: 1", "\n  "),
		"quoted":    repeatKeys("'key: %06d': 1", "\n"),
		"after URL": "a: https://x/{01}\nb: it's {\n" + repeatKeys("key%06d: 1", "\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Check([]byte(text))
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		assert.True(t, err != nil && strings.Contains(err.Error(), "more than 1000 keys") && allocated <= 16<<20,
			"Check(%s) = %v with %d bytes allocated, want more than 1000 keys with at most 16 MiB", name, err, allocated)
	}
}

// TestCheck_ManyLinesAreNoCrowd verifies that many keys in different maps, and lines in literals that look like keys, are accepted.
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

// TestCheck_OneDocument verifies that a file has one document, with or without markers, and that a second one is an error.
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
		assert.True(t, want == "" && err == nil || want != "" && strings.HasPrefix(fmt.Sprint(err), want),
			"Check(%q) = %v, want %q", text, err, want)
	}
}

// TestPieces_KeepLines verifies that the pieces of a long list keep the line numbers of their entries.
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
	assert.True(t, !ok, "Pieces of a long text without a list reports true, want false")
}
