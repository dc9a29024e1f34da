package emulator_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Calls are followed from place to place: each once, in order, and it is said how many were forgotten meanwhile.
func TestCallRecord_FollowFromCursor(t *testing.T) {
	all := func(int) bool { return true }
	c := &emulator.Calls[int]{Run: "a"}
	_, place := c.Last(10, all)
	want, made := 0, 0
	for round, add := range []int{0, 1, 999, 1000, 3, 0, 1500, 2} {
		for range add {
			c.Add(made)
			made++
		}
		lost := max(0, add-1000)
		want += lost
		for first := true; ; first = false {
			list, next, missed := c.ListAfter(place, 300, all)
			require.True(t, (first == (missed == int64(lost)) || lost <= 0) && (lost != 0 || missed == 0),
				"round %d: %d were missed, want %d", round, missed, lost)
			for _, one := range list {
				require.Equal(t, one, want, "round %d", round)
				want++
			}
			place = next
			if len(list) < 300 {
				break
			}
		}
		require.Equal(t, want, made, "round %d", round)
	}

	// What a filter leaves out is passed all the same.
	c.Add(made)
	even := func(n int) bool { return n%2 == 0 }
	list, next, _ := c.ListAfter(place, 10, func(int) bool { return false })
	assert.True(t, len(list) == 0 && next != place, "got %v and %s again", list, next)
	list, _ = c.Last(2, even)
	assert.True(t, slices.Equal(list, []int{made - made%2, made - made%2 - 2}), "the last two even ones are %v of %d", list, made)

	// A reset forgets calls and keeps places; a place of another process, or none at all, begins with the oldest.
	c.Clear()
	c.Add(7)
	list, _, missed := c.ListAfter(place, 10, all)
	assert.True(t, slices.Equal(list, []int{7}) && missed == 1, "after a reset: %v, %d missed", list, missed)
	for _, place := range []string{"b.3", "b.99999", "x", "", "a.", "a.-5", "a.x"} {
		list, _, missed := c.ListAfter(place, 10, all)
		assert.True(t, slices.Equal(list, []int{7}) && missed == 0, "%q: %v, %d missed", place, list, missed)
	}
	list, next, _ = c.ListAfter(fmt.Sprint("a.", made+100), 10, all)
	assert.True(t, len(list) == 0 && next == fmt.Sprint("a.", made+2), "a place that is still to come: %v, %s", list, next)
}
