package rulegen

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// Nothing is what a table of plain prefixes answers where a rule matches and
// none opens.
const Nothing = "-"

// Answer is what a table of plain prefixes has for a rule: the AppID and the
// page that open, or Nothing.
func (s *Set) Answer(r Rule) string {
	g, ok := s.Governing(r)
	if !ok {
		return Nothing
	}
	return AppID(g.Owner) + "/" + g.Page
}

// PlainPrefix is the text by which a rule is a plain prefix of what PlainLink
// makes of the links that it matches.
func PlainPrefix(prefix string) string {
	if strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "?") {
		return prefix
	}
	return prefix + "?"
}

// PlainLink is the text to look up among plain prefixes.
func PlainLink(link string) string {
	if strings.Contains(link, "?") {
		return link
	}
	return link + "?"
}

// WriteHAProxy writes a map file for map_beg: plain prefix, answer.
func (s *Set) WriteHAProxy(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	for r := range s.All() {
		fmt.Fprintf(out, "%s %s\n", PlainPrefix(r.Prefix), s.Answer(r))
	}
	return out.Flush()
}

// WriteNginx writes what stands in a map block: the exact rules that open
// something, which is all that nginx's map can do. Keys are percent-encoded:
// nginx does not decode a parameter before it looks it up.
func (s *Set) WriteNginx(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	for r := range s.All() {
		if answer := s.Answer(r); r.Kind == Exact && answer != Nothing {
			fmt.Fprintf(out, "\"%s\" \"%s\";\n", url.QueryEscape(r.Prefix), answer)
		}
	}
	return out.Flush()
}
