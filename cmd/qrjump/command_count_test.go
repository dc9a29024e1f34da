package main

import (
	"io"
	"testing"
)

// maxCommands is the ceiling of the commands that run, hidden ones included. It only goes down.
const maxCommands = 178

// TestCommandCount holds the size of the command line, and prints it.
func TestCommandCount(t *testing.T) {
	parser, err := newParser(session{out: io.Discard, err: io.Discard}, &commands{})
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(false)
	flags := 0
	for _, leaf := range leaves {
		flags += len(leaf.Flags)
	}
	t.Logf("%d commands with %d flags", len(leaves), flags)
	if len(leaves) > maxCommands {
		t.Errorf("qrjump has %d commands, want at most %d", len(leaves), maxCommands)
	}
	if len(leaves) < maxCommands {
		t.Logf("lower maxCommands, which is %d", maxCommands)
	}
}
