package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// symbolFlags holds the flags that select the appearance and the output file of a symbol.
type symbolFlags struct {
	printFlags
	Format string `enum:",svg,png,pdf,eps,zpl,tspl" default:"" placeholder:"svg|png|pdf|eps|zpl|tspl"`
	Out    string `required:"" placeholder:"FILE" file:"out,self"`
}

// drawnSymbol is the JSON result of a drawn symbol.
type drawnSymbol struct {
	File   string  `json:"file"`
	Module float64 `json:"module_mm"` // The module size after rounding to whole dots.
	Dots   int     `json:"module_dots"`
	Width  float64 `json:"width_mm"`
	Height float64 `json:"height_mm"`
	DPI    int     `json:"dpi"`
	// Content holds, for each symbol, the text that was read back; "" for a dot matrix from another system, whose text this program cannot
	// read.
	Content []string `json:"content"`
}

// format returns the format from the flag, else from the output file name.
func (f symbolFlags) format() (labels.Format, error) {
	if f.Format != "" {
		return labels.Format(f.Format), nil
	}
	extension := strings.TrimPrefix(filepath.Ext(f.Out), ".")
	format := labels.Format(cmp.Or(strings.ToLower(extension), "svg"))
	if labels.Formats[format] == nil {
		return "", misused("symbol.no_format_of_that_ending", f.Out, extension)
	}
	return format, nil
}

// draw writes one label.
func (f symbolFlags) draw(s *session, o outputFlags, design labels.Design, batch int64, r labels.Row) error {
	format, err := f.format()
	if err != nil {
		return err
	}
	d, err := design.Draw(batch, r)
	if err != nil {
		return unprintable(err)
	}
	// If a symbol cannot be drawn, the existing file remains unchanged.
	var label bytes.Buffer
	if err := labels.Formats[format](&label, d); err != nil {
		return err
	}
	if f.Out == "-" {
		_, err := s.out.Write(label.Bytes())
		return err
	}
	if _, err := replaceFile(f.Out, func(w io.Writer) error { _, err := w.Write(label.Bytes()); return err }); err != nil {
		return err
	}
	done := drawnSymbol{Content: d.Content, File: f.Out, Module: d.ModuleLength().Millimetres(), Dots: d.Module, DPI: d.DPI,
		Width: symbol.LengthOf(d.Width, d.DPI).Millimetres(), Height: symbol.LengthOf(d.Height, d.DPI).Millimetres()}
	return o.print(s, done, nil, func(w io.Writer) {
		printMsg(w, "symbol.drew_by_mm_a_module", plain(f.Out), done.Width, done.Height, done.Module, counted(done.Dots, "dot"), done.DPI)
		for _, text := range done.Content {
			fmt.Fprintln(w, saysText(text))
		}
	})
}

// saysText returns a message with the text that was read back from a symbol.
func saysText(text string) string {
	if text == "" {
		return tr("symbol.its_dot_matrix_is_drawn")
	}
	return tr("symbol.read_back_it_says") + plain(text)
}

type symbolCommand struct {
	member
	adminFlags
	packageKeyFlags
	kindFlags
	symbolFlags
	What string `arg:"" name:"what"`
}

// Run draws one symbol.
func (c *symbolCommand) Run(s *session) error {
	design, err := c.design(c.kindFlags, pageFlags{})
	if err != nil {
		return err
	}
	name := client.ParseCodeName(c.What)
	if name.URL != "" || name.Code != "" {
		if err := c.notOneCode(); err != nil {
			return err
		}
		if c.Kind == "matrix" {
			return misused("symbol.kind_matrix_is_the_dot")
		}
		if d, err := gs1.ParseBracketed(c.What); err == nil && !strings.HasPrefix(c.Kind, "gs1-") {
			return misused("symbol.gs1_data", d.Bracketed())
		}
		if err := c.codeCheck(s, c.adminFlags).text(c.What); err != nil {
			return err
		}
		return c.draw(s, c.outputFlags, design, 0, labels.Row{Text: c.What, Code: c.What})
	}
	source, codeRange := rowSource{id: name.ID}, client.CodeRange{From: name.Index, To: name.Index}
	exists, err := source.isListed(s, c.member, c.adminFlags, codeRange)
	if err == nil {
		err = source.needKind(c.Kind)
	}
	if err != nil {
		return err
	}
	if !exists {
		if source.key, err = c.key(); err != nil {
			return err
		}
		if source.wire, err = c.client(s); err != nil {
			return err
		}
		if err := source.bound(s, codeRange); err != nil {
			return err
		}
	}
	for r, err := range source.rows(s.ctx, name.Index) {
		if err != nil {
			return err
		}
		return c.draw(s, c.outputFlags, design, name.ID, r)
	}
	return fault("symbol.no_rows", c.What)
}

// likeCodes matches a text that is probably a selection of codes of a batch and not the content of a symbol: a number, a colon and indexes;
// or a number of at least 9 digits, a separator and indexes.
var likeCodes = regexp.MustCompile(`^\s*(?:([0-9]{1,18})\s*[:：]|([0-9]{9,18})\s*[/,;#@.\s])\s*(all|[0-9]*\s*(?:-\s*[0-9]*)?)\s*$`)

// notOneCode returns an error if the text is probably meant as a selection of codes, because a symbol with this text would open nothing.
func (c *symbolCommand) notOneCode() error {
	m := likeCodes.FindStringSubmatch(c.What)
	switch {
	case m == nil && (c.KeyFile != "" || c.Key != os.Getenv("QRJUMP_PACKAGE_KEY")):
		return misused("symbol.opens_a_code_of_a", textOr(c.KeyFile != "", "--key-file", "--key"), c.What)
	case m == nil:
		return nil
	}
	id, part := cmp.Or(m[1], m[2]), strings.Join(strings.Fields(m[3]), "")
	if bareNumber.MatchString(part) {
		return misused("symbol.looks_like_a_code_of", c.What, id, id, part)
	}
	if part != "all" && !rangeForm.MatchString(part) {
		part = "RANGE"
	}
	return misused("symbol.looks_like_codes_of_batch", c.What, id, id, id, part, id, part)
}

type ruleQR struct {
	member
	symbolFlags
	Unpublished bool
	Link        string `arg:""`
}

// Run draws the QR code of a link if a rule opens the link.
func (c *ruleQR) Run(s *session, wire *client.Client) error {
	design, err := c.design(kindFlags{Kind: "qr"}, pageFlags{})
	if err != nil {
		return err
	}
	list, err := allRules(s, wire.Wire, "")
	if err != nil {
		return fault("rule.list_rules", err)
	}
	opens := longestMatch(list.Rules, c.Link)
	if opens == nil {
		return hintError{error: fault("symbol.no_rule_of_the_account", plain(c.Link)), next: tr("symbol.add_a_rule", shellWord(c.Link))}
	}
	if !opens.Published && !c.Unpublished {
		return hintError{error: fault("symbol.the_rule_is_not_published", opens.Prefix, c.Link),
			next: c.command("rule", "publish", opens.Prefix) + tr("symbol.or_unpublished_to_print_first")}
	}
	return c.draw(s, c.outputFlags, design, 0, labels.Row{Text: c.Link, Code: c.Link})
}

// longestMatch returns the rule with the longest prefix that matches a link, or nil if no rule matches.
func longestMatch(list []client.Rule, link string) (longest *client.Rule) {
	l, ok := rules.ParseLink(link)
	if !ok {
		return nil
	}
	for i, r := range list {
		p, ok := rules.StoredPrefix(r.Prefix)
		if ok && p.Matches(l) && (longest == nil || len(r.Prefix) > len(longest.Prefix)) {
			longest = &list[i]
		}
	}
	return longest
}

// symbolRecommend is the command that recommends a symbol size.
type symbolRecommend struct {
	outputFlags
	Text     string `required:"" placeholder:"TEXT"`
	Kind     string `enum:"qr,datamatrix" default:"qr" placeholder:"qr|datamatrix"`
	Level    string `enum:"L,M,Q,H" default:"Q" placeholder:"L|M|Q|H"`
	Distance string `default:"20cm" placeholder:"LENGTH"`
	DPI      int    `name:"dpi" default:"300" placeholder:"DOTS"`
	Surface  string `default:"flat" placeholder:"flat|curved:DIAMETER"`
}

// Run prints the smallest size at which scanners can read a symbol with the given text.
func (c *symbolRecommend) Run(s *session) error {
	spot := symbol.Spot{DPI: c.DPI}
	var err error
	if spot.Distance, err = symbol.ParseLength(c.Distance); err != nil {
		return misused("symbol_advise.length", "distance", err)
	}
	if diameter, curved := strings.CutPrefix(c.Surface, "curved:"); curved {
		if spot.Diameter, err = symbol.ParseLength(diameter); err != nil {
			return misused("symbol_advise.length", "surface", err)
		}
	} else if c.Surface != "flat" {
		return misused("symbol_advise.surface", c.Surface)
	}
	grid, err := symbol.DataMatrix(c.Text, false)
	if c.Kind == "qr" {
		grid, err = symbol.QR(c.Text, symbol.Level(c.Level[0]))
	}
	if err != nil {
		return usageError(err.Error())
	}
	a, err := grid.Advise(spot)
	if err != nil {
		return unprintable(err)
	}
	answer := map[string]any{"modules": grid.Width, "module_mm": a.Module.Millimetres(), "module_dots": a.Dots, "dpi": c.DPI,
		"width_mm": a.Width.Millimetres(), "height_mm": a.Height.Millimetres(), "by": a.By, "pixels": a.Pixels, "edge": a.Edge}
	if a.MaxWidth != 0 {
		answer["most_mm"] = a.MaxWidth.Millimetres()
	}
	return c.print(s, answer, nil, func(w io.Writer) {
		printMsg(w, "symbol_advise.take", a.Module.Millimetres(), counted(a.Dots, "dot"), c.DPI, a.Width.Millimetres(),
			a.Height.Millimetres())
		switch a.By {
		case symbol.ByPrinter:
			printMsg(w, "symbol_advise.by_printer")
		case symbol.ByDistance:
			printMsg(w, "symbol_advise.by_distance", spot.Distance, a.Pixels)
		case symbol.ByCurve:
			printMsg(w, "symbol_advise.by_curve", 100*a.Edge)
		}
		if a.MaxWidth != 0 {
			printMsg(w, "symbol_advise.most", spot.Diameter, a.MaxWidth)
		}
		level := textIf(c.Kind == "qr", " --level "+c.Level)
		printMsg(w, "symbol_advise.next", shellWord(c.Text), a.Module.Millimetres(), c.DPI, c.Kind, level)
	})
}
