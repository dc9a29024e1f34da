// Package ratelimit counts how often one caller did something within a minute.
package ratelimit

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// mostKeys is the number of keys that are remembered: a stranger may have very many addresses.
const mostKeys = 100_000

// FixedWindow counts by key in the minute that it is. The zero value is ready.
type FixedWindow[K comparable] struct {
	mu     sync.Mutex
	minute int64
	counts map[K]int
}

// Allow counts one and reports whether it is one of at most limit. What is refused counts for nothing.
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
	if !known && len(m.counts) >= mostKeys {
		for item := range m.counts { // any of them: its count begins anew
			delete(m.counts, item)
			break
		}
	}
	m.counts[key] = count + 1
	return true
}

// Exceeded reports whether Allow would refuse.
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

// DeleteFunc forgets the counts of some keys.
func (m *FixedWindow[K]) DeleteFunc(lookup func(K) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.counts, func(key K, _ int) bool { return lookup(key) })
}

// KeyForIP returns the key of an address: one of version 6 stands for its /64, because its owner has all of that. No address is a
// network too.
func KeyForIP(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	network, _ := ip.Prefix(min(ip.BitLen(), 64))
	return network
}
