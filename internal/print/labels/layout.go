package labels

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/qrjump/qrjump/internal/print/symbol"
)

// papers maps the names of paper formats to sizes.
var papers = map[string]Paper{"a3": {297_000, 420_000}, "a4": {210_000, 297_000}, "a5": {148_000, 210_000}, "a6": {105_000, 148_000},
	"letter": {215_900, 279_400}}

// Paper is a page size.
type Paper struct{ Width, Height symbol.Length }

// ParsePaper parses a page size such as a4 or 100x150mm.
func ParsePaper(text string) (Paper, error) {
	if p, ok := papers[strings.ToLower(text)]; ok {
		return p, nil
	}
	w, h, err := parseSize(text)
	if err != nil {
		return Paper{}, fmt.Errorf("%q is not a paper size: want a3, a4, a5, a6, letter, or a size as in 100x150mm", text)
	}
	return Paper{w, h}, nil
}

// parseSize parses two positive lengths separated by x, such as 63.5x38.1mm.
func parseSize(text string) (width, height symbol.Length, err error) {
	lengths, err := parseLengths(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune("x×*", r) }))
	if err != nil || len(lengths) != 2 || lengths[0] <= 0 || lengths[1] <= 0 {
		return 0, 0, fmt.Errorf("%.40q is not a size: want width and height, as in 63.5x38.1mm", text)
	}
	return lengths[0], lengths[1], nil
}

// parseLengths parses a list of lengths. A length without a unit has the unit of the last length; the unit of 0 is optional.
func parseLengths(parts []string) (lengths []symbol.Length, err error) {
	unit := ""
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
		if i == len(parts)-1 {
			unit = strings.TrimLeft(parts[i], "-0123456789. ")
		}
	}
	for _, part := range parts {
		text, minus := strings.CutPrefix(part, "-")
		if strings.Trim(text, "0123456789.") == "" {
			if unit == "" && strings.Trim(text, "0.") == "" {
				text += "mm"
			} else {
				text += unit
			}
		}
		l, err := symbol.ParseLength(text)
		if err != nil {
			return nil, err
		}
		if minus {
			l = -l
		}
		lengths = append(lengths, l)
	}
	return lengths, nil
}

// parseSides parses one, two or four lengths as in CSS: one for all sides, two for vertical and horizontal, four for top, right,
// bottom and left.
func parseSides(text string) (sides [4]symbol.Length, err error) {
	all, err := parseLengths(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }))
	if err != nil {
		return sides, err
	}
	switch len(all) {
	case 1:
		return [4]symbol.Length{all[0], all[0], all[0], all[0]}, notNegative(all)
	case 2:
		return [4]symbol.Length{all[0], all[1], all[0], all[1]}, notNegative(all)
	case 4:
		return [4]symbol.Length(all), notNegative(all)
	}
	return sides, fmt.Errorf("%.60q: want one length for all sides, two for vertical and horizontal, or four for top, right, bottom and left, "+
		"as in 15.1mm,7.2mm", text)
}

func notNegative(lengths []symbol.Length) error {
	for _, l := range lengths {
		if l < 0 {
			return fmt.Errorf("%v is negative: use --offset to move labels back", l)
		}
	}
	return nil
}

// parseTwo parses one length for both directions, or two lengths for X and Y.
func parseTwo(text string) (x, y symbol.Length, err error) {
	all, err := parseLengths(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }))
	if err != nil {
		return 0, 0, err
	}
	switch len(all) {
	case 1:
		return all[0], all[0], nil
	case 2:
		return all[0], all[1], nil
	}
	return 0, 0, fmt.Errorf("%.60q: want one length, or two separated by a comma, as in 2.5mm,0mm", text)
}

// countSlack is the tolerance when the number of labels per page is computed from their size: the sizes printed on boxes are rounded.
const countSlack = symbol.Length(500)

// layout computes the positions of the labels on a page. Absent measures are derived: the label size from the number of labels and the
// paper size, or the number of labels from their size; the pitch from label size and gap.
func (p Printing) layout(s *Sheet) (err error) {
	if p.Sheet != "" {
		named, err := boughtAs(p.Sheet)
		if err != nil {
			return &WordError{"sheet", err}
		}
		p = p.overSheet(named)
	}
	p = p.OrUsual()
	if s.Paper, err = ParsePaper(p.Page); err != nil {
		return &WordError{"page", err}
	}
	margin, err := parseSides(p.Margin)
	if err != nil {
		return &WordError{"margin", err}
	}
	s.Top, s.Left = margin[0], margin[3]
	var gapX, gapY symbol.Length
	if p.Gap != "" {
		if gapX, gapY, err = parseTwo(p.Gap); err == nil {
			err = notNegative([]symbol.Length{gapX, gapY})
		}
		if err != nil {
			return &WordError{"gap", err}
		}
	}
	if p.Label != "" {
		if s.Width, s.Height, err = parseSize(p.Label); err != nil {
			return &WordError{"label", err}
		}
	}
	if p.Pitch != "" {
		if s.PitchX, s.PitchY, err = parseSize(p.Pitch); err != nil {
			return &WordError{"pitch", err}
		}
	}
	s.Columns, s.Rows = p.Columns, p.Rows
	for _, side := range []struct {
		label, pitch                  *symbol.Length
		count                         *int
		paper, before, after, between symbol.Length
		named                         string
	}{
		{&s.Width, &s.PitchX, &s.Columns, s.Paper.Width, margin[3], margin[1], gapX, "columns"},
		{&s.Height, &s.PitchY, &s.Rows, s.Paper.Height, margin[0], margin[2], gapY, "rows"},
	} {
		room := side.paper - side.before - side.after
		if *side.pitch > 0 && p.Gap != "" && *side.label > 0 && *side.pitch != *side.label+side.between {
			return &WordError{"pitch", fmt.Errorf(
				"labels of %v with a gap of %v have a pitch of %v, not %v: remove one of the three values", *side.label,
				side.between, *side.label+side.between, *side.pitch)}
		}
		switch {
		case *side.label == 0 && *side.pitch == 0: // the number of labels is given: labels fill the available space
			if *side.count > 0 && *side.count <= maxSheetCells {
				*side.label = (room - symbol.Length(*side.count-1)*side.between) / symbol.Length(*side.count)
			}
			*side.pitch = *side.label + side.between
		case *side.label == 0:
			*side.label = *side.pitch - side.between
		case *side.pitch == 0:
			*side.pitch = *side.label + side.between
		}
		if *side.count == 0 && *side.pitch > 0 { // the label size is given: as many labels as fit on the page
			*side.count = max(1, int((room+countSlack+*side.pitch-*side.label)/(*side.pitch)))
		}
	}
	if p.Offset != "" {
		if s.OffsetX, s.OffsetY, err = parseTwo(p.Offset); err != nil {
			return &WordError{"offset", err}
		}
	}
	if s.StartAt = p.StartAt; s.StartAt < 0 || s.StartAt > max(s.PerPage(), 1) {
		return &WordError{"start_at", fmt.Errorf("%d: the labels of a page have the numbers 1 to %d", s.StartAt, s.PerPage())}
	}
	return nil
}

// overSheet returns p with its empty fields filled from a sheet.
func (p Printing) overSheet(named boughtSheet) Printing {
	p.Page, p.Label, p.Margin = cmp.Or(p.Page, named.Page), cmp.Or(p.Label, named.Label), cmp.Or(p.Margin, named.Margin)
	if p.Gap == "" {
		p.Pitch = cmp.Or(p.Pitch, named.Pitch)
	}
	p.Columns, p.Rows = cmp.Or(p.Columns, named.Columns), cmp.Or(p.Rows, named.Rows)
	return p
}
