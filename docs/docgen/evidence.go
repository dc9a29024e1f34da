package docgen

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// searchTerms matches the error numbers and the quoted words of a sentence.
var searchTerms = regexp.MustCompile(`\b\d{5,6}\b|` + "`[^`]+`")

// Evidence returns a page for the search for newer evidence: the behaviours that have a date, oldest first, and the error numbers
// that have never been observed in a live response, each with search terms.
func Evidence() string {
	rows := slices.DeleteFunc(slices.Clone(behaviour.All()), func(b behaviour.Behaviour) bool { return b.Date == "" })
	slices.SortStableFunc(rows, func(a, b behaviour.Behaviour) int { return cmp.Compare(a.Date, b.Date) })
	var b strings.Builder
	b.WriteString("# Evidence by age\n\n| date | behaviour | mark | section | source | search for |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, row := range rows {
		says := row.Description().English()
		var terms []string
		for _, term := range searchTerms.FindAllString(says, -1) {
			if code, known := byText(term); known {
				term += " \"" + code.Text + "\""
			}
			terms = append(terms, term)
		}
		fmt.Fprintf(&b, "| %s | `%s` %s | %s | %s | %s | %s |\n", row.Date, row.ID, says, row.Evidence, row.Section, row.Source,
			cmp.Or(strings.Join(terms, ", "), strings.ReplaceAll(row.ID, ".", " ")))
	}
	b.WriteString("\n## Error numbers without a live answer\n\n| number | search for |\n| --: | --- |\n")
	for _, code := range errcode.All() {
		if code.Evidence != errcode.Observed {
			fmt.Fprintf(&b, "| %d | \"errcode\":%d \"%s\" rid |\n", code.Number, code.Number, code.Text)
		}
	}
	return b.String()
}

// byText finds the error number in a text.
func byText(text string) (*errcode.Code, bool) {
	var number int
	if _, err := fmt.Sscan(text, &number); err != nil {
		return nil, false
	}
	return errcode.ByNumber(number)
}
