package gs1

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// dictionaryText is GS1's published list of AIs, including its licence. To update the list of AIs, replace the dictionary file by a
// newer version from GS1.
//
//go:embed gs1-syntax-dictionary.txt
var dictionaryText string

// application describes an AI as in the dictionary.
type application struct {
	ai         string
	fixed      bool // the value has a fixed length and needs no separator
	data       bool // the AI is allowed in the query of a Digital Link
	primary    bool
	qualifiers [][]string // for a primary key: the allowed sequences of qualifiers
	excludes   []string
	requires   [][][]string // conditions: for each one, all AIs of at least one of its groups must be present
	parts      []part
	min        int // characters
	max        int
}

// part is a component of a value.
type part struct {
	set      byte // the character set: N, X, Y or Z
	min, max int
	optional bool
	checks   []string
}

var dictionary = sync.OnceValue(func() map[string]*application {
	all := map[string]*application{}
	for line := range strings.Lines(dictionaryText) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		a := read(fields[1:])
		first, last, isMany := strings.Cut(fields[0], "-")
		if !isMany {
			last = first
		}
		for n, end := number(first), number(last); n <= end; n++ {
			item := a
			item.ai = strconv.Itoa(n)
			item.ai = strings.Repeat("0", len(first)-len(item.ai)) + item.ai
			all[item.ai] = &item
		}
	}
	return all
})

func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// read parses the fields of a dictionary line after its AI.
func read(fields []string) (a application) {
	if !strings.ContainsAny(fields[0], "NXYZ") {
		a.fixed, a.data = strings.Contains(fields[0], "*"), strings.Contains(fields[0], "?")
		fields = fields[1:]
	}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "ex":
			a.excludes = append(a.excludes, strings.Split(value, ",")...)
		case "req":
			var groups [][]string
			for group := range strings.SplitSeq(value, ",") {
				groups = append(groups, strings.Split(group, "+"))
			}
			a.requires = append(a.requires, groups)
		case "dlpkey":
			a.primary = true
			for order := range strings.SplitSeq(value, "|") {
				a.qualifiers = append(a.qualifiers, strings.FieldsFunc(order, func(r rune) bool { return r == ',' }))
			}
		default:
			p := readPart(field)
			a.parts = append(a.parts, p)
			a.max += p.max
			if !p.optional {
				a.min += p.min
			}
		}
	}
	return a
}

// readPart parses the specification of a component, such as N13,csum or [X..17].
func readPart(field string) (p part) {
	form, checks, _ := strings.Cut(field, ",")
	if checks != "" {
		p.checks = strings.Split(checks, ",")
	}
	p.optional = strings.HasPrefix(form, "[")
	form = strings.Trim(form, "[]")
	p.set = form[0]
	size, variable := strings.CutPrefix(form[1:], "..")
	p.max = number(size)
	p.min = p.max
	if variable {
		p.min = 1
	}
	return p
}

// lookup returns the description of an AI; nil if the AI does not exist.
func lookup(ai string) *application { return dictionary()[ai] }

// begins returns the AI at the start of a text; nil if there is none.
func begins(text string) *application {
	for n := 2; n <= 4 && n <= len(text); n++ {
		if a := lookup(text[:n]); a != nil {
			return a
		}
	}
	return nil
}

// Known reports whether an AI exists.
func Known(ai string) bool { return lookup(ai) != nil }

// PrimaryKeys returns the AIs with which the path of a Digital Link can begin, sorted.
func PrimaryKeys() (list []string) {
	for ai, a := range dictionary() {
		if a.primary {
			list = append(list, ai)
		}
	}
	slices.Sort(list)
	return list
}

// check returns an error if a value is invalid for the AI.
func (a *application) check(value string) error {
	switch {
	case value == "":
		return invalidf("AI (%s) has no value", a.ai)
	case len(value) < a.min:
		return invalidf("AI (%s) has %d characters: want at least %d", a.ai, len(value), a.min)
	case len(value) > a.max:
		return invalidf("AI (%s) has %d characters: want at most %d", a.ai, len(value), a.max)
	}
	rest := value
	for _, p := range a.parts {
		if p.optional && rest == "" {
			continue
		}
		item := rest[:min(len(rest), p.max)]
		rest = rest[len(item):]
		if len(item) < p.min {
			return invalidf("AI (%s) has %d characters, which is not one of the lengths allowed", a.ai, len(value))
		}
		if i := strings.IndexFunc(item, func(r rune) bool { return !in(p.set, r) }); i >= 0 {
			return invalidf("AI (%s): %q is not allowed in the value", a.ai, []rune(item[i:])[0])
		}
		if p.set == 'Z' && !base64url(item) {
			return invalidf("AI (%s): the value is not base64url", a.ai)
		}
		for _, name := range p.checks {
			if err := checks[name](a.ai, item); err != nil {
				return err
			}
		}
	}
	return nil
}

// in reports whether a character belongs to a character set (General Specifications, 7.11).
func in(set byte, r rune) bool {
	switch {
	case '0' <= r && r <= '9':
		return true
	case set == 'N':
		return false
	case 'A' <= r && r <= 'Z':
		return true
	case set == 'Y':
		return strings.ContainsRune("#-/", r)
	case 'a' <= r && r <= 'z', r == '-', r == '_':
		return true
	case set == 'Z':
		return r == '='
	}
	return strings.ContainsRune(`!"%&'()*+,./:;<=>?`, r)
}

// base64url reports whether padding occurs only at the end of a text.
func base64url(text string) bool {
	body := strings.TrimRight(text, "=")
	return body != "" && len(text)-len(body) <= 2 && !strings.Contains(body, "=")
}
