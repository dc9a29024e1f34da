package codes

import (
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// Run is a run of codes of which the same is true.
type Run struct {
	Range
	State State
}

// Runs tells what is true of each code of a range at a moment, in order, as at most so
// many runs; hasMore says that the range has others.
func (m *Memory) Runs(batch int64, r Range, now time.Time, limit int) (runs []Run, hasMore bool) {
	b := m.batch(batch)
	if b == nil {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applyUntil(now)
	for pos := r.From; pos <= r.To; {
		state := b.state(pos)
		// What is frozen as a whole hides nothing: the codes that are frozen themselves
		// change no state then.
		next := b.active.changes(pos)
		for _, bits := range []*roaring.Bitmap{b.frozen, b.void, b.redeemed} {
			if b.allFrozen && bits == b.frozen {
				continue
			}
			next = min(next, changes(bits, pos))
		}
		next = min(next, r.To+1)
		if n := len(runs); n > 0 && runs[n-1].State == state {
			runs[n-1].To = next - 1
		} else if n == limit {
			return runs, true
		} else {
			runs = append(runs, Run{Range{pos, next - 1}, state})
		}
		pos = next
	}
	return runs, false
}

// neverIndex is an index past every batch's.
const neverIndex = int64(1) << 40

// changes returns the first index after one at which a set has another answer.
func changes(bits *roaring.Bitmap, pos int64) int64 {
	i := uint32(pos)
	next := bits.NextValue(i)
	if next == pos {
		next = bits.NextAbsentValue(i)
	}
	if next < 0 {
		return neverIndex
	}
	return next
}

// changes returns the first index after one that another activation governs, or none.
func (c *coverage) changes(pos int64) int64 {
	next := neverIndex
	c.spans.Descend(pos, func(_ int64, s span) bool {
		if s.to >= pos {
			next = s.to + 1
		}
		return false
	})
	if next != neverIndex {
		return next
	}
	c.spans.Ascend(pos+1, func(from int64, _ span) bool {
		next = from
		return false
	})
	return next
}
