package store

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

var qrcodeRows = mapper[accounts.QRCode]{table: "qrcodes", notFound: accounts.ErrNoQRCode,
	columns: "code, ticket, account, action, scene, created_at, expires_at",
	targets: func(q *accounts.QRCode) []any {
		return []any{&q.Code, &q.Ticket, &q.Account, &q.Action, &q.Scene, moment{&q.CreatedAt}, moment{&q.ExpiresAt}}
	}}

func (t accountQueries) QRCode(ctx context.Context, code string) (accounts.QRCode, error) {
	return qrcodeRows.find(ctx, t.Tx, `code = $1`, code)
}

func (t accountQueries) QRCodeByTicket(ctx context.Context, ticket string) (accounts.QRCode, error) {
	return qrcodeRows.find(ctx, t.Tx, `ticket = $1`, ticket)
}

func (t accountQueries) PermanentQRCode(ctx context.Context, account string, action accounts.QRAction, scene string,
) (accounts.QRCode, error) {
	return qrcodeRows.find(ctx, t.Tx, `account = $1 AND action = $2 AND scene = $3 AND expires_at = 0`, account, string(action), scene)
}

func (t accountQueries) CountPermanentQRCodes(ctx context.Context, account string) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM qrcodes WHERE account = $1 AND expires_at = 0`, account)
}

func (t accountQueries) AddQRCode(ctx context.Context, q accounts.QRCode) error {
	if err := qrcodeRows.add(ctx, t.Tx, q); err != nil || !q.Permanent() {
		return err // temporary QR codes are not recorded in the audit log
	}
	return t.note(ctx, ofQRCode, q.Code, "add", map[string]any{"account": q.Account, "action": q.Action, "scene": q.Scene})
}

func (t accountQueries) ForgetQRCodes(ctx context.Context, account string, before time.Time) error {
	// Each request deletes up to 100 expired codes and adds only one, so no backlog of expired codes builds up, and each request stays
	// fast.
	return t.run(ctx, `DELETE FROM qrcodes
		WHERE code IN (SELECT code FROM qrcodes WHERE account = $1 AND expires_at > 0 AND expires_at < $2 LIMIT 100)`,
		account, millis(before))
}

func (t accountQueries) Follower(ctx context.Context, account, openid string) (bool, error) {
	n, err := scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM followers WHERE account = $1 AND openid = $2`, account, openid)
	return n > 0, err
}

func (t accountQueries) AddFollower(ctx context.Context, account, openid string, since time.Time) (bool, error) {
	n, err := t.exec(ctx, `INSERT INTO followers (account, openid, followed_at) VALUES ($1, $2, $3) ON CONFLICT (account, openid) DO NOTHING`,
		account, openid, millis(since))
	return n > 0, err
}
