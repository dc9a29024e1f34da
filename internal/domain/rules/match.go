package rules

import (
	"cmp"
	"slices"
)

// RuleInfo describes the rule behind a scan decision.
type RuleInfo struct {
	ID            int64
	Kind          Kind
	Owner, Target string
	Prefix        string // as written when the rule was added
}

// Match is the rule that governs a link, with the page that it opens.
type Match struct {
	RuleInfo
	Page string
}

// Hit returns the fields of the rule that a scan decision needs.
func (r Rule) Hit() Match {
	return Match{RuleInfo: RuleInfo{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text}, Page: r.Path}
}

// SortTesting sorts rules that list the same test link: longest prefix first, then oldest first.
func SortTesting(list []Rule) {
	slices.SortFunc(list, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.ID, b.ID))
	})
}
