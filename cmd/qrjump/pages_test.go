package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The pages of the documents that are tables of the code say what the code says. They are printed by docs/print.
func TestGeneratedPages_UpToDate(t *testing.T) {
	var commands bytes.Buffer
	help := []string{"help", "--all", "--output=json"}
	require.Equal(t, run(session{ctx: t.Context(), out: &commands, err: io.Discard}, help), exitDone, "help --all --output=json ends with")
	pages, err := docgen.Pages(t.Context(), "../..", commands.Bytes())
	require.NoError(t, err)
	assert.True(t, len(pages) >= 90, "%d pages are printed, wanted more than 90", len(pages))
	for _, name := range docgen.Stale("../..", pages) {
		t.Errorf("%s is not what the code says: run %s in the folder of the repository, and read the diff", name, docgen.Command)
	}
}

func TestCells_ExampleMap(t *testing.T) {
	want, err := os.ReadFile("../../deploy/cells/cells.map")
	require.NoError(t, err)
	code, got, errs := command(t.Context(), "cells", "--map", "../../deploy/cells/cells.yaml")
	require.True(t, code == exitDone && got == string(want), "qrjump cells ends with %d and prints %s%s, want %s", code, got, errs, want)
}

// Every verb, argument and flag has a meaning, every verb an example of its own, and the book says nothing of one that is none.
// That it says so in both languages sees TestTranslations_KeysAndArgumentsMatch.
func TestCommandHelp_CoversEveryVerbAndFlag(t *testing.T) {
	texts, _ := i18n.Read(os.DirFS("."))
	tr := map[string]bool{"help.qrjump": true, "help.usage": true, "help.arguments": true, "help.flags": true, "help.example": true,
		"help.more": true}
	for _, code := range exitKind {
		tr["exit."+code] = true
	}
	m := (&session{}).fullManual()
	takes := func(words []string, name, help string) {
		assert.True(t, help != "", "%s has no meaning", helpKey(append(words[:len(words):len(words)], name)))
		for n := len(words); n >= 0; n-- {
			if key := helpKey(append(words[:n:n], name)); texts[i18n.English][key] != "" {
				tr[key] = true
				return
			}
		}
	}
	var look func(*kong.Node, []string)
	look = func(node *kong.Node, words []string) {
		for _, p := range node.Positional {
			takes(words, "<"+p.Name+">", p.Help)
		}
		for _, f := range node.Flags {
			if !f.Hidden {
				takes(words, "--"+f.Name, f.Help)
			}
		}
		for _, child := range node.Children {
			if child.Hidden && child.Help == "" {
				continue
			}
			below := append(words[:len(words):len(words)], child.Name)
			tr[helpKey(below)] = true
			if child.Leaf() {
				tr[helpKey(append(below, "example2"))] = true
				tr[helpKey(append(below, "example"))], tr["group."+child.ClosestGroup().Key] = true, true
				assert.True(t, m.example(child) != "" && child.ClosestGroup().Title != "", "%s has no example or no group", child.Path())
			}
			assert.True(t, child.Help != "", "%s has no help", child.Path())
			look(child, below)
		}
	}
	look(m.Node, nil)
	for key := range texts[i18n.English] {
		for _, begins := range []string{"help.", "group.", "exit."} {
			assert.True(t, !strings.HasPrefix(key, begins) || tr[key], "%s is of no command", key)
		}
	}
}
