package stats

import (
	"cmp"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// rows returns the pending counts by hour and by day, for each rule, each owner and all rules, and their sums by dimension, sorted by key.
func (p *pending) rows(firsts map[int32]int64, offset int64) ([]CountRow, []SumRow) {
	hours := slices.Clone(p.counts)
	for i, n := range firsts {
		hours[i].FirstScans = n
	}
	hours = summed(hours)
	days := slices.Clone(hours)
	for i := range days {
		days[i].hour = timebucket.Day(days[i].hour, offset)
	}
	days = summed(days)
	none, owner := func(*cellCount) int64 { return 0 }, func(c *cellCount) int64 { return c.owner }
	hoursOfAll, daysOfAll := withRules(hours, none), withRules(days, none)
	hoursOfOwners, daysOfOwners := withRules(hours, owner), withRules(days, owner)

	counts := make([]CountRow, 0, 2*(len(hours)+len(days)))
	for per, list := range [...][]cellCount{PerHour: hours, PerDay: days, PerHourOfAll: hoursOfAll, PerDayOfAll: daysOfAll,
		PerHourOfOwner: hoursOfOwners, PerDayOfOwner: daysOfOwners} {
		for _, count := range list {
			counts = append(counts, CountRow{Granularity(per), count.hour, count.rule, count.group.id, count.Count})
		}
	}
	sums := p.appendOwners(appendSums(nil, PerHour, hoursOfAll), PerHour, hoursOfOwners)
	return counts, p.appendOwners(appendSums(sums, PerDay, daysOfAll), PerDay, daysOfOwners)
}

// withRules returns the cells with other rule IDs, and adds up cells that become equal.
func withRules(cells []cellCount, rule func(*cellCount) int64) []cellCount {
	cells = slices.Clone(cells)
	for i := range cells {
		cells[i].rule = rule(&cells[i])
	}
	return summed(cells)
}

// appendOwners appends the sums for each owner.
func (p *pending) appendOwners(all []SumRow, per Granularity, cells []cellCount) []SumRow {
	first := len(all)
	for i := range cells {
		if i == 0 || cells[i].hour != cells[i-1].hour || cells[i].rule != cells[i-1].rule {
			all = append(all, SumRow{Granularity: per, Dimension: Owner, Bucket: cells[i].hour, Value: p.owners[cells[i].rule]})
		}
		all[len(all)-1].Add(cells[i].Count)
	}
	slices.SortFunc(all[first:], func(a, b SumRow) int { return a.compare(&b) })
	return all
}

// summed sorts cells by the key of their rows, and sums the cells of the same row.
func summed(cells []cellCount) []cellCount {
	slices.SortFunc(cells, func(a, b cellCount) int {
		if a.hour != b.hour {
			return cmp.Compare(a.hour, b.hour)
		}
		if a.rule != b.rule {
			return cmp.Compare(a.rule, b.rule)
		}
		return cmp.Compare(a.group.id, b.group.id)
	})
	n := 0
	for _, count := range cells {
		if n > 0 && cells[n-1].cell == count.cell {
			cells[n-1].Add(count.Count)
			continue
		}
		cells[n] = count
		n++
	}
	return cells[:n]
}

// appendSums appends the sums for each single dimension. The values of a dimension are sorted only once, not for each hour or day.
func appendSums(all []SumRow, per Granularity, cells []cellCount) []SumRow {
	numbers, thisNumbers := map[*group]int{}, make([]int, len(cells))
	var groups []*group
	for i := range cells {
		n, known := numbers[cells[i].group]
		if !known {
			n = len(groups)
			numbers[cells[i].group] = n
			groups = append(groups, cells[i].group)
		}
		thisNumbers[i] = n
	}
	places := make([]int, len(groups)) // for each group: index of its value in the sorted values
	for d := range Dims {
		if !d.Combined() {
			continue
		}
		values := make([]string, len(groups))
		for n, g := range groups {
			values[n] = g.Value(d)
		}
		ordered := slices.Clone(values)
		slices.Sort(ordered)
		ordered = slices.Compact(ordered)
		for n, value := range values {
			places[n], _ = slices.BinarySearch(ordered, value)
		}
		sums, storedNumbers := make([]Count, len(ordered)), []int(nil)
		for i := 0; i < len(cells); {
			pos := cells[i].hour
			for ; i < len(cells) && cells[i].hour == pos; i++ {
				place := places[thisNumbers[i]]
				if sums[place] == (Count{}) {
					storedNumbers = append(storedNumbers, place)
				}
				sums[place].Add(cells[i].Count)
			}
			slices.Sort(storedNumbers)
			for _, place := range storedNumbers {
				all = append(all, SumRow{per, d, pos, ordered[place], sums[place]})
				sums[place] = Count{}
			}
			storedNumbers = storedNumbers[:0]
		}
	}
	return all
}
