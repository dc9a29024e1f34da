package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type helpCommand struct {
	Command []string `arg:"" optional:"" help:"The command to explain, for example: rule add"`
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

// printHelp shows the verbs in groups, or one verb with its flags.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	if node != nil && node.Leaf() {
		if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
			return err
		}
		_, err := fmt.Fprintf(ctx.Stdout, "\nExample:\n  %s\n", node.Tag.Get("example"))
		return err
	}
	if node == nil {
		node = ctx.Model.Node
	}
	return printVerbs(ctx.Stdout, ctx.Model.Help, node)
}

// inGroups are the verbs below a node by the titles of their groups, and the titles in
// the order of their first verbs, however verbs are spread.
func inGroups(node *kong.Node) (groups []string, verbs map[string][]*kong.Node) {
	verbs = map[string][]*kong.Node{}
	for _, leaf := range node.Leaves(true) {
		title := leaf.Group.Title
		if verbs[title] == nil {
			groups = append(groups, title)
		}
		verbs[title] = append(verbs[title], leaf)
	}
	return groups, verbs
}

func printVerbs(w io.Writer, about string, node *kong.Node) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", about)
	groups, verbs := inGroups(node)
	for _, title := range groups {
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, leaf := range verbs[title] {
			fmt.Fprintf(&b, "  %-16s %s\n  %-16s   %s\n", leaf.Path(), leaf.Help, "", leaf.Tag.Get("example"))
		}
	}
	b.WriteString(`
The flags of a command: qrjump help COMMAND. Every flag that says who calls and where is also an environment
variable: --admin-token is QRJUMP_ADMIN_TOKEN. So is every flag of serve, which also reads them from --config FILE.
`)
	_, err := io.WriteString(w, b.String())
	return err
}
