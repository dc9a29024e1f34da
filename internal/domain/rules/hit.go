package rules

import (
	"cmp"
	"slices"
)

// Matched is what is known of the rule behind a decision.
type Matched struct {
	ID            int64
	Kind          Kind
	Owner, Target string
	Prefix        string // as it was added
}

// Hit is a rule that governs a link, with the page that it opens.
type Hit struct {
	Matched
	Page string
}

// Hit returns the part of the rule that a decision needs.
func (r Rule) Hit() Hit {
	return Hit{Matched: Matched{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text}, Page: r.Path}
}

// SortTesting orders the rules that list one test link: longest prefix first,
// then oldest first.
func SortTesting(list []Rule) {
	slices.SortFunc(list, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.ID, b.ID))
	})
}
