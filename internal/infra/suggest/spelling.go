// Package suggest finds the valid name that a misspelled name was meant to be.
package suggest

import "strings"

// DidYouMean returns a hint with the valid name that is most similar to a wrong name; "" if none is similar.
func DidYouMean(wrong string, right ...string) string {
	if nearest := Nearest(wrong, right...); nearest != "" {
		return ": did you mean " + nearest + "?"
	}
	return ""
}

// Nearest returns the valid name that is most similar to a wrong name; "" if none is similar.
func Nearest(wrong string, right ...string) string {
	nearest, minimum := "", 1+min(3, len(wrong)/3)
	for _, name := range right {
		if d := distance(strings.ToLower(wrong), strings.ToLower(name)); d < minimum {
			nearest, minimum = name, d
		}
	}
	return nearest
}

// distance returns the number of bytes to insert, delete or change between two names (Levenshtein distance). distance compares only
// the first 200 bytes of a, the name from the caller.
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
