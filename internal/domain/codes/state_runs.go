package codes

import (
	"iter"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// StateRun is a range of consecutive codes with the same state.
type StateRun struct {
	Range
	State State
}

// StateRuns returns the states of the codes of a range at time now: at most limit runs, in index order. hasMore reports further runs.
func (m *Memory) StateRuns(batch int64, r Range, now time.Time, limit int) (runs []StateRun, hasMore bool) {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	for run := range b.runs(r) {
		if n := len(runs); n > 0 && runs[n-1].State == run.State {
			runs[n-1].To = run.To
		} else if n == limit {
			return runs, true
		} else {
			runs = append(runs, run)
		}
	}
	return runs, false
}

// HasActivation reports whether a code of a range is activated at time now.
func (m *Memory) HasActivation(batch int64, r Range, now time.Time) bool {
	b := m.upToDate(batch, now)
	defer b.mu.Unlock()
	for run := range b.runs(r) {
		if run.State.Activation != nil {
			return true
		}
	}
	return false
}

// runs yields runs of codes of a range with equal states, in index order; neighbouring runs may have equal states. The caller holds b.mu.
func (b *batchMemory) runs(r Range) iter.Seq[StateRun] {
	return func(yield func(StateRun) bool) {
		for pos := r.From; b.ID != 0 && pos <= r.To; {
			// While the whole batch is frozen, b.frozen is skipped: individually frozen codes have the same state as all other codes.
			next := b.active.nextChange(pos)
			for _, bits := range []*roaring.Bitmap{b.frozen, b.void, b.redeemed} {
				if b.allFrozen && bits == b.frozen {
					continue
				}
				next = min(next, nextChange(bits, pos))
			}
			next = min(next, r.To+1)
			if !yield(StateRun{Range{pos, next - 1}, b.state(pos)}) {
				return
			}
			pos = next
		}
	}
}

// neverIndex is larger than the index of any code.
const neverIndex = int64(1) << 40

// nextChange returns the first index after pos that is in bits if pos is not, or is not in bits if pos is; otherwise neverIndex.
func nextChange(bits *roaring.Bitmap, pos int64) int64 {
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

// nextChange returns the first index after pos to which another activation applies, or neverIndex.
func (c *coverage) nextChange(pos int64) int64 {
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
