package emulator

import (
	"fmt"
	"strings"
	"sync"
)

// Calls remembers the last calls, the newest last.
type Calls[T any] struct {
	// Run tells the calls of one process from those of another in places.
	Run string

	mu   sync.Mutex
	ring []T
	next int
	// added is the number of calls ever: the offset of the newest. A place is never that of another call.
	added int64
}

// remembered is the number of calls that are kept.
const remembered = 1000

// Add remembers one call and forgets the oldest above the bound.
func (c *Calls[T]) Add(item T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added++
	if len(c.ring) < remembered {
		c.ring = append(c.ring, item)
		return
	}
	c.ring[c.next] = item
	c.next = (c.next + 1) % remembered
}

// Clear forgets all.
func (c *Calls[T]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring, c.next = nil, 0
}

// Forget forgets some calls. Their places stay, with nothing in them.
func (c *Calls[T]) Forget(lookup func(T) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, item := range c.ring {
		if lookup(item) {
			c.ring[i] = *new(T)
		}
	}
}

// item returns the i-th of those that are kept, the oldest first.
func (c *Calls[T]) item(i int) T { return c.ring[(c.next+i)%len(c.ring)] }

// Last returns at most n calls that keep accepts, newest first, and the place of
// the newest of all.
func (c *Calls[T]) Last(n int, keep func(T) bool) (list []T, place string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list = []T{}
	for i := len(c.ring) - 1; i >= 0 && len(list) < n; i-- {
		if item := c.item(i); keep(item) {
			list = append(list, item)
		}
	}
	return list, c.place(c.added)
}

// ListAfter returns at most n calls that keep accepts and that came after a place,
// oldest first, and the place to go on from. missed is how many came after the
// place and are forgotten. From a place of another process it begins with the
// oldest that is kept.
func (c *Calls[T]) ListAfter(place string, n int, keep func(T) bool) (list []T, next string, missed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list = []T{}
	oldest := c.added - int64(len(c.ring)) // the place before the oldest
	from := oldest
	if run, rest, ok := strings.Cut(place, "."); ok && run == c.Run {
		var said int64
		if _, err := fmt.Sscan(rest, &said); err == nil && said >= 0 {
			from = min(said, c.added)
		}
	}
	missed = max(0, oldest-from)
	pos := max(from, oldest)
	for ; pos < c.added && len(list) < n; pos++ {
		if item := c.item(int(pos - oldest)); keep(item) {
			list = append(list, item)
		}
	}
	return list, c.place(pos), missed
}

func (c *Calls[T]) place(added int64) string { return fmt.Sprintf("%s.%d", c.Run, added) }
