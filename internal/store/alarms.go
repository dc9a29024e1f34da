package store

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
)

var alarmRows = mapper[alarms.Alarm]{table: "alarms", notFound: alarms.ErrNoAlarm,
	columns: "id, kind, batch, idx, created_at, scan, score, details, acknowledged_at, acknowledged_by, confirmed_at, confirmed_by, " +
		"confirmation, dismissed_at, dismissed_by, note, case_id, assigned_at, assignment, dismissal",
	targets: func(a *alarms.Alarm) []any {
		return []any{&a.ID, &a.Kind, &a.Batch, &a.Index, moment{&a.CreatedAt}, &a.Scan, &a.Score, inJSON(&a.Details),
			moment{&a.AcknowledgedAt}, &a.AcknowledgedBy, moment{&a.ConfirmedAt}, &a.ConfirmedBy, &a.Confirmation,
			moment{&a.DismissedAt}, &a.DismissedBy, &a.Note, &a.Case.ID, moment{&a.AssignedAt}, &a.Assignment,
			&a.Dismissal}
	}}

// alarm returns an alarm by its ID, with its case.
func (t alarmQueries) alarm(ctx context.Context, id int64) (alarms.Alarm, error) {
	a, err := alarmRows.find(ctx, t.Tx, `id = $1`, id)
	if err != nil {
		return a, err
	}
	list := []alarms.Alarm{a}
	err = t.fillCases(ctx, list)
	return list[0], err
}

// UpdateAlarms implements alarms.Store.
func (s *Store) UpdateAlarms(ctx context.Context, f func(alarms.Tx) error) error {
	return s.UpdateStatistics(ctx, func(tx stats.Tx) error { return f(tx) })
}

// ViewAlarms implements alarms.Store.
func (s *Store) ViewAlarms(ctx context.Context, f func(alarms.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.statistics()) })
}

// AddAlarm implements alarms.Tx. Only the rows of the state "watch" have negative ids.
func (t alarmQueries) AddAlarm(ctx context.Context, a alarms.Alarm) (alarms.Alarm, bool, error) {
	if a.Index < 0 {
		if err := t.execQueued(ctx, nil, `DELETE FROM alarms WHERE id < 0 AND kind = $1 AND batch = $2 AND idx = $3 AND dismissed_at = 0`,
			a.Kind, a.Batch, a.Index); err != nil {
			return a, false, err
		}
	}
	var n int
	if err := t.row(ctx, `SELECT COUNT(*) FROM alarms WHERE kind = $1 AND batch = $2 AND idx = $3
		AND (dismissed_at = 0 OR dismissed_at >= $4)`,
		a.Kind, a.Batch, a.Index, millis(cmp.Or(a.Details.WindowStart, a.CreatedAt))).Scan(&n); err != nil || n > 0 {
		return a, false, err
	}
	var err error
	if a.ID < 0 {
		a.ID = -1 - rand.Int64()
	} else if a.ID, err = t.next(ctx, "alarm"); err != nil {
		return a, false, err
	}
	err = alarmRows.add(ctx, t.Tx, a)
	return a, err == nil, err
}

func (t alarmQueries) ForgetWatched(ctx context.Context, before time.Time) error {
	return t.execQueued(ctx, nil, `DELETE FROM alarms WHERE id < 0 AND created_at < $1`, millis(before))
}

func (t alarmQueries) Alarms(ctx context.Context, q alarms.Query) ([]alarms.Alarm, error) {
	w := t.alarmsAsked(q)
	w.andIf(q.Before > 0, `id < ?`, q.Before)
	order := ` ORDER BY id`
	if q.State == alarms.StateWatch {
		order = ` ORDER BY created_at DESC`
	} else if q.Newest {
		order += ` DESC`
	}
	rest := w.String() + order + ` LIMIT ` + w.bind(q.Limit)
	list, err := alarmRows.all(ctx, t.Tx, rest, w.args...)
	if err != nil {
		return nil, err
	}
	return list, t.fillCases(ctx, list)
}

func (t alarmQueries) UnacknowledgedAlarms(ctx context.Context, owners []string, limit int) (int64, error) {
	w := t.alarmsAsked(alarms.Query{State: alarms.StateOpen, Acknowledged: "false", Owners: owners})
	query := `SELECT COUNT(*) FROM (SELECT id FROM alarms` + w.String() + ` LIMIT ` + w.bind(limit) + `) AS open`
	return scalar[int64](ctx, t.Tx, query, w.args...)
}

// alarmsAsked returns the conditions of an alarm query, without its limits.
func (t alarmQueries) alarmsAsked(q alarms.Query) (w criteria) {
	w.andIf(q.State == alarms.StateWatch, `id < 0`)
	w.andIf(q.State != alarms.StateWatch, `id > ?`, q.After)
	for _, condition := range []string{
		map[string]string{alarms.StateOpen: `dismissed_at = 0`, alarms.StateDismissed: `dismissed_at > 0`,
			alarms.StateSuspicious: `dismissed_at = 0 AND confirmed_at = 0`,
			alarms.StateConfirmed:  `dismissed_at = 0 AND confirmed_at > 0`}[q.State],
		map[string]string{"true": `acknowledged_at > 0`, "false": `acknowledged_at = 0`}[q.Acknowledged]} {
		w.andIf(condition != "", condition)
	}
	w.andIf(q.Case != 0, `case_id = ?`, q.Case)
	w.andIf(q.Assignee != "", `case_id IN (SELECT id FROM cases WHERE assignee = ?)`, q.Assignee)
	if q.Code != nil {
		w.and(`batch = ? AND idx = ?`, q.Code.Batch, q.Code.Index)
	}
	t.filterBatches(&w, q)
	return w
}

// filterBatches selects the batches of an alarm query.
func (t alarmQueries) filterBatches(w *criteria, q alarms.Query) {
	w.andIf(q.Batch != 0, `batch = ?`, q.Batch)
	andIn(w, t.Tx, `batch IN (SELECT id FROM batches WHERE account IN (?))`, q.Owners)
}

// scanWatched reads the columns of codeCountRows, the time of the last dismissal, and the threshold.
var scanWatched = scanner(func(r *alarms.Row) []any { return append(codeCountRows.targets(r), moment{&r.Dismissed}, &r.Threshold) })

func (t alarmQueries) WatchedCodes(ctx context.Context, q alarms.Query, threshold int64) ([]alarms.Row, error) {
	lowest, err := scalar[int64](ctx, t.Tx, `SELECT COALESCE(MIN(threshold), $1) FROM alarm_thresholds WHERE threshold > 0`, threshold)
	if err != nil {
		return nil, err
	}
	var w criteria
	w.and(`score > ?`, (2*min(lowest, threshold)-1)/3) // the lowest score of any batch, for the index
	t.filterBatches(&w, q)
	applied := fmt.Sprintf(`COALESCE(threshold, %d)`, threshold)
	w.and(`score > 0 AND ` + applied + ` BETWEEN 1 AND score * 3 / 2 AND NOT EXISTS (SELECT 1 FROM alarms
		WHERE alarms.batch = code_counts.batch AND alarms.idx = code_counts.idx AND dismissed_at = 0)`)
	query := `SELECT ` + codeCountRows.columns + `, ` + lastDismissed + `, ` + applied +
		` FROM code_counts LEFT JOIN alarm_thresholds USING (batch)` + w.String() + ` ORDER BY score DESC, batch, idx
		LIMIT ` + w.bind(q.Limit) + ` + (SELECT COUNT(*) FROM alarms WHERE dismissal > 0)`
	return list(ctx, t.Tx, scanWatched, query, w.args...)
}

func (t alarmQueries) StateChanges(ctx context.Context, start int64, limit int) (changes []alarms.StateChange, err error) {
	for _, column := range []string{"id", "confirmation", "assignment", "dismissal"} {
		found, err := alarmRows.all(ctx, t.Tx, `WHERE `+column+` > 0 AND `+column+` > $1 ORDER BY `+column+` LIMIT $2`, start, limit)
		if err != nil {
			return nil, err
		}
		if err := t.fillCases(ctx, found); err != nil {
			return nil, err
		}
		for _, a := range found {
			change := alarms.StateChange{Number: a.ID, At: a.CreatedAt, Alarm: a}
			switch column {
			case "confirmation":
				change.Number, change.Decision, change.At = a.Confirmation, alarms.Confirm, a.ConfirmedAt
			case "assignment":
				change.Number, change.Decision, change.At = a.Assignment, alarms.Assign, a.AssignedAt
			case "dismissal":
				change.Number, change.Decision, change.At = a.Dismissal, alarms.Dismiss, a.DismissedAt
			}
			changes = append(changes, change)
		}
	}
	slices.SortFunc(changes, func(a, b alarms.StateChange) int { return cmp.Compare(a.Number, b.Number) })
	return changes[:min(len(changes), limit)], nil
}

func (t alarmQueries) Alarm(ctx context.Context, name alarms.CodeName) (alarms.Alarm, error) {
	return alarmRows.find(ctx, t.Tx, `batch = $1 AND idx = $2 AND dismissed_at = 0`, name.Batch, name.Index)
}

func (t alarmQueries) Alarmed(ctx context.Context, batch int64, r codes.Range) ([]int64, error) {
	return list(ctx, t.Tx, scanNumber, `SELECT DISTINCT idx FROM alarms WHERE batch = $1 AND idx >= $2 AND idx <= $3 AND dismissed_at = 0
		ORDER BY idx`, batch, r.From, r.To)
}

func (t alarmQueries) FirstScores(ctx context.Context, batch int64, period time.Duration, limit int) ([]int64, error) {
	return list(ctx, t.Tx, scanNumber, `WITH sample AS (SELECT first_at, first_score FROM code_counts WHERE batch = $1
		AND idx NOT IN (SELECT idx FROM alarms WHERE batch = $1 AND confirmed_at > 0 AND dismissed_at = 0) ORDER BY idx LIMIT $2)
		SELECT first_score FROM sample WHERE first_at < (SELECT MIN(first_at) FROM sample) + $3 ORDER BY first_score DESC`,
		batch, limit, period.Milliseconds())
}

func (t alarmQueries) ReplaceIndex(ctx context.Context, kind string, from, to int64) error {
	_, err := t.exec(ctx, `UPDATE alarms SET idx = $3 WHERE kind = $1 AND idx = $2`, kind, from, to)
	return err
}

func scanNumber(scan func(...any) error) (n int64, err error) {
	err = scan(&n)
	return n, err
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
	return t.alarm(ctx, id)
}

func (t alarmQueries) Annotate(ctx context.Context, id int64, note string) (alarms.Alarm, error) {
	changed, err := t.exec(ctx, `UPDATE alarms SET note = $2 WHERE id = $1 AND dismissed_at = 0 AND note <> $2`, id, note)
	if err != nil {
		return alarms.Alarm{}, err
	}
	a, err := t.alarm(ctx, id)
	if err != nil || changed == 0 {
		return a, err
	}
	return a, t.note(ctx, ofAlarm, strconv.FormatInt(id, 10), "annotate", map[string]string{"note": a.Note})
}

func (t alarmQueries) Assign(ctx context.Context, id, caseID int64, instant time.Time) (alarms.Alarm, error) {
	number := int64(0)
	if caseID == 0 {
		instant = time.Time{}
	} else {
		var err error
		if number, err = t.next(ctx, "alarm"); err != nil {
			return alarms.Alarm{}, err
		}
	}
	_, err := t.exec(ctx, `UPDATE alarms SET case_id = $2, assigned_at = $3, assignment = $4 WHERE id = $1`, id, caseID, millis(instant), number)
	if err == nil {
		err = t.note(ctx, ofAlarm, strconv.FormatInt(id, 10), "assign", map[string]int64{"case": caseID})
	}
	if err != nil {
		return alarms.Alarm{}, err
	}
	return t.alarm(ctx, id)
}

func (t alarmQueries) Decide(ctx context.Context, id int64, decision, actor, note string, instant time.Time) (alarms.Alarm, error) {
	a, err := t.alarm(ctx, id)
	if err != nil || a.Dismissal > 0 || decision == alarms.Confirm && a.Confirmation > 0 {
		return a, err
	}
	// Taking the next number of the sequence "alarm" serialises transactions: of two callers with the same decision, only one succeeds.
	number, err := t.next(ctx, "alarm")
	if err != nil {
		return a, err
	}
	set := map[string]string{alarms.Confirm: `confirmed_at = $2, confirmed_by = $3, note = $4, confirmation = $5
		WHERE id = $1 AND dismissal = 0 AND confirmation = 0`,
		alarms.Dismiss: `dismissed_at = $2, dismissed_by = $3, note = $4, dismissal = $5 WHERE id = $1 AND dismissal = 0`}[decision]
	changed, err := t.exec(ctx, `UPDATE alarms SET `+set, id, millis(instant), actor, note, number)
	if err == nil && changed > 0 {
		err = t.note(ctx, ofAlarm, strconv.FormatInt(id, 10), decision, map[string]string{"note": note})
	}
	if err != nil {
		return a, err
	}
	return t.alarm(ctx, id)
}

func (t alarmQueries) Thresholds(ctx context.Context, batches []int64) (map[int64]int64, error) {
	return pairsIn[int64, int64](ctx, t.Tx, `SELECT batch, threshold FROM alarm_thresholds WHERE batch IN`, batches)
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
	scanned, err = scalar[int64](ctx, t.Tx, `SELECT COUNT(*) FROM code_counts WHERE batch = $1 AND last_at >= $2`, batch, millis(since))
	if err != nil {
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
