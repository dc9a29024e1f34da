package stats

import (
	"context"
	"runtime"
)

// AddUp is what Run does once a second.
func (c *Counter) AddUp(ctx context.Context) error { return c.addUp(ctx) }

// StoreAddedUp is how every AddUp and CatchUp ends: what is added up by then is stored, whoever added it up.
func (c *Counter) StoreAddedUp(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return nil
	}
	return c.saveAll(ctx, false)
}

// HoldNotes makes a recount move its notes into the file when so many bytes came, and
// compare so many at once.
func (c *Counter) HoldNotes(bytes int) { c.notesHeld = bytes }

// NotesHeld is what a recount holds in memory of what it read: bytes of notes, and
// combinations of values that it knows a number of.
type NotesHeld struct{ Bytes, Combinations int }

// ReadForRecount reads the ledger as a recount does. It calls each after each scan, and
// returns what is held when all was read, and how many bytes of notes of how many days
// each part has that would be compared.
func (c *Counter) ReadForRecount(ctx context.Context, each func(NotesHeld)) (held NotesHeld, days, bytes []int, err error) {
	state, err := c.stored(ctx)
	if err != nil {
		return held, nil, nil, err
	}
	n := c.newRecounting(state, &Recount{})
	defer n.notes.close()
	holds := func() NotesHeld {
		held := NotesHeld{Bytes: n.notes.held}
		for _, one := range n.fresh {
			held.Combinations += len(one.tuples)
		}
		return held
	}
	for e, err := range c.Log.Read(ctx, 0) {
		if err == nil {
			err = n.read(ctx, &e)
		}
		if err != nil {
			return held, nil, nil, err
		}
		each(holds())
	}
	if err := n.notes.letGo(); err != nil {
		return held, nil, nil, err
	}
	err = n.inParts(ofDays, func(from, to drawer) error {
		days, bytes = append(days, 0), append(bytes, 0)
		for name := range n.within(from, to) {
			days[len(days)-1]++
			bytes[len(bytes)-1] += int(n.notes.drawers[name].size)
		}
		return nil
	})
	return holds(), days, bytes, err
}

// InParts makes a part that is rolled up or removed have so many rows.
func (c *Counter) InParts(rows int) { c.parts = rows }

// AwaitErasures returns once so many erasures wait.
func (c *Counter) AwaitErasures(n int) {
	for waiting := 0; waiting < n; runtime.Gosched() {
		c.erasures.mu.Lock()
		waiting = len(c.erasures.waiting)
		c.erasures.mu.Unlock()
	}
}
