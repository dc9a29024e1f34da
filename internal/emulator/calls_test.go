package emulator_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCallRecord_FollowFromCursor verifies that a client that passes the returned cursors gets each call once and in order, and learns how
// many calls were dropped in between.
func TestCallRecord_FollowFromCursor(t *testing.T) {
	all := func(int) bool { return true }
	c := &emulator.Calls[int]{Run: "a"}
	_, cursor := c.Last(10, all)
	want, added := 0, 0
	for round, add := range []int{0, 1, 999, 1000, 3, 0, 1500, 2} {
		for range add {
			c.Add(added)
			added++
		}
		lost := max(0, add-1000)
		want += lost
		for first := true; ; first = false {
			list, next, missed := c.ListAfter(cursor, 300, all)
			require.True(t, (first == (missed == int64(lost)) || lost <= 0) && (lost != 0 || missed == 0),
				"round %d: ListAfter() misses %d calls, want %d", round, missed, lost)
			for _, call := range list {
				require.Equal(t, call, want, "call in round %d", round)
				want++
			}
			cursor = next
			if len(list) < 300 {
				break
			}
		}
		require.Equal(t, want, added, "number of calls after round %d", round)
	}

	// The cursor advances past calls that a filter excludes.
	c.Add(added)
	even := func(n int) bool { return n%2 == 0 }
	list, next, _ := c.ListAfter(cursor, 10, func(int) bool { return false })
	assert.True(t, len(list) == 0 && next != cursor, "ListAfter() = %v, %s, want no call and a later cursor", list, next)
	list, _ = c.Last(2, even)
	assert.True(t, slices.Equal(list, []int{added - added%2, added - added%2 - 2}), "Last(2, even) = %v of %d calls", list, added)

	// Cursors remain valid after a reset. With a cursor of another process or an invalid one, the list begins at the oldest call.
	c.Clear()
	c.Add(7)
	list, _, missed := c.ListAfter(cursor, 10, all)
	assert.True(t, slices.Equal(list, []int{7}) && missed == 1, "ListAfter() after a reset = %v, %d missed, want [7], 1", list, missed)
	for _, cursor := range []string{"b.3", "b.99999", "x", "", "a.", "a.-5", "a.x"} {
		list, _, missed := c.ListAfter(cursor, 10, all)
		assert.True(t, slices.Equal(list, []int{7}) && missed == 0, "ListAfter(%q) = %v, %d missed, want [7], 0", cursor, list, missed)
	}
	list, next, _ = c.ListAfter(fmt.Sprint("a.", added+100), 10, all)
	assert.True(t, len(list) == 0 && next == fmt.Sprint("a.", added+2),
		"ListAfter() with a future cursor = %v, %s, want no call", list, next)
}
