package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/calls"
)

// UpdateCalls implements calls.Store.
func (s *Store) UpdateCalls(ctx context.Context, f func(calls.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx) })
}

// ViewCalls implements calls.Store.
func (s *Store) ViewCalls(ctx context.Context, f func(calls.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx) })
}

// AddCounts implements calls.Tx.
func (t *Tx) AddCounts(ctx context.Context, appid, what string, day int64, n int) (int, error) {
	var sum int
	err := t.row(ctx, `INSERT INTO counters (appid, what, day, used) VALUES ($1, $2, $3, $4)
		ON CONFLICT (appid, what, day) DO UPDATE SET used = counters.used + excluded.used RETURNING used`, appid, what, day, n).Scan(&sum)
	return sum, err
}

// ClearCount implements calls.Tx.
func (t *Tx) ClearCount(ctx context.Context, appid, what string, day int64) error {
	_, err := t.exec(ctx, `DELETE FROM counters WHERE appid = $1 AND what = $2 AND day = $3`, appid, what, day)
	return err
}

// ForgetCounts implements calls.Tx.
func (t *Tx) ForgetCounts(ctx context.Context, before int64) error {
	_, err := t.exec(ctx, `DELETE FROM counters WHERE day < $1`, before)
	return err
}

const callColumns = `rid, account, at, took, path, query, request, response, client_ip, errcode, detail, behaviours`

func callArgs(c *calls.Call) []any {
	return []any{c.RID, c.Account, millis(c.At), c.Took.Milliseconds(), c.Path, c.Query, c.Request, c.Response, c.ClientIP,
		c.ErrCode, c.Detail, strings.Join(c.Behaviours, " ")}
}

func scanCall(scan func(...any) error) (c calls.Call, err error) {
	var at, took int64
	var behaviours string
	err = scan(&c.RID, &c.Account, &at, &took, &c.Path, &c.Query, &c.Request, &c.Response, &c.ClientIP, &c.ErrCode, &c.Detail, &behaviours)
	c.Behaviours = strings.Fields(behaviours)
	c.At, c.Took = fromMillis(at), time.Duration(took)*time.Millisecond
	return c, err
}

// Call implements calls.Tx.
func (t *Tx) Call(ctx context.Context, rid string) (calls.Call, error) {
	c, err := scanCall(t.row(ctx, `SELECT `+callColumns+` FROM calls WHERE rid = $1`, rid).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return c, calls.ErrNoCall
	}
	return c, err
}

// AddCalls implements calls.Tx.
func (t *Tx) AddCalls(ctx context.Context, calls []calls.Call) (int64, error) {
	var newest int64
	err := t.row(ctx, `UPDATE sequences SET value = value + $1 WHERE name = 'call' RETURNING value`, len(calls)).Scan(&newest)
	if err != nil {
		return 0, err
	}
	seq := newest - int64(len(calls))
	into, unless := `INSERT INTO calls (seq, `+callColumns+`)`, ` ON CONFLICT (rid) DO NOTHING`
	return newest, t.insertMany(ctx, into, unless, 13, len(calls), func(i int, args []any) []any {
		return append(append(args, seq+int64(i)+1), storable(callArgs(&calls[i]))...)
	})
}

// ForgetCalls implements calls.Tx.
func (t *Tx) ForgetCalls(ctx context.Context, upTo int64, rid string, limit int) error {
	for _, query := range []struct {
		text string
		arg  any
	}{
		{`DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE seq <= $1 ORDER BY seq LIMIT $2)`, upTo},
		{`DELETE FROM calls WHERE rid IN (SELECT rid FROM calls WHERE rid < $1 ORDER BY rid LIMIT $2)`, rid},
	} {
		if _, err := t.exec(ctx, query.text, query.arg, limit); err != nil {
			return err
		}
	}
	return nil
}
