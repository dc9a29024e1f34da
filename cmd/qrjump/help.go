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

// topics are the subjects of the help that are no commands.
var topics = []string{"exit-codes", "time", "ranges", "environment", "files"}

// Run explains a topic or a command. Of a command --help answers, which ends the program.
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
		return m.printVerbs(s.out, node)
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
		return misparsed(err)
	}
	return nil
}

// printTopic explains something that is no command.
func (m manual) printTopic(w io.Writer, name string) error {
	fmt.Fprintln(w, m.says("topic."+name))
	if name == "exit-codes" {
		for _, code := range exitCodes {
			fmt.Fprintf(w, "  %-3d  %s\n", code, m.says("exit."+exits[code]))
		}
	}
	return nil
}

// printFirst prints the first steps for a user who typed qrjump and nothing else.
func printFirst(w io.Writer) error {
	_, err := tell(w, "start.first")
	return err
}

// manual is commands with what the book says of them in one language. The book is read for those who ask: not by a verb that runs.
type manual struct {
	*kong.Application
	i18n.Localizer
}

// manual gives the commands of a model, and their flags, their texts.
func (r reader) manual(model *kong.Application) manual {
	m := manual{model, book.In(r.language())}
	m.Help = m.says("help.qrjump")
	m.explain(m.Node, nil)
	return m
}

// says returns a text of the book; "" where it has none.
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

// helpKey returns the key of a command's text, or of its flag's.
func helpKey(words []string) string { return "help." + strings.Join(words, ".") }

// meaning returns that of a flag or an argument: what it means to this verb, else to each verb of its noun, else to every verb.
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

// example returns a line that shows a verb at work.
func (m manual) example(verb *kong.Node) string {
	return m.says(helpKey(append(strings.Fields(verb.Path()), "example")))
}

// examples are lines that show a verb at work, two of them where it has a second one: of its own, or for programs.
func (m manual) examples(verb *kong.Node) []string {
	first := m.example(verb)
	if second := m.says(helpKey(append(strings.Fields(verb.Path()), "example2"))); second != "" {
		return []string{first, second}
	}
	if slices.ContainsFunc(verb.Flags, func(f *kong.Flag) bool { return f.Name == "output" }) {
		return []string{first, first + " --output json"}
	}
	return []string{first, "qrjump " + verb.Path() + " --help"}
}

// screen is the number of columns of a line of help.
const screen = 80

// unfolded stands for a space while the parser folds lines.
const unfolded = "\ue000"

// folded are lines of no more than so many columns where their words allow it. What is cut off stands below the last column of the line.
func folded(text string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		indent := 0
		if pos := strings.LastIndex(line, "  "); pos >= 0 {
			indent = uniseg.StringWidth(line[:pos+2])
		}
		line = strings.ReplaceAll(line, unfolded, " ")
		for uniseg.StringWidth(line) > width {
			pos := foldAt(line, width)
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

// foldAt returns the byte before which a line is folded: at a space or beside a wide character, never before a mark that closes or
// behind one that opens; 0 for none.
func foldAt(line string, width int) (pos int) {
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

// printGroups shows what there is, a line a group.
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
	_, err := fmt.Fprintf(w, "%s\n\n%s\n%s\n", m.Help, columns(rows), m.says("groups.more"))
	return err
}

// printHelp shows the verbs in groups, or one verb with its flags.
func (s session) printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	m := s.manual(ctx.Model)
	switch {
	case node == nil:
		return m.printGroups(ctx.Stdout)
	case !node.Leaf():
		return m.printVerbs(ctx.Stdout, node)
	}
	if m.Chinese() { // the variable of a flag stands in the sentence; the parser folds at spaces alone
		options.ValueFormatter = func(v *kong.Value) string {
			text := v.Help
			if says, variable, ok := strings.Cut(kong.DefaultHelpValueFormatter(v), "。 ("); ok {
				text = says + "（" + strings.TrimSuffix(variable, ")") + "）。"
			}
			return strings.ReplaceAll(text, " ", unfolded)
		}
	}
	out := ctx.Stdout
	var text bytes.Buffer
	ctx.Stdout = &text
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = out
	if err == nil {
		// The parser's own words, each where it begins a line.
		ownReplacer := strings.NewReplacer("Usage: ", m.says("help.usage"), "\nArguments:\n", "\n"+m.says("help.arguments")+"\n",
			"\nFlags:\n", "\n"+m.says("help.flags")+"\n")
		said := ownReplacer.Replace(text.String())
		if m.Chinese() {
			said = folded(said, screen)
		}
		_, err = fmt.Fprintf(out, "%s\n%s\n", said, m.says("help.example"))
		for _, line := range m.examples(node) {
			_, err = fmt.Fprintf(out, "  %s\n", line)
		}
	}
	return err
}

// inGroups returns the verbs below a node by the titles of their groups, and the titles in
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
