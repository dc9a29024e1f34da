package rules

import (
	"strings"
	"sync"
	"time"
)

// Epoch returns the name of the counter in accounts.Epochs that counts an account's publishes and the changes of its rules.
func Epoch(owner string) string { return "rules of " + owner }

// listingMost is the maximum number of rules in one cached list. listingsMost is the maximum number in all cached lists together, which
// take some tens of MiB.
const (
	listingMost  = 1 << 10
	listingsMost = 1 << 15
)

// listed is the cache key of a request for a list: a request for a page, for the newest rules, or for the rules with certain prefixes.
type listed struct {
	owner         string
	newest        bool
	offset, limit int
	prefixes      string // prefixes joined by asOne; "" = any
}

// prefixesMost is the maximum size in bytes of the prefixes in a cache key; prefixesAre bytes of prefixes have the weight of one rule.
const prefixesMost, prefixesAre = 4 << 10, 256

// asOne joins prefixes into one text. exclusive is true if no other list of prefixes results in the same text.
func asOne(prefixes []string) (text string, exclusive bool) {
	text = "\n" + strings.Join(prefixes, "\n")
	return text, strings.Count(text, "\n") == len(prefixes)
}

// size returns the weight of a list in the cache.
func (l listed) size(r *remembered) int { return 1 + len(r.rules) + len(l.prefixes)/prefixesAre }

// remembered is a cached result of the store, valid for one epoch of the account's rules.
type remembered struct {
	epoch uint64
	month time.Time
	rules []Rule // read-only, because the slice is shared
	total int
	spent int // number of publishes since the start of the month
}

// listings is a cache of lists of rules. The zero value is an empty cache.
type listings struct {
	mu     sync.RWMutex
	lists  map[listed]*remembered
	weight int // total weight of all entries
}

// get returns a cached list if the epoch and the month still match.
func (m *listings) get(wanted listed, epoch uint64, month time.Time) (*remembered, bool) {
	m.mu.RLock()
	l := m.lists[wanted]
	m.mu.RUnlock()
	return l, l != nil && l.epoch == epoch && l.month.Equal(month)
}

func (m *listings) put(wanted listed, l *remembered) {
	if len(l.rules) > listingMost || len(wanted.prefixes) > prefixesMost {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lists == nil {
		m.lists = map[listed]*remembered{}
	}
	m.remove(wanted)
	m.lists[wanted] = l
	m.weight += wanted.size(l)
	for otherListed := range m.lists { // evicts arbitrary cached lists, which can be read again from the store
		if m.weight <= listingsMost {
			return
		}
		if otherListed != wanted {
			m.remove(otherListed)
		}
	}
}

func (m *listings) remove(wanted listed) {
	if l := m.lists[wanted]; l != nil {
		m.weight -= wanted.size(l)
		delete(m.lists, wanted)
	}
}
