package stats

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
)

// RecentDays is the number of days whose scans a list shows; lastDays is the number of days in which the last scan is searched.
const (
	RecentDays = 7
	lastDays   = 30
)

// Recent holds the numbers of recent scans of an object.
type Recent struct {
	Days [RecentDays]int64 // the last element is today
	Last time.Time         // day of the last scan, within 30 days; zero = none
}

// DayCount is the number of scans of an object on a day.
type DayCount[T comparable] struct {
	Key    T
	Bucket int64
	Scans  int64
}

// RecentOfRules returns the recent scans of the given rules; RecentOfOwners returns the recent scans of the given owners. Rules and
// owners without scans are left out.
func (c *Aggregator) RecentOfRules(ctx context.Context, rules []int64) (map[int64]Recent, error) {
	return recent(ctx, c, rules, Tx.DaysOfRules)
}

// RecentOfOwners see RecentOfRules.
func (c *Aggregator) RecentOfOwners(ctx context.Context, owners []string) (map[string]Recent, error) {
	return recent(ctx, c, owners, Tx.DaysOfOwners)
}

// Measures by which owners are ranked.
const (
	ByScans     = "scans"     // scans in the last RecentDays
	ByUnmatched = "unmatched" // unmatched scans in the last RecentDays on hosts with rules of the owner
	ByPublished = "published" // hour since 1970 of the last publish of a rule
)

// Measure returns a measure of each owner, 0 if absent. If owners is not empty, other owners may be left out. An unknown measure is nil.
func (c *Aggregator) Measure(ctx context.Context, measure string, owners []string) (map[string]int64, error) {
	if !slices.Contains([]string{ByScans, ByUnmatched, ByPublished}, measure) {
		return nil, nil
	}
	return view(ctx, c, func(tx Tx) (map[string]int64, error) {
		if measure == ByPublished {
			return tx.LastPublishes(ctx, owners)
		}
		state, err := tx.StatisticsState(ctx)
		if err != nil {
			return nil, err
		}
		hour := timebucket.Hour(c.Now())
		since := timebucket.Day(hour, state.Offset) - RecentDays + 1
		if measure == ByScans {
			return tx.ScansOfOwners(ctx, since)
		}
		from := timebucket.Hour(PerDay.Start(since, state.Offset))
		list, err := c.unmatched(ctx, tx, max(from, state.MissesFrom()), hour+1)
		if err != nil {
			return nil, err
		}
		byHost, byOwner := scansByHost(list), map[string]int64{}
		pairs, err := tx.OwnersOfHosts(ctx, slices.Sorted(maps.Keys(byHost)))
		for _, pair := range pairs {
			byOwner[pair[1]] += byHost[pair[0]]
		}
		return byOwner, err
	})
}

func recent[T comparable](ctx context.Context, c *Aggregator, items []T,
	read func(Tx, context.Context, []int64, []T) ([]DayCount[T], error)) (map[T]Recent, error) {
	if len(items) == 0 {
		return nil, nil
	}
	return view(ctx, c, func(tx Tx) (map[T]Recent, error) {
		state, err := tx.StatisticsState(ctx)
		if err != nil || state.CountedOffset == 0 {
			return nil, err
		}
		today := timebucket.Day(timebucket.Hour(c.Now()), state.Offset)
		days := make([]int64, lastDays)
		for i := range days {
			days[i] = today - int64(i)
		}
		rows, err := read(tx, ctx, days[:RecentDays], items)
		if err != nil {
			return nil, err
		}
		// Earlier days are read only for items without recent scans, because each pair of a day and an item is looked up.
		idle := slices.DeleteFunc(slices.Clone(items), func(item T) bool {
			return slices.ContainsFunc(rows, func(r DayCount[T]) bool { return r.Key == item })
		})
		var earlier []DayCount[T]
		if len(idle) > 0 {
			earlier, err = read(tx, ctx, days[RecentDays:], idle)
		}
		all := map[T]Recent{}
		for _, r := range append(rows, earlier...) {
			item := all[r.Key]
			if ago := today - r.Bucket; ago < RecentDays {
				item.Days[RecentDays-1-ago] += r.Scans
			}
			if t := PerDay.Start(r.Bucket, state.Offset).In(time.FixedZone("", int(state.Offset)*3600)); t.After(item.Last) {
				item.Last = t
			}
			all[r.Key] = item
		}
		return all, err
	})
}
