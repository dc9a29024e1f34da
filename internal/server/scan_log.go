package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/eventlog/stream"
	"github.com/qrjump/qrjump/internal/infra/tracing"
	"github.com/qrjump/qrjump/internal/store"
)

// scansDir returns the folder of this node's journal.
func (c Config) scansDir() string { return filepath.Join(c.Data, "scans") }

// openScanLog opens the log that collects the scans of all nodes. With --scan-stream, the log is a NATS stream; without it, the log is the
// journal (embedded database) or a table (PostgreSQL).
func (s scanRecords) openScanLog(ctx context.Context) error {
	l := s.scanning.scanLog
	watchCount(s.metrics, "qrjump_scans_corrupted_total", l.journal.Damaged)
	watchGauge(s.metrics, "qrjump_scan_ship_backlog", func() int64 { return l.shipper.Backlog() })
	watchCount(s.metrics, "qrjump_scans_lost_total", func() int64 { return l.shipper.Lost() })
	if s.config.Database == "" {
		// With an embedded database there is only this node, so its journal has all scans, even with --scan-stream.
		if err := s.store.SetLocalScanLog(ctx, l.journal); err != nil {
			return err
		}
	}
	if s.config.ScanStream != "" {
		return s.openStream(ctx)
	}
	if s.config.Database == "" {
		l.log = l.journal
		return s.leaveStream(ctx, func(_ string, to scanlog.Offset) error { return s.store.LeaveStream(ctx, l.journal.ID(), to) })
	}
	scans, err := s.store.OpenScans(ctx, store.ScansOptions{Random: s.random, Now: s.now, Log: s.log})
	if err != nil {
		return fmt.Errorf("opening the scan log: %w", err)
	}
	node, err := l.journal.NodeID(s.random)
	if err != nil {
		return err
	}
	if err := s.leaveStream(ctx, func(node string, to scanlog.Offset) error { return scans.Skip(ctx, node, to) }); err != nil {
		return err
	}
	l.log = scans
	l.shipper = &scanlog.Shipper{Journal: l.journal, To: scans, Node: node, Random: s.random, Now: s.realNow,
		ClockBelieved: s.wall.Believed, Log: s.log}
	return nil
}

// leaveStream detaches this node from a stream that it used before. The scans of the stream that are not yet counted or not yet delivered
// to webhooks are then taken from the journal. At the end, the function skip records the journal position up to which scans were processed.
// Every step is idempotent, so leaveStream can run again after a kill. Decision 54.
func (s scanRecords) leaveStream(ctx context.Context, skip func(node string, to scanlog.Offset) error) error {
	journal := s.scanning.scanLog.journal
	err := stream.Leave(s.config.scansDir(), func(left stream.Unshipped) error {
		node, err := journal.NodeID(s.random)
		if err != nil {
			return err
		}
		if equal, err := journal.Is(ctx, left.To); err != nil {
			return err
		} else if !equal {
			s.log.WarnContext(ctx, "scan stream detached; journal differs from the shipped one, counted offset unknown")
			return skip(node, left.To)
		}
		if left.To == (scanlog.Offset{}) {
			return nil
		}
		counted, err := s.store.Origin(ctx, node)
		if err != nil {
			return err
		}
		if err := s.settleRemaining(ctx, node, left.Begin, left.To.Position, counted); err != nil {
			return err
		}
		return skip(node, left.To)
	})
	if err != nil {
		return fmt.Errorf("detaching the scan stream: %w", err)
	}
	return nil
}

// settleRemaining processes the journal's scans from begin to upTo, which were meant for a stream. settleRemaining counts the scans that
// were not yet counted, and queues for webhooks the scans that were not yet queued.
func (s scanRecords) settleRemaining(ctx context.Context, node string, begin, upTo int64, counted *scanlog.OffsetSet) error {
	journal := s.scanning.scanLog.journal
	start := max(begin, min(journal.NamedAt(), upTo))
	if unknown := counted.Missing(start) - counted.Missing(begin); unknown > 0 {
		s.log.WarnContext(ctx, "scan stream detached; journal is a copy, counted offset unknown", "max_scans", unknown)
	}
	erased := int64(0)
	rest := func(start int64) iter.Seq2[scanlog.Entry, error] {
		// This also erases users in the journal that were erased while this node was down.
		list, err := s.store.Erasures(ctx, erased)
		if err == nil {
			erased, err = journal.EraseSince(ctx, erased, list)
		}
		return func(yield func(scanlog.Entry, error) bool) {
			if err != nil {
				yield(scanlog.Entry{}, err)
				return
			}
			for e, err := range journal.Read(ctx, start) {
				if err == nil && e.Position > upTo || !yield(e, err) {
					return
				}
			}
		}
	}
	state, err := s.store.Counting(ctx)
	if err != nil {
		return err
	}
	if state == journal.ID() || state == "" && s.config.Database == "" {
		return nil // the counter and the webhooks read the journal itself
	}
	missing := counted.Missing(upTo) - counted.Missing(start)
	s.log.InfoContext(ctx, "scan stream detaching; pending scans are processed from the journal",
		"max_uncounted", missing, "from", max(start, counted.From()), "to", upTo)
	service := &webhooks.Service{Store: s.store.Webhooks(), Vault: s.secrets.vault, Now: s.now, Random: s.random}
	told, err := service.QueueRest(ctx, node, counted, start, rest)
	if err != nil {
		return fmt.Errorf("queueing the pending scans of the stream for webhooks: %w", err)
	}
	n, err := s.newCounter(journal, nil).BackfillJournal(ctx, node, max(start, counted.From()), rest)
	if err != nil {
		return fmt.Errorf("counting the pending scans of the stream: %w", err)
	}
	if told > 0 || n > 0 {
		s.log.InfoContext(ctx, "scan stream detached", "counted", n, "queued", told)
	}
	if missing > n {
		s.log.WarnContext(ctx, "scan stream detached with uncounted scans that the journal no longer has", "max_scans", missing-n)
	}
	return nil
}

// openNodes registers this node with the other nodes on its database.
func (s scanRecords) openNodes(ctx context.Context) error {
	if s.config.Database == "" {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	folder, err := filepath.Abs(s.config.Data)
	if err != nil {
		folder = s.config.Data
	}
	log := s.scanning.scanLog
	nodes := &scanlog.Nodes{Store: s.store, Shipper: log.shipper, Flush: log.flush, Name: host + ":" + folder,
		ShipRequests: s.store.ShipRequests(), Now: s.realNow, Log: s.log, Memory: s.domain.current}
	if err := nodes.Join(ctx); err != nil {
		return err
	}
	log.nodes = nodes
	return nil
}

// openStream connects to the NATS stream of --scan-stream. An unreachable NATS server is no error: scans are processed and then wait in the
// journal. A server that does not sync its data to disk is an error.
func (s scanRecords) openStream(ctx context.Context) error {
	o, err := stream.Parse(s.config.ScanStream)
	if err != nil {
		return usage("--scan-stream: %v", err)
	}
	o.Marks, o.Erased, o.Emulated = s.config.scansDir(), s.store.Erasures, s.config.emulates()
	o.Erase = s.announceErasure
	o.CountedSet, o.ReportedSet, o.Counted = s.store.Origin, s.store.ReportedSet, s.store.CountedUpTo
	if o.Tracing = s.config.Tracing; o.Tracing != nil {
		o.Traces = &tracing.Messages[scanlog.ScanID]{}
		s.scanning.scanLog.traces = o.Traces
	}
	l, err := stream.Open(o)
	if err != nil {
		return fmt.Errorf("--scan-stream: %w", err)
	}
	s.scanning.scanLog.log, s.scanning.scanLog.stream = l, l
	node, err := s.scanning.scanLog.journal.NodeID(s.random)
	if err != nil {
		return err
	}
	s.scanning.scanLog.shipper = &scanlog.Shipper{Journal: s.scanning.scanLog.journal, To: l, Node: node, Random: s.random,
		Now: s.realNow, ClockBelieved: s.wall.Believed, Log: s.log}
	var scans *store.Scans
	if s.config.Database == "" {
		// Scans from before --scan-stream are only in the journal, so the journal must keep scans for scan_retention_days.
		s.scanning.scanLog.shipper.Keep = time.Duration(min(s.chosen.settings.Get().ScanRetentionDays, 36_500)) * 24 * time.Hour
		s.scanning.scanLog.earlier = s.scanning.scanLog.journal
	} else {
		s.store.SetSharedScanLog(l)
		if scans, err = s.store.OpenScans(ctx, store.ScansOptions{Random: s.random, Now: s.now, Log: s.log}); err != nil {
			return fmt.Errorf("opening the scan log: %w", err)
		}
		s.scanning.scanLog.earlier = scans
	}
	err = l.Begin(func() (scanlog.Offset, error) {
		if s.config.Database == "" {
			if err := s.countRemaining(ctx, s.scanning.scanLog.journal, s.scanning.scanLog.journal.ID(), false); err != nil {
				return scanlog.Offset{}, err
			}
			return s.scanning.scanLog.journal.Last(ctx)
		}
		mark, err := scans.Shipped(ctx, node)
		if err == nil {
			err = s.countRemaining(ctx, scans, scans.ID(), mark != scanlog.Offset{})
		}
		return mark, err
	})
	if err != nil {
		return fmt.Errorf("--scan-stream: %w", err)
	}
	if err := s.beginOrigin(ctx, node); err != nil {
		return err
	}
	parent, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	switch err := l.Ready(parent); {
	case errors.Is(err, stream.ErrNotFlushed) && !errors.Is(err, stream.ErrNoMonitor), errors.Is(err, stream.ErrTooOld):
		return usage("--scan-stream: %v", err)
	case err != nil:
		s.log.WarnContext(ctx, "scan stream unreachable; scans wait in the journal", "error", err)
	}
	return nil
}

// beginOrigin records in the database the journal position after which this node's scans go to the stream, unless one is recorded.
func (s scanRecords) beginOrigin(ctx context.Context, node string) error {
	mark, err := s.scanning.scanLog.stream.Shipped(ctx, node)
	if err == nil {
		err = s.store.BeginOrigin(ctx, node, mark.Position)
	}
	if err != nil {
		return fmt.Errorf("recording the first offset that goes to the stream: %w", err)
	}
	return nil
}

// countRemaining counts the last scans of a log and queues them for webhooks, before the counter starts to read another log. If shared is
// true, all nodes use the old log, and this node may have added scans to it after other nodes started to use the new log.
func (s scanRecords) countRemaining(ctx context.Context, log scanlog.Log, id string, shared bool) error {
	state, left, err := s.leftAt(ctx, id)
	if err != nil {
		return err
	}
	if state.LogID != id && (state.LogID != "" || state.CountedOffset > 0) {
		end, err := log.End(ctx)
		if err != nil || !shared || left.Position == 0 || end <= left.Position && left.WebhookOffset >= left.Position {
			return err
		}
	}
	// The steps are repeated, because another node may count scans, or make the counter read another log, during this loop.
	for range 20 {
		if err := s.newCounter(log, nil).CatchUpAndSave(ctx); err != nil {
			return fmt.Errorf("counting the scans from before the stream: %w", err)
		}
		service := &webhooks.Service{Store: s.store.Webhooks(), Vault: s.secrets.vault, Now: s.now, Random: s.random, Log: log}
		for hasMore := true; hasMore; {
			if hasMore, err = service.Collect(ctx); err != nil {
				return fmt.Errorf("queueing the scans from before the stream for webhooks: %w", err)
			}
		}
		if _, left, err = s.leftAt(ctx, id); err != nil || left.WebhookOffset >= left.Position {
			return err
		}
	}
	return fmt.Errorf("the scans from before --scan-stream are queued for webhooks up to offset %d of %d only, because another node "+
		"counted concurrently: restart this node",
		left.WebhookOffset, left.Position)
}

// leftAt returns the counting state and two positions of a log: scans up to the first are counted, scans up to the second are queued for
// webhooks. The positions are equal if no webhook wants scans, or if the second position is unknown.
func (s scanRecords) leftAt(ctx context.Context, id string) (state stats.State, left stats.LogCheckpoint, err error) {
	hears, told := false, int64(0)
	err = s.store.Webhooks().View(ctx, func(tx webhooks.Tx) error {
		hooks, err := tx.Webhooks(ctx)
		if err != nil {
			return err
		}
		hears = slices.ContainsFunc(hooks, webhooks.Webhook.WantsScans)
		if current, err := tx.Counting(ctx); err != nil || current != id {
			return err
		}
		told, err = tx.Position(ctx, webhooks.ScanSource)
		return err
	})
	if err != nil {
		return state, left, err
	}
	err = s.store.ViewStatistics(ctx, func(tx stats.Tx) error {
		if state, err = tx.StatisticsState(ctx); err != nil || state.LogID == id {
			left = stats.LogCheckpoint{Position: state.CountedOffset, WebhookOffset: told}
			return err
		}
		left, err = tx.RecallLedger(ctx, id)
		return err
	})
	if !hears || left.WebhookOffset < 0 {
		left.WebhookOffset = left.Position
	}
	return state, left, err
}

// flush waits until all acknowledged scans are in the journal, and ships them to the log that collects the scans of all nodes.
func (l *scanLog) flush(ctx context.Context) error {
	if err := l.recorder.Sync(ctx); err != nil || l.shipper == nil {
		return err
	}
	return l.shipper.Flush(ctx)
}

const (
	// forgetEvery is the interval between two searches for expired scans.
	forgetEvery = time.Hour
	// prunePause is the pause between two batches of expired counts, in which other writers can proceed.
	prunePause = 100 * time.Millisecond
)

// forgetScans deletes scans older than the setting scan_retention_days, and hourly and daily counts older than
// hourly_stats_retention_days and daily_stats_retention_days, every hour until ctx ends.
func (s scanRecords) forgetScans(ctx context.Context) {
	for wait := time.Minute; ; wait = forgetEvery {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		s.forgetOldScans(ctx)
		s.pruneCounts(ctx)
	}
}

// pruneCounts adds up the counts of past months, and deletes expired hourly and daily counts.
func (s scanRecords) pruneCounts(ctx context.Context) {
	now, wanted := s.now(), s.chosen.settings.Get()
	if !s.wall.Believed() {
		return
	}
	before := func(days settings.Limit) time.Time {
		if days == settings.Unlimited {
			return time.Time{}
		}
		return now.AddDate(0, 0, -int(days))
	}
	for _, part := range [...]func() (bool, error){
		func() (bool, error) { return s.scanning.counter.Roll(ctx, now) },
		func() (bool, error) {
			return s.scanning.counter.PruneRollups(ctx, before(wanted.HourlyStatsRetentionDays), before(wanted.DailyStatsRetentionDays))
		},
	} {
		for hasMore := true; hasMore; {
			var err error
			if hasMore, err = part(); err != nil {
				if ctx.Err() == nil {
					s.log.WarnContext(ctx, "statistics roll-up failed", "will_retry", true, "error", err)
				}
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(prunePause):
			}
		}
	}
}

func (s scanRecords) forgetOldScans(ctx context.Context) {
	days, now := s.chosen.settings.Get().ScanRetentionDays, s.now()
	if days == settings.Unlimited || !s.wall.Believed() {
		return
	}
	if err := s.scanning.counter.Forget(ctx, now.AddDate(0, 0, -int(days))); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "scan retention failed", "will_retry", true, "max_age_days", days, "error", err)
	}
}
