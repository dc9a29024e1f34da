package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

var noticeRows = mapper[accounts.Notice]{table: "notifications", columns: "id, account, created_at, kind, prefix, reason",
	targets: func(n *accounts.Notice) []any {
		return []any{&n.ID, &n.Account, moment{&n.At}, &n.Kind, &n.Prefix, &n.Reason}
	}}

func (t accountQueries) AddNotice(ctx context.Context, n accounts.Notice) error {
	var err error
	if n.ID, err = t.next(ctx, "notification"); err != nil {
		return err
	}
	return noticeRows.add(ctx, t.Tx, n)
}

func (t accountQueries) Notices(ctx context.Context, account string, limit int) ([]accounts.Notice, error) {
	return noticeRows.all(ctx, t.Tx, `WHERE account = $1 ORDER BY id DESC LIMIT $2`, account, limit)
}
