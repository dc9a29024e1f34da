package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
)

var alarmRows = mapper[alarms.Alarm]{table: "alarms", notFound: alarms.ErrNoAlarm,
	columns: "id, kind, batch, idx, created_at, scan, score, details, acknowledged_at, acknowledged_by, dismissed_at, dismissed_by, " +
		"note, dismissal",
	targets: func(a *alarms.Alarm) []any {
		return []any{&a.ID, &a.Kind, &a.Batch, &a.Index, moment{&a.CreatedAt}, &a.Scan, &a.Score, inJSON(&a.Details),
			moment{&a.AcknowledgedAt}, &a.AcknowledgedBy, moment{&a.DismissedAt}, &a.DismissedBy, &a.Note, &a.Dismissal}
	}}

// UpdateAlarms implements alarms.Store.
func (s *Store) UpdateAlarms(ctx context.Context, f func(alarms.Tx) error) error {
	return s.UpdateStatistics(ctx, func(tx stats.Tx) error { return f(tx) })
}

// ViewAlarms implements alarms.Store.
func (s *Store) ViewAlarms(ctx context.Context, f func(alarms.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.statistics()) })
}

func (t alarmQueries) AddAlarm(ctx context.Context, a alarms.Alarm) (alarms.Alarm, bool, error) {
	var n int
	if err := t.row(ctx, `SELECT COUNT(*) FROM alarms WHERE kind = $1 AND batch = $2 AND idx = $3
		AND (dismissed_at = 0 OR dismissed_at >= $4)`,
		a.Kind, a.Batch, a.Index, millis(a.CreatedAt)).Scan(&n); err != nil || n > 0 {
		return a, false, err
	}
	id, err := t.next(ctx, "alarm")
	if err != nil {
		return a, false, err
	}
	a.ID = id
	err = alarmRows.add(ctx, t.Tx, a)
	return a, err == nil, err
}

func (t alarmQueries) Alarms(ctx context.Context, q alarms.Query) ([]alarms.Alarm, error) {
	location, args := t.alarmsAsked(q)
	if q.Before > 0 {
		args = append(args, q.Before)
		location += fmt.Sprintf(` AND id < $%d`, len(args))
	}
	order := ` ORDER BY id`
	if q.Newest {
		order += ` DESC`
	}
	args = append(args, q.Limit)
	return alarmRows.all(ctx, t.Tx, location+order+fmt.Sprintf(` LIMIT $%d`, len(args)), args...)
}

func (t alarmQueries) UnacknowledgedAlarms(ctx context.Context, owners []string, limit int) (n int64, err error) {
	location, args := t.alarmsAsked(alarms.Query{State: alarms.StateOpen, Acknowledged: "false", Owners: owners})
	args = append(args, limit)
	err = t.row(ctx, `SELECT COUNT(*) FROM (SELECT id FROM alarms `+location+fmt.Sprintf(` LIMIT $%d) AS open`,
		len(args)), args...).Scan(&n)
	return n, err
}

// alarmsAsked returns the WHERE clause of an alarm query, and the arguments of this clause.
func (t alarmQueries) alarmsAsked(q alarms.Query) (location string, args []any) {
	location, args = `WHERE id > $1`, []any{q.After}
	and := func(column string, value int64) {
		args = append(args, value)
		location += fmt.Sprintf(` AND %s = $%d`, column, len(args))
	}
	location += map[string]string{alarms.StateOpen: ` AND dismissed_at = 0`, alarms.StateDismissed: ` AND dismissed_at > 0`}[q.State]
	location += map[string]string{"true": ` AND acknowledged_at > 0`, "false": ` AND acknowledged_at = 0`}[q.Acknowledged]
	if q.Batch != 0 {
		and("batch", q.Batch)
	}
	if q.Code != nil {
		and("batch", q.Code.Batch)
		and("idx", q.Code.Index)
	}
	if len(q.Owners) > 0 {
		location += ` AND batch IN (SELECT id FROM batches WHERE account IN (` + t.marks(1+len(args), len(q.Owners)) + `))`
		for _, owner := range q.Owners {
			args = append(args, owner)
		}
	}
	return location, args
}

func (t alarmQueries) StateChanges(ctx context.Context, start int64, limit int) ([]alarms.StateChange, error) {
	raised, err := alarmRows.all(ctx, t.Tx, `WHERE id > $1 ORDER BY id LIMIT $2`, start, limit)
	if err != nil {
		return nil, err
	}
	dismissed, err := alarmRows.all(ctx, t.Tx, `WHERE dismissal > 0 AND dismissal > $1 ORDER BY dismissal LIMIT $2`, start, limit)
	news := make([]alarms.StateChange, 0, len(raised)+len(dismissed))
	for _, a := range raised {
		news = append(news, alarms.StateChange{Number: a.ID, Alarm: a})
	}
	for _, a := range dismissed {
		news = append(news, alarms.StateChange{Number: a.Dismissal, Dismissed: true, Alarm: a})
	}
	slices.SortFunc(news, func(a, b alarms.StateChange) int { return cmp.Compare(a.Number, b.Number) })
	return news[:min(len(news), limit)], err
}

func (t alarmQueries) Alarm(ctx context.Context, kind string, name alarms.CodeName) (alarms.Alarm, error) {
	return alarmRows.find(ctx, t.Tx, `kind = $1 AND batch = $2 AND idx = $3 AND dismissed_at = 0`, kind, name.Batch, name.Index)
}

func (t alarmQueries) Alarmed(ctx context.Context, batch int64, r codes.Range) ([]int64, error) {
	return list(ctx, t.Tx, func(scan func(...any) error) (index int64, err error) {
		err = scan(&index)
		return index, err
	}, `SELECT DISTINCT idx FROM alarms WHERE batch = $1 AND idx >= $2 AND idx <= $3 AND dismissed_at = 0
		ORDER BY idx`, batch, r.From, r.To)
}

func (t alarmQueries) IsSpoiled(ctx context.Context, name alarms.CodeName) (bool, error) {
	list, err := t.codes().PackagesWithin(ctx, name.Batch, codes.Range{From: name.Index, To: name.Index})
	return slices.ContainsFunc(list, func(p codes.PrintPackage) bool { return p.Spoiled.Contains(name.Index) }), err
}

func (t alarmQueries) FirstEvent(ctx context.Context, name alarms.CodeName, action codes.EventType) (time.Time, error) {
	first, err := codes.FirstEvent(ctx, t.codes(), name.Batch, name.Index, action)
	return first.From, err
}

func (t alarmQueries) Acknowledge(ctx context.Context, id int64, actor string, instant time.Time) (alarms.Alarm, error) {
	changed, err := t.exec(ctx, `UPDATE alarms SET acknowledged_at = $2, acknowledged_by = $3 WHERE id = $1 AND acknowledged_at = 0`, id, millis(instant), actor)
	if err == nil && changed > 0 {
		err = t.note(ctx, ofAlarm, strconv.FormatInt(id, 10), "acknowledge", map[string]string{"actor": actor})
	}
	if err != nil {
		return alarms.Alarm{}, err
	}
	return alarmRows.find(ctx, t.Tx, `id = $1`, id)
}

func (t alarmQueries) Dismiss(ctx context.Context, id int64, actor, note string, instant time.Time) (alarms.Alarm, error) {
	if a, err := alarmRows.find(ctx, t.Tx, `id = $1`, id); err != nil || a.Dismissal > 0 {
		return a, err
	}
	// Taking the next number of the sequence "alarm" serialises transactions: if two callers dismiss the same alarm, only one succeeds.
	number, err := t.next(ctx, "alarm")
	if err != nil {
		return alarms.Alarm{}, err
	}
	changed, err := t.exec(ctx, `UPDATE alarms SET dismissed_at = $2, dismissed_by = $3, note = $4, dismissal = $5
		WHERE id = $1 AND dismissal = 0`,
		id, millis(instant), actor, note, number)
	if err != nil {
		return alarms.Alarm{}, err
	}
	if changed > 0 {
		if err := t.note(ctx, ofAlarm, strconv.FormatInt(id, 10), "dismiss", map[string]string{"note": note}); err != nil {
			return alarms.Alarm{}, err
		}
	}
	return alarmRows.find(ctx, t.Tx, `id = $1`, id)
}

func (t alarmQueries) Thresholds(ctx context.Context, batches []int64) (map[int64]int64, error) {
	type batchThreshold struct{ batch, threshold int64 }
	found := map[int64]int64{}
	for numbers := range slices.Chunk(batches, t.argumentsAtOnce()) {
		args := make([]any, len(numbers))
		for i, batch := range numbers {
			args[i] = batch
		}
		rows, err := list(ctx, t.Tx, func(scan func(...any) error) (o batchThreshold, err error) {
			err = scan(&o.batch, &o.threshold)
			return o, err
		},
			`SELECT batch, threshold FROM alarm_thresholds WHERE batch IN (`+t.marks(1, len(numbers))+`)`, args...)
		if err != nil {
			return nil, err
		}
		for _, o := range rows {
			found[o.batch] = o.threshold
		}
	}
	return found, nil
}

func (t alarmQueries) PutThreshold(ctx context.Context, batch int64, threshold *int64) error {
	var err error
	if threshold == nil {
		_, err = t.exec(ctx, `DELETE FROM alarm_thresholds WHERE batch = $1`, batch)
	} else {
		_, err = t.exec(ctx, `INSERT INTO alarm_thresholds (batch, threshold) VALUES ($1, $2)
			ON CONFLICT (batch) DO UPDATE SET threshold = excluded.threshold`, batch, *threshold)
	}
	if err != nil {
		return err
	}
	return t.note(ctx, ofAlarm, fmt.Sprintf("application %d", batch), "threshold", map[string]*int64{"threshold": threshold})
}

func (t alarmQueries) CodesScoring(ctx context.Context, batch, score int64, since time.Time) (rows []alarms.Row, scanned int64, err error) {
	if err := t.row(ctx, `SELECT COUNT(*) FROM code_counts WHERE batch = $1 AND last_at >= $2`, batch,
		millis(since)).Scan(&scanned); err != nil {
		return nil, 0, err
	}
	rows, err = list(ctx, t.Tx, func(scan func(...any) error) (r alarms.Row, err error) {
		var first int64
		err = scan(&r.Index, &first, &r.Score)
		r.Batch, r.FirstAt = batch, fromMillis(first)
		return r, err
	}, `SELECT idx, first_at, score FROM code_counts WHERE batch = $1 AND last_at >= $2 AND score >= $3 ORDER BY idx`,
		batch, millis(since), score)
	return rows, scanned, err
}
