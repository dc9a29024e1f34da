package store

import (
	"context"
	"math"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
)

// Calls begins transactions on call counts and the call log.
func (s *Store) Calls() accounts.Transactions[apiusage.Tx] {
	return transactions[apiusage.Tx]{s, func(tx *Tx) apiusage.Tx { return tx.accounts() }}
}

func (t accountQueries) AddCounts(ctx context.Context, appid, kind string, day int64, n int) (int, error) {
	return scalar[int](ctx, t.Tx, `INSERT INTO counters (appid, counter, day, value) VALUES ($1, $2, $3, $4)
		ON CONFLICT (appid, counter, day) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, appid, kind, day, n)
}

func (t accountQueries) ClearCount(ctx context.Context, appid, kind string, day int64) error {
	return t.execQueued(ctx, nil, `DELETE FROM counters WHERE appid = $1 AND counter = $2 AND day = $3`, appid, kind, day)
}

func (t accountQueries) ForgetCounts(ctx context.Context, prev int64) error {
	return t.run(ctx, `DELETE FROM counters WHERE day < $1`, prev)
}

// callDeleted is the name of the sequence whose value is the number of the last deleted call in the call log.
const callDeleted = "call_deleted"

func (t accountQueries) Calls(ctx context.Context, second int64) ([]apiusage.Block, error) {
	return list(ctx, t.Tx, func(scan func(...any) error) (b apiusage.Block, err error) {
		var last, gone int64
		err = scan(&last, &b.Calls, &b.Text, &gone)
		b.Second, b.Deleted = second, int(max(0, gone-last+int64(b.Calls)))
		return b, err
	}, `SELECT b.seq, b.calls, b.text, s.value FROM call_blocks b JOIN sequences s ON s.name = $1
		WHERE b.second = $2 AND b.seq > s.value ORDER BY b.seq`, callDeleted, second)
}

func (t accountQueries) NewestCalls(ctx context.Context, prev int64, limit int) ([]apiusage.Block, error) {
	upTo := int64(math.MaxInt64)
	if prev > 0 {
		upTo = prev - 1
	}
	var gone int64
	if err := t.row(ctx, `SELECT value FROM sequences WHERE name = $1`, callDeleted).Scan(&gone); err != nil {
		return nil, err
	}
	// The query includes the block with call number upTo, although the last call of this block may have a greater number.
	return list(ctx, t.Tx, func(scan func(...any) error) (b apiusage.Block, err error) {
		err = scan(&b.Last, &b.Second, &b.Calls, &b.Text)
		b.Deleted = int(max(0, gone-b.Last+int64(b.Calls)))
		return b, err
	}, `SELECT seq, second, calls, text FROM call_blocks
		WHERE seq > $1 AND seq <= COALESCE((SELECT MIN(seq) FROM call_blocks WHERE seq >= $2), $2) ORDER BY seq DESC LIMIT $3`,
		gone, upTo, limit)
}

func (t accountQueries) AddCalls(ctx context.Context, blocks []apiusage.Block) (int64, error) {
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

func (t accountQueries) ForgetCalls(ctx context.Context, upTo, second int64, limit int) error {
	return t.runAll(ctx, write(`UPDATE sequences SET value = $1 WHERE name = $2 AND value < $1`, upTo, callDeleted),
		write(`DELETE FROM call_blocks WHERE seq IN (SELECT seq FROM call_blocks WHERE seq <= $1 ORDER BY seq LIMIT $2)`, upTo, limit),
		write(`DELETE FROM call_blocks WHERE seq IN (SELECT seq FROM call_blocks WHERE second < $1 ORDER BY second LIMIT $2)`,
			second, limit))
}

var deviationRows = mapper[apiusage.Deviation]{table: "deviations", key: "account, endpoint, behaviour",
	columns: "account, endpoint, behaviour, count, first_rid, first_at, last_rid, last_at",
	targets: func(d *apiusage.Deviation) []any {
		return []any{&d.Account, &d.Endpoint, &d.Behaviour, &d.Times, &d.FirstRID, moment{&d.FirstAt}, &d.LastRID, moment{&d.LastAt}}
	}}

// AddDeviations implements apiusage.Tx. A row may already contain an earlier first call or a later last call, written by another node.
func (t accountQueries) AddDeviations(ctx context.Context, list []apiusage.Deviation) error {
	return deviationRows.addAll(ctx, t.Tx, list, ` ON CONFLICT (`+deviationRows.key+`) DO UPDATE SET
		count = deviations.count + excluded.count,
		first_rid = CASE WHEN excluded.first_at < deviations.first_at THEN excluded.first_rid ELSE deviations.first_rid END,
		first_at = CASE WHEN excluded.first_at < deviations.first_at THEN excluded.first_at ELSE deviations.first_at END,
		last_rid = CASE WHEN excluded.last_at < deviations.last_at THEN deviations.last_rid ELSE excluded.last_rid END,
		last_at = CASE WHEN excluded.last_at < deviations.last_at THEN deviations.last_at ELSE excluded.last_at END`)
}

func (t accountQueries) Deviations(ctx context.Context, account string, limit int) ([]apiusage.Deviation, error) {
	var w criteria
	w.andIf(account != "", `account = ?`, account)
	rest := w.String() + ` ORDER BY account, endpoint, behaviour LIMIT ` + w.bind(limit)
	return deviationRows.all(ctx, t.Tx, rest, w.args...)
}

func (t accountQueries) ForgetDeviations(ctx context.Context, account string) error {
	var w criteria
	w.andIf(account != "", `account = ?`, account)
	return t.run(ctx, `DELETE FROM deviations`+w.String(), w.args...)
}
