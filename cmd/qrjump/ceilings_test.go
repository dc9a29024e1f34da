package main

import (
	"io"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/ceilings"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCeilings_WithinLimits holds the size of the command line, hidden commands included.
func TestCeilings_WithinLimits(t *testing.T) {
	parser, err := newParser(session{out: io.Discard, err: io.Discard}, &commands{})
	require.NoError(t, err)
	leaves, flags := parser.Model.Leaves(false), 0
	for _, leaf := range leaves {
		flags += len(leaf.Flags)
	}
	ceilings.Check(t, "commands", len(leaves))
	ceilings.Check(t, "flags", flags)
}
