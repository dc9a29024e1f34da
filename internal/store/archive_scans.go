package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// externalScans selects the scans of an archive that come from a scan log outside the database. In the archive, the scans of the
// scan log follow the scans of table scan_events, as if they had been stored in this table.
type externalScans struct {
	log     scanlog.Log
	base    int64 // last sequence number in the scan table
	upTo    int64 // position of the last scan in log
	counted int64 // counted_offset to write to the archive for the local scan log; 0 = the stored value
}

// SetLocalScanLog sets the local scan log, which stores the scans in files beside the embedded database. An archive contains the scans of
// the local scan log as rows of scan_events, like the archive of a PostgreSQL database.
func (s *Store) SetLocalScanLog(ctx context.Context, extraLog scanlog.Log) error {
	err := s.update(ctx, func(tx *Tx) error {
		// This database may have been used with a different local scan log before.
		if _, err := tx.exec(ctx, `UPDATE scan_logs SET is_local = 0 WHERE is_local = 1 AND id <> $1`, extraLog.ID()); err != nil {
			return err
		}
		_,
			err := tx.exec(ctx,
			`INSERT INTO scan_logs (id, is_local, counted_offset, last_scan_id) VALUES ($1, 1, 0, '') ON CONFLICT (id) DO UPDATE SET is_local = 1`, extraLog.ID())
		return err
	})
	if err != nil {
		return fmt.Errorf("recording the scan log ID: %w", err)
	}
	s.embedded = extraLog
	return nil
}

// SetSharedScanLog sets the scan log outside the database, which all nodes share. An archive contains the counted scans of the
// shared scan log as rows of scan_events, after the older scans that are stored in table scan_events.
func (s *Store) SetSharedScanLog(log scanlog.Log) { s.external = log }

// findOutside determines which scans of the scan log outside the database belong in an archive of the database snapshot t. From a local
// scan log, the archive contains the scans up to prev, or up to the last scan counted or delivered to webhooks if this scan is later; from
// a shared scan log, it contains the counted scans.
func (t *Tx) findOutside(ctx context.Context, s *Store, prev int64) (*externalScans, error) {
	state, err := t.statistics().StatisticsState(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the counted offset: %w", err)
	}
	switch {
	case s.embedded != nil:
		return t.besideUpTo(ctx, s.embedded, state, prev)
	case s.external == nil:
		return nil, nil
	}
	o := &externalScans{log: s.external}
	if _, err := o.log.End(ctx); err != nil {
		return nil, fmt.Errorf("the scan stream does not respond; export again when it does: %w", err)
	}
	if state.LogID == o.log.ID() {
		o.upTo = state.CountedOffset
	} else if left, err := t.statistics().RecallLedger(ctx, o.log.ID()); err != nil {
		return nil, fmt.Errorf("reading the counted offset of the stream: %w", err)
	} else if left.Position > 0 {
		return nil, errors.New("some nodes have --scan-stream and others do not: export again when all nodes have the same --scan-stream")
	}
	if o.base, err = t.scansEnd(ctx); err != nil {
		return nil, fmt.Errorf("reading the offset of the last scan: %w", err)
	}
	o.counted = o.base + o.upTo
	return o, nil
}

func (t *Tx) besideUpTo(ctx context.Context, log scanlog.Log, state stats.State, prev int64) (*externalScans, error) {
	end, err := log.End(ctx) // o.upTo must not exceed end: a stored position may belong to another log
	if err != nil {
		return nil, err
	}
	o := &externalScans{log: log}
	if state.LogID == log.ID() || state.LogID == "" {
		if err := t.row(ctx, `SELECT COALESCE(MAX(read_offset), 0) FROM webhook_readers WHERE name = $1`,
			webhooks.ScanSource).Scan(&o.upTo); err != nil {
			return nil, fmt.Errorf("reading the webhook offset: %w", err)
		}
		o.upTo = max(o.upTo, state.CountedOffset)
	} else if id, err := scanlog.ParseScanID(state.LastScanID); err == nil {
		if o.counted, err = log.Find(ctx, id); err != nil && !errors.Is(err, scanlog.ErrNoScan) {
			return nil, err
		}
	}
	o.upTo = min(max(prev, o.upTo, o.counted), end)
	return o, nil
}

// scanRowColumns lists the columns of scan_events in alphabetical order.
var scanRowColumns = slices.Sorted(slices.Values(append(strings.Split(scanColumns, ", "), "day", "seq")))

// rows writes the scans as rows of scan_events. It returns an error if the log ends before the position upTo.
func (o *externalScans) rows(ctx context.Context, w io.Writer) (int64, error) {
	if err := scanlog.CheckEnd(ctx, o.log, o.log.ID(), o.upTo); err != nil {
		return 0, err
	}
	lines := newRowWriter(scanRowColumns, w)
	for e, err := range o.log.Read(ctx, 0) {
		if err != nil {
			return lines.n, fmt.Errorf("reading the scan log: %w", err)
		}
		if e.Position > o.upTo {
			break
		}
		if err := writeScan(lines, &e.Event, o.base+e.Position); err != nil {
			return lines.n, err
		}
	}
	return lines.n, nil
}

// writeScan writes a scan as a row of scan_events, with the columns in alphabetical order.
func writeScan(row *rowWriter, e *scanlog.Event, seq int64) error {
	row.text(e.Action)
	row.number(e.Activation)
	row.text(e.App)
	row.number(e.Batch)
	row.text(e.Client)
	row.number(dayOf(e.ID))
	row.hex(e.ID[:])
	row.number(e.Index)
	row.text(e.Kind)
	row.text(e.Text)
	if e.Network.IsValid() {
		row.text(e.Network.String())
	} else {
		row.text("")
	}
	row.number(e.OccurredAt.UnixMilli())
	row.text(e.Reason)
	row.text(e.Region)
	row.number(e.RuleID)
	row.number(seq)
	row.text(e.Source)
	if e.User != (scanlog.UserHash{}) {
		row.hex(e.User[:])
	} else {
		row.text("")
	}
	row.text(e.Version)
	return row.end()
}
