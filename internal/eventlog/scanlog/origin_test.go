package scanlog

import (
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestOffsetSet_DuplicateOffsets adds offsets again, as after the loss of a stream. The duplicates must neither make the number of missing
// offsets negative nor hide missing ones.
func TestOffsetSet_DuplicateOffsets(t *testing.T) {
	t.Parallel()
	var set OffsetSet
	for position := int64(1); position <= 100; position++ {
		set.Add(Origin{Position: position, Before: (position - 1) / 10 * 10})
	}
	for position := int64(1); position <= 60; position++ {
		set.Add(Origin{Position: position, Before: (position - 1) / 10 * 10, Reshipped: true})
	}
	text := require.Value(set.Encode())(t)
	decoded := require.Value(DecodeTaken(set.ContiguousTo, text))(t)
	for name, s := range map[string]*OffsetSet{"original": &set, "decoded": decoded, "clone": set.Clone()} {
		a, b := s.Missing(100), s.Missing(130)
		assert.True(t, a == 0 && b == 30 && s.Last() == 100, "%s: Missing(100) = %d, Missing(130) = %d, Last() = %d, want 0, 30, 100",
			name, a, b, s.Last())
	}
}
