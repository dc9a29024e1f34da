package main

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A verb that was read by a table of its own has the flags and the texts that it has in the table of all.
func TestVerbTable_SingleEqualsFull(t *testing.T) {
	all := (&session{}).fullManual()
	for _, verb := range all.Leaves(false) {
		alone, err := newParser(session{}, tableFor(append(strings.Fields(verb.Path()), "--flag")))
		require.NoError(t, err)
		leaves := alone.Model.Leaves(false)
		if len(leaves) != 1 {
			t.Errorf("%s is read by a table of %d verbs", verb.Path(), len(leaves))
		} else if got, want := reader("").manual(alone.Model).verbPage(leaves[0]), all.verbPage(verb); got != want {
			t.Errorf("%s alone says of itself\n%s\nand among all\n%s", verb.Path(), got, want)
		}
	}
}

func TestVerbTable_FullWithoutVerb(t *testing.T) {
	all := len(leaves(t))
	for _, line := range []string{"", "rule", "rule --help", "rule lst", "rulelist",
		"--output json rule list", "rule --output json list", "Rule list"} {
		parser, err := newParser(session{}, tableFor(strings.Fields(line)))
		require.NoError(t, err)
		n := len(parser.Model.Leaves(false))
		assert.True(t, n == all, "%q is read by a table of %d verbs, want all %d", line, n, all)
	}
}
