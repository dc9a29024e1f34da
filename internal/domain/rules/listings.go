package rules

import (
	"strings"
	"sync"
	"time"
)

// Epoch returns the name under which an account's rules and publishes have their
// epoch in accounts.Epochs.
func Epoch(owner string) string { return "rules of " + owner }

// listingMost is the maximum number of rules of a cached list, listingsMost that of all lists together: some tens of MiB.
const (
	listingMost  = 1 << 10
	listingsMost = 1 << 15
)

// listed is a list that an account asks for: a page, the newest rules, or the rules with some
// prefixes.
type listed struct {
	owner         string
	newest        bool
	offset, limit int
	prefixes      string // as of asOne; "" = any
}

// prefixesMost is the maximum size in bytes of the prefixes of a cached list; prefixesAre of these bytes count as much as one rule.
const prefixesMost, prefixesAre = 4 << 10, 256

// asOne joins prefixes into one text. exclusive reports that no other prefixes join into the same text.
func asOne(prefixes []string) (text string, exclusive bool) {
	text = "\n" + strings.Join(prefixes, "\n")
	return text, strings.Count(text, "\n") == len(prefixes)
}

// size returns the weight of a list in the cache.
func (l listed) size(r *remembered) int { return 1 + len(r.rules) + len(l.prefixes)/prefixesAre }

// remembered is the store's answer at an epoch of the account's rules.
type remembered struct {
	epoch uint64
	month time.Time
	rules []Rule // not to be changed
	total int
	spent int // publishes since the month began
}

// listings remembers lists of rules. The zero value is empty.
type listings struct {
	mu  sync.RWMutex
	by  map[listed]*remembered
	has int // the sizes of all
}

// get returns what is remembered and still true.
func (m *listings) get(wanted listed, epoch uint64, month time.Time) (*remembered, bool) {
	m.mu.RLock()
	l := m.by[wanted]
	m.mu.RUnlock()
	return l, l != nil && l.epoch == epoch && l.month.Equal(month)
}

func (m *listings) remember(wanted listed, l *remembered) {
	if len(l.rules) > listingMost || len(wanted.prefixes) > prefixesMost {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = map[listed]*remembered{}
	}
	m.forget(wanted)
	m.by[wanted] = l
	m.has += wanted.size(l)
	for otherListed := range m.by { // whichever: it is read again when it is asked for
		if m.has <= listingsMost {
			return
		}
		if otherListed != wanted {
			m.forget(otherListed)
		}
	}
}

func (m *listings) forget(wanted listed) {
	if l := m.by[wanted]; l != nil {
		m.has -= wanted.size(l)
		delete(m.by, wanted)
	}
}
