// Package gs1 parses and formats GS1 keys and data: element strings in symbols, bracketed Application Identifiers (AIs), and GS1
// Digital Link URIs (URI Syntax 1.6). The format of each AI is read from GS1's own syntax dictionary. Decision 70.
package gs1

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Element is an AI with its value.
type Element struct{ AI, Value string }

// Pair is a query parameter that is not an AI, as written.
type Pair struct{ Name, Value string }

// Error is the reason why a text is not valid GS1 data.
type Error struct {
	AI     string // the AI with the error; "" = the whole text
	format string
	args   []any
}

// Error returns the message in English. The catalog of internal/infra/errortext contains the same message for translation.
func (e *Error) Error() string { return fmt.Sprintf(e.format, e.args...) }

func invalidf(format string, args ...any) error {
	e := &Error{format: format, args: args}
	if strings.HasPrefix(format, "AI (%s)") {
		e.AI, _ = args[0].(string)
	}
	return e
}

// Key is a primary key with its qualifiers, in the order of the dictionary. The zero Key means that there is no key.
type Key struct {
	elements []Element
	text     string
}

func keyOf(elements []Element) Key {
	parts := make([]string, 0, 2*len(elements))
	for _, e := range elements {
		parts = append(parts, e.AI, Escape(e.Value))
	}
	return Key{elements, strings.Join(parts, "/")}
}

// String returns the key as the path of a Digital Link without the leading slash: 01/09506000134352/10/LOT.
func (k Key) String() string { return k.text }

// IsZero reports whether the key is empty.
func (k Key) IsZero() bool { return k.text == "" }

// Elements returns the primary key and the qualifiers.
func (k Key) Elements() []Element { return slices.Clone(k.elements) }

// Primary returns the element of the primary key.
func (k Key) Primary() Element {
	if k.IsZero() {
		return Element{}
	}
	return k.elements[0]
}

// Company returns the part of the primary key that begins with the GS1 Company Prefix, as the dictionary defines: a GTIN without
// its first digit, a GRAI without its leading zero. The result is "" if the key has no company prefix.
func (k Key) Company() string {
	e, begins := k.Primary(), 0
	a := lookup(e.AI)
	if a == nil {
		return ""
	}
	for _, p := range a.parts {
		switch {
		case slices.Contains(p.checks, "gcppos1"):
			return e.Value[begins:]
		case slices.Contains(p.checks, "gcppos2"):
			return e.Value[begins+1:]
		}
		begins += p.max
	}
	return ""
}

// Root returns the primary key without qualifiers.
func (k Key) Root() Key { return k.first(min(1, len(k.elements))) }

// Parents returns the keys with fewer qualifiers, from the longest to the primary key.
func (k Key) Parents() []Key {
	list := make([]Key, 0, max(0, len(k.elements)-1))
	for n := len(k.elements) - 1; n > 0; n-- {
		list = append(list, k.first(n))
	}
	return list
}

func (k Key) first(n int) Key {
	end := max(0, n-1) // the number of slashes between the elements
	for _, e := range k.elements[:n] {
		end += len(e.AI) + 1 + len(Escape(e.Value))
	}
	return Key{k.elements[:n:n], k.text[:end]}
}

// Value returns the value of an AI in the key.
func (k Key) Value(ai string) (string, bool) { return find(k.elements, ai) }

func find(list []Element, ai string) (string, bool) {
	if i := slices.IndexFunc(list, func(e Element) bool { return e.AI == ai }); i >= 0 {
		return list[i].Value, true
	}
	return "", false
}

// Data is a key with all other data of the same text.
type Data struct {
	Key        Key       // zero if no element is a primary key
	Attributes []Element // all elements outside the key, in order
	Rest       []Pair    // query parameters of a URI that are not AIs, in order
	Stem       string    // the part of a URI before its key, such as "https://example.com/some" or "/some"
	Padded     bool      // the GTIN was written with 8, 12 or 13 digits and was padded to 14
}

// Elements returns the elements of the key and the attributes.
func (d Data) Elements() []Element { return append(d.Key.Elements(), d.Attributes...) }

// Value returns the value of an AI in the key or the attributes.
func (d Data) Value(ai string) (string, bool) {
	if value, is := d.Key.Value(ai); is {
		return value, true
	}
	return find(d.Attributes, ai)
}

// Bracketed returns the data as printed next to a symbol: (01)09506000134352(10)LOT. A backslash escapes an opening bracket.
func (d Data) Bracketed() string {
	var b strings.Builder
	for _, e := range d.Elements() {
		fmt.Fprintf(&b, "(%s)%s", e.AI, strings.ReplaceAll(e.Value, "(", `\(`))
	}
	return b.String()
}

// Separator ends a value of variable length in an element string; scanners send this character for FNC1.
const Separator = "\x1d"

// ElementString returns the data as encoded in a symbol after its first FNC1: the primary key, then values of fixed length, then
// the other values.
func (d Data) ElementString() string {
	list := d.Elements()
	slices.SortStableFunc(list[min(1, len(list)):], func(a, b Element) int {
		return cmp.Compare(variable(a), variable(b))
	})
	var b strings.Builder
	for i, e := range list {
		b.WriteString(e.AI + e.Value)
		if i+1 < len(list) {
			b.WriteString(Separator[:variable(e)])
		}
	}
	return b.String()
}

// variable returns 1 if a separator must end the value of the element, otherwise 0.
func variable(e Element) int {
	if a := lookup(e.AI); a != nil && a.fixed {
		return 0
	}
	return 1
}

// URI returns the Digital Link with a stem such as https://example.com: the path contains the key, and the query contains the
// attributes sorted by AI, followed by the other parameters. URI returns an error if an element is not allowed in a Digital Link.
func (d Data) URI(stem string) (string, error) {
	if d.Key.IsZero() {
		return "", invalidf("a GS1 Digital Link needs a key: want a GTIN (01) or another primary key")
	}
	for _, e := range d.Key.elements {
		if e.Value == "." || e.Value == ".." {
			return "", invalidf("AI (%s): a Digital Link cannot contain the value %s alone: browsers resolve it as a path segment", e.AI, e.Value)
		}
	}
	attributes := slices.Clone(d.Attributes)
	slices.SortStableFunc(attributes, func(a, b Element) int { return cmp.Compare(a.AI, b.AI) })
	var query []string
	for _, e := range attributes {
		if err := attribute(e.AI, d.Key); err != nil {
			return "", err
		}
		query = append(query, e.AI+"="+Escape(e.Value))
	}
	for _, p := range d.Rest {
		if p.Value == "" && !strings.HasSuffix(p.Name, "=") {
			query = append(query, p.Name)
			continue
		}
		query = append(query, strings.TrimSuffix(p.Name, "=")+"="+p.Value)
	}
	uri := strings.TrimSuffix(stem, "/") + "/" + d.Key.text
	if len(query) > 0 {
		uri += "?" + strings.Join(query, "&")
	}
	return uri, nil
}

// Parse parses GS1 data in any notation: a Digital Link, bracketed AIs, or an element string.
func Parse(text string) (Data, error) {
	switch lower := strings.ToLower(text[:min(len(text), 8)]); {
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		return ParseURL(text)
	case strings.HasPrefix(text, "("):
		return ParseBracketed(text)
	}
	return ParseElementString(text)
}

// dataOf splits elements into a key and attributes. The key is the first primary key with its qualifiers. If possible, dataOf
// selects the qualifiers so that all attributes are allowed in a URI. dataOf returns an error if elements must not be combined.
func dataOf(list []Element) (Data, error) {
	if len(list) == 0 {
		return Data{}, invalidf("not GS1 data: want AIs with values, such as (01)09506000134352")
	}
	var fullElements []Element
	for _, e := range list {
		value, duplicate := find(fullElements, e.AI)
		if duplicate && value != e.Value {
			return Data{}, invalidf("AI (%s) occurs twice with different values", e.AI)
		}
		if !duplicate {
			fullElements = append(fullElements, e)
		}
	}
	if err := checkCombination(fullElements); err != nil {
		return Data{}, err
	}
	i := slices.IndexFunc(fullElements, func(e Element) bool { return lookup(e.AI).primary })
	if i < 0 {
		return Data{Attributes: fullElements}, nil
	}
	best := Data{}
	for _, order := range lookup(fullElements[i].AI).qualifiers {
		key, rest := []Element{fullElements[i]}, slices.Delete(slices.Clone(fullElements), i, i+1)
		for _, ai := range order {
			if value, is := find(rest, ai); is {
				key = append(key, Element{ai, value})
				rest = slices.DeleteFunc(rest, func(e Element) bool { return e.AI == ai })
			}
		}
		d := Data{Key: keyOf(key), Attributes: rest}
		_, err := d.URI("")
		if best.Key.IsZero() || err == nil {
			best = d
		}
		if err == nil {
			break
		}
	}
	return best, nil
}

// checkCombination returns an error if an AI requires an absent AI or excludes a present one.
func checkCombination(list []Element) error {
	has := func(pattern, but string) string { // the pattern 31nn matches 3100 to 3199
		prefix := strings.TrimRight(pattern, "n")
		for _, e := range list {
			if len(e.AI) == len(pattern) && strings.HasPrefix(e.AI, prefix) && e.AI != but {
				return e.AI
			}
		}
		return ""
	}
	for _, e := range list {
		a := lookup(e.AI)
		for _, pattern := range a.excludes {
			if peer := has(pattern, e.AI); peer != "" {
				return invalidf("AI (%s) must not be combined with AI (%s)", e.AI, peer)
			}
		}
		for _, groups := range a.requires {
			if !slices.ContainsFunc(groups, func(group []string) bool {
				return !slices.ContainsFunc(group, func(pattern string) bool { return has(pattern, e.AI) == "" })
			}) {
				return invalidf("AI (%s) must be combined with another AI: %s", e.AI, groupsText(groups))
			}
		}
		// A digital signature must refer to a single item: General Specifications, 3.9.
		if value, is := find(list, "8030"); is && value != "" && slices.Contains([]string{"253", "255", "8003"}, e.AI) &&
			len(e.Value) == a.min {
			return invalidf("AI (%s) needs a serial number, because a signature (8030) is present", e.AI)
		}
	}
	return nil
}

func groupsText(groups [][]string) string {
	var list []string
	for _, group := range groups {
		list = append(list, "("+strings.Join(group, ")(")+")")
	}
	return strings.Join(list, ", ")
}

// CheckDigit returns the check digit for a sequence of digits (General Specifications, 7.9: weights 3 and 1 from the right).
func CheckDigit(digits string) byte {
	sum := 0
	for i := range len(digits) {
		d := int(digits[i] - '0')
		if (len(digits)-i)%2 == 1 {
			d *= 3
		}
		sum += d
	}
	return byte('0' + (10-sum%10)%10)
}
