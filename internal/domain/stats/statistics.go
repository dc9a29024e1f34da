// Package stats counts scans.
package stats

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Dimension is a property of a scan by which scans are counted. The numeric values are stored in the database and must never change.
type Dimension int64

// The dimensions. Total has a single value, "".
const (
	Total Dimension = iota
	Activity
	Brand
	Product
	Batch
	Rule
	App
	Source
	Result
	Region
	Owner // owner of the rule, or applicant of the code
	Dims
)

var dimNames = [Dims]string{"total", "activity", "brand", "product", "batch", "rule", "app", "source", "result", "region", "owner"}

// String returns the name of the dimension.
func (d Dimension) String() string { return dimNames[d] }

// AllDims returns all dimensions, Total first.
func AllDims() (all []Dimension) {
	for d := range Dims {
		all = append(all, d)
	}
	return all
}

// Combined reports whether a dimension is part of the combinations of a Tuple. The rule and the owner are not part of combinations,
// because rows of counts store their numbers in a separate column.
func (d Dimension) Combined() bool { return d != Rule && d != Owner }

// ParseDim parses the name of a dimension; false for any other text.
func ParseDim(name string) (Dimension, bool) {
	for d, n := range dimNames {
		if n == name {
			return Dimension(d), true
		}
	}
	return 0, false
}

// Tuple is the combination of dimension values under which a scan is counted. "" and 0 are valid values: a scan of a link has no
// activity, a scan without a match has no rule.
type Tuple struct {
	Activity, Brand, Product string // from the activation; Product is the product code
	Batch, Rule              int64
	App, Source              string
	Result                   string // see ResultOf
	Region                   string
	Owner                    string // only set if requested: see Aggregator.Owner
}

// Value returns the value of a dimension; for Total the value is "".
func (t Tuple) Value(d Dimension) string {
	switch d {
	case Activity:
		return t.Activity
	case Brand:
		return t.Brand
	case Product:
		return t.Product
	case Batch:
		return number(t.Batch)
	case Rule:
		return number(t.Rule)
	case App:
		return t.App
	case Source:
		return t.Source
	case Result:
		return t.Result
	case Region:
		return t.Region
	case Owner:
		return t.Owner
	}
	return ""
}

// ID returns the number under which a combination, without its rule, is stored: 63 bits of a cryptographic hash, so that collisions
// cannot be constructed. The IDs of combinations are stored in the database, so their computation must never change.
func (t Tuple) ID() int64 {
	var b []byte
	for d := Activity; d < Dims; d++ {
		if d.Combined() {
			value := t.Value(d)
			b = append(append(append(strconv.AppendInt(b, int64(len(value)), 10), ':'), value...), ';')
		}
	}
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// number formats a number as the value of a dimension; "" for 0.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// ResultOf returns the result of a scan: its action, the kind of match, and the reason why nothing opened, if they exist; such as
// open_mini_program/code or show_message/frozen.
func ResultOf(e *scanlog.Event) string {
	switch {
	case e.Kind == "" && e.Reason == "":
		return e.Action
	case e.Reason == "":
		return e.Action + "/" + e.Kind
	case e.Kind == "":
		return e.Action + "/" + e.Reason
	}
	return strings.Join([]string{e.Action, e.Kind, e.Reason}, "/")
}

// Granularity is the period of a row: an hour, a day or a calendar month. The numeric values are stored in the database.
type Granularity int64

// Granularities without a suffix have separate rows for each rule. The rows of granularities with OfAll are sums over all rules, with rule
// 0; those with OfOwner are sums over all scans of an owner, with the number of the owner in place of the rule.
const (
	PerHour         Granularity = 0
	PerDay          Granularity = 1
	PerHourOfAll    Granularity = 2
	PerDayOfAll     Granularity = 3
	PerMonth        Granularity = 4
	PerMonthOfAll   Granularity = 6
	PerHourOfOwner  Granularity = 7
	PerDayOfOwner   Granularity = 8
	PerMonthOfOwner Granularity = 11
)

// OfOwner returns the per-owner granularity with the same period as the per-rule granularity p.
func (p Granularity) OfOwner() Granularity { return p + PerHourOfOwner }

// month returns the granularity p with a month as the period; the period of p must be a day.
func (p Granularity) month() Granularity { return p + PerMonth - PerDay }

// Hours reports whether the period of the granularity is an hour.
func (p Granularity) Hours() bool { return p == PerHour || p == PerHourOfAll || p == PerHourOfOwner }

// Count holds a number of scans, and the number of scans that were the first scan of their code.
type Count struct{ Scans, FirstScans int64 }

// Add adds another count.
func (c *Count) Add(o Count) { c.Scans, c.FirstScans = c.Scans+o.Scans, c.FirstScans+o.FirstScans }

// TupleRow counts the scans of an hour, a day or a month with the same Tuple.
type TupleRow struct {
	Granularity Granularity
	Bucket      int64 // number of the hour, day or month
	Tuple
	Count
}

// CountRow is an increment to the count of one rule and one combination of values (Tuple) in an hour, day or month.
type CountRow struct {
	Granularity Granularity
	Bucket      int64 // number of the hour, day or month
	Rule        int64
	Tuple       int64 // see Tuple.ID
	Count
}

func (r *CountRow) compare(o *CountRow) int {
	return cmp.Or(cmp.Compare(r.Granularity, o.Granularity), cmp.Compare(r.Bucket, o.Bucket), cmp.Compare(r.Rule, o.Rule),
		cmp.Compare(r.Tuple, o.Tuple))
}

// SumRow counts the scans of an hour, a day or a month with the same value of one dimension. The dimension Rule has no sum rows, because
// they would be as many as the counts of the rules.
type SumRow struct {
	Granularity Granularity
	Dimension   Dimension
	Bucket      int64 // number of the hour, day or month
	Value       string
	Count
}

func (r *SumRow) compare(o *SumRow) int {
	return cmp.Or(cmp.Compare(r.Granularity, o.Granularity), cmp.Compare(r.Dimension, o.Dimension), cmp.Compare(r.Bucket, o.Bucket),
		cmp.Compare(r.Value, o.Value))
}

// UsersKey is the key of a sketch of distinct users.
type UsersKey struct {
	Day       int64 // number of the day, or MonthSketches + number of the month
	Dimension Dimension
	Value     string
}

// Compare compares keys in the sort order of the store.
func (k UsersKey) Compare(o UsersKey) int {
	return cmp.Or(cmp.Compare(k.Dimension, o.Dimension), cmp.Compare(k.Day, o.Day), cmp.Compare(k.Value, o.Value))
}

// UsersRow is a stored sketch of distinct users.
type UsersRow struct {
	UsersKey
	Users  int64 // number of users in Sketch
	Sketch string
	Erased int64 // number of counted users whose data were erased
	// Since contains sketches of users that were added after Sketch was stored, so that a large Sketch is not rewritten for each user.
	Since []string
}

// Large reports whether the row may have entries in Since: its sketch uses registers and stores no individual users.
func (r *UsersRow) Large() bool { return strings.HasPrefix(r.Sketch, "r") }

// Merged returns the union of Sketch and the sketches in Since.
func (r *UsersRow) Merged() (hyperloglog.Users, error) {
	s, err := hyperloglog.Decode(r.Sketch)
	for _, text := range r.Since {
		if err == nil {
			err = s.MergeText(text)
		}
	}
	if err != nil {
		err = fmt.Errorf("the users of day %d, %s %q: %w", r.Day, r.Dimension, r.Value, err)
	}
	return s, err
}

// UsersSince is a sketch of the users that were added after a large sketch was written.
type UsersSince struct {
	UsersKey
	Number int // sequence number of the addition
	Sketch string
}

// UnmatchedRow counts the scans of an hour or a UTC day that had no result and whose link has the prefix Location.
type UnmatchedRow struct {
	Granularity Granularity // PerHour or PerDay
	Bucket      int64
	Location    string
	Scans       int64
}

// ErrNoActivation is returned if no activation has the given number.
var ErrNoActivation = errors.New("stats: no such activation")

// State is the progress of counting.
type State struct {
	// LogID is the ID of the log to which all positions refer; "" if the log has none.
	LogID         string
	CountedOffset int64  // position of the last counted event
	Checkpoint    string // ID of the scan at CountedOffset; "" = unknown
	LastScanID    string // ID of the last counted scan, in any scan log
	LastScanAt    time.Time
	Scans         int64 // number of counted scans
	// KeptCount is the number of counted scans that came from the current scan log. MissingCount is an upper bound for the counted scans
	// that disappeared from the scan logs without being removed by this program; it includes scans that are old enough for removal by now.
	KeptCount, MissingCount int64
	// SketchOffset is the log position up to which the sketches of distinct users are complete. Sketches are written less often than
	// counts; a query reads the remaining scans from the log.
	SketchOffset int64
	// Offset is the time zone of the days, in hours east of UTC.
	Offset int64
	// RetentionFloor is the time before which scans may be missing in the log; zero = no counted scan is missing.
	RetentionFloor time.Time
	// ZoneChangedAt is the time at which the time zone was changed, if scans had been removed before: the users of earlier days are still
	// counted by the days of the previous time zone.
	ZoneChangedAt time.Time
	// All months before RollupMonth are rolled up; RollupCursor is the progress within the month RollupMonth, "" = not begun. See Roll.
	RollupMonth  int64
	RollupCursor string
	// OldestHour and OldestDay are the first retained hour and day, 0 = all are retained; OldestDay is the first day of a month.
	OldestHour, OldestDay int64
	// ZoneChangeDay is the first day counted entirely in the current time zone; 0 = all days are: no hours were removed before that.
	ZoneChangeDay int64
}

// OwnedRow counts the scans of an hour, a day or a month with the same owner and combination.
type OwnedRow struct {
	Owner string
	Tuple int64 // see Tuple.ID
	Count
}

// LogCheckpoint is the progress in a scan log at the time when counting switched to another scan log.
type LogCheckpoint struct {
	Position      int64  // position up to which the scan log is counted; 0 = counting never left this scan log
	Users         int64  // position up to which the users of the scan log are in the sketches; -1 = unknown
	WebhookOffset int64  // position of the webhook reader; -1 = unknown
	Last          string // all scans of this log up to the scan with this ID were counted, some from another log; "" = unknown
}

// Store is the database of the counts.
type Store interface {
	alarms.Store
	// UpdateStatistics runs f in one transaction. UpdateStatistics may run f again after a conflict, so f must not keep state between
	// runs.
	UpdateStatistics(ctx context.Context, f func(Tx) error) error
	// ViewStatistics runs the read-only function f on a consistent snapshot.
	ViewStatistics(ctx context.Context, f func(Tx) error) error
}

// Tx is one database transaction on the counts.
type Tx interface {
	alarms.Tx
	// LockStatistics blocks other writers of counts until the transaction ends.
	LockStatistics(ctx context.Context) error
	// DisableTimeout allows the transaction to be idle for minutes between two calls; such a transaction is not retried.
	DisableTimeout(ctx context.Context) error
	StatisticsState(ctx context.Context) (State, error)
	PutStatisticsState(ctx context.Context, s State) error

	// RuleOwners returns the owners of the rules in a half-open range of IDs; the result may contain numbers that are not rule IDs.
	// RuleOwner returns the owner of one rule. RuleOwners and RuleOwner include deleted rules. "" = unknown.
	RuleOwners(ctx context.Context, from, to int64) (map[int64]string, error)
	RuleOwner(ctx context.Context, rule int64) (string, error)
	// DaysOfRules and DaysOfOwners return the numbers of scans of some rules or owners on some days; days without scans are left out.
	DaysOfRules(ctx context.Context, days, rules []int64) ([]DayCount[int64], error)
	DaysOfOwners(ctx context.Context, days []int64, owners []string) ([]DayCount[string], error)
	// ScansOfOwners returns the scans of each owner from a day on.
	ScansOfOwners(ctx context.Context, since int64) (map[string]int64, error)
	// OwnersOfHosts returns a pair of host and owner for each owner with a rule on one of the hosts.
	OwnersOfHosts(ctx context.Context, hosts []string) ([][2]string, error)
	// LastPublishes returns the hour since 1970 of the last publish of each owner, 0 = none; without owners, it returns all owners.
	LastPublishes(ctx context.Context, owners []string) (map[string]int64, error)
	// NameOwners stores the names of owners; names that are already stored stay unchanged.
	NameOwners(ctx context.Context, names []string) error
	// CountsByOwner returns the counts of an hour, day or month, summed for each owner of rules.
	CountsByOwner(ctx context.Context, per Granularity, at int64) ([]OwnedRow, error)
	// NameTuples stores combinations of values, without rules; combinations that are already stored stay unchanged.
	NameTuples(ctx context.Context, list []Tuple) error
	// AddScanCounts and AddSums add increments to the stored counts; they are faster if the rows are sorted by key.
	AddScanCounts(ctx context.Context, rows []CountRow) error
	AddSums(ctx context.Context, rows []SumRow) error
	// UsersRows returns the sketches with the given keys, each with the additions that AddUsers has stored for it.
	UsersRows(ctx context.Context, keys []UsersKey) (map[UsersKey]UsersRow, error)
	// PutUsers stores sketches, and removes their additions (AddUsers), which the caller has merged into them.
	PutUsers(ctx context.Context, rows []UsersRow) error
	// AddUsers stores additions to large sketches.
	AddUsers(ctx context.Context, rows []UsersSince) error
	// Places returns at most limit link prefixes of unmatched scans of a UTC day.
	Places(ctx context.Context, day int64, limit int) ([]string, error)
	AddMisses(ctx context.Context, rows []UnmatchedRow) error
	// Origins returns the counted events of each node's journal; PutOrigins stores the counted events of some journals.
	Origins(ctx context.Context) (map[string]*scanlog.OffsetSet, error)
	PutOrigins(ctx context.Context, of map[string]*scanlog.OffsetSet) error
	// RewindReaders moves each reader of scans that is beyond the position "end" back to this position.
	RewindReaders(ctx context.Context, end int64) error
	// RecallLedger returns the checkpoint of a scan log that was counted before.
	RecallLedger(ctx context.Context, ledger string) (LogCheckpoint, error)
	// TurnReaders stores a checkpoint of the current scan log, and moves its readers to a new scan log, which has the ID "to" and is
	// counted up to position. If shared is false, the new log has all scans: a reader that was n positions before the counted position
	// stays n positions before it. If shared is true, a reader continues at its former position in the new log, or else at "position".
	TurnReaders(ctx context.Context, left State, to string, position int64, shared bool) error
	// ForgetUsers deletes all sketches.
	ForgetUsers(ctx context.Context) error
	// ShiftDays recomputes the days for a new time zone (offset) from the stored hours that are not before "hour", and deletes the months
	// that are not before "month". The argument "was" is the offset of the previous time zone.
	ShiftDays(ctx context.Context, hour, was, offset, month int64) error

	// FirstCounted returns the first hour or day that has a count and is not before "from"; found is false if there is none.
	FirstCounted(ctx context.Context, per Granularity, from int64) (at int64, found bool, err error)
	// CountsFrom returns, for each day of a span, at most limit rows in unspecified order: the first ones at or after the key (rule,
	// tuple). The span has at most about forty days.
	CountsFrom(ctx context.Context, of Span, rule, tuple int64, limit int) ([]CountRow, error)
	// SumsFrom is like CountsFrom for the sums of a dimension, at or after a value. UsersFrom is like SumsFrom for sketches.
	SumsFrom(ctx context.Context, of Span, dim Dimension, value string, limit int) ([]SumRow, error)
	UsersFrom(ctx context.Context, of Span, dim Dimension, value string, limit int) ([]UsersKey, error)
	// PutScanCounts and PutSums store rows, replacing rows with the same key.
	PutScanCounts(ctx context.Context, rows []CountRow) error
	PutSums(ctx context.Context, rows []SumRow) error
	// RemoveCounted deletes at most limit rows and returns their number: rows of the hours before a given hour, or rows and users of the
	// days before a given day.
	RemoveCounted(ctx context.Context, per Granularity, before int64, limit int) (int, error)
	// RemoveMisses deletes the counts of scans without a result from before an hour and its UTC day.
	RemoveMisses(ctx context.Context, before int64, limit int) (int, error)

	// Sums returns the rows of a query on one dimension other than Rule, summed by time and value or only by value, largest first.
	Sums(ctx context.Context, q Query) ([]Answer, error)
	// Tuples is like Sums for all other queries.
	Tuples(ctx context.Context, q Query) ([]Answer, error)
	// UsersOf calls yield with each stored sketch that q selects, and separately with each of its additions (AddUsers), in any order.
	UsersOf(ctx context.Context, q Query, yield func(UsersRow) error) error
	// UnmatchedRows returns the MaxMisses largest counts of unmatched scans by link prefix in a half-open range of hours, largest first;
	// UnmatchedTotal returns the sum of all counts.
	UnmatchedRows(ctx context.Context, from, to int64) ([]Answer, error)
	UnmatchedTotal(ctx context.Context, from, to int64) (int64, error)

	// Binding returns the binding of an activation, or ErrNoActivation if the activation does not exist.
	Binding(ctx context.Context, activation int64) (codes.Binding, error)

	// AllTuples, AllSums, AllUsers and AllMisses call yield with every row of the given hours or days, in unspecified order.
	AllTuples(ctx context.Context, of []Span, yield func(TupleRow) error) error
	AllSums(ctx context.Context, of []Span, yield func(SumRow) error) error
	// AllUsers calls yield with the additions (AddUsers) to a sketch before the sketch itself; every addition belongs to a stored sketch.
	AllUsers(ctx context.Context, days Span, yield func(UsersRow) error) error
	AllMisses(ctx context.Context, of Span, yield func(UnmatchedRow) error) error
}
