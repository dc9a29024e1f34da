package accounts

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Search is a query for accounts.
type Search struct {
	Substring string // substring of the AppID or the name, case-insensitive; "" = any
	Kind      Kind   // "" = any
	State     SearchState
	Sees      func(appid string) bool
	Order     Order
	Numbers   map[string]int64 // numbers by AppID; if set, the largest number comes first
	Reverse   bool
	Offset    int
	Limit     int
}

// SearchState selects accounts with a certain problem; "" = all accounts.
type SearchState string

const (
	JumpOff     SearchState = "jump_off"     // the account's jump rules are switched off
	NotReleased SearchState = "not_released" // a Mini Program without a release
	Frozen      SearchState = "secret_frozen"
)

// Order is the order of a list of accounts.
type Order string

const (
	ByAppID  Order = "appid"
	ByName   Order = "name"
	ByNewest Order = "newest"
)

// SearchText returns the lower-case text in which Find looks for Search.Substring.
func (a *Account) SearchText() string { return strings.ToLower(a.AppID + "\x00" + a.Name) }

func (s *Search) wants(a *Account, text string) bool {
	switch s.State {
	case JumpOff:
		if a.JumpOpen {
			return false
		}
	case NotReleased:
		if a.Kind != MiniProgram || slices.Contains(a.Versions, Release) {
			return false
		}
	case Frozen:
		if !a.SecretFrozen {
			return false
		}
	}
	return (s.Kind == "" || a.Kind == s.Kind) && s.Sees(a.AppID) && (s.Substring == "" || strings.Contains(text, s.Substring))
}

// compare compares two accounts in the order of the search, in which an account whose AppID equals the search text comes first.
func (s *Search) compare(a, b *Account) int {
	is := func(a *Account) int {
		if len(a.AppID) == len(s.Substring) && strings.EqualFold(a.AppID, s.Substring) {
			return 0
		}
		return 1
	}
	order := 0
	switch s.Order {
	case ByName:
		order = strings.Compare(a.Name, b.Name)
	case ByNewest:
		order = b.CreatedAt.Compare(a.CreatedAt)
	}
	order = cmp.Or(order, cmp.Compare(s.Numbers[b.AppID], s.Numbers[a.AppID]), strings.Compare(a.AppID, b.AppID))
	if s.Reverse {
		order = -order
	}
	return cmp.Or(is(a)-is(b), order)
}

// Find searches accounts, each with its SearchText, and returns one page of results and the total number of matches. Find keeps at most
// about 2·(s.Offset + s.Limit) accounts in memory, and compares most accounts only with the last account of the page.
func Find(all iter.Seq2[*Account, string], s Search) (page []*Account, total int) {
	s.Substring = strings.ToLower(strings.TrimSpace(s.Substring))
	end := s.Offset + s.Limit
	sorted := false // true = the slice "page" is sorted and has at most "end" accounts
	first := func() {
		slices.SortFunc(page, s.compare)
		page, sorted = page[:min(end, len(page))], true
	}
	for a, text := range all {
		if !s.wants(a, text) {
			continue
		}
		total++
		if sorted && (end == 0 || s.compare(a, page[end-1]) > 0) {
			continue
		}
		if page = append(page, a); len(page) >= 2*end+1 {
			first()
		}
	}
	first()
	return page[min(s.Offset, len(page)):], total
}
