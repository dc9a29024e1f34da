package adminapi

import (
	"context"
	"iter"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/lake"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// verifyLake compares the lake with the scan log, day by day.
func (a scanAPI) verifyLake(ctx context.Context, in *client.LakeQuery) (v client.LakeVerification, err error) {
	l := a.Lake
	if l == nil {
		return v, huma.Error404NotFound("this node does not write a data lake: start it with --lake")
	}
	begin, end, err := a.period(in.From, in.To, 7)
	if err != nil {
		return v, err
	}
	if end.Sub(begin) > 400*24*time.Hour {
		return v, refused("from and to are more than 400 days apart: compare some of them")
	}
	if err := l.Flush(ctx); err != nil {
		return v, err
	}
	zone, err := l.Zone(ctx)
	if err != nil {
		return v, err
	}
	forgotten := a.Scans.Forgotten(ctx)
	y, m, d := begin.In(zone).Date()
	v.Days = []client.LakeDay{}
	for day := time.Date(y, m, d, 0, 0, 0, 0, zone); day.Before(end); day = day.AddDate(0, 0, 1) {
		if day.After(a.Scans.Now()) {
			break
		}
		if day.Before(forgotten) {
			continue // the lake may contain older scans than the scan log
		}
		c, err := l.Compare(ctx, day.Format(time.DateOnly), func() iter.Seq2[*scanlog.Event, error] { return a.scansOf(ctx, day) })
		if err != nil {
			return v, err
		}
		v.Days = append(v.Days, client.LakeDay{Date: c.Day, ScanLog: c.Ledger, Lake: c.Lake, Missing: c.Missing, Pending: c.OnTheWay,
			Duplicates: c.Twice, Unexpected: c.Unknown, NotErased: c.Named})
	}
	nodes, err := l.Manifests(ctx)
	v.Nodes = mapped(nodes, func(m lake.Manifest) client.LakeNode {
		return client.LakeNode{Node: m.Node, CompleteUntil: m.CompleteUntil}
	})
	return v, err
}

// scansOf returns the scans that the scan log contains for the calendar day that starts at day.
func (a scanAPI) scansOf(ctx context.Context, day time.Time) iter.Seq2[*scanlog.Event, error] {
	return func(yield func(*scanlog.Event, error) bool) {
		if err := a.Scans.CatchUpAll(ctx); err != nil {
			yield(nil, err)
			return
		}
		for e, err := range a.Scans.ListRange(ctx, stats.Filter{From: day, To: day.AddDate(0, 0, 1)}) {
			if !yield(&e.Event, err) {
				return
			}
		}
	}
}
