package rules

import (
	"cmp"
	"slices"
)

// RuleInfo describes the rule behind a decision.
type RuleInfo struct {
	ID            int64
	Kind          Kind
	Owner, Target string
	Prefix        string // as it was added
}

// Match is a rule that governs a link, with the page that it opens.
type Match struct {
	RuleInfo
	Page string
}

// Hit returns the part of the rule that a decision needs.
func (r Rule) Hit() Match {
	return Match{RuleInfo: RuleInfo{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text}, Page: r.Path}
}

// SortTesting orders the rules that list one test link: longest prefix first,
// then oldest first.
func SortTesting(list []Rule) {
	slices.SortFunc(list, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.ID, b.ID))
	})
}
