package stats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// load reads the state if it is not in memory, and switches to the current log if the store counted another log.
func (c *Aggregator) load(ctx context.Context, end int64) error {
	if c.loaded {
		// The state in memory may be outdated: another node may have counted, the time zone may have changed, or a stream may have
		// been recreated.
		if int64(c.Settings.Get().UTCOffsetHours) == c.state.Offset && c.Log.ID() == c.state.LogID {
			return nil
		}
	}
	taken, err := c.loadState(ctx, end)
	if err != nil {
		return fmt.Errorf("reading the counted offset: %w", err)
	}
	c.countedSets, c.pending = taken, newPending(c.state.CountedOffset)
	c.groups, c.byID, c.places = map[groupKey]*group{}, map[int64]*group{}, map[int64]map[string]bool{}
	c.large = nil
	if err = c.readUsers(ctx); err == nil {
		err = c.readWindow(ctx, end)
	}
	c.loaded = err == nil
	return err
}

// readWindow adds the counted scans since the beginning of the hour of the last scan to the window, but at most the last maxTail scans.
func (c *Aggregator) readWindow(ctx context.Context, end int64) error {
	if c.windowLog != c.state.LogID || c.windowTo > end {
		start, err := c.Log.PositionBefore(ctx, c.state.LastScanAt.Truncate(time.Hour))
		if err != nil {
			return fmt.Errorf("finding the scans of the last hour: %w", err)
		}
		c.window, c.windowLog, c.windowTo = alarms.Window{}, c.state.LogID, start
	}
	hour := c.state
	hour.SketchOffset = max(c.windowTo, c.state.CountedOffset-maxTail)
	err := c.readTail(ctx, hour, func(e *scanlog.Entry) (bool, error) {
		c.window.Add(&e.Event)
		return true, nil
	})
	c.windowTo = max(c.windowTo, c.state.CountedOffset)
	c.window.Saved() // the alarms of counted scans are stored
	return err
}

// errChanged reports that the state changed since it was compared with the log.
var errChanged = errors.New("stats: concurrent update")

// comparison is the result of comparing a state with the log; the comparison is done before the transaction that changes the state,
// because no transaction may wait for the log.
type comparison struct {
	ledger   string
	state    State // state when it was compared
	otherLog bool  // another scan log was counted until now
	cut      int64 // position at which counting continues if the log was truncated or replaced by an older copy; -1 = neither happened
	differs  bool  // the scan at the stored position differs from the scan that was counted there
	origins  bool  // the events contain the names of their journals; the field cut was determined from these names
	position int64 // if otherLog: position up to which the current scan log is already counted
	users    int64 // if otherLog: position up to which the users of the current scan log are in the sketches
}

// loadState reads the state and each node's counted scans. end is the end of the log at an earlier time; because other processes may have
// counted later scans, the log is considered truncated only if its end, read again, is still before the counted position.
func (c *Aggregator) loadState(ctx context.Context, end int64) (taken map[string]*scanlog.OffsetSet, err error) {
	for passed := int64(-1); ; {
		t, err := c.compareWithLog(ctx, end)
		if err != nil {
			return nil, err
		}
		if t.cut >= 0 && !t.differs && t.state.CountedOffset != passed {
			passed = t.state.CountedOffset
			if end, err = c.Log.End(ctx); err != nil {
				return nil, fmt.Errorf("reading the end of the scan log: %w", err)
			}
			continue
		}
		if t.cut >= 0 {
			if t.cut, t.origins, err = c.uncounted(ctx, t.cut); err != nil {
				return nil, err
			}
		}
		if c.Log.ID() != t.ledger { // the events that were read may be from another scan log
			continue
		}
		state, err := c.change(ctx, func(tx Tx, s *State) (err error) {
			if taken, err = tx.Origins(ctx); err != nil {
				return err
			}
			return c.applyComparison(ctx, tx, s, t)
		})
		if errors.Is(err, errChanged) {
			continue
		}
		if err == nil {
			c.state = state
			c.tellOfTurn(ctx, t)
			if t.otherLog { // compare again: the current log may have become an older copy while another log was counted
				continue
			}
		}
		return taken, err
	}
}

// compareWithLog determines how the stored state differs from the log.
func (c *Aggregator) compareWithLog(ctx context.Context, end int64) (t comparison, err error) {
	if t.ledger, t.cut = c.Log.ID(), -1; t.ledger == "" {
		return t, errors.New("the scan log ID is not known yet")
	}
	var oldCheckpoint LogCheckpoint
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		if t.state, err = tx.StatisticsState(ctx); err != nil {
			return err
		}
		oldCheckpoint, err = tx.RecallLedger(ctx, t.ledger)
		return err
	})
	if err != nil {
		return t, err
	}
	switch {
	case t.state.LogID != t.ledger:
		// Also if no scan of the previous scan log was counted: the current scan log may have been counted at an earlier time.
		if t.otherLog = t.state.CountedOffset > 0 || t.state.LogID != "" || t.state.Scans > 0; t.otherLog {
			t.position, err = c.countedBefore(ctx, t.state, oldCheckpoint)
			if t.users = oldCheckpoint.Users; t.users < 0 || c.SingleNode {
				t.users = t.position
			}
		}
	case end < t.state.CountedOffset:
		t.cut = end
	case t.state.Checkpoint != "":
		if t.differs, err = c.lastScanDiffers(ctx, t.state); t.differs {
			t.cut = end
		}
	}
	return t, err
}

// lastScanDiffers reports whether another scan is at the position of the last counted scan: then the scan log was restored from an older
// copy.
func (c *Aggregator) lastScanDiffers(ctx context.Context, state State) (bool, error) {
	for e, err := range c.Log.Read(ctx, state.CountedOffset-1) {
		if err != nil {
			return false, fmt.Errorf("reading the last counted scan: %w", err)
		}
		return e.Position == state.CountedOffset && e.ID.String() != state.Checkpoint, nil
	}
	return false, nil
}

// uncounted returns the position up to which all events of a scan log are counted, according to the counted offsets of their journals. If
// the events contain no names of journals, it returns end.
func (c *Aggregator) uncounted(ctx context.Context, end int64) (upTo int64, origins bool, err error) {
	taken, err := view(ctx, c, func(tx Tx) (map[string]*scanlog.OffsetSet, error) { return tx.Origins(ctx) })
	if err != nil || len(taken) == 0 {
		return end, false, err
	}
	for e, err := range c.Log.Read(ctx, 0) {
		if err != nil {
			return end, false, fmt.Errorf("finding the first uncounted scan: %w", err)
		}
		if e.Position > end {
			break
		}
		if e.From.Node == "" {
			continue // the event contains no name of a journal, because the log is the journal itself
		}
		origins = true
		if !taken[e.From.Node].Has(e.From.Position) {
			return e.Position - 1, true, nil
		}
	}
	return end, origins, nil
}

// applyComparison updates the state according to the comparison with the log.
func (c *Aggregator) applyComparison(ctx context.Context, tx Tx, s *State, t comparison) error {
	if (t.otherLog || t.cut >= 0 || s.LogID != t.ledger) && *s != t.state {
		return errChanged
	}
	err := c.turnDays(ctx, tx, s)
	switch {
	case err != nil:
	case t.otherLog:
		err = c.switchLog(ctx, tx, s, t)
	case t.cut >= 0:
		err = c.resumeAt(ctx, tx, s, t)
	}
	s.LogID = t.ledger
	return err
}

// turnDays recomputes the days if the time zone changed.
func (c *Aggregator) turnDays(ctx context.Context, tx Tx, state *State) error {
	offset := int64(c.Settings.Get().UTCOffsetHours)
	if state.Offset == offset {
		return nil
	}
	previous := state.Offset
	state.Offset = offset
	if state.Scans == 0 {
		return nil
	}
	// Days and months whose hours were removed keep the boundaries of the previous time zone. The users of a month are the union of
	// the users of its days, in any time zone.
	months, hour := timebucket.Month(state.OldestDay), state.OldestHour
	if hour == 0 {
		hour = -1 << 40 // before every hour
	}
	if err := tx.ShiftDays(ctx, hour, previous, offset, months); err != nil {
		return err
	}
	state.RollupMonth, state.RollupCursor = months, ""
	if state.OldestHour > 0 {
		state.ZoneChangeDay = timebucket.Day(state.OldestHour+47, offset)
	}
	if !state.RetentionFloor.IsZero() {
		state.ZoneChangedAt = c.Now()
		return nil
	}
	// The scan log still has all scans, so the users are counted again from them.
	state.SketchOffset = 0
	return tx.ForgetUsers(ctx)
}

// resumeAt continues counting after the end of a scan log from which counted scans are missing. The scans that the scan log still
// has are not counted again.
func (c *Aggregator) resumeAt(ctx context.Context, tx Tx, s *State, t comparison) error {
	lost := max(s.CountedOffset-t.cut, 1)
	if t.origins { // if the events contain the names of their journals, possibly no scan is lost
		lost = max(s.CountedOffset-t.cut, 0)
	}
	s.CountedOffset, s.SketchOffset, s.Checkpoint = t.cut, min(s.SketchOffset, t.cut), ""
	s.KeptCount, s.MissingCount, s.RetentionFloor = max(0, s.KeptCount-lost), s.MissingCount+lost, c.Now()
	return tx.RewindReaders(ctx, t.cut)
}

// switchLog switches counting from the current scan log to another one.
func (c *Aggregator) switchLog(ctx context.Context, tx Tx, s *State, t comparison) error {
	left := *s
	s.CountedOffset, s.SketchOffset, s.Checkpoint, s.KeptCount = t.position, min(t.users, t.position), "", 0
	if s.Scans > 0 {
		s.RetentionFloor = c.Now()
	}
	if c.Log.Lost(left.LogID) {
		s.MissingCount += left.KeptCount
	}
	if c.SingleNode {
		// The scans from SketchOffset to CountedOffset, whose users are not in the sketches yet, are also in the new scan log, next to each
		// other, so the distance between the two offsets stays the same. Adding a user twice is harmless.
		s.SketchOffset = max(0, s.CountedOffset-(left.CountedOffset-left.SketchOffset))
	}
	if err := tx.TurnReaders(ctx, left, t.ledger, s.CountedOffset, !c.SingleNode); err != nil {
		return fmt.Errorf("switching scan readers to another scan log: %w", err)
	}
	return nil
}

// tellOfTurn logs that the scan log was truncated or replaced, with the number of missing scans.
func (c *Aggregator) tellOfTurn(ctx context.Context, t comparison) {
	switch {
	case t.differs:
		c.Logger.ErrorContext(ctx, "scan log was replaced by an older copy",
			"position", t.state.CountedOffset, "counted_scan", t.state.Checkpoint, "missing_total", c.state.MissingCount)
	case t.cut >= 0:
		c.Logger.ErrorContext(ctx, "scan log is shorter than counted",
			"missing", c.state.MissingCount-t.state.MissingCount, "continues_after", t.cut, "counted_to", t.state.CountedOffset,
			"missing_total", c.state.MissingCount)
	case t.otherLog && c.state.MissingCount > t.state.MissingCount:
		c.Logger.ErrorContext(ctx, "counted scan log was replaced by another",
			"before", t.state.LogID, "after", t.ledger, "missing_total", c.state.MissingCount)
	}
}

// countedBefore returns the position up to which the new scan log is already counted. The position is above 0 if the log was counted
// before, or if it contains the last counted scan (a journal also has the scans of its stream); it is 0 after an import without scans.
func (c *Aggregator) countedBefore(ctx context.Context, left State, oldCheckpoint LogCheckpoint) (int64, error) {
	position, last := oldCheckpoint.Position, oldCheckpoint.Last
	if c.SingleNode {
		last = left.LastScanID
	}
	if id, err := scanlog.ParseScanID(last); err == nil {
		switch pos, err := c.Log.Find(ctx, id); {
		case err == nil:
			position = max(position, pos)
		case !errors.Is(err, scanlog.ErrNoScan):
			return 0, fmt.Errorf("finding the last counted scan: %w", err)
		}
	}
	return position, nil
}

// Begin compares the state with the scan log. Begin must be called before new events are appended, because an older or truncated scan log
// is recognized by its shorter length.
func (c *Aggregator) Begin(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end, err := c.Log.End(ctx)
	if err != nil {
		return fmt.Errorf("reading the end of the scan log: %w", err)
	}
	if _, err := c.loadState(ctx, end); err != nil {
		return fmt.Errorf("reading the counted offset: %w", err)
	}
	if n := c.Missing(c.state); n > 0 {
		c.Logger.ErrorContext(ctx, "counted scans are missing in the scan log", "missing", n)
	}
	return nil
}

// Missing returns the number of counted scans that are currently missing in the files of the log.
func (c *Aggregator) Missing(state State) int64 {
	if state.LogID != c.Log.ID() {
		return 0
	}
	return c.Log.Missing(state.CountedOffset)
}

// MissingScans returns the number of counted scans that are missing in the log although they were not removed: scans of an older or
// truncated log, of a deleted file, or of a stream that was lost without a copy in any journal.
func (c *Aggregator) MissingScans(ctx context.Context) (int64, error) {
	state, err := c.stored(ctx)
	return state.MissingCount + c.Missing(state), err
}
