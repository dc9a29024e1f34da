package main

import (
	"fmt"
	"regexp"
	"strings"
)

// bareWord is a word that every shell takes as it is.
var bareWord = regexp.MustCompile(`^[A-Za-z0-9_./:@+,-][A-Za-z0-9_./:=@%+,-]*$`)

// shellWord returns a word that a person copies into a shell. Control characters stand as escapes, which are safe to print.
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

// shellWords are words of one command.
func shellWords(words ...string) string {
	list := make([]string, len(words))
	for i, word := range words {
		list[i] = shellWord(word)
	}
	return strings.Join(list, " ")
}
