package main

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/guide"
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
	checkCommandsGuide(t, parser.Model)
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
	for verb := range verbsByGroup(model, func(group string) { fmt.Fprintf(&b, "\n## %s\n", group) }) {
		fmt.Fprintf(&b, "\n### `qrjump %s`\n\n%s\n\n```sh\n%s\n```\n", strings.TrimPrefix(verb.Summary(), "qrjump "), verb.Help,
			verb.Tag.Get("example"))
		var rows []string
		for _, p := range verb.Positional {
			rows = append(rows, fmt.Sprintf("| `%s` | | | %s |", p.Summary(), inTable(p.Help)))
		}
		for _, f := range flagsOf(verb) {
			fallback := ""
			if f.HasDefault && f.Default != "" {
				fallback = "`" + f.Default + "`"
			}
			rows = append(rows, fmt.Sprintf("| `--%s` | %s | %s | %s |", f.Name, quotedEach(f.Envs), fallback, inTable(f.Help)))
		}
		if len(rows) > 0 {
			b.WriteString("\n| argument or flag | environment | default | meaning |\n| --- | --- | --- | --- |\n" +
				strings.Join(rows, "\n") + "\n")
		}
	}
	return b.String()
}

// verbsByGroup walks the verbs of one group after the other and calls heading before the first of each.
func verbsByGroup(model *kong.Application, heading func(group string)) iter.Seq[*kong.Node] {
	return func(yield func(*kong.Node) bool) {
		groups, verbs := inGroups(model.Node)
		for _, group := range groups {
			heading(group)
			for _, verb := range verbs[group] {
				if !yield(verb) {
					return
				}
			}
		}
	}
}

// inTable is a text that stands in a row of a table.
func inTable(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// commandTexts is docs/commands.yaml: the Chinese of what the commands say in English.
type commandTexts struct{ Groups, Exits, Verbs, Serve, Flags map[string]string }

// checkCommandsGuide holds the guide's pages of commands, in both languages, to the commands.
func checkCommandsGuide(t *testing.T, model *kong.Application) {
	t.Helper()
	raw, err := os.ReadFile("../../docs/commands.yaml")
	var words commandTexts
	if err == nil {
		err = yaml.UnmarshalWithOptions(raw, &words, yaml.DisallowUnknownField())
	}
	if err != nil {
		t.Fatal(err)
	}
	in := func(of map[string]string) func(name, english string) string {
		return func(name, english string) string {
			if of[name] == "" {
				t.Errorf("docs/commands.yaml lacks the Chinese of %q: %s", name, english)
			}
			return of[name]
		}
	}
	said := map[string]bool{}
	for _, verb := range model.Leaves(true) {
		for _, p := range verb.Positional {
			said[p.Help] = true
		}
		for _, f := range ownFlags(verb) {
			said[f.Help] = true
		}
	}
	for text := range words.Flags {
		if !said[text] {
			t.Errorf("docs/commands.yaml has the Chinese of %q, which no flag says", text)
		}
	}
	same := func(_, english string) string { return english }
	english := commandsGuide(model, commandWords{same, same, same, same, same, []string{"Commands",
		"Flags stand before or behind the verb. `qrjump help COMMAND` has all flags of a command.", "Exit codes", "exit code", "kind",
		"meaning", "command", "example", "Flags of serve", "flag", "environment", "default", "Flags of many commands", "argument or flag"}})
	chinese := commandsGuide(model, commandWords{in(words.Groups), in(words.Exits), in(words.Verbs), in(words.Serve), in(words.Flags),
		[]string{"命令", "参数可放在动词之前或之后。`qrjump help 命令` 显示某个命令的全部参数。", "退出码", "退出码", "类别", "含义", "命令", "示例",
			"serve 的参数", "参数", "环境变量", "默认值", "多个命令共有的参数", "参数"}})
	for name, page := range map[string]string{"en": english,
		"zh": "<!-- translates " + guide.Hash([]byte(english)) + " -->\n\n" + chinese} {
		path := filepath.Join("..", "..", "docs", name, "commands.md")
		if *update {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != page {
			t.Errorf("%s is not what the commands say (%v): run make update and read the diff", path, err)
		}
	}
}

// commandWords are the texts of the page in a language: of a group, an exit code, a verb, a flag of serve, another flag by
// its English, and of the page itself.
type commandWords struct {
	group, exit, verb, serve, flag func(name, english string) string
	page                           []string
}

// many are how many commands share a flag that stands on the page once.
const many = 15

// commandsGuide is the page: each group with its commands, then with what they take.
func commandsGuide(model *kong.Application, say commandWords) string {
	var b strings.Builder
	words := say.page
	fmt.Fprintf(&b, "# %s\n\n%s\n\n## %s\n\n| %s | %s | %s |\n| --- | --- | --- |\n", words[0], words[1], words[2], words[3], words[4], words[5])
	for code, one := range exits {
		fmt.Fprintf(&b, "| %d | `%s` | %s |\n", code, one.kind, say.exit(one.kind, one.meaning))
	}
	type shared struct{ name, help string }
	uses := map[shared]int{}
	for _, verb := range model.Leaves(true) {
		for _, f := range ownFlags(verb) {
			uses[shared{f.Name, f.Help}]++
		}
	}
	fmt.Fprintf(&b, "\n## %s\n\n| %s | %s | %s |\n| --- | --- | --- |\n", words[12], words[9], words[10], words[5])
	told := map[shared]bool{}
	var serve *kong.Node
	for _, verb := range model.Leaves(true) {
		if verb.Name == "serve" {
			serve = verb
		}
		for _, f := range ownFlags(verb) {
			if is := (shared{f.Name, f.Help}); uses[is] >= many && !told[is] {
				told[is] = true
				fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, quotedEach(f.Envs), inTable(say.flag(f.Help, f.Help)))
			}
		}
	}
	takes := ""
	table := func() {
		if takes != "" {
			fmt.Fprintf(&b, "\n| %s | %s | %s |\n| --- | --- | --- |\n%s", words[6], words[13], words[5], takes)
		}
		takes = ""
	}
	for verb := range verbsByGroup(model, func(group string) {
		table()
		fmt.Fprintf(&b, "\n## %s\n\n| %s | %s | %s |\n| --- | --- | --- |\n", say.group(group, group), words[6], words[5], words[7])
	}) {
		name := strings.TrimPrefix(verb.FullPath(), "qrjump ")
		fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", name, inTable(say.verb(name, verb.Help)), inTable(verb.Tag.Get("example")))
		if verb == serve {
			continue
		}
		for _, p := range verb.Positional {
			takes += fmt.Sprintf("| `%s` | `%s` | %s |\n", name, p.Summary(), inTable(say.flag(p.Help, p.Help)))
		}
		for _, f := range ownFlags(verb) {
			if uses[shared{f.Name, f.Help}] < many {
				takes += fmt.Sprintf("| `%s` | `--%s` | %s |\n", name, f.Name, inTable(say.flag(f.Help, f.Help)))
			}
		}
	}
	table()
	fmt.Fprintf(&b, "\n## %s\n\n| %s | %s | %s | %s |\n| --- | --- | --- | --- |\n", words[8], words[9], words[10], words[11], words[5])
	for _, f := range flagsOf(serve) {
		fallback := ""
		if f.HasDefault && f.Default != "" {
			fallback = "`" + f.Default + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.Name, quotedEach(f.Envs), fallback, inTable(say.serve(f.Name, f.Help)))
	}
	return b.String()
}

// ownFlags are the flags of a command other than serve, whose flags have a table of their own.
func ownFlags(verb *kong.Node) []*kong.Flag {
	if verb.Name == "serve" {
		return nil
	}
	return flagsOf(verb)
}

func quotedEach(names []string) string {
	var list []string
	for _, name := range names {
		list = append(list, "`"+name+"`")
	}
	return strings.Join(list, ", ")
}
