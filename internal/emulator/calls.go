package emulator

import "sync"

// Calls remembers the last calls, the newest last.
type Calls[T any] struct {
	mu   sync.Mutex
	ring []T
	next int
}

// remembered is how many calls are kept.
const remembered = 1000

// Add remembers one call and forgets the oldest above the bound.
func (c *Calls[T]) Add(one T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ring) < remembered {
		c.ring = append(c.ring, one)
		return
	}
	c.ring[c.next] = one
	c.next = (c.next + 1) % remembered
}

// Clear forgets all.
func (c *Calls[T]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring, c.next = nil, 0
}

// Last returns at most n calls that keep accepts, newest first.
func (c *Calls[T]) Last(n int, keep func(T) bool) []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []T{}
	for i := range c.ring {
		one := c.ring[(c.next+len(c.ring)-1-i)%len(c.ring)]
		if len(list) == n {
			break
		}
		if keep(one) {
			list = append(list, one)
		}
	}
	return list
}
