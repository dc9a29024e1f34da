package alarms

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// windowEvent is a scan at a time.
func windowEvent(at time.Duration) *scanlog.Event {
	e := &scanlog.Event{OccurredAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(at)}
	binary.BigEndian.PutUint64(e.ID[:], uint64(e.OccurredAt.UnixMilli())<<16)
	return e
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
				users, points := purchase(w.r, item)
				people[g] += users
				for _, n := range points {
					alarmed[g] += b2i(n >= 100)
				}
			}
			var unknown []sight
			for range items {
				list, _ := item()
				unknown = append(unknown, slices.DeleteFunc(list, func(sight) bool { return w.r.IntN(10) > 0 })...)
			}
			for m, mean := range means {
				period := time.Duration(len(unknown)/mean) * time.Hour
				hours[g][m] += len(unknown) / mean
				var window Window
				for _, s := range unknown {
					e := windowEvent(s.at % period)
					e.Reason, e.Text, e.Index = "unknown_code", "C.EXAMPLE/", w.r.Int64N(1<<16)
					window.Add(e)
				}
				for _, scans := range window.subjects {
					bursts[g][m] += b2i(windowPoints(len(scans.numbers)) >= 100)
				}
			}
		}
	}
	t.Logf("many_codes: %d of %d people; unknown_burst, by the mean %v: %d of %d hours", alarmed, people, means, bursts, hours)
	for g := range 2 {
		assert.True(t, 1000*alarmed[g] <= people[g], "generator %d: %d alarms of %d people", g+1, alarmed[g], people[g])
		assert.True(t, 1000*bursts[g][2] <= hours[g][2], "generator %d: %d alarms in %d hours", g+1, bursts[g][2], hours[g][2])
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// purchase lets a household buy and scan one or more items, all at the same time: 3 on average, in 1 of 50 purchases a case of 24, and
// in 1 of 2,000 two cases. It returns the number of people who scan, and the points of each hour and person.
func purchase(r *rand.Rand, item func() ([]sight, int)) (people int, points []int64) {
	n := 1 + int(2.5*r.ExpFloat64())
	if r.IntN(50) == 0 {
		n = 24
	}
	if r.IntN(2000) == 0 {
		n = 48
	}
	var window Window
	var soldAt time.Duration
	for code := range n {
		list, sold := item()
		if code == 0 {
			soldAt = list[sold].at
		}
		shift, known, parts := soldAt-list[sold].at, map[uint64]scanlog.UserHash{}, [2]byte{}
		for i, s := range list {
			e := windowEvent(s.at + shift + 1000*time.Hour)
			if part := b2i(i < sold); known[s.user] == (scanlog.UserHash{}) { // the buyer is the first after the sale
				parts[part]++
				known[s.user] = scanlog.UserHash{parts[part], byte(part)}
			}
			e.Batch, e.Index, e.User = 1, int64(code), known[s.user]
			window.Add(e)
		}
		people = max(people, len(known))
	}
	for _, scans := range window.subjects {
		points = append(points, windowPoints(len(scans.numbers)))
	}
	return people, points
}

// A window that is full forgets the subjects with the fewest numbers, and an hour is forgotten after the next one.
func TestWindow_Bounded(t *testing.T) {
	var w Window
	add := func(at time.Duration, user uint64, index int64) {
		e := windowEvent(at)
		e.Batch, e.Index = 1, index
		binary.BigEndian.PutUint64(e.User[:], user)
		w.Add(e)
	}
	for i := range int64(5_000) {
		add(0, 1, i)
	}
	for user := range uint64(3 * maxNumbers) {
		add(0, user+2, 1)
	}
	most := 0
	for _, scans := range w.subjects {
		most = max(most, len(scans.numbers))
	}
	assert.True(t, w.numbers <= maxNumbers && len(w.subjects) <= maxNumbers && most == manyNumbers && len(w.changed) == 1,
		"%d numbers of %d subjects, at most %d, %d changed", w.numbers, len(w.subjects), most, len(w.changed))
	add(2*time.Hour, 1, 1)
	w.Saved()
	assert.True(t, w.numbers == 1 && len(w.subjects) == 1 && len(w.changed) == 0, "after two hours: %d numbers", w.numbers)
}
