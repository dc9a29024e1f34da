package scanlog

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Origin identifies the journal from which an event came into a shared log. A shared log may be lost while the journals still
// exist. Node is "" if the log does not record the node.
type Origin struct {
	Node     string
	Position int64 // position in the node's journal
	// Before is a journal position: when this event arrived, the shared log had all earlier events of the journal that belong there.
	Before int64
	// Reshipped is true if the event was already counted in a log that was lost.
	Reshipped bool
}

// OffsetSet is a set of positions in a node's journal: those of the counted events, or those of the events reported to webhooks, from
// whichever log they were read. The set consists of all positions up to ContiguousTo, and some greater positions.
type OffsetSet struct {
	ContiguousTo int64
	beyond       roaring64.Bitmap
}

// Has reports whether a journal position is in the set.
func (t *OffsetSet) Has(position int64) bool {
	return t != nil && (position <= t.ContiguousTo || t.beyond.Contains(uint64(position)))
}

// Add records a counted event; all earlier events of the log must have been added before.
func (t *OffsetSet) Add(o Origin) {
	if o.Position > t.ContiguousTo { // smaller positions arrive again when a lost stream is shipped again
		t.beyond.Add(uint64(o.Position))
	}
	if o.Before > t.ContiguousTo {
		t.ContiguousTo = o.Before
		t.beyond.RemoveRange(0, uint64(t.ContiguousTo)+1)
	}
}

// Extended adds o to the set, and creates the set if t is nil.
func (t *OffsetSet) Extended(o Origin) *OffsetSet {
	if t == nil {
		t = &OffsetSet{}
	}
	t.Add(o)
	return t
}

// Clone returns an independent copy.
func (t *OffsetSet) Clone() *OffsetSet { return &OffsetSet{t.ContiguousTo, *t.beyond.Clone()} }

// Last returns the last counted position.
func (t *OffsetSet) Last() int64 {
	if t == nil || t.beyond.IsEmpty() {
		return t.From()
	}
	return max(t.ContiguousTo, int64(t.beyond.Maximum()))
}

// From returns ContiguousTo, the position up to which every event is counted; 0 if t is nil.
func (t *OffsetSet) From() int64 {
	if t == nil {
		return 0
	}
	return t.ContiguousTo
}

// Missing returns the number of uncounted positions up to upTo.
func (t *OffsetSet) Missing(upTo int64) int64 {
	if upTo <= t.ContiguousTo {
		return 0
	}
	return upTo - t.ContiguousTo - int64(t.beyond.Rank(uint64(upTo)))
}

// Encode returns the counted positions after ContiguousTo as text.
func (t *OffsetSet) Encode() (string, error) {
	if t.beyond.IsEmpty() {
		return "", nil
	}
	t.beyond.RunOptimize()
	return t.beyond.ToBase64()
}

// DecodeTaken decodes a text that Encode returned.
func DecodeTaken(upTo int64, text string) (*OffsetSet, error) {
	t := &OffsetSet{ContiguousTo: upTo}
	if text == "" {
		return t, nil
	}
	if _, err := t.beyond.FromBase64(text); err != nil {
		return nil, fmt.Errorf("decoding the counted offsets of a node: %w", err)
	}
	return t, nil
}
