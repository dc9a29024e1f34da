package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
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

// callGone is the sequence whose number is that of the last call that is forgotten.
const callGone = "call_gone"

// Calls implements calls.Tx.
func (t *Tx) Calls(ctx context.Context, second int64) ([]calls.Block, error) {
	return list(ctx, t, func(scan func(...any) error) (b calls.Block, err error) {
		var last, gone int64
		err = scan(&last, &b.Calls, &b.Text, &gone)
		b.Second, b.Gone = second, int(max(0, gone-last+int64(b.Calls)))
		return b, err
	}, `SELECT b.seq, b.calls, b.text, s.value FROM call_blocks b JOIN sequences s ON s.name = $1
		WHERE b.second = $2 AND b.seq > s.value ORDER BY b.seq`, callGone, second)
}

// NewestCalls implements calls.Tx.
func (t *Tx) NewestCalls(ctx context.Context, before int64, limit int) ([]calls.Block, error) {
	upTo := int64(math.MaxInt64)
	if before > 0 {
		upTo = before - 1
	}
	var gone int64
	if err := t.row(ctx, `SELECT value FROM sequences WHERE name = $1`, callGone).Scan(&gone); err != nil {
		return nil, err
	}
	// The block that has the number upTo may end with a greater one.
	blocks, err := list(ctx, t, func(scan func(...any) error) (b calls.Block, err error) {
		err = scan(&b.Last, &b.Second, &b.Calls, &b.Text)
		b.Gone = int(max(0, gone-b.Last+int64(b.Calls)))
		return b, err
	}, `SELECT seq, second, calls, text FROM call_blocks
		WHERE seq > $1 AND seq <= COALESCE((SELECT MIN(seq) FROM call_blocks WHERE seq >= $2), $2) ORDER BY seq DESC LIMIT $3`,
		gone, upTo, limit)
	if err != nil {
		return nil, err
	}
	singles, err := list(ctx, t, func(scan func(...any) error) (calls.Block, error) {
		var number int64
		c, err := scanCall(func(to ...any) error { return scan(append([]any{&number}, to...)...) })
		if err != nil {
			return calls.Block{}, err
		}
		return calls.Single(c, number)
	}, `SELECT seq, `+callColumns+` FROM calls WHERE seq > $1 AND seq <= $2 ORDER BY seq DESC LIMIT $3`, gone, upTo, limit)
	if err != nil {
		return nil, err
	}
	blocks = append(blocks, singles...)
	slices.SortFunc(blocks, func(a, b calls.Block) int { return cmp.Compare(b.Last, a.Last) })
	return blocks[:min(limit, len(blocks))], nil
}

// AddCalls implements calls.Tx.
func (t *Tx) AddCalls(ctx context.Context, blocks []calls.Block) (int64, error) {
	var all, newest int64
	for _, b := range blocks {
		all += int64(b.Calls)
	}
	err := t.row(ctx, `UPDATE sequences SET value = value + $1 WHERE name = 'call' RETURNING value`, all).Scan(&newest)
	if err != nil {
		return 0, err
	}
	last := newest - all
	for _, b := range blocks {
		last += int64(b.Calls)
		_, err := t.exec(ctx, `INSERT INTO call_blocks (seq, second, calls, text) VALUES ($1, $2, $3, $4)`, last, b.Second, b.Calls, b.Text)
		if err != nil {
			return 0, err
		}
	}
	return newest, nil
}

// singles is how many calls in rows of their own are removed where one block would be.
const singles = 20

// ForgetCalls implements calls.Tx.
func (t *Tx) ForgetCalls(ctx context.Context, upTo, second int64, limit int) error {
	rid := "" // nothing sorts before it
	if second > 0 {
		rid = fmt.Sprintf("%08x", second)
	}
	for _, query := range []struct {
		text string
		args []any
	}{
		{`UPDATE sequences SET value = $1 WHERE name = $2 AND value < $1`, []any{upTo, callGone}},
		{`DELETE FROM call_blocks WHERE seq IN (SELECT seq FROM call_blocks WHERE seq <= $1 ORDER BY seq LIMIT $2)`, []any{upTo, limit}},
		{`DELETE FROM call_blocks WHERE seq IN (SELECT seq FROM call_blocks WHERE second < $1 ORDER BY second LIMIT $2)`,
			[]any{second, limit}},
		{`DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE seq <= $1 ORDER BY seq LIMIT $2)`, []any{upTo, singles * limit}},
		{`DELETE FROM calls WHERE rid IN (SELECT rid FROM calls WHERE rid < $1 ORDER BY rid LIMIT $2)`, []any{rid, singles * limit}},
	} {
		if _, err := t.exec(ctx, query.text, query.args...); err != nil {
			return err
		}
	}
	return nil
}
