package safehttp

import (
	"strings"
	"unicode"
)

const maxLine = 300 // maximum number of runes in a detail

// oneLine makes untrusted text safe for one line of a log or page: printable, of limited length, without line breaks and
// bidirectional control characters.
func oneLine(s string) string {
	line := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s))
	if len(line) > maxLine {
		return string(line[:maxLine]) + "..."
	}
	return string(line)
}
