package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/phrase"
)

type helpCommand struct {
	Command []string `arg:"" optional:""`
}

// Run lets --help of the named command answer; it ends the program.
func (c *helpCommand) Run(s *session) error {
	parser, err := newParser(*s, tableFor(c.Command))
	if err == nil {
		_, err = parser.Parse(append(c.Command, "--help"))
	}
	if err != nil {
		return misparsed(err)
	}
	return nil
}

// manual is commands with what the book says of them in one language. The book is read for those who ask: not by a verb that runs.
type manual struct {
	*kong.Application
	phrase.Speaker
}

// manual gives the commands of a model, and their flags, their texts.
func (r reader) manual(model *kong.Application) manual {
	m := manual{model, book.In(r.language())}
	m.Help = m.says("help.qrjump")
	m.explain(m.Node, nil)
	return m
}

// says is a text of the book; "" where it has none.
func (m manual) says(key string) string {
	if !m.Has(key) {
		return ""
	}
	text, _ := m.Say(key)
	return text
}

// explain gives a node and all below it their texts. Its words are those that are typed: rule, add.
func (m manual) explain(node *kong.Node, words []string) {
	if len(words) > 0 {
		node.Help = m.says(helpKey(words))
	}
	if node.Group != nil {
		node.Group.Title = m.says("group." + node.Group.Key)
	}
	for _, p := range node.Positional {
		p.Help = m.meaning(words, "<"+p.Name+">", p)
	}
	for _, f := range node.Flags {
		f.Help = m.meaning(words, "--"+f.Name, f.Value)
	}
	for _, child := range node.Children {
		m.explain(child, append(words[:len(words):len(words)], child.Name))
	}
}

// helpKey is what the book calls a verb, or what one takes.
func helpKey(words []string) string { return "help." + strings.Join(words, ".") }

// meaning is that of a flag or an argument: what it means to this verb, else to each verb of its noun, else to every verb.
func (m manual) meaning(words []string, name string, v *kong.Value) string {
	for n := len(words); n >= 0; n-- {
		if text := m.says(helpKey(append(words[:n:n], name))); text != "" {
			return strings.ReplaceAll(text, "${default}", v.Default)
		}
	}
	if len(words) > 0 && words[0] == "run" { // which has the flags of serve
		return m.meaning([]string{"serve"}, name, v)
	}
	return ""
}

// example is a line that shows a verb at work.
func (m manual) example(verb *kong.Node) string {
	return m.says(helpKey(append(strings.Fields(verb.Path()), "example")))
}

// printHelp shows the verbs in groups, or one verb with its flags.
func (s session) printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	m := s.manual(ctx.Model)
	switch {
	case node == nil:
		return m.printVerbs(ctx.Stdout, m.Node)
	case !node.Leaf():
		return m.printVerbs(ctx.Stdout, node)
	}
	if m.Chinese() { // the variable of a flag stands in the sentence
		options.ValueFormatter = func(v *kong.Value) string {
			if text, variable, ok := strings.Cut(kong.DefaultHelpValueFormatter(v), "。 ("); ok {
				return text + "（" + strings.TrimSuffix(variable, ")") + "）。"
			}
			return v.Help
		}
	}
	out := ctx.Stdout
	var text bytes.Buffer
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err == nil {
		// The parser's own words, each where it begins a line.
		own := strings.NewReplacer("Usage: ", m.says("help.usage"), "\nArguments:\n", "\n"+m.says("help.arguments")+"\n",
			"\nFlags:\n", "\n"+m.says("help.flags")+"\n")
		_, err = fmt.Fprintf(out, "%s\n%s\n  %s\n", own.Replace(text.String()), m.says("help.example"), m.example(node))
	}
	return err
}

// inGroups are the verbs below a node by the titles of their groups, and the titles in
// the order of their first verbs, however verbs are spread.
func inGroups(node *kong.Node) (groups []string, verbs map[string][]*kong.Node) {
	verbs = map[string][]*kong.Node{}
	for _, leaf := range node.Leaves(true) {
		title := leaf.ClosestGroup().Title
		if verbs[title] == nil {
			groups = append(groups, title)
		}
		verbs[title] = append(verbs[title], leaf)
	}
	return groups, verbs
}

func (m manual) printVerbs(w io.Writer, node *kong.Node) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", m.Help)
	groups, verbs := inGroups(node)
	for _, title := range groups {
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, leaf := range verbs[title] {
			fmt.Fprintf(&b, "  %-16s %s\n  %-16s   %s\n", leaf.Path(), leaf.Help, "", m.example(leaf))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", m.says("help.more"))
	_, err := io.WriteString(w, b.String())
	return err
}
