package digitallink

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// criteria holds the link selection criteria of one request.
type criteria struct {
	kind      string // link type; "" = the default
	languages []preference
	media     []preference
	contexts  []string
	at        time.Time
}

// newCriteria returns the criteria of a request, or of a link scanned in an app (nil header). An invalid query counts as an empty query.
func newCriteria(query string, header http.Header, t time.Time) criteria {
	params, _ := url.ParseQuery(query)
	c := criteria{kind: shortType(params.Get("linkType")), at: t,
		contexts:  params["context"][:min(len(params["context"]), maxPreferences)],
		languages: parsePreferences(header.Get("Accept-Language")), media: parsePreferences(header.Get("Accept"))}
	switch c.kind { // clients may request the types defaultLink and defaultLinkMulti, because linksets contain them
	case curie + "defaultLink":
		return criteria{at: t}
	case curie + "defaultLinkMulti":
		c.kind = ""
	}
	return c
}

// preference is one entry of an Accept header.
type preference struct {
	name string // in lower case
	q    float64
}

// maxPreferences is the maximum number of entries of a header, and of contexts, that are compared with each link: an anonymous request may
// contain thousands.
const maxPreferences = 32

// parsePreferences parses an Accept or Accept-Language header; entries with q=0 are left out.
func parsePreferences(header string) (list []preference) {
	for part := range strings.SplitSeq(header, ",") {
		if len(list) == maxPreferences {
			break
		}
		name, params, _ := strings.Cut(part, ";")
		w := preference{name: strings.ToLower(strings.TrimSpace(name)), q: 1}
		for p := range strings.SplitSeq(params, ";") {
			if text, is := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(p), " ", ""), "q="); is {
				if q, err := strconv.ParseFloat(text, 64); err == nil && q >= 0 && q <= 1 {
					w.q = q
				}
			}
		}
		if w.name != "" && w.q > 0 {
			list = append(list, w)
		}
	}
	return list
}

// candidate is a candidate link for a request, with its expanded address.
type candidate struct {
	*Link
	address string
}

// Ranks of a link for one criterion of a request. unfit: the link does not match. neutral: the link or the request sets no value. A link
// that matches has a higher rank.
const (
	unfit   = -1.0
	neutral = 0.0
)

// rankLanguage ranks a link by the request's Accept-Language header.
func (a *criteria) rankLanguage(l *Link) float64 {
	if len(l.Hreflang) == 0 || len(a.languages) == 0 {
		return neutral
	}
	best := unfit
	for _, tag := range l.Hreflang {
		tag = strings.ToLower(tag)
		primary, _, _ := strings.Cut(tag, "-")
		for _, w := range a.languages {
			wanted, _, _ := strings.Cut(w.name, "-")
			switch {
			case w.name == tag:
				best = max(best, w.q)
			case strings.HasPrefix(tag, w.name+"-"), w.name == primary:
				best = max(best, w.q*0.99)
			case strings.HasPrefix(w.name, tag+"-"):
				best = max(best, w.q*0.98)
			case wanted == primary: // same primary language but another region, such as zh-TW for zh-CN: better than another language
				best = max(best, w.q*0.1)
			case w.name == "*":
				best = max(best, neutral)
			}
		}
	}
	return best
}

// rankContext ranks a link by the context parameters of the request's query.
func (a *criteria) rankContext(l *Link) float64 {
	if len(l.Context) == 0 {
		return neutral
	}
	for _, context := range a.contexts {
		if slices.ContainsFunc(l.Context, func(c string) bool { return strings.EqualFold(c, context) }) {
			return 1
		}
	}
	return unfit
}

// rankMedia ranks a link by the request's Accept header.
func (a *criteria) rankMedia(l *Link) float64 {
	if l.Media == "" || len(a.media) == 0 {
		return neutral
	}
	group, _, _ := strings.Cut(l.Media, "/")
	best := unfit
	for _, w := range a.media {
		switch w.name {
		case l.Media:
			best = max(best, w.q)
		case group + "/*":
			best = max(best, w.q*0.5)
		case "*/*":
			best = max(best, neutral)
		}
	}
	return best
}

// choose returns the best links for a request: a single link, several equally ranked links, or none. levels contains the entries of the
// requested key and of the keys above it, up to the primary key.
func (a *criteria) choose(levels []*Entry, value func(string) (string, bool)) []candidate {
	for _, e := range levels {
		candidates := e.activeLinks(a.at, value)
		kind, defaultIndex := a.kind, -1
		if kind == "" {
			defaultIndex = slices.IndexFunc(candidates, func(h candidate) bool { return h.Default })
			if defaultIndex < 0 {
				continue // without an active default link in this entry, the default of the nearest key above applies
			}
			kind = candidates[defaultIndex].Type
		}
		candidates = slices.DeleteFunc(candidates, func(h candidate) bool { return h.Type != kind })
		if len(candidates) == 0 {
			continue
		}
		for _, rank := range []func(*Link) float64{a.rankLanguage, a.rankContext, a.rankMedia} {
			candidates = highestRanked(candidates, rank)
		}
		if i := slices.IndexFunc(candidates, func(h candidate) bool { return h.Default }); i >= 0 {
			return candidates[i : i+1]
		}
		return candidates
	}
	return nil
}

// highestRanked keeps the links of the highest rank.
func highestRanked(list []candidate, rank func(*Link) float64) []candidate {
	if len(list) == 1 {
		return list
	}
	highest := rank(list[0].Link)
	for _, found := range list[1:] {
		highest = max(highest, rank(found.Link))
	}
	return slices.DeleteFunc(list, func(h candidate) bool { return rank(h.Link) < highest })
}

// activeLinks returns the links of an entry that are active at time t; links with placeholders are included only if the request has a
// value for each placeholder.
func (e *Entry) activeLinks(t time.Time, value func(string) (string, bool)) []candidate {
	list := make([]candidate, 0, len(e.Links))
	for i := range e.Links {
		l := &e.Links[i]
		if !l.isActive(t) {
			continue
		}
		if address, err := fill(l.Href, value, gs1.Escape); err == nil {
			list = append(list, candidate{l, address})
		}
	}
	return list
}

const upperHex = "0123456789ABCDEF"

// appendQuery appends the query of a request to a URL, before the URL's fragment. Characters that are not allowed in a URL are escaped.
func appendQuery(address, query string) string {
	if query == "" {
		return address
	}
	var b strings.Builder
	address, fragment, cut := strings.Cut(address, "#")
	b.WriteString(address)
	switch {
	case !strings.Contains(address, "?"):
		b.WriteByte('?')
	case !strings.HasSuffix(address, "?") && !strings.HasSuffix(address, "&"):
		b.WriteByte('&')
	}
	for i := range len(query) {
		c := query[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\^#`+"`{|}", c) >= 0 {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	if cut {
		b.WriteByte('#')
		b.WriteString(fragment)
	}
	return b.String()
}
