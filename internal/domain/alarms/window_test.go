package alarms

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// windowEvent is a scan at a time.
func windowEvent(at time.Duration, batch, index int64) *scanlog.Event {
	e := &scanlog.Event{OccurredAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(at), Batch: batch, Index: index}
	binary.BigEndian.PutUint64(e.ID[:], uint64(e.OccurredAt.UnixMilli())<<16)
	return e
}

// reaching100 is the number of alarms at 100 points.
func (w *Window) reaching100() (n int) {
	for _, scans := range w.subjects {
		if windowPoints(len(scans.numbers)) >= 100 {
			n++
		}
	}
	return n
}

// TestWindow_FalseAlarmRate keeps the rates of docs/alarms.md for the alarms of an hour, in all worlds and by both generators.
func TestWindow_FalseAlarmRate(t *testing.T) {
	t.Parallel()
	const purchases, items = 3_000, 4_000
	means := []int{5, 10, 15, 20} // unknown texts an hour
	var people, alarmed [2]int
	var hours, bursts [2][4]int
	for _, world := range worlds {
		w := &market{r: rand.New(rand.NewPCG(9, 1)), located: true, world: world}
		j := &journeys{r: rand.New(rand.NewPCG(34, 1)), world: world}
		for g, item := range []func() ([]sight, int){
			func() ([]sight, int) { list := w.scansOf(); return list, w.sold },
			func() ([]sight, int) { list := j.item(); return list, j.sold },
		} {
			for range purchases {
				users, n := purchase(w.r, item)
				people[g], alarmed[g] = people[g]+users, alarmed[g]+n
			}
			var unknown []time.Duration
			for range items {
				list, _ := item()
				for _, s := range list {
					if w.r.IntN(10) == 0 {
						unknown = append(unknown, s.at)
					}
				}
			}
			for m, mean := range means {
				var window Window
				for _, at := range unknown {
					e := windowEvent(at%(time.Duration(len(unknown)/mean)*time.Hour), 0, w.r.Int64N(1<<16))
					e.Reason, e.Text = "unknown_code", "C.EXAMPLE/"
					window.Add(e)
				}
				hours[g][m], bursts[g][m] = hours[g][m]+len(unknown)/mean, bursts[g][m]+window.reaching100()
			}
		}
	}
	t.Logf("many_codes: %d of %d people; unknown_burst, by the mean %v: %d of %d hours", alarmed, people, means, bursts, hours)
	for g := range 2 {
		assert.True(t, 1000*alarmed[g] <= people[g], "generator %d: %d alarms of %d people", g+1, alarmed[g], people[g])
		assert.True(t, 1000*bursts[g][2] <= hours[g][2], "generator %d: %d alarms in %d hours", g+1, bursts[g][2], hours[g][2])
	}
}

// purchase lets a household buy items and scan them at the same time: 3 on average, in 1 of 50 purchases a case of 24, in 1 of 2,000 two
// cases. It returns the number of people, and that of the alarms.
func purchase(r *rand.Rand, item func() ([]sight, int)) (people, alarms int) {
	n := 1 + int(2.5*r.ExpFloat64())
	if r.IntN(50) == 0 {
		n = 24
	}
	if r.IntN(2000) == 0 {
		n = 48
	}
	var window Window
	for code := range n {
		list, sold := item()
		known, parts := map[uint64]scanlog.UserHash{}, [2]byte{}
		for i, s := range list {
			part := min(1, (i+1)/(sold+1))
			if known[s.user] == (scanlog.UserHash{}) { // the buyer is the first after the sale
				parts[part]++
				known[s.user] = scanlog.UserHash{parts[part], byte(part)}
			}
			e := windowEvent(s.at-list[sold].at+5000*time.Hour, 1, int64(code))
			e.User = known[s.user]
			window.Add(e)
		}
		people = max(people, len(known))
	}
	return people, window.reaching100()
}

// TestWindow_Bounded verifies that a full window drops subjects with the fewest numbers, and that an hour is dropped after the next one.
func TestWindow_Bounded(t *testing.T) {
	var w Window
	add := func(at time.Duration, user uint64, index int64) {
		e := windowEvent(at, 1, index)
		binary.BigEndian.PutUint64(e.User[:], user)
		w.Add(e)
	}
	for i := range int64(2 * maxNumbers) {
		add(0, 1, i)
		add(0, 2+uint64(i), 1)
	}
	assert.True(t, w.numbers <= maxNumbers && len(w.subjects) <= maxNumbers && len(w.changed) == 1 && w.reaching100() == 1,
		"%d numbers of %d subjects, %d changed", w.numbers, len(w.subjects), len(w.changed))
	add(2*time.Hour, 1, 1)
	w.Saved()
	assert.True(t, w.numbers == 1 && len(w.subjects) == 1 && len(w.changed) == 0, "after two hours: %d numbers", w.numbers)
}
