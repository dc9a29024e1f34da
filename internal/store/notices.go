package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/accounts"
)

const noticeColumns = `id, account, at, kind, prefix, reason`

func scanNotice(scan func(...any) error) (n accounts.Notice, err error) {
	var at int64
	err = scan(&n.ID, &n.Account, &at, &n.Kind, &n.Prefix, &n.Reason)
	n.At = fromMillis(at)
	return n, err
}

// AddNotice implements accounts.NoticeTx.
func (t *Tx) AddNotice(ctx context.Context, n accounts.Notice) error {
	id, err := t.next(ctx, "notice")
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO notices (`+noticeColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, n.Account, millis(n.At), string(n.Kind), n.Prefix, n.Reason)
	return err
}

// Notices implements accounts.NoticeTx.
func (t *Tx) Notices(ctx context.Context, account string, limit int) ([]accounts.Notice, error) {
	return list(ctx, t, scanNotice, `SELECT `+noticeColumns+` FROM notices WHERE account = $1 ORDER BY id DESC LIMIT $2`, account, limit)
}
