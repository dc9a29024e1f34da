package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/qrjump/qrjump/internal/accounts"
)

const linkColumns = `service, mini_program, status, unlinking, notify_users, show_profile, created_at`

func linkArgs(l accounts.Link) []any {
	return []any{l.Service, l.MiniProgram, int64(l.Status), flag(l.Unlinking), flag(l.NotifyUsers), flag(l.ShowProfile), millis(l.CreatedAt)}
}

func scanLink(scan func(...any) error) (l accounts.Link, err error) {
	var created int64
	err = scan(&l.Service, &l.MiniProgram, &l.Status, &l.Unlinking, &l.NotifyUsers, &l.ShowProfile, &created)
	l.CreatedAt = fromMillis(created)
	return l, err
}

// Link implements accounts.LinkTx.
func (t *Tx) Link(ctx context.Context, service, miniProgram string) (accounts.Link, error) {
	l, err := scanLink(t.row(ctx, `SELECT `+linkColumns+` FROM links WHERE service = $1 AND mini_program = $2`, service, miniProgram).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return l, accounts.ErrNoLink
	}
	return l, err
}

// LinksOf implements accounts.LinkTx.
func (t *Tx) LinksOf(ctx context.Context, service string) ([]accounts.Link, error) {
	return list(ctx, t, scanLink, `SELECT `+linkColumns+` FROM links WHERE service = $1 ORDER BY created_at, mini_program`, service)
}

// SaveLink implements accounts.LinkTx.
func (t *Tx) SaveLink(ctx context.Context, l accounts.Link) error {
	_, err := t.exec(ctx, `INSERT INTO links (`+linkColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (service, mini_program) DO UPDATE SET status = excluded.status, unlinking = excluded.unlinking,
			notify_users = excluded.notify_users, show_profile = excluded.show_profile, created_at = excluded.created_at`, linkArgs(l)...)
	if err != nil {
		return err
	}
	return t.note(ctx, ofLink, linkKey(l.Service, l.MiniProgram), "put", linkRecordOf(l))
}

func linkRecordOf(l accounts.Link) linkRecord {
	return linkRecord{Status: l.Status, Unlinking: l.Unlinking, NotifyUsers: l.NotifyUsers, ShowProfile: l.ShowProfile}
}

// CountLinks implements accounts.LinkTx.
func (t *Tx) CountLinks(ctx context.Context, appid string) (int, error) {
	var n int
	err := t.row(ctx, `SELECT COUNT(*) FROM links WHERE (service = $1 OR mini_program = $1) AND status IN (1, 2, 12)`, appid).Scan(&n)
	return n, err
}
