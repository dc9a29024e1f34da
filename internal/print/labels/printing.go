package labels

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// Printing contains the print settings as people write them: lengths with a unit, colours as #RRGGBB. Sheet to StartAt, CropMarks and
// Footer apply to sheets; Label, Gap and Offset also to label printers; Copies only to label printers.
type Printing client.LabelDrawing

// maxCopies limits the copies of a label: label printers count to 9999 at most.
const maxCopies = 9999

// OrUsual returns p with default values in its empty fields.
func (p Printing) OrUsual() Printing {
	p.Kind, p.Level = cmp.Or(p.Kind, string(QR)), cmp.Or(p.Level, "Q")
	p.Module, p.LineHeight, p.DPI = cmp.Or(p.Module, "0.4mm"), cmp.Or(p.LineHeight, "2mm"), cmp.Or(p.DPI, 300)
	p.Colour, p.Background = cmp.Or(p.Colour, "black"), cmp.Or(p.Background, "white")
	if p.Sheet != "" {
		return p // no default size: the named sheet defines the page and the labels
	}
	p.Page, p.Margin = cmp.Or(p.Page, "a4"), cmp.Or(p.Margin, "10mm")
	if p.Label == "" && p.Pitch == "" {
		p.Columns, p.Rows, p.Gap = cmp.Or(p.Columns, 4), cmp.Or(p.Rows, 10), cmp.Or(p.Gap, "0mm")
	}
	return p
}

// WordError is an error in one field of a Printing.
type WordError struct {
	Word string // the field's JSON name, such as line_height
	Err  error
}

func (e *WordError) Error() string { return e.Word + ": " + e.Err.Error() }

func (e *WordError) Unwrap() error { return e.Err }

// Design returns the layout of each label, with the style's default font. The error is a *WordError or a *symbol.SizeError.
func (p Printing) Design() (d Design, err error) {
	d = Design{Kind: Kind(p.Kind), Rectangular: p.Rectangular, Lines: p.Lines,
		Style: symbol.Style{DPI: p.DPI, Quiet: p.Quiet, Beside: p.TextPosition == "right"}}
	if !slices.Contains([]string{"", "below", "right"}, p.TextPosition) {
		return d, &WordError{"text_position", fmt.Errorf("invalid value %.40q: want below or right", p.TextPosition)}
	}
	if !slices.Contains(Kinds, d.Kind) {
		return d, &WordError{"kind", fmt.Errorf("invalid value %.40q: want one of %v", p.Kind, Kinds)}
	}
	if p.Rectangular && d.Kind != DataMatrix && d.Kind != GS1DataMatrix {
		return d, &WordError{"rectangular", fmt.Errorf("a symbol of kind %s is square: use %s or %s", d.Kind, DataMatrix, GS1DataMatrix)}
	}
	switch p.Level {
	case "L", "M", "Q", "H":
		d.Level = symbol.Level(p.Level[0])
	default:
		return d, &WordError{"level", fmt.Errorf("invalid value %.40q: want L, M, Q or H", p.Level)}
	}
	if d.Style.Module, err = length("module", p.Module); err != nil {
		return d, err
	}
	if d.Style.Text, err = length("line_height", p.LineHeight); err != nil {
		return d, err
	}
	if d.Style.Ink, err = symbol.ParseColour(p.Colour); err != nil {
		return d, &WordError{"colour", err}
	}
	if d.Style.Paper, err = symbol.ParseColour(p.Background); err != nil {
		return d, &WordError{"background", err}
	}
	if d.Style.Media, err = p.media(); err != nil {
		return d, err
	}
	return d, d.Style.Check()
}

// media returns the size of the labels in a label printer and the number of copies of each label. The error is a *WordError.
func (p Printing) media() (m symbol.Media, err error) {
	if m.Copies = p.Copies; m.Copies < 0 || m.Copies > maxCopies {
		return m, &WordError{"copies", fmt.Errorf("%d: want 1 to %d", m.Copies, maxCopies)}
	}
	if p.Label != "" {
		if m.Width, m.Height, err = parseSize(p.Label); err != nil {
			return m, &WordError{"label", err}
		}
	}
	if p.Gap != "" {
		if _, m.Gap, err = parseTwo(p.Gap); err == nil {
			err = notNegative([]symbol.Length{m.Gap})
		}
		if err != nil {
			return m, &WordError{"gap", err}
		}
	}
	if p.Offset != "" {
		if m.OffsetX, m.OffsetY, err = parseTwo(p.Offset); err != nil {
			return m, &WordError{"offset", err}
		}
	}
	return m, nil
}

// OnSheets returns the layout of a design's labels on pages. A caller that adds a logo to the returned Sheet must call Check again.
func (p Printing) OnSheets(d Design) (Sheet, error) {
	s := Sheet{CropMarks: p.CropMarks, Footer: p.Footer, Design: d}
	return s, p.layout(&s)
}

func length(word, text string) (symbol.Length, error) {
	l, err := symbol.ParseLength(text)
	if err != nil {
		return 0, &WordError{word, err}
	}
	return l, nil
}
