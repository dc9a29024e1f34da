package rules

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Search is a query for rules.
type Search struct {
	Owners    []string // none = of anybody
	Part      string   // of the prefix, whatever the case of its letters; "" = any
	Published *bool    // nil = both
	Newest    bool     // newest first, else oldest first
	Quick     bool     // no more than MostLooked are looked at
	From      int64    // what comes after the rule with this id in that order; 0 = all
	Limit     int
}

// Filters reports whether rules may have to be passed over.
func (s Search) Filters() bool { return s.Part != "" || s.Published != nil }

// MostLooked is the number of rules that one page of a list examines.
const MostLooked = 2000

// A search for few that match goes on after the newest MostLooked, so many at a time, until its time is over.
const (
	searchedAtOnce = 20_000
	searchedFor    = 2 * time.Second
)

func (s Search) compare(a, b int64) int {
	if s.Newest {
		a, b = b, a
	}
	return cmp.Compare(a, b)
}

// Walk looks through rules in their order. next is the id to go on from; 0 = that is all. Where few of them match, a page has few
// rows or none, and there is more all the same.
func (b *Book) Walk(ctx context.Context, s Search) (list []Rule, next int64, err error) {
	return b.walk(ctx, s, MostLooked)
}

func (b *Book) walk(ctx context.Context, s Search, look int) (list []Rule, next int64, err error) {
	err = b.Store.ViewRules(ctx, func(tx Tx) error {
		list, next = []Rule{}, 0
		owners := s.Owners
		if len(owners) == 0 {
			owners = []string{""}
		}
		for _, owner := range owners {
			rules, end, err := tx.Walk(ctx, s, owner, max(look/len(owners), s.Limit))
			if err != nil {
				return err
			}
			if list = append(list, rules...); end != 0 && (next == 0 || s.compare(end, next) < 0) {
				next = end
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Rule) int { return s.compare(a.ID, b.ID) })
	// What lies beyond the place that one owner's rules were looked at to, comes with the next page.
	if next != 0 {
		list = slices.DeleteFunc(list, func(r Rule) bool { return s.compare(r.ID, next) > 0 })
	}
	if len(list) > s.Limit {
		list = list[:s.Limit]
		next = list[s.Limit-1].ID
	}
	return list, next, err
}

// Search finds rules by a text that may stand anywhere in the prefix: first those whose link or path begins with it, then the newest.
// A text with a scheme is a link, and begins a prefix.
// whole = every rule was looked at.
func (b *Book) Search(ctx context.Context, s Search) (list []Rule, complete bool, err error) {
	s.Newest = true
	err = b.Store.ViewRules(ctx, func(tx Tx) error {
		list, err = tx.Beginning(ctx, s)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if strings.Contains(s.Part, "://") && len(s.Owners) == 0 { // a link is found by its beginning, which was looked up
		return list, len(list) < s.Limit, nil
	}
	bound, end := context.WithTimeout(ctx, searchedFor)
	defer end()
	for look := MostLooked; ; look = searchedAtOnce {
		rules, next, err := b.walk(ctx, s, look)
		for _, r := range rules {
			if len(list) < s.Limit && !slices.ContainsFunc(list, func(rule Rule) bool { return rule.ID == r.ID }) {
				list = append(list, r)
			}
		}
		exceeded := s.Quick || look != MostLooked && bound.Err() != nil
		if s.From = next; err != nil || next == 0 || len(list) == s.Limit || exceeded {
			return list, next == 0, err
		}
	}
}

// Total returns the number of rules of some owners.
func (b *Book) Total(ctx context.Context, owners []string) (n int, err error) {
	err = b.Store.ViewRules(ctx, func(tx Tx) error {
		n = 0
		for _, owner := range owners {
			owned, err := tx.CountOwned(ctx, owner)
			if n += owned; err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
