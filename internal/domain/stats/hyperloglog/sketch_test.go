package hyperloglog

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// user is one of many.
func user(n uint64) (u scanlog.UserHash) {
	binary.BigEndian.PutUint64(u[:], n)
	u[15] = 1 // none is the zero user
	return u
}

func TestSketch_ErrorWithinOnePercent(t *testing.T) {
	for seed := range uint64(5) {
		var s Users
		next := 1000
		for n := 1; n <= 1_000_000; n++ {
			s.Add(user(seed<<40 + uint64(n)))
			if n != next {
				continue
			}
			next = next * 5 / 4
			got := float64(s.Count())
			off := math.Abs(got-float64(n)) / float64(n)
			assert.True(t, !(off > 0.01), "seed %d: %d users are counted as %.0f, %.2f %% off", seed, n, got, 100*off)
			assert.True(t, n > Exact || int(got) == n, "seed %d: %d users are counted as %.0f, not exactly", seed, n, got)
		}
	}
}

func TestSketch_OrderIndependent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + r.IntN(2*Exact)
		var whole Users
		parts := make([]Users, 1+r.IntN(4))
		for range n {
			u := user(r.Uint64N(uint64(n)))
			whole.Add(u)
			parts[r.IntN(len(parts))].Add(u)
			parts[r.IntN(len(parts))].Add(u)
		}
		var merged Users
		for _, i := range r.Perm(len(parts)) {
			part, err := Decode(parts[i].Encode())
			require.NoError(t, err)
			merged.Merge(part)
		}
		require.True(t, merged.Encode() == whole.Encode() && merged.Count() == whole.Count(),
			"%d users in %d parts: %d after merging, %d in one", n, len(parts), merged.Count(), whole.Count())
	}
}

func TestSketch_EraseKeepsCount(t *testing.T) {
	var s, others Users
	for n := range uint64(100) {
		s.Add(user(n))
		if n != 7 {
			others.Add(user(n))
		}
	}
	assert.True(t, s.Replace(user(7), 12345) && s.Count() == 100, "after an erasure %d users are counted", s.Count())
	assert.True(t, !s.Replace(user(7), 12345), "the number of the user is still there")
	others.AddNumber(12345)
	diff := cmp.Diff(others.exact, s.exact)
	assert.True(t, diff == "", "%v", diff)
}

func FuzzDecodeSketch(f *testing.F) {
	var s Users
	f.Add(s.Encode())
	for n := range uint64(3000) {
		s.Add(user(n))
		if n == 5 || n == 2999 {
			f.Add(s.Encode())
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Decode(text)
		if err != nil {
			return
		}
		s.Count()
		decoded, err := Decode(s.Encode())
		assert.True(t, err == nil && decoded.Encode() == s.Encode(), "%.40q: %v", text, err)
	})
}
