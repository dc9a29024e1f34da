package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

var noticeRows = mapper[accounts.Notice]{table: "notifications", fields: func(n *accounts.Notice) []field {
	return []field{{"id", &n.ID}, {"account", &n.Account}, {"created_at", moment{&n.At}}, {"kind", &n.Kind}, {"prefix", &n.Prefix},
		{"reason", &n.Reason}}
}}.rows()

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
