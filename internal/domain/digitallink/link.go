// Package digitallink resolves GS1 keys: it stores the links of each key, selects the links for a request, and implements the HTTP
// side of a GS1 Digital Link resolver. The syntax of keys is implemented in package gs1. Decision 69.
package digitallink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// Limits on the size of an entry.
const (
	MaxLinks = 100
	maxHref  = 2048
	maxTitle = 200
	maxWords = 20 // maximum number of languages of one link, and maximum number of its contexts
)

// Entry contains the links that the operator or the owner of a key sets for the key. The links also apply to the keys below this key that
// have no entry.
type Entry struct {
	Key      string    `json:"key"` // such as "01/09506000134352/10/LOT", with values escaped as in a URL path
	Owner    string    `json:"owner,omitempty"`
	App      string    `json:"wxa_appid,omitempty"`
	Page     string    `json:"wxa_path,omitempty"`
	Links    []Link    `json:"links"`
	Archived bool      `json:"archived,omitempty"`
	At       time.Time `json:"-"` // time of the last change
	// Unowned distinguishes an entry of the operator from an entry for which Service.Put chooses the owner; both have no Owner.
	Unowned bool `json:"-"`
	// Number identifies the entry in the counts of scans, as the ID of a rule does for a rule. Number is the sequence number of the change
	// with which the current owner created the entry.
	Number int64 `json:"-"`
}

// Link is one link of a GS1 key.
type Link struct {
	Type     string     `json:"linktype"` // such as "gs1:pip", or the URL of a link type of another vocabulary
	Href     string     `json:"href"`     // may contain placeholders such as {01} and {21}, replaced by values of the request
	Title    string     `json:"title"`
	Hreflang Words      `json:"hreflang,omitempty"`
	Media    string     `json:"type,omitempty"`
	Context  Words      `json:"context,omitempty"`
	Default  bool       `json:"default,omitempty"`
	From     *time.Time `json:"from,omitempty"`  // start of the period in which the link is active
	Until    *time.Time `json:"until,omitempty"` // end of the period in which the link is active
}

// Words is a list of texts that may be written in JSON as a single text.
type Words []string

// UnmarshalJSON decodes a JSON string or an array of strings.
func (w *Words) UnmarshalJSON(b []byte) error {
	var name string
	if json.Unmarshal(b, &name) == nil {
		*w = nil
		if name != "" {
			*w = Words{name}
		}
		return nil
	}
	var all []string
	if err := json.Unmarshal(b, &all); err != nil {
		return errors.New("want a text or a list of texts")
	}
	*w = all
	return nil
}

// Voc is the namespace of GS1's link types.
const Voc = "https://ref.gs1.org/voc/"

const curie = "gs1:"

// HandledBy is the type of a link to another resolver, which serves the key in place of this server.
const HandledBy = curie + "handledBy"

// shortType returns the stored form of a link type: gs1:name for a link type of GS1, unchanged otherwise.
func shortType(text string) string {
	for _, value := range []string{Voc, "http://ref.gs1.org/voc/", "https://gs1.org/voc/", "http://gs1.org/voc/"} {
		if name, is := strings.CutPrefix(text, value); is {
			return curie + name
		}
	}
	return text
}

// longType returns the full URL of a link type.
func longType(text string) string {
	if name, is := strings.CutPrefix(text, curie); is {
		return Voc + name
	}
	return text
}

var (
	typeName    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^gs1:[A-Za-z][A-Za-z0-9]{0,63}$`) })
	typeAddress = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^https?://[A-Za-z0-9._/]+$`) })
)

// Parse parses and checks an entry of a seed file.
func Parse(v any) (e Entry, err error) {
	text, err := json.Marshal(v)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&e)
	}
	if err != nil {
		return e, accounts.Invalidf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return e.normalize()
}

// normalize returns the entry in its canonical form, or an error if the entry is invalid.
func (e Entry) normalize() (Entry, error) {
	id, err := parseKey(e.Key)
	if err != nil {
		return e, err
	}
	e.Key = id.key()
	if len(e.Links) > MaxLinks {
		return e, accounts.Invalidf("%s: %d links are too many: at most %d", e.Key, len(e.Links), MaxLinks)
	}
	e.Links = slices.Clone(e.Links)
	for i := range e.Links {
		if e.Links[i], err = e.Links[i].normalize(); err != nil {
			return e, accounts.Invalidf("%s, link %d: %v", e.Key, i+1, err)
		}
	}
	if err := e.checkDefaults(id); err != nil {
		return e, err
	}
	if e.Page != "" {
		if _, err := fill(e.Page, anyValue, url.QueryEscape); err != nil || !accounts.IsVisible(e.Page, 1024) ||
			strings.ContainsAny(e.Page, " #\\") || strings.Contains(e.Page, "//") {
			return e, accounts.Invalidf("%s: wxa_path %.80q: want the path of a page, such as pages/product/index?gtin={01}", e.Key, e.Page)
		}
	}
	if e.App != "" && e.Page == "" {
		return e, accounts.Invalidf("%s: wxa_appid without wxa_path: give the page to open", e.Key)
	}
	return e, nil
}

// checkDefaults returns an error if two links are the default at the same time, or if a primary key has links but no default.
func (e Entry) checkDefaults(id identifier) error {
	var defaults []Link
	hasHandler := false
	for _, link := range e.Links {
		hasHandler = hasHandler || link.Type == HandledBy
		if !link.Default {
			continue
		}
		if slices.ContainsFunc(defaults, link.overlaps) {
			return accounts.Invalidf("%s: two links are the default at the same time: set default: true on only one of them", e.Key)
		}
		defaults = append(defaults, link)
	}
	if id.key() == id.root() && len(e.Links) > 0 && len(defaults) == 0 && !hasHandler {
		return accounts.Invalidf("%s: no link is the default: give one of them default: true", e.Key)
	}
	return nil
}

// overlaps reports whether the active periods of two links overlap.
func (l Link) overlaps(other Link) bool {
	before := func(until, from *time.Time) bool { return until != nil && from != nil && !from.Before(*until) }
	return !before(l.Until, other.From) && !before(other.Until, l.From)
}

// isActive reports whether the link is active at time t.
func (l *Link) isActive(t time.Time) bool {
	return (l.From == nil || !t.Before(*l.From)) && (l.Until == nil || t.Before(*l.Until))
}

var (
	language    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}$`) })
	contextName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._:-]{1,40}$`) })
)

func (l Link) normalize() (Link, error) {
	l.Type = shortType(l.Type)
	switch {
	case l.Type == curie+"defaultLink" || l.Type == curie+"defaultLinkMulti":
		return l, fmt.Errorf("linktype %s does not describe the target: use one that does, such as gs1:pip, and default: true", l.Type)
	case typeName().MatchString(l.Type):
	case strings.HasPrefix(l.Type, "http"):
		if err := validAddress(l.Type, l.Type); err != nil {
			return l, fmt.Errorf("linktype: %w", err)
		}
		if !typeAddress().MatchString(l.Type) {
			return l, fmt.Errorf("linktype %.60q: GS1's schema of a linkset takes letters, digits, '.', '_' and '/' in its address", l.Type)
		}
	default:
		return l, fmt.Errorf("linktype %.60q: want a name of the GS1 Web Vocabulary, such as gs1:pip, or the address of a link type", l.Type)
	}
	if l.Title = strings.TrimSpace(l.Title); l.Title == "" || !accounts.IsVisible(l.Title, maxTitle) {
		return l, fmt.Errorf("title: want 1 to %d characters, without line breaks and other control characters", maxTitle)
	}
	probe, err := fill(l.Href, anyValue, url.PathEscape)
	if err != nil {
		return l, fmt.Errorf("href: %w", err)
	}
	if err := validAddress(l.Href, probe); err != nil {
		return l, fmt.Errorf("href: %w", err)
	}
	if len(l.Hreflang) > maxWords || len(l.Context) > maxWords {
		return l, fmt.Errorf("hreflang and context have at most %d values each", maxWords)
	}
	for _, name := range l.Hreflang {
		if !language().MatchString(name) {
			return l, fmt.Errorf("hreflang %.40q: want a language, such as en or zh-CN", name)
		}
	}
	for _, name := range l.Context {
		if !contextName().MatchString(name) {
			return l, fmt.Errorf("context %.40q: want up to 40 letters, digits and . _ : -", name)
		}
	}
	if l.Media != "" {
		kind, params, err := mime.ParseMediaType(l.Media)
		if err != nil || len(params) > 0 || strings.Count(kind, "/") != 1 || len(kind) > 100 || strings.Contains(kind, "*") {
			return l, fmt.Errorf("type %.60q: want a media type, such as text/html", l.Media)
		}
		l.Media = kind
	}
	if l.From != nil && l.Until != nil && !l.From.Before(*l.Until) {
		return l, errors.New("until is not after from")
	}
	return l, nil
}

// validAddress checks that an address is an http or https URL with a host. written is the address with placeholders, filled is the same
// address with values in their place. Placeholders may occur only after the host, because their values come from requests.
func validAddress(written, filled string) error {
	u, err := url.Parse(filled)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || len(written) > maxHref {
		return fmt.Errorf("%.80q: want https:// or http:// and a host, without a user name, %d bytes at most", written, maxHref)
	}
	for _, c := range []byte(filled) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\^`+"`{|}", c) >= 0 {
			return fmt.Errorf("%.80q: %q is not allowed in a URL: percent-encode it", written, c)
		}
	}
	if pos := strings.IndexByte(written, '{'); pos >= 0 && pos < len(u.Scheme)+len("://")+len(u.Host)+1 {
		return fmt.Errorf("%.80q: {…} is allowed only after the slash that follows the host", written)
	}
	return nil
}

// errUnfilled reports that a request has no value for a placeholder of a link.
var errUnfilled = errors.New("the request lacks a value for a placeholder")

// anyValue returns a sample value for each known AI; it is used to check the syntax of a text with placeholders.
func anyValue(ai string) (string, bool) { return "0", gs1.Known(ai) }

// errBrace reports an unbalanced brace.
var errBrace = errors.New("unbalanced brace: want {01}, {21} and the like")

// fill replaces each placeholder {AI} by the request's value. The values "." and ".." are rejected, because a browser would resolve
// them as relative path segments.
func fill(text string, value func(ai string) (string, bool), escape func(string) string) (string, error) {
	pos := strings.IndexAny(text, "{}")
	if pos < 0 {
		return text, nil
	}
	var filled strings.Builder
	filled.Grow(len(text) + 32)
	for ; pos >= 0; pos = strings.IndexAny(text, "{}") {
		length := strings.IndexAny(text[pos+1:], "{}")
		if text[pos] != '{' || length < 0 || text[pos+1+length] != '}' {
			return "", errBrace
		}
		ai := text[pos+1 : pos+1+length]
		v, ok := value(ai)
		switch {
		case !ok && !gs1.Known(ai):
			return "", fmt.Errorf("{%s} is not a GS1 application identifier", ai)
		case !ok || v == "." || v == "..":
			return "", errUnfilled
		}
		filled.WriteString(text[:pos])
		filled.WriteString(escape(v))
		text = text[pos+1+length+1:]
	}
	filled.WriteString(text)
	return filled.String(), nil
}
