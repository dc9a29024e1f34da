package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestCommandsPageIsFresh holds docs/reference/cli.md to the commands.
func TestCommandsPageIsFresh(t *testing.T) {
	var c commands
	parser, err := newParser(session{}, &c)
	if err != nil {
		t.Fatal(err)
	}
	page := commandsPage(parser.Model)
	path := filepath.Join("..", "..", "docs", "reference", "cli.md")
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, []byte(page)) {
		t.Errorf("%s is not what the commands say (%v): run make update and read the diff", path, err)
	}
	for _, verb := range parser.Model.Leaves(true) {
		if verb.Help == "" || verb.Tag.Get("example") == "" || verb.Group == nil {
			t.Errorf("%s has no help, no example or no group", verb.Path())
		}
	}
}

func commandsPage(model *kong.Application) string {
	var b strings.Builder
	b.WriteString("# Commands\n\nPrinted from `cmd/qrjump` by `make update`.\n\n" +
		"Flags stand before or behind the verb. With `--json` an error is an object on standard error:\n" +
		"`{\"error\":{\"kind\",\"exit\",\"message\",\"next\",\"errcode\",\"rid\"}}`.\n\n| exit code | kind | means |\n| --- | --- | --- |\n")
	for code, one := range exits {
		fmt.Fprintf(&b, "| %d | `%s` | %s |\n", code, one.kind, one.meaning)
	}
	group := ""
	for _, verb := range model.Leaves(true) {
		if verb.Group.Title != group {
			group = verb.Group.Title
			fmt.Fprintf(&b, "\n## %s\n", group)
		}
		fmt.Fprintf(&b, "\n### `qrjump %s`\n\n%s\n\n```sh\n%s\n```\n", strings.TrimPrefix(verb.Summary(), "qrjump "), verb.Help,
			verb.Tag.Get("example"))
		var rows []string
		for _, p := range verb.Positional {
			rows = append(rows, fmt.Sprintf("| `%s` | | | %s |", p.Summary(), inTable(p.Help)))
		}
		for _, flags := range verb.AllFlags(true) {
			for _, f := range flags {
				if f.Name == "help" {
					continue
				}
				var names []string
				for _, env := range f.Envs {
					names = append(names, "`"+env+"`")
				}
				fallback := ""
				if f.HasDefault && f.Default != "" {
					fallback = "`" + f.Default + "`"
				}
				rows = append(rows, fmt.Sprintf("| `--%s` | %s | %s | %s |", f.Name, strings.Join(names, ", "), fallback, inTable(f.Help)))
			}
		}
		if len(rows) > 0 {
			b.WriteString("\n| argument or flag | environment | default | meaning |\n| --- | --- | --- | --- |\n" +
				strings.Join(rows, "\n") + "\n")
		}
	}
	return b.String()
}

// inTable is a text that stands in a row of a table.
func inTable(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
