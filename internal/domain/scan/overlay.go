package scan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Overlay is a Finder in which assumed rules replace some actual rules. Overlay is used to explain the effect of assumed rules, to test
// plans against past scans, and to resolve a text with the rules of a past time.
type Overlay struct {
	Base Finder // the actual rules; nil = none
	// Rules maps the keys of rules to the assumed rules; nil = the key has no rule.
	Rules        map[string]*rules.Rule
	AllPublished bool // treat every rule as published
}

// Governing implements Finder.
func (o Overlay) Governing(text string) (rules.Match, bool) {
	link, ok := rules.ParseLink(text)
	if !ok {
		return rules.Match{}, false
	}
	rule, ok := governing(o.Matching(link))
	return rule.Hit(), ok
}

// Matching implements Finder.
func (o Overlay) Matching(link rules.Link) (list []rules.Rule) {
	if o.Base != nil {
		list = o.unchangedRules(o.Base.Matching(link))
	}
	for _, key := range link.Ends() {
		if r := o.Rules[key]; r != nil && r.Prefix.Matches(link) {
			list = append(list, *r)
		}
	}
	slices.SortStableFunc(list, func(a, b rules.Rule) int { return cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)) })
	return o.published(list)
}

// Testing implements Finder.
func (o Overlay) Testing(text string) (list []rules.Rule) {
	if o.Base != nil {
		list = o.unchangedRules(o.Base.Testing(text))
	}
	for _, r := range o.Rules {
		if r != nil && slices.Contains(r.TestLinks, text) {
			list = append(list, *r)
		}
	}
	rules.SortTesting(list)
	return o.published(list)
}

// NearestRules returns the stored rules near a link without those that Rules replaces, and the assumed rules near the link. An assumed rule
// is near if it has the link's host and first path segment, with any scheme, or the link's path.
func (o Overlay) NearestRules(link rules.Link, stored []rules.Rule) []rules.Rule {
	list := o.unchangedRules(stored)
	for _, key := range slices.Sorted(maps.Keys(o.Rules)) {
		r := o.Rules[key]
		if r != nil && (r.Prefix.Host == link.Host && r.Prefix.Segment() == link.Segment() || r.Prefix.Path() == link.Path()) {
			list = append(list, *r)
		}
	}
	return list
}

// Touches reports whether the result for a link can depend on an assumed rule.
func (o Overlay) Touches(link rules.Link) bool {
	return slices.ContainsFunc(link.Ends(), func(key string) bool {
		r, changed := o.Rules[key]
		return changed && (r == nil || r.Prefix.Matches(link))
	})
}

// unchangedRules returns those rules of a list that no assumed rule in o.Rules replaces.
func (o Overlay) unchangedRules(list []rules.Rule) []rules.Rule {
	return slices.DeleteFunc(slices.Clone(list), func(r rules.Rule) bool {
		_, changed := o.Rules[r.Prefix.Key]
		return changed
	})
}

func (o Overlay) published(list []rules.Rule) []rules.Rule {
	for i := range list {
		list[i].Published = list[i].Published || o.AllPublished
	}
	return list
}
