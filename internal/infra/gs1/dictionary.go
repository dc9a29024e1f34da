package gs1

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// dictionaryText is GS1's own list of AIs, as published, with its licence. Newer: take the newer file.
//
//go:embed gs1-syntax-dictionary.txt
var dictionaryText string

// application is the dictionary's description of an AI.
type application struct {
	ai         string
	fixed      bool // no separator ends its value
	data       bool // it may stand in the query of a Digital Link
	primary    bool
	qualifiers [][]string // of a primary key: each order in which they may follow
	excludes   []string
	requires   [][][]string // of each list one group, all of it
	parts      []part
	least      int // characters
	most       int
}

// part is a part of a value.
type part struct {
	set         byte // N, X, Y or Z
	least, most int
	optional    bool
	checks      []string
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

// read reads a line of the dictionary behind its AI.
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
			a.most += p.most
			if !p.optional {
				a.least += p.least
			}
		}
	}
	return a
}

// readPart reads N13,csum or [X..17] and the like.
func readPart(field string) (p part) {
	form, checks, _ := strings.Cut(field, ",")
	if checks != "" {
		p.checks = strings.Split(checks, ",")
	}
	p.optional = strings.HasPrefix(form, "[")
	form = strings.Trim(form, "[]")
	p.set = form[0]
	size, variable := strings.CutPrefix(form[1:], "..")
	p.most = number(size)
	if p.least = p.most; variable {
		p.least = 1
	}
	return p
}

// lookup returns nil for what is no AI.
func lookup(ai string) *application { return dictionary()[ai] }

// begins returns the AI with which a text begins, nil where it begins with none.
func begins(text string) *application {
	for n := 2; n <= 4 && n <= len(text); n++ {
		if a := lookup(text[:n]); a != nil {
			return a
		}
	}
	return nil
}

// Known reports whether there is such an AI.
func Known(ai string) bool { return lookup(ai) != nil }

// PrimaryKeys returns the AIs with which the path of a Digital Link can begin, in order.
func PrimaryKeys() (list []string) {
	for ai, a := range dictionary() {
		if a.primary {
			list = append(list, ai)
		}
	}
	slices.Sort(list)
	return list
}

// check says what is wrong with a value.
func (a *application) check(value string) error {
	switch {
	case value == "":
		return invalidf("AI (%s) has no value", a.ai)
	case len(value) < a.least:
		return invalidf("AI (%s) has %d characters: want at least %d", a.ai, len(value), a.least)
	case len(value) > a.most:
		return invalidf("AI (%s) has %d characters: want at most %d", a.ai, len(value), a.most)
	}
	rest := value
	for _, p := range a.parts {
		if p.optional && rest == "" {
			continue
		}
		item := rest[:min(len(rest), p.most)]
		rest = rest[len(item):]
		if len(item) < p.least {
			return invalidf("AI (%s) has %d characters: that is none of its lengths", a.ai, len(value))
		}
		if i := strings.IndexFunc(item, func(r rune) bool { return !in(p.set, r) }); i >= 0 {
			return invalidf("AI (%s): %q cannot stand in its value", a.ai, []rune(item[i:])[0])
		}
		if p.set == 'Z' && !base64url(item) {
			return invalidf("AI (%s): its value is no base64url", a.ai)
		}
		for _, name := range p.checks {
			if err := checks[name](a.ai, item); err != nil {
				return err
			}
		}
	}
	return nil
}

// in reports whether a character is of a set: General Specifications, 7.11.
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

// base64url reports whether padding stands at the end alone.
func base64url(text string) bool {
	body := strings.TrimRight(text, "=")
	return body != "" && len(text)-len(body) <= 2 && !strings.Contains(body, "=")
}
