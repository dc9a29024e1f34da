// Package docgen generates the pages of the documentation that are derived from tables in the code.
//
// Each page has a template in this folder, in the subfolder of its language; the tables from the code and their texts are inserted
// into the template. A text that is missing in one of the languages is an error, so that no page mixes both languages.
package docgen

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Command is the command that regenerates every page.
const Command = "go run ./docs/print"

//go:embed en zh
var frames embed.FS

// language is the language of the page that is being generated.
type language guide.Language

var languages = []language{language(guide.Languages[0]), language(guide.Languages[1])}

// say returns a message in the language.
func (l language) say(t i18n.Message) string { return t.In(l.Tag) }

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// says returns a text from the pages' own message catalogue in the language.
func (l language) says(key string) string { return l.say(book.Text(key)) }

// press generates pages and collects errors.
type press struct {
	root      string
	pages     map[string]string
	sdks      []sdkText
	endpoints map[string]api.Description
	faults    []error
	texts     map[string]bool // that were said

	wireSchemas object // Schemas from the wire API document, keyed by name.
}

func (p *press) reportMissing(format string, args ...any) {
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

// Pages returns the generated pages, keyed by their paths below root, the folder of the repository. commands is the output of
// "qrjump help --all --output json". Pages starts a server in order to list its metrics. The returned error lists all missing texts
// and examples at once.
func Pages(ctx context.Context, root string, commands []byte) (map[string]string, error) {
	p := &press{root: root, pages: map[string]string{}, endpoints: map[string]api.Description{}, texts: map[string]bool{}}
	text, err := os.ReadFile(filepath.Join(root, "docs/sdk.yaml"))
	if err == nil {
		err = yaml.UnmarshalWithOptions(text, &p.sdks, yaml.DisallowUnknownField())
	}
	if err != nil {
		return nil, fmt.Errorf("docs/sdk.yaml: %w", err)
	}
	for _, e := range api.Describe() {
		var codes []*errcode.Code // without duplicates
		for _, code := range e.Codes {
			if !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
		e.Codes = codes
		p.endpoints[e.Path] = e
	}
	verbs, err := readCommands(commands)
	if err != nil {
		return nil, err
	}
	metrics, err := metricsOfAServer(ctx)
	if err != nil {
		return nil, fmt.Errorf("the metrics of a server: %w", err)
	}
	operations, err := operationRows(ctx)
	if err != nil {
		return nil, fmt.Errorf("the operations: %w", err)
	}
	p.checkTexts()
	for _, c := range guide.Calls() {
		p.print("calls/"+c.Page, "call", func(l language) any { return p.callPage(l, c) })
	}
	p.print("calls/sdks", "sdks", p.sdksPage)
	p.print("calls/every-call", "every-call", p.everyCallPage)
	p.print("calls/not-offered", "not-offered", p.notOfferedPage)
	p.print("errors", "errors", p.errorsPage)
	p.print("settings", "settings", p.settingRows)
	p.print("behaviours", "behaviours", func(l language) any { return p.behavioursPage(l, verbs[l.Code].Probes) })
	p.print("how/clients", "clients", p.clientsPage)
	p.print("metrics", "metrics", func(l language) any { return metricRows(l, metrics) })
	p.print("commands", "commands", func(l language) any { return commandsPage(verbs[l.Code]) })
	p.pages["docs/admin.md"] = p.frame(languages[0], "admin", operations)
	p.pages["docs/platform-differences.md"] = p.frame(languages[0], "platform-differences", countMarks())
	p.pages["docs/openapi-wire.json"] = p.wireDocument()
	p.checkSaid()
	return p.pages, errors.Join(p.faults...)
}

// Stale returns the names of the pages that differ from the generated pages; Write updates them.
func Stale(root string, pages map[string]string) (names []string) {
	for name, text := range pages {
		if have, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(have) != text {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Write writes the pages to files.
func Write(root string, pages map[string]string) error {
	for name, text := range pages {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// print generates a page of the guide in both languages. The Chinese page contains the hash of the English text that it translates.
func (p *press) print(name, frame string, data func(language) any) {
	english := p.frame(languages[0], frame, data(languages[0]))
	p.pages["docs/en/"+name+".md"] = english
	p.pages["docs/zh/"+name+".md"] = "<!-- translates " + guide.Hash([]byte(english)) + " -->\n\n" +
		p.frame(languages[1], frame, data(languages[1]))
}

// frame returns the template of a page in a language, filled with data.
func (p *press) frame(l language, name string, data any) string {
	t := template.New(name + ".md")
	t.Funcs(template.FuncMap{"item": item, "join": strings.Join, "cell": cell,
		"replace": func(text, old, by string) string { return strings.Replace(text, old, by, 1) }})
	var b strings.Builder
	_, err := t.ParseFS(frames, l.Code+"/"+name+".md", l.Code+"/rows.md")
	if err == nil {
		err = t.Execute(&b, data)
	}
	if err != nil {
		p.reportMissing("the frame %s/%s: %w", l.Code, name, err)
	}
	return b.String()
}

// item returns a list item, wrapped at spaces if the text is long.
func item(text string) string {
	line, lines := "-", []string{}
	for word := range strings.FieldsSeq(text) {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > 136 {
			lines = append(lines, line)
			line = " "
		}
		line += " " + word
	}
	return strings.Join(append(lines, line), "\n")
}

// cell escapes a text for a cell of a Markdown table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// numberRow is an error number in the form that pages show.
type numberRow struct {
	Number              int
	Text, Mark, Why, Do string
	Calls               []string // as links
}

func (p *press) number(l language, c *errcode.Code) numberRow {
	row := numberRow{Number: c.Number, Text: c.Text, Mark: l.mark(behaviour.Evidence(c.Evidence)),
		Why: l.say(c.Meaning()), Do: l.say(c.Cure())}
	if c.Text == "" {
		row.Text = " "
	}
	return row
}

// errorsPage returns all error numbers with their causes and remedies.
func (p *press) errorsPage(l language) any {
	var page struct {
		Lines [][]int
		Codes []numberRow
	}
	shared := sharedNumbers()
	for line := range slices.Chunk(errcode.All(), 8) {
		var numbers []int
		for _, c := range line {
			numbers = append(numbers, c.Number)
		}
		page.Lines = append(page.Lines, numbers)
	}
	for _, code := range errcode.All() {
		row := p.number(l, code)
		for _, c := range guide.Calls() {
			if slices.Contains(p.endpoints[c.Path].Codes, code) && !slices.Contains(shared, code) {
				row.Calls = append(row.Calls, fmt.Sprintf("[%s](calls/%s.md)", shortOf(c.Path), c.Page))
			}
		}
		if slices.Contains(shared, code) {
			row.Calls = []string{l.says("calls.every")}
		}
		page.Codes = append(page.Codes, row)
	}
	return page
}

// sharedNumbers returns the error numbers that every call can return.
func sharedNumbers() []*errcode.Code {
	return append(api.Shared(), errcode.Unauthorized)
}
