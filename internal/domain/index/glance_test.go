package index

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestGlance_EqualsSearch verifies that a glance, which leaves texts that it cannot decide to core.search, has the same results as
// core.search. The parts of the texts have all lengths around a word of eight bytes.
func TestGlance_EqualsSearch(t *testing.T) {
	const seed = 20173
	rng := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	text := func() string {
		var b strings.Builder
		b.WriteString(pick("https://", "https://", "https://", "http://", "HTTPS://"))
		b.WriteString(pick("h.example", "hh.example", "hhhhhhhhh.example", "H.example", "weixin.qq.com", strings.Repeat("h", 23)+".example",
			strings.Repeat("h", 24)+".example", "h.example"))
		for range rng.IntN(5) {
			b.WriteString("/" + strings.Repeat("a", rng.IntN(10)))
		}
		b.WriteString(pick("", "", "/", "/", "/q/AB", "#x"))
		if rng.IntN(3) == 0 {
			b.WriteString("?" + pick("", "i", "id=", "id=1", "id=12345678", "sn=abc", "i?", strings.Repeat("x", 40)))
		}
		b.WriteString(pick("", "", "", "/", "b", "&from=ä"))
		return b.String()
	}
	glances, hits, searches := 0, 0, 0
	for round := range 400 {
		x := New()
		for i := range 30 {
			p, ok := rules.StoredPrefix(text())
			if !ok {
				continue
			}
			r := rules.Rule{ID: rng.Int64() >> rng.IntN(63), Kind: rules.Ordinary, Owner: pick("A", "B"), Prefix: p, Path: "p",
				Published: rng.IntN(4) > 0}
			if r.Target = r.Owner; i%9 == 0 {
				r.Target = "C"
			}
			x.Set(r)
		}
		c := x.state.Load()
		for range 200 {
			link := text()
			var match rules.Match
			result := c.glance(link, x, &match)
			if result == glanceUnsure {
				searches++
				continue
			}
			glances++
			ok := result == glanceHit
			if ok {
				hits++
			}
			hit, found := c.search(link, x)
			require.True(t, found == ok && hit == match,
				"seed %d, round %d: glance(%q) = %v %+v, search = %v %+v", seed, round, link, ok, match, found, hit)
		}
	}
	assert.True(t, glances >= 10_000 && hits >= 1000 && searches >= 1000,
		"%d glances, %d hits, %d searches, want at least 10000, 1000, 1000", glances, hits, searches)
}
