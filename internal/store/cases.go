package store

import (
	"context"
	"fmt"

	"github.com/qrjump/qrjump/internal/domain/alarms"
)

var caseRows = mapper[alarms.Case]{table: "cases", key: "id", notFound: alarms.ErrNoCase,
	columns: "id, account, title, state, assignee, note, created_at, created_by",
	targets: func(c *alarms.Case) []any {
		return []any{&c.ID, &c.Account, &c.Title, &c.State, &c.Assignee, &c.Note, moment{&c.CreatedAt}, &c.CreatedBy}
	}}

// caseQuery reads cases with their alarms: an alarm that is put into a case gets a new number, so the number of alarms and the highest
// number identify the alarms.
const caseQuery = `SELECT id, account, title, state, assignee, note, created_at, created_by,
	(SELECT COUNT(*) || '.' || COALESCE(MAX(assignment), 0) FROM alarms WHERE case_id = cases.id) FROM cases`

var scanCase = scanner(func(c *alarms.Case) []any { return append(caseRows.targets(c), &c.Alarms) })

func (t alarmQueries) LockCases(ctx context.Context) error { return t.lock(ctx, "cases", "") }

func (t alarmQueries) Cases(ctx context.Context, q alarms.CaseQuery) ([]alarms.Case, error) {
	var w criteria
	w.andIf(q.Before > 0, `id < ?`, q.Before)
	w.andIf(q.State != "", `state = ?`, q.State)
	w.andIf(q.Assignee != "", `assignee = ?`, q.Assignee)
	andIn(&w, t.Tx, `account IN (?)`, q.Owners)
	query := caseQuery + w.String() + ` ORDER BY id DESC LIMIT ` + w.bind(q.Limit)
	return list(ctx, t.Tx, scanCase, query, w.args...)
}

func (t alarmQueries) Case(ctx context.Context, id int64) (alarms.Case, error) {
	c, err := scanCase(t.row(ctx, caseQuery+` WHERE id = $1`, id).Scan)
	return c, replaceNoRows(err, alarms.ErrNoCase)
}

func (t alarmQueries) PutCase(ctx context.Context, c alarms.Case) (_ alarms.Case, err error) {
	action := "update_case"
	if c.ID == 0 {
		action = "create_case"
		if c.ID, err = t.next(ctx, "case"); err != nil {
			return c, err
		}
	}
	if err := caseRows.put(ctx, t.Tx, c); err != nil {
		return c, err
	}
	return c, t.note(ctx, ofAlarm, fmt.Sprintf("case %d", c.ID), action, map[string]string{"account": c.Account, "title": c.Title,
		"state": c.State, "assignee": c.Assignee, "note": c.Note})
}

// fillCases completes the cases of alarms; an alarm whose case does not exist, because only the alarm was moved to this cell, is in none.
func (t alarmQueries) fillCases(ctx context.Context, list []alarms.Alarm) error {
	known := map[int64]alarms.Case{}
	var args []any
	for _, a := range list {
		if _, found := known[a.Case.ID]; !found && a.Case.ID != 0 {
			known[a.Case.ID], args = alarms.Case{}, append(args, a.Case.ID)
		}
	}
	if len(args) == 0 {
		return nil
	}
	found, err := caseRows.all(ctx, t.Tx, `WHERE id IN (`+t.marks(1, len(args))+`)`, args...)
	for _, c := range found {
		known[c.ID] = c
	}
	for i := range list {
		list[i].Case = known[list[i].Case.ID]
	}
	return err
}

func (t alarmQueries) AccountOf(ctx context.Context, batch int64) (string, error) {
	return scalarOrZero[string](ctx, t.Tx, `SELECT account FROM batches WHERE id = $1`, batch)
}
