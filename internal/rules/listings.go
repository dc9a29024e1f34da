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

// listed is what an account asks of its rules: page by page, the newest, or some by their keys.
type listed struct {
	owner         string
	newest        bool
	offset, limit int
	keys          string // keysOf; "" = any
}

// keysMost is how many bytes the keys may have of a list that is remembered, and keysAre how
// many of them count as much as a rule.
const keysMost, keysAre = 4 << 10, 256

// keysOf are keys as one text, which no other keys have.
func keysOf(keys []string) string {
	if keys == nil {
		return ""
	}
	return "\n" + strings.Join(keys, "\n") // none has one in it
}

// size is what a list counts as.
func (l listed) size(r *remembered) int { return 1 + len(r.rules) + len(l.keys)/keysAre }

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
	if len(l.rules) > listingMost || len(wanted.keys) > keysMost {
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
