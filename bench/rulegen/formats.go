package rulegen

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// Nothing is the answer of a table of plain prefixes if a rule matches and none opens.
const Nothing = "-"

// Answer returns the value of a rule in a table of plain prefixes: the AppID and the page that open, or
// Nothing.
func (s *Set) Answer(r Rule) string {
	g, ok := s.Governing(r)
	if !ok {
		return Nothing
	}
	return AppID(g.Owner) + "/" + g.Page
}

// PlainPrefix returns the plain prefix of a rule: the rule matches a link if and only if the plain prefix is a prefix of
// PlainLink(link).
func PlainPrefix(prefix string) string {
	if strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "?") {
		return prefix
	}
	return prefix + "?"
}

// PlainLink returns the text to look up among plain prefixes.
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

// WriteNginx writes the lines of a map block for the exact rules that open a page; an nginx map cannot match
// prefixes. Keys are percent-encoded, because nginx does not decode a parameter before
// the look-up.
func (s *Set) WriteNginx(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	for r := range s.All() {
		if answer := s.Answer(r); r.Kind == Exact && answer != Nothing {
			fmt.Fprintf(out, "\"%s\" \"%s\";\n", url.QueryEscape(r.Prefix), answer)
		}
	}
	return out.Flush()
}
