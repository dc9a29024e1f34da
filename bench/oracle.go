package main

import (
	"cmp"
	"slices"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// oracle is the slow reference matcher. It tests every rule against every sampled link of the same origin with
// rules.Prefix.Matches alone; rules of another origin never match.
type oracle struct {
	texts   []string
	links   []rules.Link
	origins map[string][]int
	matches [][]match
}

type match struct {
	number, length, owner int
	published             bool
}

func newOracle(texts []string) *oracle {
	o := &oracle{texts: texts, links: make([]rules.Link, len(texts)), origins: map[string][]int{}, matches: make([][]match, len(texts))}
	for i, text := range texts {
		link, ok := rules.ParseLink(text)
		if !ok {
			continue // a text that is not a link matches no rule
		}
		o.links[i] = link
		o.origins[link.Origin()] = append(o.origins[link.Origin()], i)
	}
	return o
}

// add tests one rule against the links.
func (o *oracle) add(r rulegen.Rule, p rules.Prefix) {
	for _, i := range o.origins[p.Origin()] {
		if p.Matches(o.links[i]) {
			o.matches[i] = append(o.matches[i], match{r.Number, len(p.Key), r.Owner, r.Published})
		}
	}
}

// addSet tests every rule of a set.
func (o *oracle) addSet(set *rulegen.Set) error {
	for r := range set.All() {
		p, err := rules.ParsePrefix(r.Prefix, rules.Ordinary, false)
		if err != nil {
			return err
		}
		o.add(r, p)
	}
	return nil
}

// governing returns the number of the rule that opens for link i, -1 = none.
// Contract: rules 2.9: only the longest matching rule of each owner counts, and it must be published;
// of these rules the longest opens.
func (o *oracle) governing(i int) int {
	list := slices.Clone(o.matches[i])
	slices.SortFunc(list, func(a, b match) int { return cmp.Compare(b.length, a.length) })
	for k, m := range list {
		if m.published && !slices.ContainsFunc(list[:k], func(longer match) bool { return longer.owner == m.owner }) {
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
