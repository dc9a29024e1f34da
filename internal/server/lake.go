package server

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/eventlog/lake"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// openLake prepares the writing of this node's scans as Parquet files for external query engines. The Parquet files are the lake. When the
// scan log closes, its last scans are written to the lake.
func (s scanRecords) openLake(context.Context) error {
	watchGauge(s.metrics, "qrjump_lake_backlog", func() int64 { return s.scanning.scanLog.lake.Backlog() })
	watchGauge(s.metrics, "qrjump_lake_lag_seconds", func() float64 { return s.scanning.scanLog.lake.Age().Seconds() })
	if s.config.Lake == "" {
		return nil
	}
	place, err := lake.Parse(s.config.Lake)
	if err == nil && !strings.Contains(s.config.Lake, "://") {
		err = os.MkdirAll(s.config.Lake, 0o750)
	}
	if err != nil {
		return usage("--lake: %v", err)
	}
	l := &lake.Lake{Place: place, Journal: s.scanning.scanLog.journal, Recorder: s.scanning.scanLog.recorder,
		Name: s.scanning.scanLog.journal.ID, Rows: s.lakeRows, Erased: s.store.Erasures,
		OffsetHours: func() int { return s.chosen.settings.Get().UTCOffsetHours }, Now: s.realNow, Log: s.log,
		Every: s.testHooks.LakeEvery}
	if shipper := s.scanning.scanLog.shipper; shipper != nil {
		// The lake uses the shipper's ID for this node, and writes only shipped scans. The shipper keeps in the journal the scans that the
		// lake has not written yet.
		l.Name, l.UpTo, shipper.NeededFrom = shipper.ID, shipper.Reached, l.NeededFrom
	} else {
		s.scanning.counter.Announce = s.announceErasure
	}
	if s.config.Database != "" {
		l.Others = func(ctx context.Context) (map[string]bool, error) {
			list, _, err := s.store.ScanNodes(ctx)
			others := map[string]bool{}
			for _, n := range list {
				others[n.ID] = true
			}
			return others, err
		}
	}
	s.scanning.scanLog.lake = l
	return nil
}

// announceErasure records the erasure of a user in the database; the lake and the stream read this record and then erase the user too.
func (s scanRecords) announceErasure(ctx context.Context, user scanlog.UserHash) error {
	return s.store.AddErasure(ctx, scanlog.Erasure{User: user, ErasedAt: s.now().UnixMilli()})
}

// lakeRows converts scans to rows of the lake.
func (s scanRecords) lakeRows(ctx context.Context, scans []scanlog.Entry) ([]lake.Row, error) {
	rows := make([]lake.Row, 0, len(scans))
	for entries := range slices.Chunk(scans, 1000) { // the serial numbers of all scans in a chunk are read with one query per batch
		indexes := map[int64][]int64{}
		for _, e := range entries {
			counted, err := s.scanning.counter.Bind(ctx, e)
			if err != nil {
				return nil, err
			}
			rows = append(rows, lakeRow(&counted))
			if e.Batch != 0 {
				indexes[e.Batch] = append(indexes[e.Batch], e.Index)
			}
		}
		for batch, list := range indexes {
			found, err := s.domain.codes.Serials(ctx, batch, list...)
			if err != nil {
				return nil, err
			}
			for i := len(rows) - len(entries); i < len(rows); i++ {
				if rows[i].ApplicationID == batch {
					rows[i].Serial = found[*rows[i].CodeIndex]
				}
			}
		}
	}
	return rows, nil
}

func lakeRow(e *stats.Counted) lake.Row {
	s := adminapi.ShowScan(e)
	return lake.Row{ScanID: s.ScanID, ScannedAt: s.OccurredAt, Source: s.Source, Client: s.Client, Region: s.Region, Action: s.Action,
		Kind: s.Kind, Reason: s.Reason, AppID: s.AppID, Version: s.Version, RuleID: s.RuleID, ApplicationID: s.ApplicationID,
		Activity: s.Activity, Brand: s.Brand, Product: s.Product, Owner: s.Owner, Text: s.Text, UserHash: s.User, Network: s.Network,
		CodeIndex: s.CodeIndex}
}
