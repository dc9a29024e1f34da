package store

import (
	"context"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/stats"
)

var alarmRows = noun[stats.Alarm]{table: "alarms", none: stats.ErrNoAlarm, fields: func(a *stats.Alarm) []field {
	return []field{{"id", &a.ID}, {"kind", &a.Kind}, {"batch", &a.Batch}, {"idx", &a.Index}, {"at", moment{&a.At}}, {"scan", &a.Scan},
		{"score", &a.Score}, {"why", inJSON(&a.Why)}, {"seen_at", moment{&a.SeenAt}}, {"seen_by", &a.SeenBy}}
}}.rows()

// AddAlarm implements stats.Tx.
func (t *Tx) AddAlarm(ctx context.Context, a stats.Alarm) (stats.Alarm, bool, error) {
	var n int
	if err := t.row(ctx, `SELECT COUNT(*) FROM alarms WHERE kind = $1 AND batch = $2 AND idx = $3`, a.Kind, a.Batch,
		a.Index).Scan(&n); err != nil || n > 0 {
		return a, false, err
	}
	id, err := t.next(ctx, "alarm")
	if err != nil {
		return a, false, err
	}
	a.ID = id
	err = alarmRows.add(ctx, t, a)
	return a, err == nil, err
}

// Alarms implements stats.Tx.
func (t *Tx) Alarms(ctx context.Context, after int64, open bool, limit int) ([]stats.Alarm, error) {
	where := `WHERE id > $1`
	if open {
		where += ` AND seen_at = 0`
	}
	return alarmRows.all(ctx, t, where+` ORDER BY id LIMIT $2`, after, limit)
}

// Alarm implements stats.Tx.
func (t *Tx) Alarm(ctx context.Context, kind string, name stats.CodeName) (stats.Alarm, error) {
	return alarmRows.one(ctx, t, `kind = $1 AND batch = $2 AND idx = $3`, kind, name.Batch, name.Index)
}

// Spoiled implements stats.Tx.
func (t *Tx) Spoiled(ctx context.Context, name stats.CodeName) (bool, error) {
	list, err := t.PackagesWithin(ctx, name.Batch, codes.Range{From: name.Index, To: name.Index})
	return slices.ContainsFunc(list, func(p codes.PrintPackage) bool { return p.Spoiled.Has(name.Index) }), err
}

// Acknowledge implements stats.Tx.
func (t *Tx) Acknowledge(ctx context.Context, id int64, by string, at time.Time) (stats.Alarm, error) {
	if _, err := t.exec(ctx, `UPDATE alarms SET seen_at = $2, seen_by = $3 WHERE id = $1 AND seen_at = 0`, id, millis(at), by); err != nil {
		return stats.Alarm{}, err
	}
	return alarmRows.one(ctx, t, `id = $1`, id)
}
