package main

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestVerbTable_SingleEqualsFull verifies that the table of a single command has the flags and texts that the full table has for it.
func TestVerbTable_SingleEqualsFull(t *testing.T) {
	full := (&session{}).fullManual()
	for _, verb := range full.Leaves(false) {
		single := require.Value(newParser(session{}, tableFor(append(strings.Fields(verb.Path()), "--flag"))))(t)
		leaves := single.Model.Leaves(false)
		if len(leaves) != 1 {
			t.Errorf("tableFor(%s) has %d commands, want 1", verb.Path(), len(leaves))
		} else if got, want := reader("").manual(single.Model).verbPage(leaves[0]), full.verbPage(verb); got != want {
			t.Errorf("verbPage(%s) in its own table =\n%s\nwant that of the full table\n%s", verb.Path(), got, want)
		}
	}
}

func TestVerbTable_FullWithoutVerb(t *testing.T) {
	full := len((&session{}).fullManual().Leaves(false))
	for _, line := range []string{"", "rule", "rule --help", "rule lst", "rulelist",
		"--output json rule list", "rule --output json list", "Rule list"} {
		parser := require.Value(newParser(session{}, tableFor(strings.Fields(line))))(t)
		n := len(parser.Model.Leaves(false))
		assert.True(t, n == full, "tableFor(%q) has %d commands, want all %d", line, n, full)
	}
}
