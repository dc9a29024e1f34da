// Package gs1 knows how the keys and data of GS1 are written: as element strings in symbols, with bracketed Application
// Identifiers (AIs), and as GS1 Digital Link URIs (URI Syntax 1.6). What each AI holds is read from GS1's own syntax
// dictionary. Decision 70.
package gs1

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Element is an AI with its value.
type Element struct{ AI, Value string }

// Pair is one of a query that is no AI, as it was written.
type Pair struct{ Name, Value string }

// Error is the reason for which a text is no valid GS1 data.
type Error struct {
	AI     string // of which it is said; "" = of the whole
	format string
	args   []any
}

// Error says it in English. What it says stands in the book of internal/infra/errortext too.
func (e *Error) Error() string { return fmt.Sprintf(e.format, e.args...) }

func invalidf(format string, args ...any) error {
	e := &Error{format: format, args: args}
	if strings.HasPrefix(format, "AI (%s)") {
		e.AI, _ = args[0].(string)
	}
	return e
}

// Key is a primary key with its qualifiers, in the dictionary's order. The zero Key is none.
type Key struct {
	elements []Element
	text     string
}

func keyOf(elements []Element) Key {
	parts := make([]string, 0, 2*len(elements))
	for _, e := range elements {
		parts = append(parts, e.AI, escape(e.Value))
	}
	return Key{elements, strings.Join(parts, "/")}
}

// String returns the key as a path of a Digital Link without its first slash: 01/09506000134352/10/LOT.
func (k Key) String() string { return k.text }

// IsZero reports whether it is none.
func (k Key) IsZero() bool { return k.text == "" }

// Elements returns the primary key and the qualifiers.
func (k Key) Elements() []Element { return slices.Clone(k.elements) }

// Primary returns the primary key's element.
func (k Key) Primary() Element {
	if k.IsZero() {
		return Element{}
	}
	return k.elements[0]
}

// Company returns the value of the primary key from where a GS1 Company Prefix begins, which the dictionary says: a GTIN without its
// first digit, a GRAI without its zero. "" = it has none.
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
		begins += p.most
	}
	return ""
}

// Root returns the primary key without qualifiers.
func (k Key) Root() Key { return k.first(min(1, len(k.elements))) }

// Parents returns the keys that stand above it, nearest first.
func (k Key) Parents() []Key {
	list := make([]Key, 0, max(0, len(k.elements)-1))
	for n := len(k.elements) - 1; n > 0; n-- {
		list = append(list, k.first(n))
	}
	return list
}

func (k Key) first(n int) Key {
	end := max(0, n-1) // slashes between elements and in them
	for _, e := range k.elements[:n] {
		end += len(e.AI) + 1 + len(escape(e.Value))
	}
	return Key{k.elements[:n:n], k.text[:end]}
}

// Value returns the value of an AI.
func (k Key) Value(ai string) (string, bool) { return find(k.elements, ai) }

func find(list []Element, ai string) (string, bool) {
	if i := slices.IndexFunc(list, func(e Element) bool { return e.AI == ai }); i >= 0 {
		return list[i].Value, true
	}
	return "", false
}

// Data is a key with what else is said of the thing.
type Data struct {
	Key        Key       // zero where no element is a primary key
	Attributes []Element // all other elements, in order
	Rest       []Pair    // of a URI's query: what is no AI, in order
	Stem       string    // of a URI: what stands before its key, "https://example.com/some" or "/some"
	Padded     bool      // a GTIN was written with 8, 12 or 13 digits; here it has 14
}

// Elements returns the key and the attributes.
func (d Data) Elements() []Element { return append(d.Key.Elements(), d.Attributes...) }

// Value returns the value of an AI.
func (d Data) Value(ai string) (string, bool) {
	if value, is := d.Key.Value(ai); is {
		return value, true
	}
	return find(d.Attributes, ai)
}

// Bracketed returns the data as it is printed beside a symbol: (01)09506000134352(10)LOT. A bracket in a value has a
// backslash before it.
func (d Data) Bracketed() string {
	var b strings.Builder
	for _, e := range d.Elements() {
		fmt.Fprintf(&b, "(%s)%s", e.AI, strings.ReplaceAll(e.Value, "(", `\(`))
	}
	return b.String()
}

// Separator ends a value of no fixed length in an element string: what scanners send for FNC1.
const Separator = "\x1d"

// ElementString returns the data as a symbol holds it after its first FNC1: the primary key, then values of fixed length, then others.
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

// variable is 1 where a separator must end the value.
func variable(e Element) int {
	if a := lookup(e.AI); a != nil && a.fixed {
		return 0
	}
	return 1
}

// URI returns the Digital Link under a stem such as https://example.com: the key as its path, the attributes as its query in the
// order of their AIs, and the rest behind them. The error says what has no place in a Digital Link.
func (d Data) URI(stem string) (string, error) {
	if d.Key.IsZero() {
		return "", invalidf("no GS1 Digital Link without a key: want a GTIN (01) or another primary key")
	}
	for _, e := range d.Key.elements {
		if e.Value == "." || e.Value == ".." {
			return "", invalidf("AI (%s): the value %s alone cannot stand in a Digital Link: browsers take it for a step in the path", e.AI, e.Value)
		}
	}
	attributes := slices.Clone(d.Attributes)
	slices.SortStableFunc(attributes, func(a, b Element) int { return cmp.Compare(a.AI, b.AI) })
	var query []string
	for _, e := range attributes {
		if err := attribute(e.AI, d.Key); err != nil {
			return "", err
		}
		query = append(query, e.AI+"="+escape(e.Value))
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

// CanonicalStem is that of the canonical URI, which identifies a thing independently of its resolver.
const CanonicalStem = "https://id.gs1.org"

// Canonical returns the canonical URI: under GS1's own host, without what is no AI.
func (d Data) Canonical() (string, error) {
	d.Rest = nil
	return d.URI(CanonicalStem)
}

// Parse reads any of the ways to write GS1 data: a Digital Link, bracketed AIs, an element string.
func Parse(text string) (Data, error) {
	switch lower := strings.ToLower(text[:min(len(text), 8)]); {
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		return ParseURL(text)
	case strings.HasPrefix(text, "("):
		return ParseBracketed(text)
	}
	return ParseElementString(text)
}

// dataOf sorts elements into a key and attributes: the first that is a primary key, with those of its qualifiers that leave
// nothing over which a URI cannot hold. It says which elements do not go together.
func dataOf(list []Element) (Data, error) {
	if len(list) == 0 {
		return Data{}, invalidf("no GS1 data: want AIs with their values, such as (01)09506000134352")
	}
	var fullElements []Element
	for _, e := range list {
		value, duplicate := find(fullElements, e.AI)
		if duplicate && value != e.Value {
			return Data{}, invalidf("AI (%s) stands there twice with two values", e.AI)
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

// checkCombination checks which AIs need others, and which exclude one another.
func checkCombination(list []Element) error {
	has := func(pattern, but string) string { // 31nn = any of 3100 to 3199
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
				return invalidf("AI (%s) cannot stand with AI (%s)", e.AI, peer)
			}
		}
		for _, groups := range a.requires {
			if !slices.ContainsFunc(groups, func(group []string) bool {
				return !slices.ContainsFunc(group, func(pattern string) bool { return has(pattern, e.AI) == "" })
			}) {
				return invalidf("AI (%s) needs another beside it: %s", e.AI, groupsText(groups))
			}
		}
		// A signature is of one thing: General Specifications, 3.9.
		if value, is := find(list, "8030"); is && value != "" && slices.Contains([]string{"253", "255", "8003"}, e.AI) &&
			len(e.Value) == a.least {
			return invalidf("AI (%s) needs a serial number beside a signature (8030)", e.AI)
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

// CheckDigit returns the check digit of the digits before it (General Specifications, 7.9: weights 3 and 1 from the right).
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
