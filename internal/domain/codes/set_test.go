package codes

import (
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The definition of a set: index by index.
func TestIndexSet_EqualsRanges(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 1))
	for range 20_000 {
		var list []Range // in any order, may overlap and touch
		for range random.IntN(12) {
			from := random.Int64N(100)
			list = append(list, Range{from, min(from+random.Int64N(9), 99)})
		}
		var holds [102]bool
		count := int64(0)
		for _, r := range list {
			for i := r.From; i <= r.To; i++ {
				if !holds[i] {
					count++
				}
				holds[i] = true
			}
		}
		s := NewSet(list...)
		for i, want := range holds {
			require.True(t, s.Contains(int64(i)) == want, "%v: %d is in the set: %t", list, i, !want)
		}
		require.Equal(t, s.Len(), count, "%v", list)
		for i, r := range s {
			require.True(t, r.From <= r.To && (i <= 0 || r.From > s[i-1].To+1), "%v became %v: not the shortest form", list, s)
		}
		if len(s) > 0 {
			b := s.Bounds()
			require.True(t, holds[b.From] && holds[b.To] && !slices.Contains(holds[:b.From], true) &&
				!slices.Contains(holds[b.To+1:], true), "%v: the bounds are %v", list, b)
		}
		back, err := DecodeSet(s.Encode())
		require.True(t, err == nil && slices.Equal(back, s), "%v was stored as %q and came back as %v, %v", s, s.Encode(), back, err)
	}
}

func TestIndexSet_Boundaries(t *testing.T) {
	t.Parallel()
	const last = 1_999_999_999
	for _, list := range [][]Range{{}, {{0, 0}}, {{0, last}}, {{last, last}}, {{0, 0}, {2, 2}, {last, last}}, {{5, 9}, {0, 4}},
		{{0, last}, {3, 4}}} {
		s := NewSet(list...)
		back, err := DecodeSet(s.Encode())
		assert.True(t, err == nil && slices.Equal(back, s), "%v: %v, %v", list, back, err)
	}
	s := NewSet(Range{5, 9}, Range{0, 4})
	assert.True(t, len(s) == 1 && s[0] == (Range{0, 9}), "two ranges that touch are %v", s)
	for _, damaged := range []string{"!", "AA", "gA", "////////////AA", base64.RawStdEncoding.EncodeToString([]byte{0x80, 0x80})} {
		s, err := DecodeSet(damaged)
		assert.True(t, err != nil, "%q is %v", damaged, s)
	}
}

// FuzzDecodeSet: a stored set is decoded or rejected, and decoded ranges are in ascending order.
func FuzzDecodeSet(f *testing.F) {
	f.Add(NewSet(Range{0, 0}, Range{7, 9}).Encode())
	f.Add("")
	f.Add("////////////////")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := DecodeSet(text)
		for i, r := range s {
			require.True(t, err != nil || (r.From >= 0 && r.To >= r.From && (i <= 0 || r.From > s[i-1].To)), "%q is %v", text, s)
		}
	})
}
