package rules

import (
	"strings"
	"sync"
	"time"
)

// Epoch is the name under which an account's rules and publishes have their
// epoch in accounts.Epochs.
func Epoch(owner string) string { return "rules of " + owner }

// listingMost is how many rules a list may have that is remembered,
// listingsMost how many all lists have together: some tens of MiB.
const (
	listingMost  = 1 << 10
	listingsMost = 1 << 15
)

// listed is what an account asks of its rules: page by page, the newest, or some by their prefixes.
type listed struct {
	owner         string
	newest        bool
	offset, limit int
	prefixes      string // asOne; "" = any
}

// prefixesMost is how many bytes the prefixes may have of a list that is remembered, and
// prefixesAre how many of them count as much as a rule.
const prefixesMost, prefixesAre = 4 << 10, 256

// asOne are prefixes as one text; alone: no others have it.
func asOne(prefixes []string) (text string, alone bool) {
	text = "\n" + strings.Join(prefixes, "\n")
	return text, strings.Count(text, "\n") == len(prefixes)
}

// size is what a list counts as.
func (l listed) size(r *remembered) int { return 1 + len(r.rules) + len(l.prefixes)/prefixesAre }

// remembered is what the store had, at an epoch of the account's rules.
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
	for other := range m.by { // any one: it is read again when it is asked for
		if m.has <= listingsMost {
			return
		}
		if other != wanted {
			m.forget(other)
		}
	}
}

func (m *listings) forget(wanted listed) {
	if l := m.by[wanted]; l != nil {
		m.has -= wanted.size(l)
		delete(m.by, wanted)
	}
}
