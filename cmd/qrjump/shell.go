package main

import (
	"fmt"
	"regexp"
	"strings"
)

// bareWord matches a word that every shell accepts without quotes.
var bareWord = regexp.MustCompile(`^[A-Za-z0-9_./:@+,-][A-Za-z0-9_./:=@%+,-]*$`)

// shellWord quotes a word so that a user can paste it into a shell. Control characters are escaped, so that printing the word is safe.
func shellWord(word string) string {
	switch {
	case bareWord.MatchString(word):
		return word
	case plain(word) == word:
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for _, c := range []byte(word) {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return "$'" + b.String() + "'"
}

// shellWords quotes and joins the words of a command.
func shellWords(words ...string) string {
	return strings.Join(mapped(words, shellWord), " ")
}
