package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/version"
)

type manCommand struct {
	Dir string `arg:"" name:"dir" help:"The folder; it is made where it is not there, and pages of the same names are replaced."`
}

// Run writes a page for qrjump, one for each verb, and one for the configuration
// file.
func (c *manCommand) Run(s *session) error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	pages := manPages(s.everything())
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the page %s: %w", name, err)
		}
	}
	fmt.Fprintf(s.out, "wrote %d pages to %s; read one: man -l %s\n", len(pages), plain(c.Dir), plain(filepath.Join(c.Dir, "qrjump.1")))
	return nil
}

// configPage is the name of the page about the file that serve --config reads.
const configPage = "qrjump.yaml"

// manPages are the pages by their file names.
func manPages(model *kong.Application) map[string]string {
	pages := map[string]string{"qrjump.1": overviewPage(model)}
	for _, verb := range model.Leaves(true) {
		pages[pageName(verb)+".1"] = verbPage(verb)
		if verb.Path() == "serve" {
			pages[configPage+".5"] = configurationPage(verb)
		}
	}
	return pages
}

// pageName is the page of a verb: qrjump-rule-add.
func pageName(verb *kong.Node) string { return "qrjump-" + strings.ReplaceAll(verb.Path(), " ", "-") }

// page is a man page that is being written, in the macros that every man knows.
type page struct{ strings.Builder }

func newPage(name, section, about string) *page {
	p := &page{}
	about = strings.TrimSuffix(about, ".")
	day, _, _ := strings.Cut(version.Get().Date, "T")
	fmt.Fprintf(p, ".TH \"%s\" \"%s\" \"%s\" \"qrjump %s\" \"qrjump\"\n", roff(strings.ToUpper(name)), section, day, roff(version.Number()))
	fmt.Fprintf(p, ".SH NAME\n%s \\- %s\n", roff(name), roff(about))
	return p
}

func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", title) }

// text is a paragraph.
func (p *page) text(text string) { fmt.Fprintf(p, "%s\n", roff(text)) }

// item is a term with its meaning.
func (p *page) item(term, means string) { fmt.Fprintf(p, ".TP\n%s\n%s\n", term, roff(means)) }

// literal are lines that stand as they are, at the head of a section.
func (p *page) literal(lines ...string) {
	p.WriteString(".nf\n.RS 4\n")
	for _, line := range lines {
		p.WriteString(roff(line) + "\n")
	}
	p.WriteString(".RE\n.fi\n")
}

// bold is a word as it must be typed.
func bold(word string) string { return `\fB` + roff(word) + `\fR` }

// roff is a text in which nothing is a command to the formatter.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// flagTerm is a flag as it is typed, with the variable that says the same.
func flagTerm(f *kong.Flag) string {
	term := bold("--" + f.Name)
	if f.Short != 0 {
		term = bold("-"+string(f.Short)) + ", " + term
	}
	if !f.IsBool() {
		term += "=" + `\fI` + roff(f.FormatPlaceHolder()) + `\fR`
	}
	for _, env := range f.Envs {
		term += ", $" + roff(env)
	}
	return term
}

// flagsOf are the flags of a verb, without --help.
func flagsOf(verb *kong.Node) (list []*kong.Flag) {
	for _, group := range verb.AllFlags(true) {
		for _, f := range group {
			if f.Name != "help" {
				list = append(list, f)
			}
		}
	}
	return list
}

func overviewPage(model *kong.Application) string {
	p := newPage("qrjump", "1", model.Help)
	p.section("SYNOPSIS")
	fmt.Fprintf(p, "%s \\fIcommand\\fR [\\fIargument\\fR ...] [\\fIflag\\fR ...]\n", bold("qrjump"))
	p.section("DESCRIPTION")
	p.text("Flags stand before or behind the command. The flags of a command: qrjump help COMMAND, or its own page.")
	groups, verbs := inGroups(model.Node)
	for _, group := range groups {
		fmt.Fprintf(p, ".SS %s\n", roff(group))
		for _, verb := range verbs[group] {
			p.item(bold("qrjump "+verb.Path()), verb.Help)
		}
	}
	p.section("EXIT STATUS")
	for code, one := range exits {
		p.item(bold(fmt.Sprint(code)), one.meaning)
	}
	p.section("ENVIRONMENT")
	p.text("A flag with a variable is named with it on its page; an empty variable says nothing. Beside these:")
	p.item(bold("QRJUMP_MASTER_KEY"), "The key that everything secret is sealed by, for serve; without it the server keeps one in its data folder.")
	p.item(bold("QRJUMP_CONTEXTS"), "The file of servers by name.")
	p.item(bold("NO_COLOR"), "Where it is set, nothing is coloured.")
	p.section("FILES")
	p.item(bold("./qrjump-data"), "The data folder of a server that is told no other: its database, its keys, admin-token, addresses.json.")
	p.item(bold("~/.config/qrjump/contexts.yaml"), "Servers by name; qrjump context writes it.")
	p.section("SEE ALSO")
	var others []string
	for _, verb := range model.Leaves(true) {
		others = append(others, bold(pageName(verb))+"(1)")
	}
	p.WriteString(strings.Join(append(others, bold(configPage)+"(5)"), ",\n") + "\n")
	return p.String()
}

func verbPage(verb *kong.Node) string {
	p := newPage(pageName(verb), "1", verb.Help)
	p.section("SYNOPSIS")
	p.WriteString(bold("qrjump " + verb.Path()))
	for _, argument := range verb.Positional {
		p.WriteString(" \\fI" + roff(argument.Summary()) + "\\fR")
	}
	p.WriteString(" [\\fIflag\\fR ...]\n")
	p.section("DESCRIPTION")
	p.text(verb.Help)
	if len(verb.Positional) > 0 {
		p.section("ARGUMENTS")
		for _, argument := range verb.Positional {
			p.item(`\fI`+roff(argument.Summary())+`\fR`, argument.Help)
		}
	}
	if flags := flagsOf(verb); len(flags) > 0 {
		p.section("OPTIONS")
		for _, f := range flags {
			p.item(flagTerm(f), f.Help)
		}
	}
	p.section("EXIT STATUS")
	p.text("0 where it did what it was asked for; the others are those of qrjump(1).")
	p.section("EXAMPLES")
	p.literal(verb.Tag.Get("example"))
	p.section("SEE ALSO")
	p.WriteString(bold("qrjump") + "(1)\n")
	return p.String()
}

func configurationPage(serve *kong.Node) string {
	p := newPage(configPage, "5", "what a qrjump server may be told in a file")
	p.section("DESCRIPTION")
	p.text("qrjump serve --config FILE reads this file: YAML, one key a line, named as the flag that it stands for. " +
		"A flag beats the environment, and the environment beats the file. A key that does not exist is refused. " +
		"Flags that can be repeated take a list.")
	p.section("KEYS")
	for _, f := range flagsOf(serve) {
		if f.Name == "config" {
			continue // a file cannot name another
		}
		term := bold(f.Name) + ": "
		if f.IsBool() {
			term += `\fItrue|false\fR`
		} else {
			term += `\fI` + roff(f.FormatPlaceHolder()) + `\fR`
		}
		p.item(term, f.Help)
	}
	p.section("EXAMPLES")
	p.literal("listen: 0.0.0.0:443", "scan-listen: 127.0.0.1:8081", "admin-listen: 127.0.0.1:8082", "data: /var/lib/qrjump",
		"tls-cert: /etc/qrjump/tls.crt", "tls-key: /etc/qrjump/tls.key", "code-prefix: C.EXAMPLE/", "trusted-proxy:", "  - 10.0.0.0/8")
	p.section("SEE ALSO")
	p.WriteString(bold("qrjump-serve") + "(1)\n")
	return p.String()
}
