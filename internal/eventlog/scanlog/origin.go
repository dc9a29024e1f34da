package scanlog

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Origin says from which journal an event came into a shared log. Such a log may be lost while the
// journals are not. Node "" = the log does not say.
type Origin struct {
	Node     string
	Position int64 // in the node's journal
	// Before is the position of the journal up to which the log had every event that it needs when
	// this one came.
	Before int64
	// Reshipped says that the event was counted already, in a log that was lost.
	Reshipped bool
}

// OffsetSet says which events of a node's journal are counted, or told to webhooks, in whatever log
// they were read: all up to a position, and some after it.
type OffsetSet struct {
	UpTo   int64
	beyond roaring64.Bitmap
}

// Has reports whether the event at a position of the journal is counted.
func (t *OffsetSet) Has(position int64) bool {
	return t != nil && (position <= t.UpTo || t.beyond.Contains(uint64(position)))
}

// Add takes in an event that is counted, after everything before it in the log.
func (t *OffsetSet) Add(o Origin) {
	if o.Position > t.UpTo { // else it is known already: what a lost stream had comes once more
		t.beyond.Add(uint64(o.Position))
	}
	if o.Before > t.UpTo {
		t.UpTo = o.Before
		t.beyond.RemoveRange(0, uint64(t.UpTo)+1)
	}
}

// Extended is Add for a Taken that may be nil.
func (t *OffsetSet) Extended(o Origin) *OffsetSet {
	if t == nil {
		t = &OffsetSet{}
	}
	t.Add(o)
	return t
}

// Clone returns an independent copy.
func (t *OffsetSet) Clone() *OffsetSet { return &OffsetSet{t.UpTo, *t.beyond.Clone()} }

// Last returns the last position that is counted.
func (t *OffsetSet) Last() int64 {
	if t == nil || t.beyond.IsEmpty() {
		return t.From()
	}
	return max(t.UpTo, int64(t.beyond.Maximum()))
}

// From returns the position up to which every event is counted: those that are not come after it.
func (t *OffsetSet) From() int64 {
	if t == nil {
		return 0
	}
	return t.UpTo
}

// Missing returns the number of positions up to one that are not counted.
func (t *OffsetSet) Missing(upTo int64) int64 {
	if upTo <= t.UpTo {
		return 0
	}
	return upTo - t.UpTo - int64(t.beyond.Rank(uint64(upTo)))
}

// Encode writes what is behind UpTo as text.
func (t *OffsetSet) Encode() (string, error) {
	if t.beyond.IsEmpty() {
		return "", nil
	}
	t.beyond.RunOptimize()
	return t.beyond.ToBase64()
}

// DecodeTaken reads what Encode wrote.
func DecodeTaken(upTo int64, text string) (*OffsetSet, error) {
	t := &OffsetSet{UpTo: upTo}
	if text == "" {
		return t, nil
	}
	if _, err := t.beyond.FromBase64(text); err != nil {
		return nil, fmt.Errorf("which scans of a node are counted cannot be read: %w", err)
	}
	return t, nil
}
