// Package ratelimit limits the number of actions of a caller per minute.
package ratelimit

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// maxTrackedKeys is the maximum number of keys in memory, because one client may use very many addresses.
const maxTrackedKeys = 100_000

// FixedWindow counts actions by key within the current minute. The zero value is valid.
type FixedWindow[K comparable] struct {
	mu     sync.Mutex
	minute int64
	counts map[K]int
}

// Allow counts an action and reports whether the count is within limit. Rejected actions are not counted.
func (m *FixedWindow[K]) Allow(key K, limit int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if minute := now.Unix() / 60; minute != m.minute || m.counts == nil {
		m.minute, m.counts = minute, map[K]int{}
	}
	count, known := m.counts[key]
	if count >= limit {
		return false
	}
	if !known && len(m.counts) >= maxTrackedKeys {
		for item := range m.counts { // evicts an arbitrary key, whose count restarts at 0
			delete(m.counts, item)
			break
		}
	}
	m.counts[key] = count + 1
	return true
}

// Exceeded reports whether Allow would reject an action.
func (m *FixedWindow[K]) Exceeded(key K, limit int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Unix()/60 == m.minute && m.counts[key] >= limit
}

// Forget forgets everything.
func (m *FixedWindow[K]) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts = nil
}

// DeleteFunc deletes the counts of the keys for which lookup returns true.
func (m *FixedWindow[K]) DeleteFunc(lookup func(K) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.counts, func(key K, _ int) bool { return lookup(key) })
}

// KeyForIP returns the rate-limit key of an IP address: for IPv6 the /64 network, because one owner usually controls all of it. The
// zero Addr has the zero Prefix as its key.
func KeyForIP(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	network, _ := ip.Prefix(min(ip.BitLen(), 64))
	return network
}
