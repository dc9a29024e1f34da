package scan

import (
	"cmp"
	"slices"

	"github.com/qrjump/qrjump/internal/rules"
)

// Planned is a Finder that answers as if some rules were others.
type Planned struct {
	Live Finder
	// Rules are those that would be others, by their keys; nil = there would be
	// none.
	Rules map[string]*rules.Rule
}

// Touches reports whether a planned rule could decide a link, or one that it
// replaces did.
func (p Planned) Touches(link rules.Link) bool {
	for _, r := range p.Rules {
		if r != nil && r.Prefix.Matches(link) {
			return true
		}
	}
	return slices.ContainsFunc(p.Live.Matching(link), func(r rules.Rule) bool {
		_, planned := p.Rules[r.Prefix.Key]
		return planned
	})
}

// Matching implements Finder.
func (p Planned) Matching(link rules.Link) []rules.Rule {
	list := slices.DeleteFunc(slices.Clone(p.Live.Matching(link)), func(r rules.Rule) bool {
		_, planned := p.Rules[r.Prefix.Key]
		return planned
	})
	for _, r := range p.Rules {
		if r != nil && r.Prefix.Matches(link) {
			list = append(list, *r)
		}
	}
	slices.SortStableFunc(list, func(a, b rules.Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.Prefix.Key, b.Prefix.Key))
	})
	return list
}

// Governing implements Finder.
func (p Planned) Governing(text string) (rules.Hit, bool) {
	link, ok := rules.ParseLink(text)
	if !ok {
		return rules.Hit{}, false
	}
	rule, ok := governing(p.Matching(link))
	if !ok {
		return rules.Hit{}, false
	}
	return rule.Hit(), true
}

// Testing implements Finder: test links are as they are.
func (p Planned) Testing(text string) []rules.Rule { return p.Live.Testing(text) }
