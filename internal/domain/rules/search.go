package rules

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Search is a query for rules.
type Search struct {
	Owners    []string // empty = all owners
	Substring string   // text that the prefix must contain, ignoring case; "" = any
	Published *bool    // nil = published and unpublished rules
	Newest    bool     // true = newest first, false = oldest first
	Quick     bool     // examine at most PageScanLimit rules
	From      int64    // ID of the rule after which to start, in the order that Newest selects; 0 = from the start
	Limit     int
}

// Filters reports whether the search may exclude rules that it examines.
func (s Search) Filters() bool { return s.Substring != "" || s.Published != nil }

// PageScanLimit is the number of rules that one page of a list examines.
const PageScanLimit = 2000

// Search first examines the newest PageScanLimit rules, and then searchedAtOnce rules at a time, until the time searchedFor has passed.
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

// Walk examines rules in their order and returns the matching ones. next is the ID to continue from; 0 = end of the list. If few
// rules match, a page may have few rows or none although more pages follow.
func (s *Service) Walk(ctx context.Context, q Search) (list []Rule, next int64, err error) {
	return s.walk(ctx, q, PageScanLimit)
}

func (s *Service) walk(ctx context.Context, q Search, look int) (list []Rule, next int64, err error) {
	err = s.Store.ViewRules(ctx, func(tx Tx) error {
		list, next = []Rule{}, 0
		owners := q.Owners
		if len(owners) == 0 {
			owners = []string{""}
		}
		for _, owner := range owners {
			rules, end, err := tx.Walk(ctx, q, owner, max(look/len(owners), q.Limit))
			if err != nil {
				return err
			}
			list = append(list, rules...)
			if end != 0 && (next == 0 || q.compare(end, next) < 0) {
				next = end
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Rule) int { return q.compare(a.ID, b.ID) })
	// For some owners, the rules after next were not examined, so all rules after next are left for the next page.
	if next != 0 {
		list = slices.DeleteFunc(list, func(r Rule) bool { return q.compare(r.ID, next) > 0 })
	}
	if len(list) > q.Limit {
		list = list[:q.Limit]
		next = list[q.Limit-1].ID
	}
	return list, next, err
}

// Search finds rules whose prefix contains a text: first the rules whose link or path begins with the text, then the newest rules.
// A text with a scheme is a link, so a prefix matches only if it begins with the text. complete is true if all rules were examined.
func (s *Service) Search(ctx context.Context, q Search) (list []Rule, complete bool, err error) {
	q.Newest = true
	list, err = accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Rule, error) { return tx.Beginning(ctx, q) })
	if err != nil {
		return nil, false, err
	}
	if strings.Contains(q.Substring, "://") && len(q.Owners) == 0 { // prefixes that begin with the link were already searched
		return list, len(list) < q.Limit, nil
	}
	bound, end := context.WithTimeout(ctx, searchedFor)
	defer end()
	for look := PageScanLimit; ; look = searchedAtOnce {
		rules, next, err := s.walk(ctx, q, look)
		for _, r := range rules {
			if len(list) < q.Limit && !slices.ContainsFunc(list, func(rule Rule) bool { return rule.ID == r.ID }) {
				list = append(list, r)
			}
		}
		exceeded := q.Quick || look != PageScanLimit && bound.Err() != nil
		if q.From = next; err != nil || next == 0 || len(list) == q.Limit || exceeded {
			return list, next == 0, err
		}
	}
}

// Total returns the number of rules of the given owners.
func (s *Service) Total(ctx context.Context, owners []string) (int, error) {
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) (n int, err error) {
		for _, owner := range owners {
			owned, err := tx.CountOwned(ctx, owner)
			if n += owned; err != nil {
				return n, err
			}
		}
		return n, nil
	})
}
