package main

import (
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestGeneratedPages_UpToDate verifies that the generated pages of the documents, which docs/print prints, match the code.
func TestGeneratedPages_UpToDate(t *testing.T) {
	code, commands, _ := command(t.Context(), "help", "--all", "--output=json")
	require.Equal(t, code, exitDone, "exit code of help --all --output=json")
	pages := require.Value(docgen.Pages(t.Context(), "../..", []byte(commands)))(t)
	assert.True(t, len(pages) >= 90, "docgen.Pages = %d pages, want at least 90", len(pages))
	for _, name := range docgen.Stale("../..", pages) {
		t.Errorf("%s is out of date: run %s in the folder of the repository, and read the diff", name, docgen.Command)
	}
}

func TestCells_ExampleMap(t *testing.T) {
	want := require.Value(os.ReadFile("../../deploy/cells/cells.map"))(t)
	code, got, errs := command(t.Context(), "cells", "--map", "../../deploy/cells/cells.yaml")
	require.True(t, code == exitDone && got == string(want), "qrjump cells: exit %d, output %s%s, want %s", code, got, errs, want)
}

// TestCommandHelp_CoversEveryVerbAndFlag verifies that every command, argument and flag has a help text and every command two examples, of
// which the second can be parsed, and that the catalog has no help text without a command. TestTranslations_KeysAndArgumentsMatch compares
// the languages.
func TestCommandHelp_CoversEveryVerbAndFlag(t *testing.T) {
	texts, _ := i18n.Read(os.DirFS("."))
	used := map[string]bool{"help.qrjump": true, "help.usage": true, "help.arguments": true, "help.flags": true, "help.example": true,
		"help.more": true, "help.common": true}
	for _, code := range exitKind {
		used["exit."+code] = true
	}
	m := (&session{}).fullManual()
	parser := require.Value(newParser(session{}, &commands{}))(t)
	checkHelp := func(words []string, name, help string) {
		assert.True(t, help != "", "%s has no help text", helpKey(append(words[:len(words):len(words)], name)))
		for n := len(words); n >= 0; n-- {
			if key := helpKey(append(words[:n:n], name)); texts[i18n.English][key] != "" {
				used[key] = true
				return
			}
		}
	}
	var checkNode func(*kong.Node, []string)
	checkNode = func(node *kong.Node, words []string) {
		for _, p := range node.Positional {
			checkHelp(words, "<"+p.Name+">", p.Help)
		}
		for _, f := range node.Flags {
			if !f.Hidden {
				checkHelp(words, "--"+f.Name, f.Help)
			}
		}
		for _, child := range node.Children {
			if child.Hidden && child.Help == "" {
				continue
			}
			path := append(words[:len(words):len(words)], child.Name)
			used[helpKey(path)] = true
			if child.Leaf() {
				used[helpKey(append(path, "example2"))] = true
				used[helpKey(append(path, "example"))], used["group."+child.ClosestGroup().Key] = true, true
				assert.True(t, m.example(child) != "" && child.ClosestGroup().Title != "", "%s has no example or no group", child.Path())
				if words, ok := splitWords(m.examples(child)[1]); ok && words[len(words)-1] != "--help" {
					_, err := parser.Parse(words[1:])
					assert.NoErrorf(t, err, "%s", words)
				}
			}
			assert.True(t, child.Help != "", "%s has no help text", child.Path())
			checkNode(child, path)
		}
	}
	checkNode(m.Node, nil)
	for key := range texts[i18n.English] {
		for _, prefix := range []string{"help.", "group.", "exit."} {
			assert.True(t, !strings.HasPrefix(key, prefix) || used[key], "the catalog has %s, want a command with this text", key)
		}
	}
}
