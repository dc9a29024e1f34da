// Package stats counts what was scanned.
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

// Dimension is a dimension by which scans are counted. The numbers are stored: they never change.
type Dimension int64

// The dimensions. Total has one value, "".
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
	Owner // of the rule, or who applied for the code
	Dims
)

var dimNames = [Dims]string{"total", "activity", "brand", "product", "batch", "rule", "app", "source", "result", "region", "owner"}

// String returns the name of the dimension.
func (d Dimension) String() string { return dimNames[d] }

// AllDims returns the dimensions, Total first.
func AllDims() (all []Dimension) {
	for d := range Dims {
		all = append(all, d)
	}
	return all
}

// Combined reports whether a dimension is one of those in a Tuple. The rule and the owner are not: rows of counts have
// numbers of their own for them.
func (d Dimension) Combined() bool { return d != Rule && d != Owner }

// ParseDim reads the name of a dimension; false for any other text.
func ParseDim(name string) (Dimension, bool) {
	for d, n := range dimNames {
		if n == name {
			return Dimension(d), true
		}
	}
	return 0, false
}

// Tuple is the combination of values by which a scan is counted. "" and 0 are values too: a scan of
// a link has no activity, a scan that fell on nothing has no rule.
type Tuple struct {
	Activity, Brand, Product string // of the activation; Product is the product code
	Batch, Rule              int64
	App, Source              string
	Result                   string // see ResultOf
	Region                   string
	Owner                    string // only where it was asked for: see Counter.Owner
}

// Value returns the value of a dimension; of Total it is "".
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

// ID returns the number by which a combination, without its rule, is stored: 63 bits of a cryptographic hash, so that two
// combinations with one number cannot be constructed. The form is fixed for ever.
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

// number returns a number as the value of a dimension, "" for none.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// ResultOf returns the result of a scan: its action, what it fell on, and why it
// opened nothing, as far as there is one; such as open_mini_program/code or
// show_message/frozen.
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

// Granularity is the period of a row: an hour, a day or a calendar month. The numbers are stored.
type Granularity int64

// The lengths. The sums over all rules stand beside those of each: their
// rows have rule 0. Those of each owner have the number of the owner in its place.
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

// OfOwner returns the sort of rows of owners that are the sums of a sort of rows of rules.
func (p Granularity) OfOwner() Granularity { return p + PerHourOfOwner }

// month returns the sort of months that are the sums of a sort of days.
func (p Granularity) month() Granularity { return p + PerMonth - PerDay }

// Hours reports whether a row counts an hour.
func (p Granularity) Hours() bool { return p == PerHour || p == PerHourOfAll || p == PerHourOfOwner }

// Count is a number of scans, and the number of these that were the first of their code.
type Count struct{ Scans, Firsts int64 }

// Add adds another count.
func (c *Count) Add(o Count) { c.Scans, c.Firsts = c.Scans+o.Scans, c.Firsts+o.Firsts }

// TupleRow counts the scans of an hour, a day or a month with the same Tuple.
type TupleRow struct {
	Per Granularity
	At  int64 // hour, day or month
	Tuple
	Count
}

// CountRow is an increment of a TupleRow.
type CountRow struct {
	Per   Granularity
	At    int64 // hour, day or month
	Rule  int64
	Tuple int64 // see Tuple.ID
	Count
}

func (r *CountRow) compare(o *CountRow) int {
	return cmp.Or(cmp.Compare(r.Per, o.Per), cmp.Compare(r.At, o.At), cmp.Compare(r.Rule, o.Rule), cmp.Compare(r.Tuple, o.Tuple))
}

// SumRow counts the scans of an hour, a day or a month with the same value of one dimension. Rules
// have none: their counts would be as many rows.
type SumRow struct {
	Per   Granularity
	Dim   Dimension
	At    int64 // hour, day or month
	Value string
	Count
}

func (r *SumRow) compare(o *SumRow) int {
	return cmp.Or(cmp.Compare(r.Per, o.Per), cmp.Compare(r.Dim, o.Dim), cmp.Compare(r.At, o.At), cmp.Compare(r.Value, o.Value))
}

// UsersKey is the key of a sketch of distinct users.
type UsersKey struct {
	Day   int64 // or MonthSketches + month
	Dim   Dimension
	Value string
}

// Compare orders keys as the store does.
func (k UsersKey) Compare(o UsersKey) int {
	return cmp.Or(cmp.Compare(k.Dim, o.Dim), cmp.Compare(k.Day, o.Day), cmp.Compare(k.Value, o.Value))
}

// UsersRow is a sketch as stored.
type UsersRow struct {
	UsersKey
	Users  int64 // of the sketch
	Sketch string
	Erased int64 // how many of them had their data erased
	// Since are sketches of users that came later: so a large sketch is not written again for each
	// user.
	Since []string
}

// Large reports whether there may be a Since: the sketch is one that holds no single users.
func (r *UsersRow) Large() bool { return strings.HasPrefix(r.Sketch, "r") }

// Merged returns the sketch with what came since.
func (r *UsersRow) Merged() (hyperloglog.Users, error) {
	s, err := hyperloglog.Decode(r.Sketch)
	for _, text := range r.Since {
		if err == nil {
			err = s.MergeText(text)
		}
	}
	if err != nil {
		err = fmt.Errorf("the users of day %d, %s %q: %w", r.Day, r.Dim, r.Value, err)
	}
	return s, err
}

// UsersSince is a sketch of users that came after a large one was written.
type UsersSince struct {
	UsersKey
	Part   int // of what came since then
	Sketch string
}

// MissRow counts the scans of an hour that found nothing, by Place.
type MissRow struct {
	Hour  int64
	Place string
	Scans int64
}

// ErrNoActivation is returned where no activation has a number.
var ErrNoActivation = errors.New("stats: no such activation")

// State says how far the counting is.
type State struct {
	// Ledger is the id of the log, "" where it has none: positions are of it.
	Ledger   string
	Position int64  // the last event that is counted
	Mark     string // the scan that stands there; not known where it is "" or another than Scan
	Scan     string // the last scan that was counted, in whatever ledger
	ScanAt   time.Time
	Scans    int64 // counted
	// Held is the number of scans of this log that are counted. Lacking is how many counted scans are at most in no ledger any more
	// although this program did not remove them; some may have been old enough for retention.
	Held, Lacking int64
	// UsersPosition is the offset up to which the sketches of distinct users are complete. They are written less often; a question
	// reads the rest from the log.
	UsersPosition int64
	// Offset is the zone of the days, in hours east of UTC.
	Offset int64
	// Forgotten is the time before which hours may be missing in the log.
	Forgotten time.Time
	// Turned is the time at which the zone was changed after scans were forgotten: the users of days before it are counted by the
	// days of the former zone.
	Turned time.Time
	// Months before Months are rolled up; Rolling is how far that of Months itself is, ""
	// = not begun. See Roll.
	Months  int64
	Rolling string
	// HoursFrom and DaysFrom are the first hour and the first day that are kept, 0 = all
	// are; DaysFrom begins a month.
	HoursFrom, DaysFrom int64
	// Seam is the first day that was counted by this zone alone, since the zone was changed
	// after hours were removed.
	Seam int64
}

// OwnedRow counts the scans of an hour, a day or a month with the same owner and combination.
type OwnedRow struct {
	Owner string
	Tuple int64 // see Tuple.ID
	Count
}

// LogCheckpoint says how far things were in a ledger when another one began to be counted.
type LogCheckpoint struct {
	Position int64  // up to where it is counted; 0 = it was never left
	Users    int64  // up to which its users are in the sketches; -1 = unknown
	Told     int64  // up to which the reader of webhooks was; -1 = unknown
	Last     string // the last scan of it that is counted in another ledger; "" = none is
}

// Store keeps what is counted.
type Store interface {
	alarms.Store
	// UpdateStatistics runs f in one transaction, of which the store's calls
	// with f's context are a part. It may run f again after a conflict, so f
	// must not keep state between runs.
	UpdateStatistics(ctx context.Context, f func(context.Context, Tx) error) error
	// ViewStatistics runs f on a consistent state that f does not change.
	ViewStatistics(ctx context.Context, f func(Tx) error) error
}

// Tx is one transaction on what is counted.
type Tx interface {
	alarms.Tx
	// LockStatistics makes others who count wait until the transaction ends.
	LockStatistics(ctx context.Context) error
	// DisableTimeout lets the transaction stand still for minutes between two calls; it
	// is not run again.
	DisableTimeout(ctx context.Context) error
	StatisticsState(ctx context.Context) (State, error)
	PutStatisticsState(ctx context.Context, s State) error

	// RuleOwners returns the owners of rules, also of deleted ones, in a half-open range of numbers; other numbers of changes may
	// be among them. RuleOwner returns the owner of a rule, also of a deleted one, and BatchOwner the applicant of codes; "" =
	// unknown.
	RuleOwners(ctx context.Context, from, to int64) (map[int64]string, error)
	RuleOwner(ctx context.Context, rule int64) (string, error)
	BatchOwner(ctx context.Context, batch int64) (string, error)
	// DaysOfRules and DaysOfOwners are how often some were scanned on some days, where they were.
	DaysOfRules(ctx context.Context, days, rules []int64) ([]DayCount[int64], error)
	DaysOfOwners(ctx context.Context, days []int64, owners []string) ([]DayCount[string], error)
	// HostsOf returns those of some hosts on which some owners have a rule.
	HostsOf(ctx context.Context, owners, hosts []string) ([]string, error)
	// NameOwners stores names of owners; those that are stored already stay.
	NameOwners(ctx context.Context, names []string) error
	// CountsByOwner adds up the counts of the rules of an hour, day or month by their owners.
	CountsByOwner(ctx context.Context, per Granularity, at int64) ([]OwnedRow, error)
	// NameTuples stores combinations of values, without rules; those that are stored already stay.
	NameTuples(ctx context.Context, list []Tuple) error
	// AddScanCounts and AddSums add to what is counted. Both are quick where the rows
	// are in the order of their keys.
	AddScanCounts(ctx context.Context, rows []CountRow) error
	AddSums(ctx context.Context, rows []SumRow) error
	// UsersRows returns the sketches that are stored for the keys, with what came since.
	UsersRows(ctx context.Context, keys []UsersKey) (map[UsersKey]UsersRow, error)
	// PutUsers stores sketches that include what came since, and removes that.
	PutUsers(ctx context.Context, rows []UsersRow) error
	// AddUsers stores what came since, beside large sketches.
	AddUsers(ctx context.Context, rows []UsersSince) error
	// Places returns the places from an hour up to but without another, at most
	// limit.
	Places(ctx context.Context, from, to int64, limit int) ([]string, error)
	AddMisses(ctx context.Context, rows []MissRow) error
	// Origins returns which events of each node's journal are counted; PutOrigins
	// stores that of some.
	Origins(ctx context.Context) (map[string]*scanlog.OffsetSet, error)
	PutOrigins(ctx context.Context, of map[string]*scanlog.OffsetSet) error
	// CutReaders moves readers of scans whose position is after end back to end.
	CutReaders(ctx context.Context, end int64) error
	// RecallLedger returns how far things were in a ledger that was counted before.
	RecallLedger(ctx context.Context, ledger string) (LogCheckpoint, error)
	// TurnReaders notes how far things are in the ledger that is left, and moves its readers to another one, which is counted
	// up to a position: to where they were in that ledger if it was left before, else to the position. Where nodes do not
	// share the ledgers, the other one has all scans: there readers stay as far before the position as they were before that
	// of the ledger that is left.
	TurnReaders(ctx context.Context, left State, to string, position int64, shared bool) error
	// ForgetUsers removes all sketches.
	ForgetUsers(ctx context.Context) error
	// TurnDays adds up the hours from hour on to days of another zone, where was is the former one;
	// it forgets the months from month on.
	TurnDays(ctx context.Context, hour, was, offset, month int64) error

	// FirstCounted returns the first hour or day from one on in which anything is counted; false
	// where there is none.
	FirstCounted(ctx context.Context, per Granularity, from int64) (at int64, any bool, err error)
	// CountsFrom returns, for each day of a span of at most some forty days, the first rows from a
	// rule and a combination on, in no order.
	CountsFrom(ctx context.Context, of Span, rule, tuple int64, limit int) ([]CountRow, error)
	// SumsFrom returns the same of a dimension, from a value on, and UsersFrom of sketches.
	SumsFrom(ctx context.Context, of Span, dim Dimension, value string, limit int) ([]SumRow, error)
	UsersFrom(ctx context.Context, of Span, dim Dimension, value string, limit int) ([]UsersKey, error)
	// PutScanCounts and PutSums store rows, and replace those with the same key.
	PutScanCounts(ctx context.Context, rows []CountRow) error
	PutSums(ctx context.Context, rows []SumRow) error
	// RemoveCounted removes hours, or days and their users, before one, at most so many
	// rows, and returns how many.
	RemoveCounted(ctx context.Context, per Granularity, before int64, limit int) (int, error)
	// RemoveMisses removes scans that found nothing from before an hour.
	RemoveMisses(ctx context.Context, before int64, limit int) (int, error)

	// Sums returns the rows of a question about one dimension, not of rules: per
	// At and value, or per value alone, the largest first.
	Sums(ctx context.Context, q Query) ([]Answer, error)
	// Tuples is Sums for a question about several dimensions.
	Tuples(ctx context.Context, q Query) ([]Answer, error)
	// UsersOf calls yield with the sketches of a question, in no order; what came since is yielded
	// apart.
	UsersOf(ctx context.Context, q Query, yield func(UsersRow) error) error
	// Misses returns the places from an hour up to but without another, the
	// largest first.
	Misses(ctx context.Context, from, to int64, limit int) ([]MissRow, error)

	// Binding returns the binding of an activation, ErrNoActivation if there is none.
	Binding(ctx context.Context, activation int64) (codes.Binding, error)

	// AllTuples, AllSums, … call yield with every row of some hours and days, in
	// no order, for the recount.
	AllTuples(ctx context.Context, of []Span, yield func(TupleRow) error) error
	AllSums(ctx context.Context, of []Span, yield func(SumRow) error) error
	// AllUsers yields what came since before the sketch itself; there is nothing of it without a
	// sketch.
	AllUsers(ctx context.Context, days Span, yield func(UsersRow) error) error
	AllMisses(ctx context.Context, hours Span, yield func(MissRow) error) error
}
