package main

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
)

// The completion script of each shell; the scripts call qrjump __complete for every completion, so they fit any set of commands.
var (
	//go:embed completion.bash
	completionBash string
	//go:embed completion.zsh
	completionZsh string
	//go:embed completion.fish
	completionFish string
	//go:embed completion.ps1
	completionPowerShell string
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell"`
}

// Run prints the completion script of a shell.
func (c *completionCommand) Run(s *session) error {
	_, err := io.WriteString(s.out, map[string]string{"bash": completionBash, "zsh": completionZsh, "fish": completionFish,
		"powershell": completionPowerShell}[c.Shell])
	return err
}

type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// If the completion command prints one of these lines, the shell itself completes file or folder names.
const (
	anyFile   = ":files"
	anyFolder = ":folders"
)

// Run prints the candidates for the last word, one per line, each followed by a tab and its description. The arguments are "--" and then
// the words of the command line up to the cursor, without "qrjump".
func (c *completeCommand) Run(s *session) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, completion := range completions(s, s.fullManual().Application, words) {
		line := plain(completion.word)
		if completion.means != "" {
			line += "\t" + plain(completion.means)
		}
		fmt.Fprintln(s.out, line)
	}
	return nil
}

// candidate is a possible word at the cursor.
type candidate struct{ word, means string }

// partialLine is the parsed part of a command line before the cursor.
type partialLine struct {
	node  *kong.Node // deepest command that was recognised
	flags []*kong.Flag
	given []string // flags with their values
	args  int      // number of arguments after the command
	words []string // the arguments after the command
	plain bool     // "--" was typed, so no later word is a flag
	value *kong.Flag
}

// completions returns the candidates for the last word.
func completions(s *session, model *kong.Application, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	oldNames, last := words[:len(words)-1], words[len(words)-1]
	t := read(model, oldNames)
	name, begun, ok := strings.Cut(last, "=")
	switch {
	case t.value != nil:
		return startingWith(last, t.values(s, t.value.Value, last))
	case !t.plain && ok && strings.HasPrefix(name, "--"):
		f := t.flag(strings.TrimPrefix(name, "--"))
		if f == nil {
			return nil
		}
		list := startingWith(begun, t.values(s, f.Value, begun))
		for i := range list {
			if list[i].word != anyFile && list[i].word != anyFolder {
				list[i].word = name + "=" + list[i].word
			}
		}
		return list
	case !t.plain && strings.HasPrefix(last, "-"):
		list := mapped(t.flags, func(f *kong.Flag) candidate { return candidate{"--" + f.Name, f.Help} })
		slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.word, b.word) })
		return startingWith(last, list)
	}
	var list []candidate
	if t.args == 0 {
		for _, child := range t.node.Children {
			if !child.Hidden {
				list = append(list, candidate{child.Name, child.Help})
			}
		}
	}
	if p := t.positional(); p != nil {
		list = append(list, t.values(s, p, last)...)
	}
	return startingWith(last, list)
}

// read finds the command, the flags and the arguments in the words before the cursor.
func read(model *kong.Application, words []string) partialLine {
	t := partialLine{node: model.Node}
	t.flags = t.allowed()
	for i, word := range words {
		name, _, ok := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch {
		case t.value != nil:
			t.given = append(t.given, "--"+t.value.Name+"="+word)
			t.value = nil
		case word == "--" && !t.plain:
			t.plain = true
		case !t.plain && strings.HasPrefix(word, "-") && len(word) > 1:
			f := t.flag(name)
			switch {
			case f == nil:
			case f.IsBool() || ok:
				t.given = append(t.given, word)
			default:
				t.value = f
			}
		case t.node.Path() == "help":
			// The words after "help" are the name of the command that is explained.
			t.node = read(model, words[i:]).node
			return t
		default:
			if child := childNamed(t.node, word); child != nil && t.args == 0 {
				t.node, t.flags = child, nil
				t.flags = t.allowed()
			} else {
				t.args, t.words = t.args+1, append(t.words, word)
			}
		}
	}
	if t.node.Path() == "help" {
		t.node = model.Node
	}
	return t
}

// allowed returns the valid flags at the cursor: the flags of the command, or, if no command is typed yet, the flags of all commands.
func (t *partialLine) allowed() (list []*kong.Flag) {
	nodes := []*kong.Node{t.node}
	if t.node.DefaultCmd != nil {
		nodes = append(nodes, t.node.DefaultCmd)
	} else if !t.node.Leaf() {
		nodes = append(nodes, t.node.Leaves(true)...)
	}
	seen := map[string]bool{}
	for _, node := range nodes {
		for _, f := range slices.Concat(node.AllFlags(true)...) {
			if !seen[f.Name] {
				seen[f.Name] = true
				list = append(list, f)
			}
		}
	}
	return list
}

func (t *partialLine) flag(name string) *kong.Flag {
	for _, f := range t.flags {
		if f.Name == name || f.Short != 0 && string(f.Short) == name {
			return f
		}
	}
	return nil
}

// positional returns the argument at the cursor: the next positional argument, or a last argument that is a list; nil if there is none.
func (t *partialLine) positional() *kong.Value {
	node := cmp.Or(t.node.DefaultCmd, t.node)
	if t.args < len(node.Positional) {
		return node.Positional[t.args]
	}
	if n := len(node.Positional); n > 0 && node.Positional[n-1].IsCumulative() {
		return node.Positional[n-1]
	}
	return nil
}

// values returns the known values of a flag or an argument.
func (t *partialLine) values(s *session, v *kong.Value, begun string) (list []candidate) {
	shown := v.Name
	if v.Flag != nil && v.Flag.PlaceHolder != "" {
		shown = v.Flag.PlaceHolder
	}
	switch {
	case v.Enum != "":
		for _, item := range v.EnumSlice() {
			if item != "" {
				list = append(list, candidate{word: item})
			}
		}
	case v.IsBool():
		return []candidate{{word: "true"}, {word: "false"}}
	case shown == "dir" || shown == "DIR":
		return []candidate{{word: anyFolder}}
	case strings.EqualFold(shown, "file") || strings.HasPrefix(shown, "FILE"):
		return []candidate{{word: anyFile}}
	case v.Name == "context", strings.HasPrefix(t.node.Path(), "context ") && v.Flag == nil:
		file, _, err := readContexts()
		if err != nil {
			return nil // errors are not shown during completion
		}
		for _, name := range slices.Sorted(maps.Keys(file.Contexts)) {
			list = append(list, candidate{name, file.Contexts[name].place()})
		}
	default:
		return t.kept(s, t.kindOf(v, shown), begun)
	}
	return list
}

// patience is the time that completion waits for responses of a server.
var patience = 500 * time.Millisecond

// maxCandidates is the maximum number of a server's objects that completion offers.
const maxCandidates = 200

// operator returns a client for the server that the typed flags and the context select. The result is nil if the client cannot be created,
// or if the operator's token comes from a helper program, which completion does not run.
func (t *partialLine) operator() *client.Client {
	args := []string{"account", "list"}
	named := ""
	for _, word := range t.given {
		name, value, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		if name == "context" {
			named = value
		}
		if slices.Contains([]string{"context", "server", "admin-server", "admin-token", "data", "ca-file"}, name) {
			args = append(args, word)
		}
	}
	if file, _, err := readContexts(); err != nil || strings.HasPrefix(file.Contexts[cmp.Or(named, file.Current)].AdminToken, "command:") {
		return nil
	}
	var c commands
	parser, err := newParser(session{out: io.Discard, err: io.Discard}, &c)
	if err != nil {
		return nil
	}
	if _, err := parser.Parse(args); err != nil {
		return nil
	}
	qrjump, err := c.Account.List.client()
	if err != nil {
		return nil
	}
	return qrjump
}

// kept returns those names of a server's objects of one kind that start with the typed text. Errors are not shown during completion.
func (t *partialLine) kept(s *session, kind, begun string) []candidate {
	if kind == "" {
		return nil
	}
	qrjump := t.operator()
	if qrjump == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	var list []candidate
	if kind == "operation" {
		list = startingWith(begun, apiWords(ctx, qrjump, t.words))
	} else {
		list = startingWith(begun, onServer(ctx, s.reader, qrjump, kind, begun))
	}
	return list[:min(len(list), maxCandidates)]
}

// onServer returns the names of a server's objects of a kind. If there are many objects, onServer returns only names that sort at or after
// the typed text, or names that a search for the text finds.
func onServer(ctx context.Context, r reader, qrjump *client.Client, kind, begun string) []candidate {
	switch kind {
	case "account":
		accounts, _ := qrjump.Accounts.List(ctx, sortsBefore(begun), maxCandidates)
		return mapped(accounts, func(a client.Account) candidate { return candidate{a.AppID, a.Name} })
	case "component":
		platforms, _ := qrjump.Components.List(ctx, sortsBefore(begun), maxCandidates)
		return mapped(platforms, func(c client.Component) candidate { return candidate{word: c.AppID} })
	case "setting":
		settings, _ := qrjump.Settings.List(ctx)
		return mapped(settings, func(s client.Setting) candidate { return candidate{s.Name, stripMarkdown(inWords(s).Meaning)} })
	case "behaviour":
		rows, _ := qrjump.Behaviours.List(ctx)
		return mapped(rows, func(b client.Behaviour) candidate { return candidate{b.ID, r.inLanguage(b.English, b.Chinese)} })
	case "webhook":
		hooks, _ := qrjump.Webhooks.List(ctx)
		return mapped(hooks, func(w client.Webhook) candidate { return candidate{number(w.ID), w.URL} })
	case "snapshot":
		saved, _ := qrjump.Emulator.ListSnapshots(ctx)
		return mapped(saved, func(snapshot client.Snapshot) candidate {
			return candidate{snapshot.Name, formatTime(snapshot.CreatedAt)}
		})
	case "batch":
		var first int64 // smallest id that starts with the typed digits
		if _, err := strconv.ParseUint(begun, 10, 32); err == nil && len(begun) <= len("500000001") {
			first, _ = strconv.ParseInt((begun + "000000000")[:len("500000001")], 10, 64)
		}
		batches, _ := qrjump.Batches.List(ctx, client.BatchQuery{After: max(first-1, 0), Limit: maxCandidates})
		return mapped(batches, func(b client.Batch) candidate { return candidate{number(b.ID), b.ISV} })
	case "prefix":
		rules, _ := qrjump.Rules.List(ctx, client.StoredRuleQuery{Limit: maxCandidates})
		list := mapped(rules, func(r client.StoredRule) candidate { return candidate{r.Prefix, r.Path} })
		if len(list) < maxCandidates || begun == "" {
			return list // no search is needed: the list is complete, or no text was typed
		}
		found, _ := qrjump.Search(ctx, client.SearchQuery{Text: begun, Quick: true})
		for _, hit := range found.Hits {
			if item := (candidate{hit.Key, hit.Name}); hit.Kind == "rule" && !slices.Contains(list, item) {
				list = append(list, item)
			}
		}
		return list
	}
	return nil
}

// sortsBefore returns a text that sorts just before all texts that start with begun.
func sortsBefore(begun string) string {
	if n := len(begun); n > 0 {
		return begun[:n-1] + string(rune(begun[n-1]-1)) + "~~~~"
	}
	return ""
}

// kindOf returns the kind of server object that a flag or an argument names; "" if the flag or argument names no server object.
func (t *partialLine) kindOf(v *kong.Value, shown string) string {
	noun, verb, _ := strings.Cut(t.node.Path(), " ")
	switch {
	case noun == "api" && v.Flag == nil:
		return "operation"
	case v.Name == "component",
		noun == "component" && v.Name == "appid" && slices.Contains([]string{"show", "set", "delete", "pushes"}, verb):
		return "component"
	case strings.EqualFold(shown, "appid"), v.Name == "mini", v.Name == "service":
		return "account"
	case v.Name == "batch", strings.HasPrefix(shown, "ID[:"),
		v.Name == "id" && slices.Contains([]string{"batch", "code", "package"}, noun):
		return "batch"
	case v.Name == "prefix", shown == "PREFIX":
		return "prefix"
	case v.Name == "behaviour", v.Name == "webhook":
		return v.Name
	case v.Flag == nil && (v.Name == "id" || v.Name == "name") && slices.Contains([]string{"setting", "behaviour", "snapshot"}, noun):
		return noun
	case v.Flag == nil && v.Name == "id" && noun == "webhook" && verb != "resend": // of a delivery
		return noun
	}
	return ""
}

// startingWith returns the candidates that start with the typed text.
func startingWith(begun string, list []candidate) []candidate {
	return slices.DeleteFunc(list, func(c candidate) bool {
		return !strings.HasPrefix(c.word, begun) && c.word != anyFile && c.word != anyFolder
	})
}
