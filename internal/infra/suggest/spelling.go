// Package suggest knows which right name a wrong one was meant to be.
package suggest

import "strings"

// DidYouMean returns a hint for a wrong name: a question for the right one that is nearest to it, "" if none is near.
func DidYouMean(wrong string, right ...string) string {
	if nearest := Nearest(wrong, right...); nearest != "" {
		return ": did you mean " + nearest + "?"
	}
	return ""
}

// Nearest returns the right name that is nearest to a wrong one, "" where none is near.
func Nearest(wrong string, right ...string) string {
	nearest, minimum := "", 1+min(3, len(wrong)/3)
	for _, name := range right {
		if d := distance(strings.ToLower(wrong), strings.ToLower(name)); d < minimum {
			nearest, minimum = name, d
		}
	}
	return nearest
}

// distance returns the number of bytes that are added, taken away or changed between two names (Levenshtein). A name of a caller
// counts up to 200 bytes.
func distance(a, b string) int {
	a = a[:min(len(a), 200)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := prev
			if a[i] != b[j] {
				change++
			}
			prev = row[j+1]
			row[j+1] = min(change, prev+1, row[j]+1)
		}
	}
	return row[len(b)]
}
