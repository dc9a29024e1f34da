package stats

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/ledger"
)

// Recount is what a plain count of the whole ledger came to, beside what is
// counted.
type Recount struct {
	Position int64 // up to which both counted
	Scans    int64
	Compared int64 // numbers that were compared
	// Lacking is how many scans are counted and not in the ledger, although nothing
	// removed them; where there are any, they are one difference. See Counter.Lacking.
	Lacking int64
	// Differences is how many of them were not the same, Shown the first ones.
	Differences int64
	Shown       []Difference
	// Since is from when on days were compared: what is older may be gone from
	// the ledger. Zero = everything, and the codes too.
	Since time.Time
}

// Difference is a number that is not what the ledger says.
type Difference struct {
	What      string
	Counted   int64
	Recounted int64
}

const maxShown = 100

func (r *Recount) compare(counted, recounted int64, what func() string) {
	r.Compared++
	if counted == recounted {
		return
	}
	if r.Differences++; len(r.Shown) < maxShown {
		r.Shown = append(r.Shown, Difference{what(), counted, recounted})
	}
}

// The bounds of what a recount holds in memory: for more it reads the ledger
// more than once.
const (
	recountCodes = 100_000
	recountBytes = 256 << 20 // of days, about
)

// errOverflow says that a part is too large for the memory.
var errOverflow = errors.New("stats: more parts are needed")

// inParts runs pass for each of so many parts; where one is too large, it
// begins anew with twice as many. begin is called before each beginning.
func inParts(begin func(), pass func(part, parts uint64) error) error {
	for parts := uint64(1); ; parts *= 2 {
		begin()
		err := error(nil)
		for part := uint64(0); part < parts && err == nil; part++ {
			err = pass(part, parts)
		}
		if !errors.Is(err, errOverflow) || parts >= 1<<20 {
			return err
		}
	}
}

// Recount counts the whole ledger again, one by one, and compares the result
// with what is counted, while the counting goes on. Its memory is bounded; it
// reads the ledger several times.
func (c *Counter) Recount(ctx context.Context) (r Recount, err error) {
	if err := c.CatchUpAll(ctx); err != nil {
		return r, err
	}
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		r = Recount{}
		if err := tx.RunsLong(ctx); err != nil {
			return err
		}
		state, err := tx.StatisticsState(ctx)
		if err != nil {
			return err
		}
		n := &recounting{c: c, tx: tx, state: state, r: &r, days: noDay}
		r.Position = state.Position
		if !state.Forgotten.IsZero() {
			// The first day that begins after it is whole.
			n.since = DayOf(HourOf(state.Forgotten)+24, state.Offset)
			n.days = func(day int64) bool { return day < n.since }
			r.Since = PerDay.Start(n.since, state.Offset)
		}
		for _, phase := range []func(context.Context) error{n.countScans, n.countCodes, n.countDays, n.countSums} {
			if err := phase(ctx); err != nil {
				return err
			}
		}
		r.Lacking = state.Lacking + c.missing(state)
		r.compare(r.Lacking, 0, func() string { return "counted scans that the ledger lacks" })
		if state.Forgotten.IsZero() {
			r.compare(state.Scans, r.Scans, func() string { return "scans" })
		}
		return nil
	})
	return r, err
}

func noDay(int64) bool { return false }

// recounting is a recount on its way.
type recounting struct {
	c     *Counter
	tx    Tx
	state State
	r     *Recount
	since int64
	days  func(int64) bool // days that are not whole any more
	// firstDay and lastDay are those of the events.
	firstDay, lastDay int64

	firsts roaring64.Bitmap // positions of the first scans of codes
}

// each visits the events up to the position of the recount.
func (n *recounting) each(ctx context.Context, visit func(*ledger.Entry) error) error {
	for e, err := range n.c.Log.Read(ctx, 0) {
		if err != nil {
			return fmt.Errorf("reading the ledger: %w", err)
		}
		if e.Position > n.state.Position {
			return nil
		}
		if err := visit(&e); err != nil {
			return err
		}
	}
	return nil
}

// countScans counts the scans and finds their first and last day.
func (n *recounting) countScans(ctx context.Context) error {
	n.firstDay, n.lastDay = math.MaxInt64, math.MinInt64
	return n.each(ctx, func(e *ledger.Entry) error {
		day := DayOf(HourOf(e.At), n.state.Offset)
		n.firstDay, n.lastDay = min(n.firstDay, day), max(n.lastDay, day)
		n.r.Scans++
		return nil
	})
}

// countCodes counts the scans of each code and notes its first one.
func (n *recounting) countCodes(ctx context.Context) error {
	if !n.state.Forgotten.IsZero() {
		return nil // of a code, the first scans may be gone
	}
	codes := map[CodeName]*CodeScans{}
	var before Recount
	return inParts(func() { n.firsts.Clear(); before = beginAgain(n.r, before) }, func(part, parts uint64) error {
		clear(codes)
		mine := func(name CodeName) bool { return codeNumber(name)%parts == part }
		err := n.each(ctx, func(e *ledger.Entry) error {
			name := CodeName{e.Batch, e.Index}
			if e.Batch == 0 || !mine(name) {
				return nil
			}
			one := codes[name]
			if one == nil {
				if len(codes) >= recountCodes {
					return errOverflow
				}
				one = &CodeScans{CodeName: name}
				codes[name] = one
				n.firsts.Add(uint64(e.Position))
			}
			n.c.addToCode(one, &e.Event, n.state.Offset)
			return nil
		})
		if err != nil {
			return err
		}
		err = n.tx.AllCodes(ctx, func(row CodeRow) error {
			if !mine(row.CodeName) {
				return nil
			}
			return n.compareCode(row, codes)
		})
		for name, one := range codes {
			n.r.compare(0, one.Scans, func() string { return fmt.Sprintf("scans of code %d of application %d", name.Index, name.Batch) })
		}
		return err
	})
}

// beginAgain begins the comparisons of a phase again.
func beginAgain(r *Recount, before Recount) Recount {
	if before.Position == 0 {
		return *r
	}
	*r = before
	return before
}

func codeNumber(n CodeName) uint64 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(n.Batch))
	binary.BigEndian.PutUint64(b[8:], uint64(n.Index))
	return xxhash.Sum64(b[:])
}

func (n *recounting) compareCode(row CodeRow, codes map[CodeName]*CodeScans) error {
	counted, err := readCode(row)
	if err != nil {
		return err
	}
	one := codes[row.CodeName]
	if one == nil {
		one = &CodeScans{}
	}
	delete(codes, row.CodeName)
	of := func(what string) func() string {
		return func() string { return fmt.Sprintf("%s of code %d of application %d", what, row.Index, row.Batch) }
	}
	n.r.compare(row.Scans, one.Scans, of("scans"))
	n.compareUsers(row.Users, one.Users.Count(), int64(counted.Erased), of("users"))
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

// usersKnown reports whether the users of a day are counted by days of this
// zone.
func (n *recounting) usersKnown(day int64) bool {
	return n.state.Turned.IsZero() || day > DayOf(HourOf(n.state.Turned)+24, n.state.Offset)
}

// compareUsers takes into account that the log no longer says who they were
// whose data are erased; the counts kept them.
func (n *recounting) compareUsers(counted, recounted, erased int64, what func() string) {
	if erased > 0 && recounted <= counted && (recounted+erased >= counted || counted > sketchExact) {
		recounted = counted
	}
	n.r.compare(counted, recounted, what)
}

// stretchOfDays is a part of the days, from one up to but without another.
type stretchOfDays struct{ from, to int64 }

// part is one of so many parts of the days; the first and the last one hold
// also what is counted and in no event. last: a day cannot be cut.
func (n *recounting) part(part, parts uint64) (s stretchOfDays, smallest bool) {
	const never = 1 << 40
	days := uint64(max(1, n.lastDay-n.firstDay+1))
	s = stretchOfDays{n.firstDay + int64(days*part/parts), n.firstDay + int64(days*(part+1)/parts)}
	if part == 0 {
		s.from = -never
	}
	if part == parts-1 {
		s.to = never
	}
	return s, parts >= days
}

func (s stretchOfDays) has(day int64) bool { return day >= s.from && day < s.to }

// spans are the hours and the days of a stretch, then those of all rules.
func (s stretchOfDays) spans(offset int64) []Span {
	hours := Span{PerHour, s.from*24 - offset, s.to*24 - offset}
	return []Span{hours, {PerDay, s.from, s.to}, {PerHourOfAll, hours.From, hours.To}, {PerDayOfAll, s.from, s.to}}
}

// countDays counts combinations, users and places, some days at a time.
func (n *recounting) countDays(ctx context.Context) error {
	hours := map[hourOf]*Count{}
	users := map[UsersKey]*Sketch{}
	misses := map[missOf]int64{}
	places, kept := map[missOf]bool{}, map[int64]int{}
	var before Recount
	return inParts(func() { before = beginAgain(n.r, before) }, func(part, parts uint64) error {
		clear(hours)
		clear(users)
		clear(misses)
		clear(places)
		clear(kept)
		days, smallest := n.part(part, parts)
		mine := func(day int64) bool { return days.has(day) && !n.days(day) }
		// Which places are kept apart is decided by days of UTC.
		missesMine := func(hour int64) bool {
			return days.has(DayOf(hour, 0)) && (n.state.Forgotten.IsZero() || hour >= HourOf(n.state.Forgotten)+48)
		}
		size := 0
		err := n.each(ctx, func(e *ledger.Entry) error {
			hour := HourOf(e.At)
			day := DayOf(hour, n.state.Offset)
			if place, missed := PlaceOf(&e.Event); missed && missesMine(hour) {
				// The first ones of a day of UTC are kept apart.
				first := missOf{DayOf(hour, 0), place}
				if !places[first] && kept[first.hour] < maxPlaces {
					places[first] = true
					kept[first.hour]++
				} else if !places[first] {
					place = OtherPlaces
				}
				misses[missOf{hour, place}]++
			}
			if !mine(day) {
				return nil
			}
			t, err := n.c.tuple(ctx, &e.Event)
			if err != nil {
				return err
			}
			count := hours[hourOf{hour, t}]
			if count == nil {
				size += 600 // with its day
				count = &Count{}
				hours[hourOf{hour, t}] = count
			}
			count.Scans++
			if n.firsts.Contains(uint64(e.Position)) {
				count.Firsts++
			}
			if e.User != (ledger.UserHash{}) && e.Position <= n.state.UsersPosition && n.usersKnown(day) {
				for d := range dims {
					key := UsersKey{day, d, t.Value(d)}
					s := users[key]
					if s == nil {
						s = &Sketch{}
						users[key] = s
						size += 200
					}
					before := s.size()
					s.Add(e.User)
					size += s.size() - before
				}
			}
			if size > recountBytes && !smallest {
				return errOverflow
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := n.compareTuples(ctx, hours, days, mine); err != nil {
			return err
		}
		if err := n.compareSketches(ctx, users, days, mine); err != nil {
			return err
		}
		err = n.tx.AllMisses(ctx, Span{PerHour, days.from * 24, days.to * 24}, func(row MissRow) error {
			key := missOf{row.Hour, row.Place}
			if missesMine(row.Hour) {
				n.r.compare(row.Scans, misses[key],
					func() string { return fmt.Sprintf("scans that found nothing in hour %d at %q", key.hour, key.place) })
				delete(misses, key)
			}
			return nil
		})
		for key, scans := range misses {
			n.r.compare(0, scans, func() string { return fmt.Sprintf("scans that found nothing in hour %d at %q", key.hour, key.place) })
		}
		return err
	})
}

func (n *recounting) compareTuples(ctx context.Context, hours map[hourOf]*Count, days stretchOfDays, mine func(int64) bool) error {
	type key struct {
		per Per
		at  int64
		Tuple
	}
	want := map[key]Count{}
	for h, count := range hours {
		day, ofAll := DayOf(h.hour, n.state.Offset), h.Tuple
		ofAll.Rule = 0
		for _, k := range [...]key{{PerHour, h.hour, h.Tuple}, {PerDay, day, h.Tuple}, {PerHourOfAll, h.hour, ofAll},
			{PerDayOfAll, day, ofAll}} {
			sum := want[k]
			sum.add(*count)
			want[k] = sum
		}
	}
	compare := func(k key, counted, recounted Count) {
		what := func(what string) func() string {
			return func() string {
				return fmt.Sprintf("%s of %s, %+v", what, k.per.Start(k.at, n.state.Offset).Format(time.RFC3339), k.Tuple)
			}
		}
		n.r.compare(counted.Scans, recounted.Scans, what("scans"))
		if n.state.Forgotten.IsZero() {
			n.r.compare(counted.Firsts, recounted.Firsts, what("first scans"))
		}
	}
	err := n.tx.AllTuples(ctx, days.spans(n.state.Offset), func(row TupleRow) error {
		day := row.At
		if row.Per.hours() {
			day = DayOf(row.At, n.state.Offset)
		}
		if mine(day) {
			k := key{row.Per, row.At, row.Tuple}
			compare(k, row.Count, want[k])
			delete(want, k)
		}
		return nil
	})
	for k, count := range want {
		compare(k, Count{}, count)
	}
	return err
}

func (n *recounting) compareSketches(ctx context.Context, users map[UsersKey]*Sketch, days stretchOfDays, mine func(int64) bool) error {
	what := func(k UsersKey) func() string {
		return func() string { return fmt.Sprintf("users of day %d, %s %q", k.Day, k.Dim, k.Value) }
	}
	err := n.tx.AllUsers(ctx, Span{PerDay, days.from, days.to}, func(row UsersRow) error {
		if !mine(row.Day) || !n.usersKnown(row.Day) {
			return nil
		}
		counted := int64(0)
		if s := users[row.UsersKey]; s != nil {
			counted = s.Count()
		}
		n.compareUsers(row.Users, counted, row.Erased, what(row.UsersKey))
		delete(users, row.UsersKey)
		return nil
	})
	for k, s := range users {
		n.r.compare(0, s.Count(), what(k))
	}
	return err
}

// countSums adds up the hours' combinations, which were compared with the
// ledger, and compares the sums.
func (n *recounting) countSums(ctx context.Context) error {
	type key struct {
		per   Per
		dim   Dim
		at    int64
		value string
	}
	sums := map[key]Count{}
	var before Recount
	return inParts(func() { before = beginAgain(n.r, before) }, func(part, parts uint64) error {
		clear(sums)
		days, smallest := n.part(part, parts)
		mine := func(day int64) bool { return days.has(day) && !n.days(day) }
		err := n.tx.AllTuples(ctx, days.spans(n.state.Offset)[:1], func(row TupleRow) error {
			day := DayOf(row.At, n.state.Offset)
			if row.Per != PerHour || !mine(day) {
				return nil
			}
			for d := range dims {
				if d == Rule {
					continue
				}
				value := row.Value(d)
				for _, k := range [...]key{{PerHour, d, row.At, value}, {PerDay, d, day, value}} {
					sum := sums[k]
					sum.add(row.Count)
					sums[k] = sum
				}
			}
			if len(sums) > recountBytes/200 && !smallest {
				return errOverflow
			}
			return nil
		})
		if err != nil {
			return err
		}
		compare := func(k key, counted, added Count) {
			what := func() string {
				return fmt.Sprintf("sum of %s, %s %q", k.per.Start(k.at, n.state.Offset).Format(time.RFC3339), k.dim, k.value)
			}
			n.r.compare(counted.Scans, added.Scans, what)
			n.r.compare(counted.Firsts, added.Firsts, what)
		}
		err = n.tx.AllSums(ctx, days.spans(n.state.Offset)[:2], func(row SumRow) error {
			day := row.At
			if row.Per == PerHour {
				day = DayOf(row.At, n.state.Offset)
			}
			if mine(day) {
				k := key{row.Per, row.Dim, row.At, row.Value}
				compare(k, row.Count, sums[k])
				delete(sums, k)
			}
			return nil
		})
		for k, count := range maps.All(sums) {
			compare(k, Count{}, count)
		}
		return err
	})
}

// hourOf is an hour and what its scans have in common.
type hourOf struct {
	hour int64
	Tuple
}
