package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
)

const qrcodeColumns = `code, ticket, account, action, scene, created_at, expires_at`

func qrcodeArgs(q accounts.QRCode) []any {
	return []any{q.Code, q.Ticket, q.Account, string(q.Action), q.Scene, millis(q.CreatedAt), millis(q.ExpiresAt)}
}

func scanQRCode(scan func(...any) error) (q accounts.QRCode, err error) {
	var created, expires int64
	err = scan(&q.Code, &q.Ticket, &q.Account, &q.Action, &q.Scene, &created, &expires)
	q.CreatedAt, q.ExpiresAt = fromMillis(created), fromMillis(expires)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoQRCode
	}
	return q, err
}

// QRCode implements accounts.QRCodeTx.
func (t *Tx) QRCode(ctx context.Context, code string) (accounts.QRCode, error) {
	return scanQRCode(t.row(ctx, `SELECT `+qrcodeColumns+` FROM qrcodes WHERE code = $1`, code).Scan)
}

// QRCodeByTicket implements accounts.QRCodeTx.
func (t *Tx) QRCodeByTicket(ctx context.Context, ticket string) (accounts.QRCode, error) {
	return scanQRCode(t.row(ctx, `SELECT `+qrcodeColumns+` FROM qrcodes WHERE ticket = $1`, ticket).Scan)
}

// PermanentQRCode implements accounts.QRCodeTx.
func (t *Tx) PermanentQRCode(ctx context.Context, account string, action accounts.QRAction, scene string) (accounts.QRCode, error) {
	return scanQRCode(t.row(ctx, `SELECT `+qrcodeColumns+` FROM qrcodes WHERE account = $1 AND action = $2 AND scene = $3 AND expires_at = 0`,
		account, string(action), scene).Scan)
}

// CountPermanentQRCodes implements accounts.QRCodeTx.
func (t *Tx) CountPermanentQRCodes(ctx context.Context, account string) (int, error) {
	var n int
	err := t.row(ctx, `SELECT COUNT(*) FROM qrcodes WHERE account = $1 AND expires_at = 0`, account).Scan(&n)
	return n, err
}

// AddQRCode implements accounts.QRCodeTx.
func (t *Tx) AddQRCode(ctx context.Context, q accounts.QRCode) error {
	_, err := t.exec(ctx, `INSERT INTO qrcodes (`+qrcodeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`, qrcodeArgs(q)...)
	if err != nil || !q.Permanent() {
		return err // what expires in a moment is no state of the server
	}
	return t.note(ctx, ofQRCode, q.Code, "add", map[string]any{"account": q.Account, "action": q.Action, "scene": q.Scene})
}

// ForgetQRCodes implements accounts.QRCodeTx.
func (t *Tx) ForgetQRCodes(ctx context.Context, account string, before time.Time) error {
	// More than one call adds, so that all go in the end, and not so many that
	// others wait long.
	_, err := t.exec(ctx, `DELETE FROM qrcodes WHERE code IN (SELECT code FROM qrcodes WHERE account = $1 AND expires_at > 0 AND expires_at < $2 LIMIT 100)`, account, millis(before))
	return err
}

// Follower implements accounts.MessageTx.
func (t *Tx) Follower(ctx context.Context, account, openid string) (bool, error) {
	var n int
	err := t.row(ctx, `SELECT COUNT(*) FROM followers WHERE account = $1 AND openid = $2`, account, openid).Scan(&n)
	return n > 0, err
}

// AddFollower implements accounts.MessageTx.
func (t *Tx) AddFollower(ctx context.Context, account, openid string, since time.Time) (bool, error) {
	n, err := t.exec(ctx, `INSERT INTO followers (account, openid, since) VALUES ($1, $2, $3) ON CONFLICT (account, openid) DO NOTHING`,
		account, openid, millis(since))
	return n > 0, err
}

const messageColumns = `id, account, body, created_at, tries, due_at`

func scanMessage(scan func(...any) error) (m accounts.Message, err error) {
	var created, due int64
	err = scan(&m.ID, &m.Account, &m.Body, &created, &m.Tries, &due)
	m.CreatedAt, m.DueAt = fromMillis(created), fromMillis(due)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoMessage
	}
	return m, err
}

// AddMessage implements accounts.MessageTx.
func (t *Tx) AddMessage(ctx context.Context, m accounts.Message) error {
	id, err := t.next(ctx, "message")
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO messages (`+messageColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, m.Account, m.Body, millis(m.CreatedAt), int64(m.Tries), millis(m.DueAt))
	return err
}

// NextMessage implements accounts.MessageTx.
func (t *Tx) NextMessage(ctx context.Context, account string, now time.Time) (accounts.Message, error) {
	return scanMessage(t.row(ctx, `SELECT `+messageColumns+` FROM messages WHERE account = $1 AND due_at <= $2 ORDER BY id LIMIT 1`, account, millis(now)).Scan)
}

// PostponeMessage implements accounts.MessageTx.
func (t *Tx) PostponeMessage(ctx context.Context, m accounts.Message) error {
	_, err := t.exec(ctx, `UPDATE messages SET tries = $2, due_at = $3 WHERE id = $1`, m.ID, int64(m.Tries), millis(m.DueAt))
	return err
}

// DropMessage implements accounts.MessageTx.
func (t *Tx) DropMessage(ctx context.Context, id int64) error {
	_, err := t.exec(ctx, `DELETE FROM messages WHERE id = $1`, id)
	return err
}

// MoreMessages implements accounts.MessageTx.
func (t *Tx) MoreMessages(ctx context.Context, account string, than int) (bool, error) {
	var n int
	err := t.row(ctx, `SELECT COUNT(*) FROM (SELECT id FROM messages WHERE account = $1 ORDER BY id LIMIT 1 OFFSET $2) AS more`, account, than).Scan(&n)
	return n > 0, err
}

// DropOldMessages implements accounts.MessageTx.
func (t *Tx) DropOldMessages(ctx context.Context, account string, keep int) (int, error) {
	n, err := t.exec(ctx, `DELETE FROM messages WHERE account = $1 AND id <=
		COALESCE((SELECT id FROM messages WHERE account = $1 ORDER BY id DESC LIMIT 1 OFFSET $2), 0)`, account, keep)
	return int(n), err
}

// MessagesDue implements accounts.MessageTx.
func (t *Tx) MessagesDue(ctx context.Context, now time.Time, limit int) ([]string, error) {
	return list(ctx, t, scanText, `SELECT account FROM messages WHERE due_at <= $1 GROUP BY account ORDER BY MIN(due_at), account LIMIT $2`, millis(now), limit)
}
