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

func userHash(n uint64) (u scanlog.UserHash) {
	binary.BigEndian.PutUint64(u[:], n)
	u[15] = 1 // distinguishes user 0 from the zero hash, which means no user
	return u
}

func TestSketch_ErrorWithinOnePercent(t *testing.T) {
	for seed := range uint64(5) {
		var s Users
		next := 1000
		for n := 1; n <= 1_000_000; n++ {
			s.Add(userHash(seed<<40 + uint64(n)))
			if n != next {
				continue
			}
			next = next * 5 / 4
			got := float64(s.Count())
			off := math.Abs(got-float64(n)) / float64(n)
			assert.True(t, off <= 0.01, "seed %d: Count() = %.0f of %d users, %.2f %% off, want at most 1 %%", seed, got, n, 100*off)
			assert.True(t, n > Exact || int(got) == n, "seed %d: Count() = %.0f, want exactly %d", seed, got, n)
		}
	}
}

func TestSketch_OrderIndependent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + r.IntN(2*Exact)
		var all Users
		parts := make([]Users, 1+r.IntN(4))
		for range n {
			u := userHash(r.Uint64N(uint64(n)))
			all.Add(u)
			parts[r.IntN(len(parts))].Add(u)
			parts[r.IntN(len(parts))].Add(u)
		}
		var merged Users
		for _, i := range r.Perm(len(parts)) {
			part := require.Value(Decode(parts[i].Encode()))(t)
			merged.Merge(part)
		}
		require.True(t, merged.Encode() == all.Encode() && merged.Count() == all.Count(),
			"%d additions in %d parts: Count() = %d after merging, want the sketch of all users with %d",
			n, len(parts), merged.Count(), all.Count())
	}
}

func TestSketch_EraseKeepsCount(t *testing.T) {
	var s, others Users
	for n := range uint64(100) {
		s.Add(userHash(n))
		if n != 7 {
			others.Add(userHash(n))
		}
	}
	assert.True(t, s.Replace(userHash(7), 12345) && s.Count() == 100, "Count() = %d after an erasure, want 100", s.Count())
	assert.True(t, !s.Replace(userHash(7), 12345), "a second Replace() succeeds, want false")
	others.AddNumber(12345)
	assert.Equal(t, cmp.Diff(others.exact, s.exact), "", "numbers after the erasure (-want +got)")
}

func FuzzDecodeSketch(f *testing.F) {
	var s Users
	f.Add(s.Encode())
	for n := range uint64(3000) {
		s.Add(userHash(n))
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
		assert.True(t, err == nil && decoded.Encode() == s.Encode(), "Decode(Encode()) of %.40q: %v, want the same sketch", text, err)
	})
}
