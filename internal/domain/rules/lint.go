package rules

import (
	"cmp"
	"slices"
	"strings"
)

// FindingKind names what a set of rules does that its authors hardly meant.
type FindingKind string

// The kinds of findings.
const (
	// AlsoCatches: a rule that ends in a number matches longer numbers as well.
	AlsoCatches FindingKind = "also_catches"
	// HidesPublished: an unpublished rule keeps links from its owner's shorter, published one.
	HidesPublished FindingKind = "hides_published"
	// OthersOpen: while a rule is unpublished, another owner's shorter one opens its links.
	OthersOpen FindingKind = "others_open"
	// OthersTake: another owner's longer rule takes links of a published one.
	OthersTake FindingKind = "others_take"
	// Shadowed: a rule governs no link at all, for a longer one matches all that it matches.
	Shadowed FindingKind = "shadowed"
	// Redundant: without the rule the same page opens.
	Redundant FindingKind = "redundant"
	// NoFinalSlash: a rule matches its own path alone and nothing below.
	NoFinalSlash FindingKind = "no_final_slash"
	// LostTestLink: a test link does not match its rule.
	LostTestLink FindingKind = "test_link"
	// Duplicate: two rules have one identity, and only one of them can be added.
	Duplicate FindingKind = "duplicate"
)

// FindingKinds are all kinds, in the order in which they are reported.
var FindingKinds = []FindingKind{Duplicate, LostTestLink, Shadowed, AlsoCatches, HidesPublished, OthersOpen, OthersTake, NoFinalSlash,
	Redundant}

// Finding is one thing that a rule of a set does and that was hardly meant.
type Finding struct {
	Kind  FindingKind
	Rule  int // its place in the set
	Other int // the place of the rule that it meets; -1 where there is none
	// Link is a link on which the finding shows; "" where none is needed.
	Link string
	// Prefixes are the prefixes that would say what was meant. For AlsoCatches: of the rules that,
	// added and left unpublished, keep longer numbers out; no smaller set does. For NoFinalSlash:
	// the prefix with its slash.
	Prefixes []string
}

// Lint looks for what the authors of a set of rules hardly meant, in the order
// of the set. It judges by Matches and by the order in which rules govern
// (contract: rules 2.9), and takes every account as able to open.
func Lint(set []Rule) []Finding {
	l := newLinted(set)
	for i := range set {
		l.look(i)
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(slices.Index(FindingKinds, a.Kind), slices.Index(FindingKinds, b.Kind)))
	})
	return l.found
}

type linted struct {
	set   []Rule
	first map[string]int // of each identity the first rule that has it
	found []Finding
}

func newLinted(set []Rule) *linted {
	l := &linted{set: set, first: make(map[string]int, len(set))}
	for i, r := range set {
		if _, ok := l.first[r.Prefix.Key]; !ok {
			l.first[r.Prefix.Key] = i
		}
	}
	return l
}

func (l *linted) add(f Finding) { l.found = append(l.found, f) }

// look adds the findings of one rule.
func (l *linted) look(i int) {
	r := l.set[i]
	if first := l.first[r.Prefix.Key]; first != i {
		l.add(Finding{Kind: Duplicate, Rule: i, Other: first})
		return
	}
	for _, text := range r.TestLinks {
		if checkTestLinks(r.Prefix, []string{text}) != nil {
			l.add(Finding{Kind: LostTestLink, Rule: i, Other: -1, Link: text})
		}
	}
	if r.Kind == Service {
		return // it matches its own text alone
	}
	// A rule that ends with a bare "?" is longer, and matches all the same.
	if j, ok := l.first[r.Prefix.Key+"?"]; ok && !r.Prefix.Sub && !r.Prefix.HasQuery() && l.set[j].Owner == r.Owner {
		l.add(Finding{Kind: Shadowed, Rule: i, Other: j, Link: r.Prefix.Text})
		return
	}
	l.number(i)
	l.checkShorter(i, l.matching(r.Prefix.Link))
	l.slash(i)
}

// matching returns the rules that match a link, longest first.
func (l *linted) matching(link Link) (list []int) {
	for _, key := range link.Ends() {
		if i, ok := l.first[key]; ok && l.set[i].Prefix.Matches(link) {
			list = append(list, i)
		}
	}
	return list
}

// governing returns the rule that opens a link, among those that match it, longest first; -1 where none
// does. Contract: rules 2.9.
func (l *linted) governing(matching []int) int {
	for pos, i := range matching {
		isOwn := func(longer int) bool { return l.set[longer].Owner == l.set[i].Owner }
		if l.set[i].Published && !slices.ContainsFunc(matching[:pos], isOwn) {
			return i
		}
	}
	return -1
}

// number finds a rule whose last parameter is a number: it matches longer numbers too. Ten rules
// keep these out, one for each digit that may follow: a shorter rule would match the number itself
// too.
func (l *linted) number(i int) {
	r := l.set[i]
	if !r.Published || !endsInNumber(r.Prefix) {
		return
	}
	var prefixes []string
	for d := range 10 {
		longer := r.Prefix.Text + string(rune('0'+d))
		if link, ok := ParseLink(longer); ok && l.governing(l.matching(link)) == i {
			prefixes = append(prefixes, longer)
		}
	}
	if len(prefixes) > 0 {
		l.add(Finding{Kind: AlsoCatches, Rule: i, Other: -1, Link: prefixes[0], Prefixes: prefixes})
	}
}

// endsInNumber reports whether a prefix ends in a parameter whose value is a number.
func endsInNumber(p Prefix) bool {
	query := p.Query()
	_, value, ok := strings.Cut(query[strings.LastIndexByte(query, '&')+1:], "=")
	return ok && value != "" && strings.Trim(value, "0123456789") == ""
}

// checkShorter finds what a rule does to the links of shorter ones.
func (l *linted) checkShorter(i int, matching []int) {
	r := l.set[i]
	shorter := matching[slices.Index(matching, i)+1:]
	if !r.Published {
		local := slices.IndexFunc(shorter, func(j int) bool { return l.set[j].Owner == r.Owner })
		if local >= 0 && l.set[shorter[local]].Published && !l.keptOut(shorter[local], i) {
			l.add(Finding{Kind: HidesPublished, Rule: i, Other: shorter[local], Link: r.Prefix.Text})
		}
		if opens := l.governing(matching); opens >= 0 && l.set[opens].Owner != r.Owner {
			l.add(Finding{Kind: OthersOpen, Rule: i, Other: opens, Link: r.Prefix.Text})
		}
		return
	}
	n := l.governing(slices.DeleteFunc(slices.Clone(matching), func(j int) bool { return j == i }))
	if n < 0 {
		return
	}
	otherRule := l.set[n]
	switch {
	case l.governing(matching) != i:
	case otherRule.Owner != r.Owner:
		l.add(Finding{Kind: OthersTake, Rule: n, Other: i, Link: r.Prefix.Text})
	case otherRule.Path == r.Path && otherRule.Target == r.Target && (otherRule.Occupy || !r.Occupy) && len(r.TestLinks) == 0:
		l.add(Finding{Kind: Redundant, Rule: i, Other: n, Link: r.Prefix.Text})
	}
}

// keptOut reports whether an unpublished rule was added to keep longer numbers out, as AlsoCatches
// advises: then there is one for each digit that may follow.
func (l *linted) keptOut(number, hiding int) bool {
	short, prefix := l.set[number].Prefix, l.set[hiding].Prefix
	if !endsInNumber(short) || !endsInNumber(prefix) || len(prefix.Key) != len(short.Key)+1 {
		return false
	}
	for d := range 10 {
		if j, ok := l.first[short.Key+string(rune('0'+d))]; !ok || l.set[j].Owner != l.set[number].Owner {
			return false
		}
	}
	return true
}

// slash finds a rule that matches nothing below its path although the path does not look like that
// of a file.
func (l *linted) slash(i int) {
	p := l.set[i].Prefix
	last := p.Path()[strings.LastIndexByte(p.Path(), '/')+1:]
	if p.Sub || p.HasQuery() || strings.Contains(p.Path(), "#") || strings.Contains(last, ".") {
		return
	}
	value := p.Text + "/"
	if link, ok := ParseLink(value); ok && link.Key != p.Key {
		if _, exists := l.first[link.Key]; exists {
			return
		}
	}
	l.add(Finding{Kind: NoFinalSlash, Rule: i, Other: -1, Link: value + "1", Prefixes: []string{value}})
}
