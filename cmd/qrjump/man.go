package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/infra/version"
)

// writeManPages writes a man page for qrjump, for each command, and for the configuration file into a folder.
func writeManPages(s *session, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pages := s.fullManual().pages()
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the page %s: %w", name, err)
		}
	}
	fmt.Fprintf(s.out, "wrote %d pages to %s; read one: man -l %s\n", len(pages), plain(dir), plain(filepath.Join(dir, "qrjump.1")))
	return nil
}

// configPage is the name of the man page about the configuration file of serve --config.
const configPage = "qrjump.yaml"

// pages returns the man pages keyed by file name.
func (m manual) pages() map[string]string {
	pages := map[string]string{"qrjump.1": m.overviewPage()}
	for _, verb := range m.Leaves(true) {
		pages[pageName(verb)+".1"] = m.verbPage(verb)
		if verb.Path() == "serve" {
			pages[configPage+".5"] = m.configurationPage(verb)
		}
	}
	return pages
}

// pageName returns the name of a command's man page, such as qrjump-rule-add.
func pageName(verb *kong.Node) string { return "qrjump-" + strings.ReplaceAll(verb.Path(), " ", "-") }

// page is a man page under construction, written with the portable man macros.
type page struct {
	strings.Builder
	manual
}

func (m manual) newPage(name, section, topic string) *page {
	p := &page{manual: m}
	topic = strings.TrimSuffix(strings.TrimSuffix(topic, "."), "。")
	day, _, _ := strings.Cut(version.Get().Date, "T")
	fmt.Fprintf(p, ".TH \"%s\" \"%s\" \"%s\" \"qrjump %s\" \"qrjump\"\n", roff(strings.ToUpper(name)), section, day, roff(version.Number()))
	p.section("name")
	fmt.Fprintf(p, "%s \\- %s\n", roff(name), roff(topic))
	return p
}

// section begins a section; its title comes from the message catalogue.
func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", p.lookup("man."+title)) }

// text writes a paragraph.
func (p *page) text(text string) { fmt.Fprintf(p, "%s\n", roff(text)) }

// typed returns, in italics, the placeholder for words that a user types.
func (p *page) typed(kind string) string { return `\fI` + roff(p.lookup("man."+kind)) + `\fR` }

// item writes a term with its description.
func (p *page) item(term, means string) { fmt.Fprintf(p, ".TP\n%s\n%s\n", term, roff(means)) }

// literal writes indented lines, which the formatter does not reflow.
func (p *page) literal(lines ...string) {
	p.WriteString(".nf\n.RS 4\n")
	for _, line := range lines {
		p.WriteString(roff(line) + "\n")
	}
	p.WriteString(".RE\n.fi\n")
}

// bold returns a word in bold, for text that is typed literally.
func bold(word string) string { return `\fB` + roff(word) + `\fR` }

// roff escapes a text so that the formatter interprets nothing in it as a command.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// flagTerm returns a flag in its typed form, with the environment variable that also sets the flag.
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

// flagsOf returns the visible flags of a node, without --help.
func flagsOf(node *kong.Node) []*kong.Flag {
	return slices.DeleteFunc(slices.Clone(node.Flags), func(f *kong.Flag) bool { return f.Hidden || f.Name == "help" })
}

// options writes the flags with their descriptions.
func (p *page) options(flags []*kong.Flag) {
	if len(flags) > 0 {
		p.section("options")
	}
	for _, f := range flags {
		p.item(flagTerm(f), f.Help)
	}
}

func (m manual) overviewPage() string {
	p := m.newPage("qrjump", "1", m.Help)
	p.section("synopsis")
	fmt.Fprintf(p, "%s %s [%s ...] [%s ...]\n", bold("qrjump"), p.typed("command"), p.typed("argument"), p.typed("flag"))
	p.section("description")
	p.text(m.lookup("man.where"))
	groups, verbs := inGroups(m.Node)
	for _, group := range groups {
		fmt.Fprintf(p, ".SS %s\n", roff(group))
		for _, verb := range verbs[group] {
			p.item(bold("qrjump "+verb.Path()), verb.Help)
		}
	}
	p.options(flagsOf(m.Node))
	p.section("exit_status")
	for _, code := range exitCodes {
		p.item(bold(fmt.Sprint(code)), m.lookup("exit."+exitKind[code]))
	}
	p.section("environment")
	p.text(m.lookup("man.variables"))
	p.named("QRJUMP_MASTER_KEY", "QRJUMP_CONTEXTS", "NO_COLOR")
	p.section("files")
	p.named("./qrjump-data", "~/.config/qrjump/contexts.yaml")
	p.section("see_also")
	otherNames := mapped(m.Leaves(true), func(verb *kong.Node) string { return bold(pageName(verb)) + "(1)" })
	p.WriteString(strings.Join(append(otherNames, bold(configPage)+"(5)"), ",\n") + "\n")
	return p.String()
}

// named writes variables or files with their descriptions from the message catalogue.
func (p *page) named(names ...string) {
	for _, name := range names {
		p.item(bold(name), p.lookup("man."+name))
	}
}

func (m manual) verbPage(verb *kong.Node) string {
	p := m.newPage(pageName(verb), "1", verb.Help)
	p.section("synopsis")
	p.WriteString(bold("qrjump " + verb.Path()))
	for _, argument := range verb.Positional {
		p.WriteString(" \\fI" + roff(argument.Summary()) + "\\fR")
	}
	fmt.Fprintf(p, " [%s ...]\n", p.typed("flag"))
	p.section("description")
	p.text(verb.Help)
	if len(verb.Positional) > 0 {
		p.section("arguments")
		for _, argument := range verb.Positional {
			p.item(`\fI`+roff(argument.Summary())+`\fR`, argument.Help)
		}
	}
	p.options(flagsOf(verb))
	p.section("exit_status")
	p.text(m.lookup("man.exits"))
	p.section("examples")
	p.literal(m.example(verb))
	p.section("see_also")
	p.WriteString(bold("qrjump") + "(1)\n")
	return p.String()
}

func (m manual) configurationPage(serve *kong.Node) string {
	p := m.newPage(configPage, "5", m.lookup("man.configuration"))
	p.section("description")
	p.text(m.lookup("man.configuration.says"))
	p.section("keys")
	for _, f := range flagsOf(serve) {
		if f.Name == "config" {
			continue // A configuration file cannot name another configuration file.
		}
		term := bold(f.Name) + ": "
		term += `\fI` + textOr(f.IsBool(), "true|false", roff(f.FormatPlaceHolder())) + `\fR`
		p.item(term, f.Help)
	}
	p.section("examples")
	p.literal("listen: 0.0.0.0:443", "scan-listen: 127.0.0.1:8081", "admin-listen: 127.0.0.1:8082", "data: /var/lib/qrjump",
		"tls-cert: /etc/qrjump/tls.crt", "tls-key: /etc/qrjump/tls.key", "code-prefix: C.EXAMPLE/", "trusted-proxy:", "  - 10.0.0.0/8")
	p.section("see_also")
	p.WriteString(bold("qrjump-serve") + "(1)\n")
	return p.String()
}
