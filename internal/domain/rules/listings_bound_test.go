package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// However many lists are asked for, what is remembered is bounded, and the last
// one is among it.
func TestListings_CacheBounded(t *testing.T) {
	var m listings
	month := time.Unix(0, 0)
	for n := range 10 * listingsMost / listingMost {
		for _, size := range []int{0, 1, listingMost, listingMost + 1} {
			wanted := listed{owner: "wxa", offset: n, limit: size}
			m.put(wanted, &remembered{epoch: 1 << 32, month: month, rules: make([]Rule, size)})
			if _, ok := m.get(wanted, 1<<32, month); ok != (size <= listingMost) {
				t.Fatalf("list %d of %d rules: remembered %t", n, size, ok)
			}
			if _, ok := m.get(wanted, 2<<32, month); ok {
				t.Fatal("a list is remembered after a change")
			}
		}
	}
	for n := range 2 * listingsMost / (prefixesMost / prefixesAre) {
		for _, size := range []int{prefixesMost, prefixesMost + 1} {
			wanted := listed{owner: "wxa", offset: n, prefixes: strings.Repeat("k", size)}
			m.put(wanted, &remembered{epoch: 1 << 32, month: month})
			if _, ok := m.get(wanted, 1<<32, month); ok != (size == prefixesMost) {
				t.Fatalf("list %d of keys of %d bytes: remembered %t", n, size, ok)
			}
		}
	}
	has := 0
	for wanted, l := range m.lists {
		has += 1 + len(l.rules) + len(wanted.prefixes)/prefixesAre
	}
	assert.True(t, has == m.weight && has <= listingsMost, "%d are remembered and %d counted: want at most %d", has, m.weight, listingsMost)
}
