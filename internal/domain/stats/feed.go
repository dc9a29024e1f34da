package stats

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// ErrForgotten is returned for a scan ID that is older than all scans in the scan log; such a scan may or may not have existed.
var ErrForgotten = errors.New("stats: the scan is older than the retention of the scan log")

// Counted is a scan of the feed, with the activity, brand and product of its code.
type Counted struct {
	scanlog.Entry
	Activity, Brand, Product string
	Owner                    string // owner of the rule, or applicant of the code; "" = none
}

// Feed returns the scans after a given scan, in the order in which they were recorded; the zero ID stands for the start. At most
// limit. Feed returns ErrNoScan if the scan does not exist, and ErrForgotten if it may have existed but is older than the scan log.
func (c *Aggregator) Feed(ctx context.Context, lastScanID scanlog.ScanID, limit int) (list []Counted, err error) {
	if err := c.CatchUpAll(ctx); err != nil {
		return nil, err
	}
	position := int64(0)
	if lastScanID != (scanlog.ScanID{}) {
		if position, err = c.find(ctx, lastScanID); err != nil {
			return nil, err
		}
	}
	return first(limit, c.All(ctx, position))
}

// first returns the first scans of a sequence, at most limit.
func first(limit int, scans iter.Seq2[Counted, error]) (list []Counted, err error) {
	for e, err := range scans {
		if err != nil {
			return nil, err
		}
		if list = append(list, e); len(list) >= limit {
			break
		}
	}
	return list, nil
}

// Newest returns at most limit scans in recording order, beginning with the n-th newest scan. older is true if there are scans before the
// returned ones.
func (c *Aggregator) Newest(ctx context.Context, owners []string, n, limit int) (list []Counted, older bool, err error) {
	if err := c.CatchUp(ctx); err != nil {
		return nil, false, err
	}
	f := Filter{Owners: owners}
	prev, older, err := c.beforeNewest(ctx, f, n)
	if err != nil {
		return nil, false, err
	}
	list, err = first(limit, c.bound(ctx, f, c.entries(ctx, f, prev)))
	return list, older, err
}

// beforeNewest returns the log position before the newest n scans. Not every position has a matching scan, so beforeNewest doubles the
// number of positions that it reads until it has found n scans.
func (c *Aggregator) beforeNewest(ctx context.Context, f Filter, n int) (position int64, older bool, err error) {
	state, err := c.stored(ctx)
	if err != nil {
		return 0, false, err
	}
	for reach := int64(n) + 1; ; reach *= 2 {
		from := max(0, state.CountedOffset-reach)
		var found []int64
		for e, err := range c.untilCounted(ctx, c.entries(ctx, f, from)) {
			if err != nil {
				return 0, false, err
			}
			wanted, err := c.wants(ctx, &f, &e)
			if err != nil {
				return 0, false, err
			}
			if wanted {
				found = append(found, e.Position)
			}
		}
		switch {
		case len(found) > n:
			return found[len(found)-n] - 1, true, nil
		case from == 0:
			return 0, false, nil
		case len(f.Owners) > 0 && reach > MaxLooked: // with a filter for owners, at most MaxLooked positions are examined for one page
			return from, true, nil
		}
	}
}

// MaxLooked is the maximum number of scans that one call of Matching examines.
const MaxLooked = 20_000

// Filter selects scans. A zero field matches every scan.
type Filter struct {
	From, To time.Time // scan time at or after From and before To
	Users    scanlog.Users
	Rules    []int64 // IDs of rules
	Code     *alarms.CodeName
	Owners   []string // owners of the scans; empty = all owners
}

func (f *Filter) wants(e *scanlog.Entry) bool {
	switch {
	case !f.From.IsZero() && e.OccurredAt.Before(f.From), !f.To.IsZero() && !e.OccurredAt.Before(f.To):
		return false
	case f.Users != nil && !f.Users[e.User]:
		return false
	case len(f.Rules) > 0 && !slices.Contains(f.Rules, e.RuleID):
		return false
	}
	return f.Code == nil || e.Batch == f.Code.Batch && e.Index == f.Code.Index
}

// wants reports whether a scan matches a filter.
func (c *Aggregator) wants(ctx context.Context, f *Filter, e *scanlog.Entry) (bool, error) {
	if !f.wants(e) || len(f.Owners) == 0 {
		return f.wants(e), nil
	}
	owner, err := c.Owner(ctx, e.RuleID, e.Batch)
	return slices.Contains(f.Owners, owner), err
}

// Matching returns scans like Feed, limited to the scans that match a filter. Matching examines at most MaxLooked scans. next is the last
// examined scan, or lastScanID if none was examined; hasMore is true if more scans follow. Matching returns the same errors as Feed.
func (c *Aggregator) Matching(ctx context.Context, lastScanID scanlog.ScanID, f Filter, limit int) (list []Counted,
	next scanlog.ScanID, looked int,
	hasMore bool, err error) {
	if err := c.CatchUpAll(ctx); err != nil {
		return nil, lastScanID, 0, false, err
	}
	position := int64(0)
	next = lastScanID
	if lastScanID != (scanlog.ScanID{}) {
		if position, err = c.find(ctx, lastScanID); err != nil {
			return nil, lastScanID, 0, false, err
		}
	}
	for e, err := range c.untilCounted(ctx, c.entries(ctx, f, position)) {
		switch {
		case err != nil:
			return nil, next, looked, false, err
		case e.Position <= position: // a log may yield earlier entries than requested
			continue
		case looked == MaxLooked || len(list) == limit:
			return list, next, looked, true, nil
		}
		looked++
		next = e.ID
		wanted, err := c.wants(ctx, &f, &e)
		if err != nil {
			return nil, next, looked, false, err
		}
		if !wanted {
			continue
		}
		item, err := c.Bind(ctx, e)
		if err != nil {
			return nil, next, looked, false, err
		}
		list = append(list, item)
	}
	return list, next, looked, false, nil
}

// Scan returns a scan, ErrNoScan if it does not exist, or ErrForgotten if it may have existed but is older than the scan log.
func (c *Aggregator) Scan(ctx context.Context, id scanlog.ScanID) (found Counted, err error) {
	if err := c.CatchUpAll(ctx); err != nil {
		return found, err
	}
	position, err := c.find(ctx, id)
	if err != nil {
		return found, err
	}
	for e, err := range c.Log.Read(ctx, position-1) {
		if err != nil {
			return found, fmt.Errorf("reading the scan %s: %w", id, err)
		}
		if e.ID == id {
			return c.Bind(ctx, e)
		}
		break
	}
	return found, scanlog.ErrNoScan
}

// Bind adds the activity, brand and product of its code to a scan.
func (c *Aggregator) Bind(ctx context.Context, e scanlog.Entry) (Counted, error) {
	out := Counted{Entry: e}
	var err error
	if out.Owner, err = c.Owner(ctx, e.RuleID, e.Batch); err != nil || e.Activation == 0 {
		return out, err
	}
	var b codes.Binding
	b, err = c.binding(ctx, e.Activation)
	out.Activity, out.Brand, out.Product = b.ActivityName, b.ProductBrand, b.ProductCode
	return out, err
}

// find returns the log position of a scan.
func (c *Aggregator) find(ctx context.Context, id scanlog.ScanID) (int64, error) {
	position, err := c.Log.Find(ctx, id)
	if errors.Is(err, scanlog.ErrNoScan) {
		for e, err := range c.Log.Read(ctx, 0) {
			if err == nil && id.Time().Before(e.OccurredAt) && !c.Forgotten(ctx).IsZero() {
				return 0, ErrForgotten
			}
			break
		}
		return 0, scanlog.ErrNoScan
	}
	if err != nil {
		return 0, fmt.Errorf("finding the scan %s: %w", id, err)
	}
	return position, nil
}

// Reached counts the events in the scan log, and returns the position up to which they are counted.
func (c *Aggregator) Reached(ctx context.Context) (alarms.Counted, error) {
	if err := c.CatchUp(ctx); err != nil {
		return alarms.Counted{}, err
	}
	state, err := c.stored(ctx)
	return alarms.Counted{Log: c.Log, Position: state.CountedOffset, Offset: state.Offset, Forgotten: state.RetentionFloor}, err
}

// Forgotten returns the time before which scans were removed by retention; zero = none were removed.
func (c *Aggregator) Forgotten(ctx context.Context) time.Time {
	state, _ := c.stored(ctx)
	return state.RetentionFloor
}

// All iterates over the counted scans after a position, in the order of the scan log.
func (c *Aggregator) All(ctx context.Context, start int64) iter.Seq2[Counted, error] {
	return c.bound(ctx, Filter{}, c.entries(ctx, Filter{}, start))
}

// entries returns a function that reads the entries of the log after a position; it may leave out entries whose time a filter excludes.
func (c *Aggregator) entries(ctx context.Context, f Filter, start int64) func() iter.Seq2[scanlog.Entry, error] {
	if f.From.IsZero() && f.To.IsZero() {
		return func() iter.Seq2[scanlog.Entry, error] { return c.Log.Read(ctx, start) }
	}
	to := f.To
	if to.IsZero() {
		to = time.UnixMilli(1 << 47)
	}
	return func() iter.Seq2[scanlog.Entry, error] { return c.Log.ListRange(ctx, start, f.From, to) }
}

// bound iterates over the counted scans of a log that match a filter, with the activity, brand and product of their codes.
func (c *Aggregator) bound(ctx context.Context, f Filter, read func() iter.Seq2[scanlog.Entry, error]) iter.Seq2[Counted, error] {
	return func(yield func(Counted, error) bool) {
		for e, err := range c.untilCounted(ctx, read) {
			wanted := true
			if err == nil {
				wanted, err = c.wants(ctx, &f, &e)
			}
			if !wanted && err == nil {
				continue
			}
			var item Counted
			if err == nil {
				item, err = c.Bind(ctx, e)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// untilCounted iterates over the entries from read, up to the position that was counted when the iteration began. It yields an error if the
// scan log ends before this position.
func (c *Aggregator) untilCounted(ctx context.Context, read func() iter.Seq2[scanlog.Entry, error]) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		state, err := c.stored(ctx)
		if err == nil {
			err = scanlog.CheckEnd(ctx, c.Log, state.LogID, state.CountedOffset)
		}
		if err != nil {
			yield(scanlog.Entry{}, err)
			return
		}
		for e, err := range read() {
			if err != nil {
				err = fmt.Errorf("reading the scan log: %w", err)
			} else if e.Position > state.CountedOffset {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// ListRange iterates over the counted scans that match a filter.
func (c *Aggregator) ListRange(ctx context.Context, f Filter) iter.Seq2[Counted, error] {
	return c.bound(ctx, f, c.entries(ctx, f, 0))
}

// Forget removes scans before a time from the scan log, except those in a file or partition with later scans. The counts stay.
func (c *Aggregator) Forget(ctx context.Context, before time.Time) error {
	// Scans that are not counted yet must be counted before they are removed.
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	state, err := c.change(ctx, func(tx Tx, s *State) error {
		first, found, err := tx.FirstCounted(ctx, PerHourOfAll, 0)
		if s.RetentionFloor.Before(before) && (s.OldestHour > 0 || found && PerHour.Start(first, 0).Before(before)) {
			s.RetentionFloor = before
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("recording the removal of old scans: %w", err)
	}
	c.mu.Lock()
	c.state.RetentionFloor = state.RetentionFloor
	c.mu.Unlock()
	return c.Log.Forget(ctx, before)
}
