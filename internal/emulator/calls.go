package emulator

import (
	"fmt"
	"strings"
	"sync"
)

// Calls is a ring buffer of the latest calls, in order of arrival.
type Calls[T any] struct {
	// Run identifies the process and is part of each position, so that ListAfter recognizes the positions of another process.
	Run string

	mu   sync.Mutex
	ring []T
	next int
	// added is the number of calls added so far, which is the offset of the newest call. Offsets are never reused.
	added int64
}

// remembered is the maximum number of calls in memory.
const remembered = 1000

// Add stores a call and evicts the oldest call if the buffer is full.
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

// Clear deletes all calls.
func (c *Calls[T]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring, c.next = nil, 0
}

// Forget deletes the calls for which lookup returns true. A deleted call leaves an empty entry in the buffer, so that the other
// calls keep their positions.
func (c *Calls[T]) Forget(lookup func(T) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, item := range c.ring {
		if lookup(item) {
			c.ring[i] = *new(T)
		}
	}
}

// item returns the i-th stored call; call 0 is the oldest.
func (c *Calls[T]) item(i int) T { return c.ring[(c.next+i)%len(c.ring)] }

// Last returns at most n calls for which keep returns true, newest first. place is the position of the newest stored call.
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

// ListAfter returns the calls after place for which keep returns true: at most n, oldest first. next is the position to continue from;
// missed counts calls after place that were evicted. If place is from another process, ListAfter starts with the oldest stored call.
func (c *Calls[T]) ListAfter(place string, n int, keep func(T) bool) (list []T, next string, missed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list = []T{}
	oldest := c.added - int64(len(c.ring)) // the position before the oldest call
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
