package verify

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// dayTuples caches the combinations of values of a day, so that each combination is written only once between two flushes to the file.
type dayTuples struct {
	last   int64 // position of the last record
	tuples map[stats.Tuple]uint64
}

// In a record, the byte "marks" contains the hour of the day and two flags.
const (
	hourOfRecord = 1<<5 - 1
	firstOfOne   = 1 << 5 // the scan is the first scan of its code
	userOfRecord = 1 << 6 // a user follows
)

// recordScan adds to the records of a day the values by which a scan of the day is counted.
func (n *recounting) recordScan(ctx context.Context, e *scanlog.Entry, first bool) error {
	t, err := n.c.Tuple(ctx, &e.Event)
	if err != nil {
		return err
	}
	t.Rule = 0
	hour := timebucket.Hour(e.OccurredAt)
	day := timebucket.Day(hour, n.startState.Offset)
	to, known := n.records.open(partition{of: ofDays, a: day}), n.fresh[day]
	if known == nil {
		known = &dayTuples{tuples: map[stats.Tuple]uint64{}}
		n.fresh[day] = known
	}
	b := binary.AppendUvarint(to.fresh, uint64(e.Position-known.last))
	known.last = e.Position
	pos, have := known.tuples[t]
	if !have {
		pos = uint64(len(known.tuples))
		known.tuples[t] = pos
	}
	b = binary.AppendUvarint(b, pos)
	if !have {
		b = binary.AppendVarint(b, t.Batch)
		for _, text := range [...]string{t.Activity, t.Brand, t.Product, t.App, t.Source, t.Result, t.Region} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	marks := byte(hour + n.startState.Offset - 24*day)
	if first {
		marks |= firstOfOne
	}
	if e.User != (scanlog.UserHash{}) {
		marks |= userOfRecord
	}
	b = binary.AppendVarint(append(b, marks), e.RuleID)
	if marks&userOfRecord != 0 {
		b = binary.BigEndian.AppendUint64(b, hyperloglog.Number(e.User))
	}
	return n.records.extend(to, b)
}

// dayRecord is a record that recordScan writes for one scan of a day.
type dayRecord struct {
	position    int64
	stats.Tuple // Rule is 0
	hour        int64
	rule        int64
	user        uint64
	hasUser     bool
	first       bool
}

// errRecords reports that the records of a recount differ from the records that were written.
var errRecords = errors.New("stats: temporary records were altered")

// readDay calls visit with each record in a part of a day's records.
func readDay(part []byte, day, offset int64, visit func(*dayRecord)) error {
	r := scanlog.FieldReader{Rest: part}
	var tuples []stats.Tuple
	var record dayRecord
	for len(r.Rest) > 0 {
		record.position += int64(r.Uvarint())
		pos := r.Uvarint()
		if pos == uint64(len(tuples)) {
			t := stats.Tuple{Batch: r.Varint()}
			for _, text := range [...]*string{&t.Activity, &t.Brand, &t.Product, &t.App, &t.Source, &t.Result, &t.Region} {
				*text = string(r.Next(int(r.Uvarint())))
			}
			tuples = append(tuples, t)
		}
		marks := r.Byte()
		record.rule = r.Varint()
		if record.hasUser = marks&userOfRecord != 0; record.hasUser {
			if user := r.Next(8); user != nil {
				record.user = binary.BigEndian.Uint64(user)
			}
		}
		if r.Failed || pos >= uint64(len(tuples)) {
			return errRecords
		}
		record.Tuple, record.hour, record.first = tuples[pos], 24*day-offset+int64(marks&hourOfRecord), marks&firstOfOne != 0
		visit(&record)
	}
	return nil
}

// spans returns the spans to read for a range of days: its retained hours and its days, first for each rule and then over all rules.
func spans(from, to int64, state stats.State) []stats.Span {
	hours := stats.Span{Granularity: stats.PerHour, From: max(from*24-state.Offset, state.OldestHour), To: to*24 - state.Offset}
	return []stats.Span{hours, {Granularity: stats.PerDay, From: from, To: to},
		{Granularity: stats.PerHourOfAll, From: hours.From, To: hours.To}, {Granularity: stats.PerDayOfAll, From: from, To: to}}
}

// noIndex is a day number outside the range of all real days.
const noIndex = 1 << 40

// daysOf returns the range of complete days in a range of partitions.
func daysOf(from, to partition, start int64) (int64, int64) {
	return max(from.a, start, -noIndex), min(to.a, noIndex)
}

// daysCount holds the counts recomputed for a range of days.
type daysCount struct {
	hoursFrom int64 // first retained hour
	numbers   map[stats.Tuple]int32
	counts    map[daysKey]stats.Count
	users     map[stats.UsersKey]*hyperloglog.Users
	groups    map[groupOf]*[stats.Dims]*hyperloglog.Users // the sketches of the map users, by combination
	rules     map[ruleDay]*hyperloglog.Users              // the sketches of the map users, by rule
}

type daysKey struct {
	per   stats.Granularity
	at    int64
	rule  int64
	tuple int32 // number of the combination; -1 = occurs in no event
}

type groupOf struct {
	day   int64
	tuple int32
}

// number returns the number of a combination of values.
func (d *daysCount) number(t stats.Tuple, add bool) int32 {
	t.Rule = 0
	pos, have := d.numbers[t]
	switch {
	case have:
	case add:
		pos = int32(len(d.numbers))
		d.numbers[t] = pos
	default:
		pos = -1
	}
	return pos
}

type ruleDay struct{ day, rule int64 }

// add counts one scan; if user is true, it also adds the scan's user to the sketches.
func (d *daysCount) add(day int64, record *dayRecord, user bool) {
	pos := d.number(record.Tuple, true)
	count := stats.Count{Scans: 1}
	if record.first {
		count.FirstScans = 1
	}
	for _, k := range [...]daysKey{{stats.PerHour, record.hour, record.rule, pos}, {stats.PerDay, day, record.rule, pos},
		{stats.PerHourOfAll, record.hour, 0, pos}, {stats.PerDayOfAll, day, 0, pos}} {
		if k.per.Hours() && k.at < d.hoursFrom {
			continue
		}
		sum := d.counts[k]
		sum.Add(count)
		d.counts[k] = sum
	}
	if !user {
		return
	}
	values := d.groups[groupOf{day, pos}]
	if values == nil {
		values = new([stats.Dims]*hyperloglog.Users)
		for dim := range stats.Dims {
			if dim.Combined() {
				values[dim] = hyperloglog.Entry(d.users, stats.UsersKey{Day: day, Dimension: dim, Value: record.Value(dim)})
			}
		}
		d.groups[groupOf{day, pos}] = values
	}
	rule := d.rules[ruleDay{day, record.rule}]
	if rule == nil {
		key := stats.UsersKey{Day: day, Dimension: stats.Rule, Value: stats.Tuple{Rule: record.rule}.Value(stats.Rule)}
		rule = hyperloglog.Entry(d.users, key)
		d.rules[ruleDay{day, record.rule}] = rule
	}
	for dim, s := range values {
		if stats.Dimension(dim).Combined() {
			s.AddNumber(record.user)
		}
	}
	rule.AddNumber(record.user)
}

// compareDays compares combinations, sums and users with the scan log, some days at a time.
func (n *recounting) compareDays(ctx context.Context) error {
	return n.inParts(ofDays, func(first, last partition) error {
		return n.compareWith(ctx, func(tx stats.Tx, state stats.State) error {
			from, to := daysOf(first, last, n.firstCompleteDay(state))
			if from >= to {
				return nil
			}
			d := daysCount{hoursFrom: state.OldestHour, numbers: map[stats.Tuple]int32{}, counts: map[daysKey]stats.Count{},
				users:  map[stats.UsersKey]*hyperloglog.Users{},
				groups: map[groupOf]*[stats.Dims]*hyperloglog.Users{}, rules: map[ruleDay]*hyperloglog.Users{}}
			for name, parts := range n.partitionsBetween(first, last) {
				if name.a < from {
					continue
				}
				known := usersKnown(state, name.a)
				for part, err := range parts {
					if err == nil {
						err = readDay(part, name.a, state.Offset, func(record *dayRecord) {
							d.add(name.a, record, record.hasUser && known && record.position <= state.SketchOffset)
						})
					}
					if err != nil {
						return err
					}
				}
			}
			if err := n.ownSketches(ctx, d.users); err != nil {
				return err
			}
			if err := n.compareTuples(ctx, tx, state, &d, from, to); err != nil {
				return err
			}
			return n.compareSketches(ctx, tx, state, d.users, from, to)
		})
	})
}

// compareTuples compares the stored counts of combinations in a range of days with the scan log, and the stored sums with these counts.
func (n *recounting) compareTuples(ctx context.Context, tx stats.Tx, state stats.State, d *daysCount, from, to int64) error {
	compare := func(per stats.Granularity, pos int64, t stats.Tuple, counted, recounted stats.Count) {
		describe := func(kind string) func() string {
			return func() string {
				return fmt.Sprintf("%s of %s, %+v", kind, per.Start(pos, state.Offset).Format(time.RFC3339), t)
			}
		}
		n.r.compare(counted.Scans, recounted.Scans, describe("scans"))
		if state.RetentionFloor.IsZero() {
			n.r.compare(counted.FirstScans, recounted.FirstScans, describe("first scans"))
		}
	}
	sums, counted := sumsCount{}, map[span]bool{}
	err := tx.AllTuples(ctx, spans(from, to, state), func(row stats.TupleRow) error {
		if row.Granularity == stats.PerHour || row.Granularity == stats.PerDay {
			sums.add(&row)
			counted[span{row.Granularity, row.Bucket}] = true
		}
		k := daysKey{row.Granularity, row.Bucket, row.Rule, d.number(row.Tuple, false)}
		compare(row.Granularity, row.Bucket, row.Tuple, row.Count, d.counts[k])
		delete(d.counts, k)
		return nil
	})
	if err != nil {
		return err
	}
	if len(d.counts) > 0 {
		named := make([]stats.Tuple, len(d.numbers))
		for t, number := range d.numbers {
			named[number] = t
		}
		for k, count := range d.counts {
			t := named[k.tuple]
			t.Rule = k.rule
			compare(k.per, k.at, t, stats.Count{}, count)
		}
	}
	for s := range counted {
		if err := n.compareOwners(ctx, tx, state, s, sums); err != nil {
			return err
		}
	}
	return n.compareSums(ctx, tx, state, sums, from, to)
}

// span is an hour or a day.
type span struct {
	per stats.Granularity
	at  int64
}

// compareOwners compares the stored counts of owners with the sums over their rules and applications, and adds these sums to the map sums.
func (n *recounting) compareOwners(ctx context.Context, tx stats.Tx, state stats.State, s span, sums sumsCount) error {
	rows, err := tx.CountsByOwner(ctx, s.per, s.at)
	if err != nil {
		return err
	}
	type key struct{ owner, tuple int64 }
	added := map[key]stats.Count{}
	for _, row := range rows {
		added[key{stats.OwnerNumber(row.Owner), row.Tuple}] = row.Count
		k := sumKey{s.per, stats.Owner, s.at, row.Owner}
		sum := sums[k]
		sum.Add(row.Count)
		sums[k] = sum
	}
	compare := func(k key, counted stats.Count) {
		describe := func() string {
			location := s.per.Start(s.at, state.Offset).Format(time.RFC3339)
			return fmt.Sprintf("scans of %s, owner %d, combination %d", location, k.owner, k.tuple)
		}
		n.r.compare(counted.Scans, added[k].Scans, describe)
		n.r.compare(counted.FirstScans, added[k].FirstScans, describe)
		delete(added, k)
	}
	counted, err := tx.CountsFrom(ctx, stats.Span{Granularity: s.per.OfOwner(), From: s.at, To: s.at + 1}, 0, math.MinInt64, math.MaxInt32)
	for _, row := range counted {
		compare(key{row.Rule, row.Tuple}, row.Count)
	}
	for k := range added {
		compare(k, stats.Count{})
	}
	return err
}

// ownSketches adds the sketches of owners to the map users; it merges them from the sketches of the owners' rules and applications.
func (n *recounting) ownSketches(ctx context.Context, users map[stats.UsersKey]*hyperloglog.Users) error {
	owned := map[stats.UsersKey]*hyperloglog.Users{}
	for key, user := range users {
		number, err := strconv.ParseInt(cmp.Or(key.Value, "0"), 10, 64)
		if key.Dimension != stats.Rule && key.Dimension != stats.Batch || number == 0 {
			continue
		}
		if err != nil {
			return err
		}
		rule, batch := number, int64(0)
		if key.Dimension == stats.Batch {
			rule, batch = 0, number
		}
		owner, err := n.c.Owner(ctx, rule, batch)
		if err != nil {
			return err
		}
		if owner != "" {
			hyperloglog.Entry(owned, stats.UsersKey{Day: key.Day, Dimension: stats.Owner, Value: owner}).Merge(*user)
		}
	}
	maps.Copy(users, owned)
	return nil
}

// sumsCount sums the counts of combinations by hour and by day.
type sumsCount map[sumKey]stats.Count

type sumKey struct {
	per   stats.Granularity
	dim   stats.Dimension
	at    int64
	value string
}

func (s sumsCount) add(row *stats.TupleRow) {
	for d := range stats.Dims {
		if !d.Combined() {
			continue
		}
		k := sumKey{row.Granularity, d, row.Bucket, row.Value(d)}
		sum := s[k]
		sum.Add(row.Count)
		s[k] = sum
	}
}

func (n *recounting) compareSums(ctx context.Context, tx stats.Tx, state stats.State, sums sumsCount, from, to int64) error {
	compare := func(k sumKey, counted, added stats.Count) {
		describe := func() string {
			return fmt.Sprintf("sum of %s, %s %q", k.per.Start(k.at, state.Offset).Format(time.RFC3339), k.dim, k.value)
		}
		n.r.compare(counted.Scans, added.Scans, describe)
		n.r.compare(counted.FirstScans, added.FirstScans, describe)
	}
	err := tx.AllSums(ctx, spans(from, to, state)[:2], func(row stats.SumRow) error {
		k := sumKey{row.Granularity, row.Dimension, row.Bucket, row.Value}
		compare(k, row.Count, sums[k])
		delete(sums, k)
		return nil
	})
	for k, count := range sums {
		compare(k, stats.Count{}, count)
	}
	return err
}

func (n *recounting) compareSketches(ctx context.Context, tx stats.Tx, state stats.State,
	users map[stats.UsersKey]*hyperloglog.Users, from, to int64) error {
	describe := func(k stats.UsersKey) func() string {
		return func() string { return fmt.Sprintf("users of day %d, %s %q", k.Day, k.Dimension, k.Value) }
	}
	newer := map[stats.UsersKey][]string{} // than the sketches
	err := tx.AllUsers(ctx, stats.Span{Granularity: stats.PerDay, From: from, To: to}, func(row stats.UsersRow) error {
		if !usersKnown(state, row.Day) {
			return nil
		}
		if row.Since != nil {
			newer[row.UsersKey] = append(newer[row.UsersKey], row.Since...)
			return nil
		}
		if row.Since = newer[row.UsersKey]; row.Since != nil {
			s, err := row.Merged()
			if err != nil {
				return err
			}
			row.Users = s.Count()
		}
		counted := int64(0)
		if s := users[row.UsersKey]; s != nil {
			counted = s.Count()
		}
		n.r.compareUsers(row.Users, counted, row.Erased, describe(row.UsersKey))
		delete(users, row.UsersKey)
		return nil
	})
	for k, s := range users {
		n.r.compare(0, s.Count(), describe(k))
	}
	return err
}
