package rules

import (
	"cmp"
	"slices"
	"strings"
)

// FindingKind is the kind of a probable mistake in a set of rules.
type FindingKind string

// The kinds of findings.
const (
	// AlsoCatches marks a rule that ends in a number and also matches longer numbers.
	AlsoCatches FindingKind = "also_catches"
	// HidesPublished marks an unpublished rule that hides a shorter published rule of the same owner.
	HidesPublished FindingKind = "hides_published"
	// OthersOpen marks an unpublished rule whose links open through a shorter rule of another owner.
	OthersOpen FindingKind = "others_open"
	// OthersTake marks a published rule that loses links to a longer rule of another owner.
	OthersTake FindingKind = "others_take"
	// Shadowed marks a rule that governs no link, because a longer rule matches all of its links.
	Shadowed FindingKind = "shadowed"
	// Redundant marks a rule that can be removed, because its links would open the same page through a shorter rule.
	Redundant FindingKind = "redundant"
	// NoFinalSlash marks a rule that matches only its own path and nothing below that path.
	NoFinalSlash FindingKind = "no_final_slash"
	// LostTestLink marks a rule with a test link that does not match its prefix.
	LostTestLink FindingKind = "test_link"
	// Duplicate marks a rule with the same key as an earlier rule, so that only one of the two can be added.
	Duplicate FindingKind = "duplicate"
)

// FindingKinds lists all kinds, in the order in which they are reported.
var FindingKinds = []FindingKind{Duplicate, LostTestLink, Shadowed, AlsoCatches, HidesPublished, OthersOpen, OthersTake, NoFinalSlash,
	Redundant}

// Finding is one probable mistake in a set of rules.
type Finding struct {
	Kind       FindingKind
	Rule       int // index of the rule in the set of rules passed to Lint
	OtherIndex int // index of another rule that is involved in the finding; -1 = none
	// Link is an example link that shows the problem; "" if no example is needed.
	Link string
	// Prefixes lists the prefixes that would fix the problem. For AlsoCatches, rules with these prefixes must be added and left
	// unpublished: they exclude the longer numbers. For NoFinalSlash, the only element is the rule's prefix plus a final slash.
	Prefixes []string
}

// Lint returns the probable mistakes in a set of rules, in the order of the set. Lint uses Matches and the priority of rules (Contract:
// rules 2.9), and assumes that every account can open its rules.
func Lint(set []Rule) []Finding {
	l := newLinter(set)
	for i := range set {
		l.checkRule(i)
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(slices.Index(FindingKinds, a.Kind), slices.Index(FindingKinds, b.Kind)))
	})
	return l.findings
}

type linter struct {
	set        []Rule
	firstByKey map[string]int // index of the first rule with each key
	findings   []Finding
}

func newLinter(set []Rule) *linter {
	l := &linter{set: set, firstByKey: make(map[string]int, len(set))}
	for i, r := range set {
		if _, ok := l.firstByKey[r.Prefix.Key]; !ok {
			l.firstByKey[r.Prefix.Key] = i
		}
	}
	return l
}

func (l *linter) add(f Finding) { l.findings = append(l.findings, f) }

// checkRule adds the findings for one rule.
func (l *linter) checkRule(i int) {
	r := l.set[i]
	if first := l.firstByKey[r.Prefix.Key]; first != i {
		l.add(Finding{Kind: Duplicate, Rule: i, OtherIndex: first})
		return
	}
	for _, text := range r.TestLinks {
		if checkTestLinks(r.Prefix, []string{text}) != nil {
			l.add(Finding{Kind: LostTestLink, Rule: i, OtherIndex: -1, Link: text})
		}
	}
	if r.Kind == KindService {
		return // the rule matches only its own text
	}
	// A rule that ends with a bare "?" is longer, but matches the same links.
	if j, ok := l.firstByKey[r.Prefix.Key+"?"]; ok && !r.Prefix.Sub && !r.Prefix.HasQuery() && l.set[j].Owner == r.Owner {
		l.add(Finding{Kind: Shadowed, Rule: i, OtherIndex: j, Link: r.Prefix.Text})
		return
	}
	l.checkNumber(i)
	l.checkShorter(i, l.matching(r.Prefix.Link))
	l.checkSlash(i)
}

// matching returns the rules of the set that match a link, longest first.
func (l *linter) matching(link Link) (list []int) {
	for _, key := range link.Ends() {
		if i, ok := l.firstByKey[key]; ok && l.set[i].Prefix.Matches(link) {
			list = append(list, i)
		}
	}
	return list
}

// governing returns the rule that opens a link, given the matching rules, longest first; -1 = none. Contract: rules §2.9.
func (l *linter) governing(matching []int) int {
	for pos, i := range matching {
		isOwn := func(longer int) bool { return l.set[longer].Owner == l.set[i].Owner }
		if l.set[i].Published && !slices.ContainsFunc(matching[:pos], isOwn) {
			return i
		}
	}
	return -1
}

// checkNumber adds a finding if the last parameter of a rule is a number, because the rule also matches longer numbers. The finding
// suggests up to ten longer rules, one for each digit that may follow; a shorter rule would also exclude the number itself.
func (l *linter) checkNumber(i int) {
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
		l.add(Finding{Kind: AlsoCatches, Rule: i, OtherIndex: -1, Link: prefixes[0], Prefixes: prefixes})
	}
}

// endsInNumber reports whether a prefix ends in a parameter whose value is a number.
func endsInNumber(p Prefix) bool {
	query := p.Query()
	_, value, ok := strings.Cut(query[strings.LastIndexByte(query, '&')+1:], "=")
	return ok && value != "" && strings.Trim(value, "0123456789") == ""
}

// checkShorter adds the findings on how a rule affects the links of shorter rules.
func (l *linter) checkShorter(i int, matching []int) {
	r := l.set[i]
	shorter := matching[slices.Index(matching, i)+1:]
	if !r.Published {
		own := slices.IndexFunc(shorter, func(j int) bool { return l.set[j].Owner == r.Owner })
		if own >= 0 && l.set[shorter[own]].Published && !l.isExclusion(shorter[own], i) {
			l.add(Finding{Kind: HidesPublished, Rule: i, OtherIndex: shorter[own], Link: r.Prefix.Text})
		}
		if opener := l.governing(matching); opener >= 0 && l.set[opener].Owner != r.Owner {
			l.add(Finding{Kind: OthersOpen, Rule: i, OtherIndex: opener, Link: r.Prefix.Text})
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
		l.add(Finding{Kind: OthersTake, Rule: n, OtherIndex: i, Link: r.Prefix.Text})
	case otherRule.Path == r.Path && otherRule.Target == r.Target && (otherRule.Occupy || !r.Occupy) && len(r.TestLinks) == 0:
		l.add(Finding{Kind: Redundant, Rule: i, OtherIndex: n, Link: r.Prefix.Text})
	}
}

// isExclusion reports whether the rule longer was added to exclude longer numbers, as AlsoCatches suggests: its prefix is that of the rule
// shorter plus one digit, and the owner of the rule shorter has such a rule for each of the ten digits.
func (l *linter) isExclusion(shorter, longer int) bool {
	short, prefix := l.set[shorter].Prefix, l.set[longer].Prefix
	if !endsInNumber(short) || !endsInNumber(prefix) || len(prefix.Key) != len(short.Key)+1 {
		return false
	}
	for d := range 10 {
		if j, ok := l.firstByKey[short.Key+string(rune('0'+d))]; !ok || l.set[j].Owner != l.set[shorter].Owner {
			return false
		}
	}
	return true
}

// checkSlash adds a finding if a rule matches nothing below its path although the path does not look like a file name.
func (l *linter) checkSlash(i int) {
	p := l.set[i].Prefix
	last := p.Path()[strings.LastIndexByte(p.Path(), '/')+1:]
	if p.Sub || p.HasQuery() || strings.Contains(p.Path(), "#") || strings.Contains(last, ".") {
		return
	}
	value := p.Text + "/"
	if link, ok := ParseLink(value); ok && link.Key != p.Key {
		if _, exists := l.firstByKey[link.Key]; exists {
			return
		}
	}
	l.add(Finding{Kind: NoFinalSlash, Rule: i, OtherIndex: -1, Link: value + "1", Prefixes: []string{value}})
}
