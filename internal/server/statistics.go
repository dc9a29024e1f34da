package server

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// regionsComponent returns the component that reads the operator's region database.
func (s *Server) regionsComponent() component {
	return component{
		name: "regions",
		start: func(context.Context) (err error) {
			if s.config.Regions == "" {
				return nil
			}
			if s.scanning.regions, err = stats.OpenRegions(s.config.Regions); err != nil {
				return usage("--regions: %v", err)
			}
			return nil
		},
		stop: func(context.Context) error { return s.scanning.regions.Close() },
	}
}

// region returns a function that maps addresses to regions; nil if there is no region database.
func (s scanRecords) region() func(netip.Addr) string {
	if s.scanning.regions == nil {
		return nil
	}
	return s.scanning.regions.Lookup
}

// openAlarms prepares the service that raises alarms if the scans of a code are suspicious.
func (s scanRecords) openAlarms() {
	s.scanning.alarms = &alarms.Service{Store: s.store, Settings: s.chosen.settings, Now: s.now, Logger: s.log,
		Newest: s.domain.codes.Memory.Newest,
		Redeemed: func(name alarms.CodeName) bool {
			return s.domain.codes.Memory.State(name.Batch, name.Index, s.now()).Redeemed
		}}
	if s.scanning.regions != nil {
		s.scanning.alarms.Places = s.scanning.regions
	}
}

// openCounter prepares the counting of scans. If the journal is the scan log, openCounter also checks, before the first scan is written,
// that earlier scans were counted from the same journal.
func (s scanRecords) openCounter(ctx context.Context) error {
	s.scanning.counter = s.newCounter(s.scanning.scanLog.log, s.scanning.scanLog.flush)
	if s.scanning.scanLog.earlier != nil {
		s.scanning.counter.Earlier = []scanlog.Log{s.scanning.scanLog.earlier}
	}
	s.scanning.counter.Nodes = s.scanning.scanLog.nodes
	watchCount(s.metrics, "qrjump_scans_counted_total", s.scanning.counter.Counted)
	watchGauge(s.metrics, "qrjump_scans_missing", timely(s.scanning.counter.MissingScans))
	if s.scanning.scanLog.log != scanlog.Log(s.scanning.scanLog.journal) {
		return nil
	}
	return s.scanning.counter.Begin(ctx)
}

// missingScans returns a line for GET /readyz if the scan log lacks scans that were counted before; "" = it lacks none.
func (s scanRecords) missingScans(ctx context.Context) string {
	n, err := s.scanning.counter.MissingScans(ctx)
	if err != nil || n == 0 {
		return ""
	}
	return fmt.Sprintf("the scan log lacks %d counted scans; their counts are kept: restore the journal files if you have them\n", n)
}

func (s scanRecords) newCounter(log scanlog.Log, flush func(context.Context) error) *stats.Aggregator {
	return &stats.Aggregator{Log: log, SingleNode: log == scanlog.Log(s.scanning.scanLog.journal), Flush: flush, Store: s.store,
		Alarms: s.scanning.alarms, Settings: s.chosen.settings, Now: s.now, Logger: s.log, Random: s.random,
		Tracing: s.config.Tracing}
}

// lastCount is the maximum time for which the shutdown counts remaining scans.
const lastCount = 2 * time.Second

// counterComponent returns the component that counts the scans in the scan log.
func (s *Server) counterComponent() component {
	return component{
		name:  "counter of scans",
		start: s.scans().openCounter,
		run:   func(ctx context.Context) { s.scanning.counter.Run(ctx) },
		stop: func(ctx context.Context) error {
			if s.scanning.counter == nil {
				return nil
			}
			// The remaining scans are counted now, because the next start may use another scan log.
			parent, cancel := context.WithTimeout(ctx, lastCount)
			defer cancel()
			if err := s.scanning.counter.CatchUpAndSave(parent); err != nil {
				s.log.InfoContext(parent, "last scans not counted before the stop", "reason", err)
			}
			return nil
		},
	}
}

// sharedMeta is the prefix of the keys under which Store.PutMeta stores shared charts.
const sharedMeta = "shared/"

func (s *Server) sharedCharts() *iam.SharedCharts {
	return &iam.SharedCharts{Service: s.domain.people,
		Get: func(ctx context.Context, id string) (string, error) { return s.store.Meta(ctx, sharedMeta+id) },
		Put: func(ctx context.Context, id, value string) error { return s.store.PutMeta(ctx, sharedMeta+id, value) },
		Newest: func(ctx context.Context, limit int) ([]string, error) {
			values, _, err := s.store.NewestMeta(ctx, []string{sharedMeta}, "created_at", 0, limit)
			return values, err
		}}
}
