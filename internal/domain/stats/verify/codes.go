package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// noteCode notes under its code what is known of the scans of codes.
func (n *recounting) noteCode(e *scanlog.Entry) error {
	to := n.notes.open(partition{ofCodes, e.Batch, e.Index / codesInDrawer})
	n.note = scanlog.AppendRecord(n.note[:0], &scanlog.Event{At: e.At, User: e.User, Network: e.Network, Region: e.Region, Batch: e.Batch,
		Index: e.Index})
	before := len(to.fresh)
	to.fresh = append(binary.AppendUvarint(to.fresh, uint64(len(n.note))), n.note...)
	return n.notes.added(to, len(to.fresh)-before)
}

// codeOf is the first code of a drawer.
func codeOf(d partition) alarms.CodeName {
	if d.a == math.MinInt64 || d.a == math.MaxInt64 {
		return alarms.CodeName{Batch: d.a, Index: d.a}
	}
	return alarms.CodeName{Batch: d.a, Index: d.b * codesInDrawer}
}

// compareCodes compares what is known of the scans of codes, some of them at a time.
func (n *recounting) compareCodes(ctx context.Context) error {
	return n.inParts(ofCodes, func(from, to partition) error {
		return n.compareWith(ctx, func(tx stats.Tx, state stats.State) error {
			if !state.Forgotten.IsZero() {
				return nil // of a code, the first scans may be gone
			}
			codes := map[alarms.CodeName]*alarms.Scans{}
			for _, parts := range n.drawersBetween(from, to) {
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
			for name, one := range codes {
				n.r.compare(0, one.Scans, func() string {
					return fmt.Sprintf("scans of code %d of application %d", name.Index,
						name.Batch)
				})
			}
			return err
		})
	})
}

// addCodes counts the notes of a part of a drawer.
func (n *recounting) addCodes(codes map[alarms.CodeName]*alarms.Scans, part []byte, offset int64) error {
	r, known := notesReader{b: part}, scanlog.Texts{}
	for len(r.b) > 0 {
		e, err := scanlog.DecodeRecord(r.next(r.uvarint()), &known)
		if err != nil || r.bad {
			return errNotes
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
	one := codes[row.CodeName]
	if one == nil {
		one = &alarms.Scans{}
	}
	delete(codes, row.CodeName)
	of := func(what string) func() string {
		return func() string { return fmt.Sprintf("%s of code %d of application %d", what, row.Index, row.Batch) }
	}
	n.r.compare(row.Scans, one.Scans, of("scans"))
	n.r.compareUsers(row.Users, one.Users.Count(), int64(counted.Erased), of("users"))
	n.r.compare(row.FirstAt.UnixMilli(), one.FirstAt.UnixMilli(), of("first scan"))
	n.r.compare(row.LastAt.UnixMilli(), one.LastAt.UnixMilli(), of("last scan"))
	networks := int64(one.Networks)
	if counted.Erased > 0 {
		// An erased user's networks are gone from the log, and stay counted.
		networks = max(networks, int64(counted.Networks))
	}
	n.r.compare(int64(counted.Networks), networks, of("networks"))
	n.r.compare(int64(counted.Regions), int64(one.Regions), of("regions"))
	return nil
}

type missOf struct {
	hour  int64
	place string
}

// noteMiss notes under its day of UTC a scan that found nothing.
func (n *recounting) noteMiss(hour int64, place string) error {
	day := timebucket.Day(hour, 0)
	to := n.notes.open(partition{of: ofMisses, a: day})
	before := len(to.fresh)
	b := append(to.fresh, byte(hour-24*day))
	to.fresh = append(binary.AppendUvarint(b, uint64(len(place))), place...)
	return n.notes.added(to, len(to.fresh)-before)
}

// compareMisses compares the scans that found nothing, some days of UTC at a time:
// which places are kept apart is decided by these.
func (n *recounting) compareMisses(ctx context.Context) error {
	return n.inParts(ofMisses, func(first, last partition) error {
		return n.compareWith(ctx, func(tx stats.Tx, state stats.State) error {
			since := int64(math.MinInt64)
			if !state.Forgotten.IsZero() {
				since = timebucket.Day(timebucket.Hour(state.Forgotten)+48+23, 0)
			}
			if state.DaysFrom > 0 {
				since = max(since, timebucket.Day(state.MissesFrom()+23, 0))
			}
			from, to := daysOf(first, last, since)
			if from >= to {
				return nil
			}
			misses, apart := map[missOf]int64{}, map[missOf]bool{}
			for name, parts := range n.drawersBetween(first, last) {
				if name.a < from {
					continue
				}
				kept := 0
				for part, err := range parts {
					r := notesReader{b: part}
					for err == nil && len(r.b) > 0 {
						hour := name.a*24 + int64(r.next(1)[0])
						place := string(r.next(r.uvarint()))
						// The first ones of a day of UTC are kept apart.
						if first := (missOf{name.a, place}); !apart[first] && kept < stats.MaxPlaces {
							apart[first] = true
							kept++
						} else if !apart[first] {
							place = stats.OtherPlaces
						}
						if misses[missOf{hour, place}]++; r.bad {
							err = errNotes
						}
					}
					if err != nil {
						return err
					}
				}
			}
			what := func(key missOf) func() string {
				return func() string { return fmt.Sprintf("scans that found nothing in hour %d at %q", key.hour, key.place) }
			}
			err := tx.AllMisses(ctx, stats.Span{Per: stats.PerHour, From: from * 24, To: to * 24}, func(row stats.MissRow) error {
				key := missOf{row.Hour, row.Place}
				n.r.compare(row.Scans, misses[key], what(key))
				delete(misses, key)
				return nil
			})
			for key, scans := range misses {
				n.r.compare(0, scans, what(key))
			}
			return err
		})
	})
}
