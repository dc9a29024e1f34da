package main

import (
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/ceilings"
)

// TestCeilings_WithinLimits limits the numbers of commands and flags, hidden ones included.
func TestCeilings_WithinLimits(t *testing.T) {
	leaves, flags := (&session{}).fullManual().Leaves(false), 0
	for _, leaf := range leaves {
		flags += len(leaf.Flags)
	}
	ceilings.Check(t, "commands", len(leaves))
	ceilings.Check(t, "flags", flags)
}
