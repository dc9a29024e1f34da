package scanlog

import (
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 29, 4: what a lost stream had comes again, and is taken already: no number of what
// is lacking goes below zero for it, and none that is lacking is hidden by it.
func TestOffsetSet_DuplicateOffsets(t *testing.T) {
	t.Parallel()
	var taken OffsetSet
	for position := int64(1); position <= 100; position++ {
		taken.Add(Origin{Position: position, Before: (position - 1) / 10 * 10})
	}
	for position := int64(1); position <= 60; position++ {
		taken.Add(Origin{Position: position, Before: (position - 1) / 10 * 10, Reshipped: true})
	}
	text, err := taken.Encode()
	require.NoError(t, err)
	read, err := DecodeTaken(taken.ContiguousTo, text)
	require.NoError(t, err)
	for name, of := range map[string]*OffsetSet{"as it is": &taken, "as it is stored": read, "a copy": taken.Clone()} {
		a, b := of.Missing(100), of.Missing(130)
		assert.True(t, a == 0 && b == 30 && of.Last() == 100, "%s: of 100 it lacks %d, of 130 %d; the last is %d", name, a, b, of.Last())
	}
}
