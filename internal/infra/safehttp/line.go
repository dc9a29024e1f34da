package safehttp

import (
	"strings"
	"unicode"
)

const maxLine = 300 // maximum number of runes in a detail

// oneLine makes untrusted text safe for one line of a log or page: printable, of limited length, without line breaks and
// bidirectional control characters.
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
