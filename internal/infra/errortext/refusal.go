// Package errortext knows what the refusals of this server say in the language of a person. Programs, logs and the records of calls
// have them in English; to show one to a person, its text is looked up in the book of this package, whose English equals the
// code's.
package errortext

import (
	"embed"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// known is a text of the book with the way to find it again.
type known struct {
	key, begin string // what stands before its first place
	fixed      int    // how much of it is no place
	whole      *regexp.Regexp
}

// texts are all of the book; those that say more by themselves are tried first.
var texts = sync.OnceValue(func() (list []known) {
	said, _ := i18n.Read(locale)
	for key, english := range said[i18n.English] {
		parts := strings.Split(english, "%s")
		k := known{key: key, begin: parts[0], fixed: len(strings.Join(parts, ""))}
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		full := strings.Join(parts, "(.*?)")
		k.whole = regexp.MustCompile(`(?s)^` + strings.ReplaceAll(full, "(.*?)(.*?)", "(.*?)(: did you mean .*|)") + `$`)
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b known) int {
		if a.fixed != b.fixed {
			return b.fixed - a.fixed
		}
		return strings.Compare(a.key, b.key)
	})
	return list
})

// In returns a refusal in a language. What the book does not know stays as it is.
func In(l i18n.Language, english string) string { return in(l, english, 3) }

// in follows refusals in refusals so deep.
func in(l i18n.Language, english string, deep int) string {
	if l == i18n.English || deep == 0 {
		return english
	}
	for _, text := range texts() {
		if !strings.HasPrefix(english, text.begin) {
			continue
		}
		found := text.whole.FindStringSubmatch(english)
		if found == nil {
			continue
		}
		var values []any
		for _, part := range found[1:] {
			values = append(values, in(l, part, deep-1))
		}
		if said, err := book.In(l).Say(text.key, values...); err == nil {
			return said
		}
	}
	return english
}
