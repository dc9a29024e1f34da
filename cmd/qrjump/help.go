package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/rivo/uniseg"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

type helpCommand struct {
	Command []string `arg:"" optional:""`
	All     bool
	Man     string `placeholder:"DIR" file:"new"`
	Output  string `short:"o" enum:"text,json" default:"text" placeholder:"text|json"`
}

// topics lists the help topics that are not commands.
var topics = []string{"exit-codes", "time", "ranges", "environment", "files"}

// Run explains a topic or a command. For a command, Run parses "COMMAND --help", which prints the help and ends the program.
func (c *helpCommand) Run(s *session) error {
	if c.Man != "" {
		return writeManPages(s, c.Man)
	}
	name := strings.Join(c.Command, " ")
	if slices.Contains(topics, name) {
		return s.fullManual().printTopic(s.out, name)
	}
	if c.Output == "json" {
		return printTables(s)
	}
	if c.All {
		m := s.fullManual()
		node := m.Node
		for _, word := range c.Command {
			if node = childNamed(node, word); node == nil {
				return misused("parse.topic", name, didYouMean(name, topics...))
			}
		}
		if !node.Leaf() {
			return m.printVerbs(s.out, node)
		}
		s.allFlags = true
	}
	command := c.Command
	parser, err := newParser(*s, tableFor(command))
	if err == nil {
		_, err = parser.Parse(append(command, "--help"))
	}
	if meant := didYouMean(name, topics...); err != nil && meant != "" {
		return misused("parse.topic", name, meant)
	}
	if err != nil {
		return withHelpHint(err)
	}
	return nil
}

// printTopic prints the help of a topic that is not a command.
func (m manual) printTopic(w io.Writer, name string) error {
	fmt.Fprintln(w, m.lookup("topic."+name))
	if name == "exit-codes" {
		for _, code := range exitCodes {
			fmt.Fprintf(w, "  %-3d  %s\n", code, m.lookup("exit."+exitKind[code]))
		}
	}
	return nil
}

// manual is the command tree with its help texts in one language. The help texts are loaded only when help is requested.
type manual struct {
	*kong.Application
	i18n.Localizer
}

// manual sets the help texts of all commands and flags of a model.
func (r reader) manual(model *kong.Application) manual {
	m := manual{model, catalog.In(r.language())}
	m.Help = m.lookup("help.qrjump")
	m.explain(m.Node, nil)
	return m
}

// lookup returns a text of the message catalogue, or "" if the key does not exist.
func (m manual) lookup(key string) string {
	if !m.Has(key) {
		return ""
	}
	text, _ := m.Say(key)
	return text
}

// explain sets the help texts of a node and of all nodes below it; words is the command's name in words, such as "rule", "add".
func (m manual) explain(node *kong.Node, words []string) {
	if len(words) > 0 {
		node.Help = m.lookup(helpKey(words))
	}
	if node.Group != nil {
		node.Group.Title = m.lookup("group." + node.Group.Key)
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

// helpKey returns the message key of the help text of a command or a flag.
func helpKey(words []string) string { return "help." + strings.Join(words, ".") }

// meaning returns the help text of a flag or an argument: the text for this command, else the text for its noun, else the general text.
func (m manual) meaning(words []string, name string, v *kong.Value) string {
	for n := len(words); n >= 0; n-- {
		if text := m.lookup(helpKey(append(words[:n:n], name))); text != "" {
			return strings.ReplaceAll(text, "${default}", v.Default)
		}
	}
	if len(words) > 0 && words[0] == "run" { // The run command has the flags of serve.
		return m.meaning([]string{"serve"}, name, v)
	}
	return ""
}

// example returns an example command line.
func (m manual) example(verb *kong.Node) string {
	return m.lookup(helpKey(append(strings.Fields(verb.Path()), "example")))
}

// examples returns two example command lines; the second comes from the message catalogue, or shows --output json or --help.
func (m manual) examples(verb *kong.Node) []string {
	first := m.example(verb)
	if second := m.lookup(helpKey(append(strings.Fields(verb.Path()), "example2"))); second != "" {
		return []string{first, second}
	}
	if slices.ContainsFunc(verb.Flags, func(f *kong.Flag) bool { return f.Name == "output" }) {
		return []string{first, first + " --output json"}
	}
	return []string{first, "qrjump " + verb.Path() + " --help"}
}

// screen is the number of columns of a line of help.
const screen = 80

// unbreakableSpace replaces each space in a text, so that the parser, which wraps lines only at spaces, leaves the text unwrapped.
const unbreakableSpace = "\ue000"

// folded wraps text to lines of at most width columns, if words are short enough. If a line is a table row, its continuation lines are
// indented to the row's last cell.
func folded(text string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		indent := 0
		if pos := strings.LastIndex(line, "  "); pos >= 0 {
			indent = uniseg.StringWidth(line[:pos+2])
		}
		line = strings.ReplaceAll(line, unbreakableSpace, " ")
		for uniseg.StringWidth(line) > width {
			pos := wrapOffset(line, width)
			if pos <= indent {
				break
			}
			fmt.Fprintln(&b, strings.TrimRight(line[:pos], " "))
			line = strings.Repeat(" ", indent) + strings.TrimLeft(line[pos:], " ")
		}
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// wrapOffset returns the byte offset at which a line is wrapped: at a space or next to a wide character, but not before closing punctuation
// and not after opening punctuation; 0 means that no offset fits.
func wrapOffset(line string, width int) (pos int) {
	columns, wide, open := 0, false, false
	for i, r := range line {
		w := uniseg.StringWidth(string(r))
		if r == ' ' || (w == 2 || wide) && !open && !unicode.In(r, unicode.Po, unicode.Pe) {
			pos = i
		}
		if columns+w > width {
			break
		}
		columns, wide, open = columns+w, w == 2, unicode.Is(unicode.Ps, r)
	}
	return pos
}

// printGroups prints the groups of commands, one line per group.
func (m manual) printGroups(w io.Writer) error {
	groups, verbs := inGroups(m.Node)
	var rows [][]string
	for _, title := range groups {
		var words []string
		for _, leaf := range verbs[title] {
			if word, _, _ := strings.Cut(leaf.Path(), " "); !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
		rows = append(rows, []string{"  " + title, strings.Join(words, ", ")})
	}
	_, err := fmt.Fprintf(w, "%s\n\n%s\n%s\n", m.Help, columns(rows), m.lookup("groups.more"))
	return err
}

// commonFlags are explained only with help --all, unless they have another meaning in a command.
var commonFlags = []string{"appid", "secret", "access-token", "admin-token", "context", "server", "data", "ca-file", "admin-server",
	"output", "no-headers", "utc", "lang", "help"}

// hideCommon hides the flags of a command that are common to most commands and have their common meaning, and returns their names.
func (m manual) hideCommon(node *kong.Node) (names []string) {
	for ; node != nil; node = node.Parent {
		for _, f := range node.Flags {
			if slices.Contains(commonFlags, f.Name) && f.Help == m.meaning(nil, "--"+f.Name, f.Value) {
				f.Hidden, names = true, append(names, "--"+f.Name)
			}
		}
	}
	return names
}

// printHelp prints the commands in groups, or one command with its flags; the common ones are explained only with --all.
func (s session) printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	m := s.manual(ctx.Model)
	switch {
	case node == nil:
		return m.printGroups(ctx.Stdout)
	case !node.Leaf():
		return m.printVerbs(ctx.Stdout, node)
	}
	if m.Chinese() { // In Chinese, the environment variable of a flag stands before the full stop of its help text.
		options.ValueFormatter = func(v *kong.Value) string {
			text := v.Help
			if says, variable, ok := strings.Cut(kong.DefaultHelpValueFormatter(v), "。 ("); ok {
				text = says + "（" + strings.TrimSuffix(variable, ")") + "）。"
			}
			return strings.ReplaceAll(text, " ", unbreakableSpace)
		}
	}
	out := ctx.Stdout
	var text bytes.Buffer
	var common []string
	if !s.allFlags {
		common = m.hideCommon(node)
	}
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err == nil {
		// The parser itself writes these English headings, each at the beginning of a line.
		headings := strings.NewReplacer("Usage: ", m.lookup("help.usage"), "\nArguments:\n", "\n"+m.lookup("help.arguments")+"\n",
			"\nFlags:\n", "\n"+m.lookup("help.flags")+"\n")
		tr := headings.Replace(text.String())
		if m.Chinese() {
			tr = folded(tr, screen)
		}
		if line, _ := m.Say("help.common", node.Path(), strings.Join(common, " ")); len(common) > 0 {
			tr += "\n" + folded(line, screen)
		}
		_, err = fmt.Fprintf(out, "%s\n%s\n", tr, m.lookup("help.example"))
		for _, line := range m.examples(node) {
			_, err = fmt.Fprintf(out, "  %s\n", line)
		}
	}
	return err
}

// inGroups returns the titles of the groups of commands below a node, and the commands of each group, keyed by title.
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
	fmt.Fprintf(&b, "\n%s\n", m.lookup("help.more"))
	_, err := io.WriteString(w, b.String())
	return err
}
