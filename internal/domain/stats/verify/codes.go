package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// recordCode adds a scan of a code to the records of its code.
func (n *recounting) recordCode(e *scanlog.Entry) error {
	to := n.records.open(partition{ofCodes, e.Batch, e.Index / codesInPartition})
	n.record = scanlog.AppendRecord(n.record[:0], &scanlog.Event{OccurredAt: e.OccurredAt, User: e.User, Network: e.Network,
		Region: e.Region, Batch: e.Batch, Index: e.Index})
	return n.records.extend(to, append(binary.AppendUvarint(to.fresh, uint64(len(n.record))), n.record...))
}

// codeOf returns the first code of a partition.
func codeOf(d partition) alarms.CodeName {
	if d.a == math.MinInt64 || d.a == math.MaxInt64 {
		return alarms.CodeName{Batch: d.a, Index: d.a}
	}
	return alarms.CodeName{Batch: d.a, Index: d.b * codesInPartition}
}

// compareCodes compares the stored data on scans of codes with the scan log, one part at a time.
func (n *recounting) compareCodes(ctx context.Context) error {
	return n.inParts(ofCodes, func(from, to partition) error {
		return n.compareWith(ctx, func(tx stats.Tx, state stats.State) error {
			if !state.RetentionFloor.IsZero() {
				return nil // the first scans of a code may have been removed
			}
			codes := map[alarms.CodeName]*alarms.Scans{}
			for _, parts := range n.partitionsBetween(from, to) {
				for part, err := range parts {
					if err == nil {
						err = n.addCodes(codes, part, state.Offset)
					}
					if err != nil {
						return err
					}
				}
			}
			err := tx.AllCodes(ctx, codeOf(from), codeOf(to), func(row alarms.Row) error { return n.compareCode(row, codes) })
			for name, code := range codes {
				n.r.compare(0, code.Scans, func() string {
					return fmt.Sprintf("scans of code %d of application %d", name.Index, name.Batch)
				})
			}
			return err
		})
	})
}

// addCodes counts the scans in a part of the records of a partition.
func (n *recounting) addCodes(codes map[alarms.CodeName]*alarms.Scans, part []byte, offset int64) error {
	r, known := scanlog.FieldReader{Rest: part}, scanlog.Texts{}
	for len(r.Rest) > 0 {
		e, err := scanlog.DecodeRecord(r.Next(int(r.Uvarint())), &known)
		if err != nil {
			return errRecords
		}
		name := alarms.CodeName{Batch: e.Batch, Index: e.Index}
		if codes[name] == nil {
			codes[name] = &alarms.Scans{CodeName: name}
		}
		codes[name].Add(&e, offset, n.c.Alarms.Places)
	}
	return nil
}

func (n *recounting) compareCode(row alarms.Row, codes map[alarms.CodeName]*alarms.Scans) error {
	counted, err := alarms.Read(row)
	if err != nil {
		return err
	}
	scans := codes[row.CodeName]
	if scans == nil {
		scans = &alarms.Scans{}
	}
	delete(codes, row.CodeName)
	lookup := func(kind string) func() string {
		return func() string { return fmt.Sprintf("%s of code %d of application %d", kind, row.Index, row.Batch) }
	}
	n.r.compare(row.Scans, scans.Scans, lookup("scans"))
	n.r.compareUsers(row.Users, scans.Users.Count(), int64(counted.Erased), lookup("users"))
	n.r.compare(row.FirstAt.UnixMilli(), scans.FirstAt.UnixMilli(), lookup("first scan"))
	n.r.compare(row.LastAt.UnixMilli(), scans.LastAt.UnixMilli(), lookup("last scan"))
	networks := int64(scans.Networks)
	if counted.Erased > 0 {
		// The networks of an erased user are no longer in the scan log, but are still counted.
		networks = max(networks, int64(counted.Networks))
	}
	n.r.compare(int64(counted.Networks), networks, lookup("networks"))
	n.r.compare(int64(counted.Regions), int64(scans.Regions), lookup("regions"))
	return nil
}

type missOf struct {
	per    stats.Granularity
	bucket int64
	place  string
}

// recordMiss adds a scan without a result to the records of its UTC day.
func (n *recounting) recordMiss(hour int64, place string) error {
	day := timebucket.Day(hour, 0)
	to := n.records.open(partition{of: ofMisses, a: day})
	b := append(to.fresh, byte(hour-24*day))
	return n.records.extend(to, append(binary.AppendUvarint(b, uint64(len(place))), place...))
}

// compareMisses compares the scans without a result, some UTC days at a time, because the set of separately counted link prefixes
// is determined per UTC day.
func (n *recounting) compareMisses(ctx context.Context) error {
	return n.inParts(ofMisses, func(first, last partition) error {
		return n.compareWith(ctx, func(tx stats.Tx, state stats.State) error {
			start := int64(math.MinInt64)
			if !state.RetentionFloor.IsZero() {
				start = timebucket.Day(timebucket.Hour(state.RetentionFloor)+48+23, 0)
			}
			if state.OldestDay > 0 {
				start = max(start, timebucket.Day(state.MissesFrom()+23, 0))
			}
			from, to := daysOf(first, last, start)
			if from >= to {
				return nil
			}
			misses, separateSet := map[missOf]int64{}, map[missOf]bool{}
			for name, parts := range n.partitionsBetween(first, last) {
				if name.a < from {
					continue
				}
				kept := 0
				for part, err := range parts {
					r := scanlog.FieldReader{Rest: part}
					for err == nil && len(r.Rest) > 0 {
						hour := name.a*24 + int64(r.Byte())
						place := string(r.Next(int(r.Uvarint())))
						// The first link prefixes of unmatched scans on a UTC day are counted separately.
						if first := (missOf{stats.PerDay, name.a, place}); !separateSet[first] && kept < stats.MaxPlaces {
							separateSet[first] = true
							kept++
						} else if !separateSet[first] {
							place = stats.OtherPlaces
						}
						misses[missOf{stats.PerHour, hour, place}]++
						misses[missOf{stats.PerDay, name.a, place}]++
						if r.Failed {
							err = errRecords
						}
					}
					if err != nil {
						return err
					}
				}
			}
			describe := func(key missOf) func() string {
				return func() string {
					kind := [...]string{"hour", "UTC day"}[key.per]
					return fmt.Sprintf("unmatched scans in %s %d at %q", kind, key.bucket, key.place)
				}
			}
			compare := func(row stats.UnmatchedRow) error {
				key := missOf{row.Granularity, row.Bucket, row.Location}
				n.r.compare(row.Scans, misses[key], describe(key))
				delete(misses, key)
				return nil
			}
			err := errors.Join(tx.AllMisses(ctx, stats.Span{Granularity: stats.PerHour, From: from * 24, To: to * 24}, compare),
				tx.AllMisses(ctx, stats.Span{Granularity: stats.PerDay, From: from, To: to}, compare))
			for key, scans := range misses {
				n.r.compare(0, scans, describe(key))
			}
			return err
		})
	})
}
