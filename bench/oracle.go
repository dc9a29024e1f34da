package main

import (
	"cmp"
	"slices"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// oracle is the slow matcher: every rule is held against every sampled link of
// its origin by the definition of matching alone. (Of another origin the
// definition never matches.)
type oracle struct {
	texts   []string
	links   []rules.Link
	origins map[string][]int
	matches [][]matched
}

type matched struct {
	number, length, owner int
	published             bool
}

func newOracle(texts []string) *oracle {
	o := &oracle{texts: texts, links: make([]rules.Link, len(texts)), origins: map[string][]int{}, matches: make([][]matched, len(texts))}
	for i, text := range texts {
		link, ok := rules.ParseLink(text)
		if !ok {
			continue // matches nothing
		}
		o.links[i] = link
		o.origins[link.Origin()] = append(o.origins[link.Origin()], i)
	}
	return o
}

// see judges one rule.
func (o *oracle) see(r rulegen.Rule, p rules.Prefix) {
	for _, i := range o.origins[p.Origin()] {
		if p.Matches(o.links[i]) {
			o.matches[i] = append(o.matches[i], matched{r.Number, len(p.Key), r.Owner, r.Published})
		}
	}
}

// seeAll judges every rule of a set.
func (o *oracle) seeAll(set *rulegen.Set) error {
	for r := range set.All() {
		p, err := rules.ParsePrefix(r.Prefix, rules.Ordinary, false)
		if err != nil {
			return err
		}
		o.see(r, p)
	}
	return nil
}

// governing is the number of the rule that opens for a link, -1 = none.
// Contract: rules 2.9: per owner only the longest, which must be published;
// of those the longest.
func (o *oracle) governing(i int) int {
	list := slices.Clone(o.matches[i])
	slices.SortFunc(list, func(a, b matched) int { return cmp.Compare(b.length, a.length) })
	for at, m := range list {
		if m.published && !slices.ContainsFunc(list[:at], func(longer matched) bool { return longer.owner == m.owner }) {
			return m.number
		}
	}
	return -1
}

func (o *oracle) hits() (n int) {
	for i := range o.texts {
		if o.governing(i) >= 0 {
			n++
		}
	}
	return n
}
