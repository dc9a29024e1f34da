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
// many runs; more says that the range has others.
func (m *Memory) Runs(batch int64, r Range, now time.Time, most int) (runs []Run, more bool) {
	b := m.batch(batch)
	if b == nil {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until(now)
	for at := r.From; at <= r.To; {
		state := b.state(at)
		// What is frozen as a whole hides nothing: the codes that are frozen themselves
		// change no state then.
		next := b.active.changes(at)
		for _, bits := range []*roaring.Bitmap{b.frozen, b.void, b.redeemed} {
			if b.allFrozen && bits == b.frozen {
				continue
			}
			next = min(next, changes(bits, at))
		}
		next = min(next, r.To+1)
		if n := len(runs); n > 0 && runs[n-1].State == state {
			runs[n-1].To = next - 1
		} else if n == most {
			return runs, true
		} else {
			runs = append(runs, Run{Range{at, next - 1}, state})
		}
		at = next
	}
	return runs, false
}

// never is an index past every batch's.
const never = int64(1) << 40

// changes is the first index after one at which a set has another answer.
func changes(bits *roaring.Bitmap, at int64) int64 {
	i := uint32(at)
	next := bits.NextValue(i)
	if next == at {
		next = bits.NextAbsentValue(i)
	}
	if next < 0 {
		return never
	}
	return next
}

// changes is the first index after one that another activation governs, or none.
func (c *coverage) changes(at int64) int64 {
	next := never
	c.spans.Descend(at, func(_ int64, s span) bool {
		if s.to >= at {
			next = s.to + 1
		}
		return false
	})
	if next != never {
		return next
	}
	c.spans.Ascend(at+1, func(from int64, _ span) bool {
		next = from
		return false
	})
	return next
}
