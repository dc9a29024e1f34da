// Package errortext translates the error messages of this server for people. Programs, logs and call records use the English messages. The
// function In looks up an English message in the catalog of this package, which contains the same English texts as the code.
package errortext

import (
	"cmp"
	"embed"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// known is a text of the catalog with a pattern that matches its messages.
type known struct {
	key, begin string // begin is the text before the first placeholder
	fixed      int    // number of bytes outside placeholders
	pattern    *regexp.Regexp
}

// texts returns all texts of the catalog; texts with more fixed bytes are tried first.
var texts = sync.OnceValue(func() (list []known) {
	said, _ := i18n.Read(locale)
	for key, english := range said[i18n.English] {
		parts := strings.Split(english, "%s")
		k := known{key: key, begin: parts[0], fixed: len(strings.Join(parts, ""))}
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		full := strings.Join(parts, "(.*?)")
		k.pattern = regexp.MustCompile(`(?s)^` + strings.ReplaceAll(full, "(.*?)(.*?)", "(.*?)(: did you mean .*|)") + `$`)
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b known) int { return cmp.Or(b.fixed-a.fixed, strings.Compare(a.key, b.key)) })
	return list
})

// In translates an English error message into a language. Of a message that is not in the catalog, it translates the parts between
// semicolons that are.
func In(l i18n.Language, english string) string {
	if said := in(l, english, 3); said != english {
		return said
	}
	parts := strings.Split(english, "; ")
	for i, part := range parts {
		parts[i] = in(l, part, 3)
	}
	if strings.Join(parts, "; ") == english {
		return english
	}
	return strings.Join(parts, "；")
}

// in translates a message and the messages nested in it, up to the depth deep.
func in(l i18n.Language, english string, deep int) string {
	if l == i18n.English || deep == 0 {
		return english
	}
	for _, text := range texts() {
		if !strings.HasPrefix(english, text.begin) {
			continue
		}
		found := text.pattern.FindStringSubmatch(english)
		if found == nil {
			continue
		}
		var values []any
		for _, part := range found[1:] {
			values = append(values, in(l, part, deep-1))
		}
		if said, err := catalog.In(l).Say(text.key, values...); err == nil {
			return said
		}
	}
	return english
}
