package codes

import (
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestIndexSet_EqualsRanges compares sets of random ranges with an array of the indexes in them.
func TestIndexSet_EqualsRanges(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 1))
	for range 20_000 {
		var list []Range // in any order, may overlap and touch
		for range random.IntN(12) {
			from := random.Int64N(100)
			list = append(list, Range{from, min(from+random.Int64N(9), 99)})
		}
		var contained [102]bool
		count := int64(0)
		for _, r := range list {
			for i := r.From; i <= r.To; i++ {
				if !contained[i] {
					count++
				}
				contained[i] = true
			}
		}
		s := NewSet(list...)
		for i, want := range contained {
			require.Equal(t, s.Contains(int64(i)), want, "NewSet(%v).Contains(%d)", list, i)
		}
		require.Equal(t, s.Len(), count, "NewSet(%v).Len()", list)
		for i, r := range s {
			require.True(t, r.From <= r.To && (i <= 0 || r.From > s[i-1].To+1), "NewSet(%v) = %v, want the shortest form", list, s)
		}
		if len(s) > 0 {
			b := s.Bounds()
			require.True(t, contained[b.From] && contained[b.To] && !slices.Contains(contained[:b.From], true) &&
				!slices.Contains(contained[b.To+1:], true), "NewSet(%v).Bounds() = %v", list, b)
		}
		back, err := DecodeSet(s.Encode())
		require.True(t, err == nil && slices.Equal(back, s), "DecodeSet(%q) = %v, %v, want %v", s.Encode(), back, err, s)
	}
}

func TestIndexSet_Boundaries(t *testing.T) {
	t.Parallel()
	const last = 1_999_999_999
	for _, list := range [][]Range{{}, {{0, 0}}, {{0, last}}, {{last, last}}, {{0, 0}, {2, 2}, {last, last}}, {{5, 9}, {0, 4}},
		{{0, last}, {3, 4}}} {
		s := NewSet(list...)
		back, err := DecodeSet(s.Encode())
		assert.True(t, err == nil && slices.Equal(back, s), "DecodeSet of %v = %v, %v", list, back, err)
	}
	s := NewSet(Range{5, 9}, Range{0, 4})
	assert.True(t, len(s) == 1 && s[0] == (Range{0, 9}), "set of two adjacent ranges = %v, want 0 to 9", s)
	for _, damaged := range []string{"!", "AA", "gA", "////////////AA", base64.RawStdEncoding.EncodeToString([]byte{0x80, 0x80})} {
		s, err := DecodeSet(damaged)
		assert.True(t, err != nil, "DecodeSet(%q) = %v, want an error", damaged, s)
	}
}

// FuzzDecodeSet verifies that DecodeSet returns an error or ranges in ascending order.
func FuzzDecodeSet(f *testing.F) {
	f.Add(NewSet(Range{0, 0}, Range{7, 9}).Encode())
	f.Add("")
	f.Add("////////////////")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := DecodeSet(text)
		for i, r := range s {
			require.True(t, err != nil || (r.From >= 0 && r.To >= r.From && (i <= 0 || r.From > s[i-1].To)),
				"DecodeSet(%q) = %v, want ascending ranges", text, s)
		}
	})
}
