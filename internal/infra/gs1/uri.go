package gs1

import (
	"net/url"
	"slices"
	"strings"
)

// Escape percent-encodes a value for a path or a query: all characters except the unreserved characters of RFC 3986, with
// upper-case hexadecimal digits.
func Escape(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }

// ParseURL parses a complete URL of a Digital Link. A fragment after # is ignored.
func ParseURL(text string) (Data, error) {
	text, _, _ = strings.Cut(text, "#")
	address, query, _ := strings.Cut(text, "?")
	scheme, rest, _ := strings.Cut(address, "://")
	host, path, _ := strings.Cut(rest, "/")
	if s := strings.ToLower(scheme); s != "http" && s != "https" || host == "" || strings.ContainsFunc(host, notInHost) {
		return Data{}, invalidf("%.80q is not a GS1 Digital Link: want https://HOST/01/…", text)
	}
	d, err := ParseURI("/"+path, query)
	d.Stem = scheme + "://" + host + d.Stem
	return d, err
}

func notInHost(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`_~?#@!$&'()*+,;=%"<>\^{|}`+"`", r)
}

// ParseURI parses the path and query of a request in percent-encoded form. Other path segments may precede the GS1 key; one trailing
// slash is allowed. Qualifiers must follow the primary key in the order that the dictionary defines, and are rejected in the query.
func ParseURI(path, query string) (Data, error) {
	segments := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	pos := keyBegins(segments)
	if pos < 0 {
		return Data{}, invalidf("%.80q has no GS1 key: want a path such as /01/09506000134352", path)
	}
	d, err := readPath(segments[pos:])
	if err != nil {
		return Data{}, err
	}
	if pos > 0 {
		d.Stem = "/" + strings.Join(segments[:pos], "/")
	}
	return d.readQuery(query)
}

// ParseKey parses a key that a person has entered: the path of a Digital Link, with or without a leading slash. padded is true if
// the GTIN was written with 8, 12 or 13 digits.
func ParseKey(path string) (k Key, padded bool, err error) {
	d, err := readPath(strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/"))
	return d.Key, d.Padded, err
}

// keyBegins returns the index of the segment at which the key begins: the last primary key after which only pairs of AI and value
// follow. If there is no such key, keyBegins returns the first segment that is the AI of a primary key, so that the caller reports
// the error in the segments after the AI.
func keyBegins(segments []string) int {
	for i := len(segments) - 2; i >= 0; i -= 2 {
		a := lookup(segments[i])
		if a == nil {
			break
		}
		if a.primary {
			return i
		}
	}
	return slices.IndexFunc(segments, func(s string) bool { a := lookup(s); return a != nil && a.primary })
}

func readPath(segments []string) (d Data, err error) {
	var list []Element
	for i := 0; i < len(segments); i += 2 {
		a := lookup(segments[i])
		if a == nil {
			return d, invalidf("AI (%s) does not exist", clip(segments[i]))
		}
		if i+1 == len(segments) {
			return d, invalidf("AI (%s) has no value", a.ai)
		}
		value, err := url.PathUnescape(segments[i+1])
		if err != nil {
			return d, invalidf("AI (%s): the value is not validly percent-encoded", a.ai)
		}
		if n := len(value); a.ai == "01" && (n == 8 || n == 12 || n == 13) && strings.Trim(value, anyDigit) == "" {
			value, d.Padded = strings.Repeat("0", 14-n)+value, true
		}
		if err := a.check(value); err != nil {
			return d, err
		}
		list = append(list, Element{a.ai, value})
	}
	primary := lookup(list[0].AI)
	if !primary.primary {
		return d, invalidf("AI (%s) is not a primary key: want one of %s", primary.ai, strings.Join(PrimaryKeys(), ", "))
	}
	if !slices.ContainsFunc(primary.qualifiers, func(order []string) bool { return inOrder(list[1:], order) }) {
		return d, invalidf("AI (%s) has qualifiers in the wrong order: want %s", primary.ai, ordersText(primary.qualifiers))
	}
	d.Key = keyOf(list)
	return d, nil
}

func clip(text string) string { return text[:min(len(text), 20)] }

func ordersText(orders [][]string) string {
	var list []string
	for _, order := range orders {
		list = append(list, strings.Join(order, ", "))
	}
	if text := strings.Join(list, " / "); text != "" {
		return text
	}
	return "0"
}

// inOrder reports whether the AIs of the elements are a subsequence of order.
func inOrder(list []Element, order []string) bool {
	last := -1
	for _, e := range list {
		i := slices.Index(order, e.AI)
		if i <= last {
			return false
		}
		last = i
	}
	return true
}

// readQuery parses the attributes in a query. Parameter names that consist of digits are AIs; other parameters are kept unchanged.
func (d Data) readQuery(query string) (Data, error) {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, isPair := strings.Cut(pair, "=")
		switch {
		case pair == "":
			continue
		case !isPair:
			d.Rest = append(d.Rest, Pair{Name: name})
			continue
		case name == "" || strings.Trim(name, anyDigit) != "":
			if value == "" {
				name += "="
			}
			d.Rest = append(d.Rest, Pair{name, value})
			continue
		}
		a := lookup(name)
		if a == nil {
			return d, invalidf("AI (%s) does not exist", clip(name))
		}
		if err := attribute(name, d.Key); err != nil {
			return d, err
		}
		value, err := url.QueryUnescape(value)
		if err != nil {
			return d, invalidf("AI (%s): the value is not validly percent-encoded", name)
		}
		if err := a.check(value); err != nil {
			return d, err
		}
		if _, duplicate := d.Value(name); duplicate {
			return d, invalidf("AI (%s) occurs twice", name)
		}
		d.Attributes = append(d.Attributes, Element{name, value})
	}
	return d, checkCombination(d.Elements())
}

// attribute checks that an AI is allowed in the query together with a key.
func attribute(ai string, key Key) error {
	if !lookup(ai).data {
		return invalidf("AI (%s) is not allowed in the query of a Digital Link", ai)
	}
	if _, exists := key.Value(ai); exists {
		return invalidf("AI (%s) occurs twice", ai)
	}
	for _, order := range lookup(key.Primary().AI).qualifiers {
		if slices.Contains(order, ai) && inOrder(key.elements[1:], order) {
			return invalidf("AI (%s) belongs in the path, after the key", ai)
		}
	}
	return nil
}
