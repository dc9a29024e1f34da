package safehttp

import (
	"strings"
	"unicode"
)

const maxLine = 300 // runes of a detail

// oneLine makes text that may come from a stranger fit for one line of a log or
// a page: printable, without line breaks or marks that turn the direction of
// writing, and of bounded length.
func oneLine(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == maxLine {
			b.WriteString("...")
			break
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
