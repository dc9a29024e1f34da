package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/apiusage"
)

var deviationRows = mapper[apiusage.Deviation]{table: "deviations", key: "account, endpoint, behaviour",
	columns: "account, endpoint, behaviour, count, first_rid, first_at, last_rid, last_at",
	targets: func(d *apiusage.Deviation) []any {
		return []any{&d.Account, &d.Endpoint, &d.Behaviour, &d.Times, &d.FirstRID, moment{&d.FirstAt}, &d.LastRID, moment{&d.LastAt}}
	}}

// AddDeviations implements apiusage.Tx. A row may already contain an earlier first call or a later last call, written by another node.
func (t usageQueries) AddDeviations(ctx context.Context, list []apiusage.Deviation) error {
	dst := `INSERT INTO deviations (` + deviationRows.columns + `)`
	count := ` ON CONFLICT (` + deviationRows.key + `) DO UPDATE SET count = deviations.count + excluded.count,
		first_rid = CASE WHEN excluded.first_at < deviations.first_at THEN excluded.first_rid ELSE deviations.first_rid END,
		first_at = CASE WHEN excluded.first_at < deviations.first_at THEN excluded.first_at ELSE deviations.first_at END,
		last_rid = CASE WHEN excluded.last_at < deviations.last_at THEN deviations.last_rid ELSE excluded.last_rid END,
		last_at = CASE WHEN excluded.last_at < deviations.last_at THEN deviations.last_at ELSE excluded.last_at END`
	return t.insertMany(ctx, dst, count, 8, len(list), func(i int, args []any) []any {
		return append(args, deviationRows.args(&list[i])...)
	})
}

func (t usageQueries) Deviations(ctx context.Context, account string, limit int) ([]apiusage.Deviation, error) {
	const order = `ORDER BY account, endpoint, behaviour LIMIT `
	if account == "" {
		return deviationRows.all(ctx, t.Tx, order+`$1`, limit)
	}
	return deviationRows.all(ctx, t.Tx, `WHERE account = $1 `+order+`$2`, account, limit)
}

func (t usageQueries) ForgetDeviations(ctx context.Context, account string) error {
	location, args := ``, []any(nil)
	if account != "" {
		location, args = ` WHERE account = $1`, []any{account}
	}
	_, err := t.exec(ctx, `DELETE FROM deviations`+location, args...)
	return err
}
