package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

var linkRows = mapper[accounts.Link]{table: "links", key: "service, mini_program", notFound: accounts.ErrNoLink,
	columns: "service, mini_program, status, unlinking, notify_users, show_profile, created_at, approval_skipped",
	targets: func(l *accounts.Link) []any {
		return []any{&l.Service, &l.MiniProgram, &l.Status, &l.Unlinking, &l.NotifyUsers, &l.ShowProfile, moment{&l.CreatedAt},
			&l.ApprovalSkipped}
	}}

func (t accountQueries) Link(ctx context.Context, service, miniProgram string) (accounts.Link, error) {
	return linkRows.find(ctx, t.Tx, `service = $1 AND mini_program = $2`, service, miniProgram)
}

func (t accountQueries) LinksOf(ctx context.Context, service string) ([]accounts.Link, error) {
	return linkRows.all(ctx, t.Tx, `WHERE service = $1 ORDER BY created_at, mini_program`, service)
}

func (t accountQueries) SaveLink(ctx context.Context, l accounts.Link) error {
	if err := linkRows.put(ctx, t.Tx, l); err != nil {
		return err
	}
	return t.note(ctx, ofLink, linkKey(l.Service, l.MiniProgram), "put", linkRecordOf(l))
}

func linkRecordOf(l accounts.Link) linkRecord {
	return linkRecord{Status: l.Status, Unlinking: l.Unlinking, NotifyUsers: l.NotifyUsers, ShowProfile: l.ShowProfile,
		AtOnce: l.ApprovalSkipped}
}

func (t accountQueries) CountLinks(ctx context.Context, appid string) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM links WHERE (service = $1 OR mini_program = $1) AND status IN (1, 2, 12)`, appid)
}
