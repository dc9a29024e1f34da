package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The cache of listings is bounded for any number of requests, and contains the latest listing.
func TestListings_CacheBounded(t *testing.T) {
	var m listings
	month := time.Unix(0, 0)
	for n := range 10 * listingsMost / listingMost {
		for _, size := range []int{0, 1, listingMost, listingMost + 1} {
			wanted := listed{owner: "wxa", offset: n, limit: size}
			m.put(wanted, &remembered{epoch: 1 << 32, month: month, rules: make([]Rule, size)})
			_, ok := m.get(wanted, 1<<32, month)
			require.Equal(t, ok, size <= listingMost, "list %d of %d rules: remembered", n, size)
			_, ok = m.get(wanted, 2<<32, month)
			require.True(t, !ok, "a list is remembered after a change")
		}
	}
	for n := range 2 * listingsMost / (prefixesMost / prefixesAre) {
		for _, size := range []int{prefixesMost, prefixesMost + 1} {
			wanted := listed{owner: "wxa", offset: n, prefixes: strings.Repeat("k", size)}
			m.put(wanted, &remembered{epoch: 1 << 32, month: month})
			_, ok := m.get(wanted, 1<<32, month)
			require.Equal(t, ok, size == prefixesMost, "list %d of keys of %d bytes: remembered", n, size)
		}
	}
	has := 0
	for wanted, l := range m.lists {
		has += 1 + len(l.rules) + len(wanted.prefixes)/prefixesAre
	}
	assert.True(t, has == m.weight && has <= listingsMost, "%d are remembered and %d counted: want at most %d", has, m.weight, listingsMost)
}
