package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
)

const componentColumns = `appid, secret_hash, message_token, encoding_aes_key, event_url, ip_allowlist, redirect_hosts, created_at`

func scanComponent(scan func(...any) error) (c accounts.Component, err error) {
	var created int64
	err = scan(&c.AppID, &c.SecretHash, &c.MessageToken, &c.EncodingAESKey, &c.EventURL, inJSON(&c.IPAllowlist), inJSON(&c.RedirectHosts), &created)
	c.CreatedAt = fromMillis(created)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoComponent
	}
	return c, err
}

// ComponentAlone implements accounts.Tx.
func (t *Tx) ComponentAlone(ctx context.Context, appid string) (accounts.Component, error) {
	return scanComponent(t.row(ctx, `SELECT `+componentColumns+` FROM components WHERE appid = $1`, appid).Scan)
}

// PutComponentAlone implements accounts.Tx.
func (t *Tx) PutComponentAlone(ctx context.Context, c accounts.Component) error {
	t.touched.Add(c.AppID)
	old, err := t.ComponentAlone(ctx, c.AppID)
	did := "edit"
	if errors.Is(err, accounts.ErrNoComponent) {
		did, err = "add", nil
	}
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO components (`+componentColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (appid) DO UPDATE SET secret_hash = excluded.secret_hash, message_token = excluded.message_token,
			encoding_aes_key = excluded.encoding_aes_key, event_url = excluded.event_url, ip_allowlist = excluded.ip_allowlist,
			redirect_hosts = excluded.redirect_hosts`,
		c.AppID, c.SecretHash, c.MessageToken, c.EncodingAESKey, c.EventURL, inJSON(&c.IPAllowlist).text(), inJSON(&c.RedirectHosts).text(), millis(c.CreatedAt))
	if err != nil {
		return err
	}
	return t.note(ctx, ofComponent, c.AppID, did, map[string]any{"event_url": c.EventURL, "ip_allowlist": c.IPAllowlist, "redirect_hosts": c.RedirectHosts,
		"new_secret": c.SecretHash != old.SecretHash, "new_message_token": c.MessageToken != old.MessageToken, "new_encoding_aes_key": c.EncodingAESKey != old.EncodingAESKey})
}

// Components implements accounts.Tx.
func (t *Tx) Components(ctx context.Context, after string, limit int) ([]accounts.Component, error) {
	return list(ctx, t, scanComponent, `SELECT `+componentColumns+` FROM components WHERE appid > $1 ORDER BY appid LIMIT $2`, after, limit)
}

const grantColumns = `appid, permission_sets, refresh_token, granted_at`

func grantArgs(component string, g *accounts.Grant) []any {
	return []any{component, g.AppID, inJSON(&g.PermissionSets).text(), g.RefreshToken, millis(g.GrantedAt)}
}

func scanGrant(scan func(...any) error) (g accounts.Grant, err error) {
	var granted int64
	err = scan(&g.AppID, inJSON(&g.PermissionSets), &g.RefreshToken, &granted)
	g.GrantedAt = fromMillis(granted)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoGrant
	}
	return g, err
}

// Grant implements accounts.Tx.
func (t *Tx) Grant(ctx context.Context, component, appid string) (accounts.Grant, error) {
	return scanGrant(t.row(ctx, `SELECT `+grantColumns+` FROM grants WHERE component = $1 AND appid = $2`, component, appid).Scan)
}

// Grants implements accounts.Tx.
func (t *Tx) Grants(ctx context.Context, component string, offset, limit int) ([]accounts.Grant, error) {
	return list(ctx, t, scanGrant, `SELECT `+grantColumns+` FROM grants WHERE component = $1
		ORDER BY granted_at, appid LIMIT $2 OFFSET $3`, component, limit, offset)
}

// CountGrants implements accounts.Tx.
func (t *Tx) CountGrants(ctx context.Context, component string) (n int, err error) {
	err = t.row(ctx, `SELECT COUNT(*) FROM grants WHERE component = $1`, component).Scan(&n)
	return n, err
}

// Holders implements accounts.Tx.
func (t *Tx) Holders(ctx context.Context, appid string) ([]accounts.Holder, error) {
	return list(ctx, t, func(scan func(...any) error) (h accounts.Holder, err error) {
		h.Grant, err = scanGrant(func(into ...any) error { return scan(append([]any{&h.Component}, into...)...) })
		return h, err
	}, `SELECT component, `+grantColumns+` FROM grants WHERE appid = $1 ORDER BY component`, appid)
}

// PutGrant implements accounts.Tx.
func (t *Tx) PutGrant(ctx context.Context, component string, g accounts.Grant) error {
	t.touched.Add(g.AppID)
	_, err := t.exec(ctx, `INSERT INTO grants (component, `+grantColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (component, appid) DO UPDATE SET permission_sets = excluded.permission_sets,
			refresh_token = excluded.refresh_token, granted_at = excluded.granted_at`, grantArgs(component, &g)...)
	if err != nil {
		return err
	}
	return t.note(ctx, ofGrant, linkKey(component, g.AppID), "put", map[string]any{"permission_sets": g.PermissionSets})
}

// DeleteGrant implements accounts.Tx.
func (t *Tx) DeleteGrant(ctx context.Context, component, appid string) error {
	t.touched.Add(appid)
	n, err := t.exec(ctx, `DELETE FROM grants WHERE component = $1 AND appid = $2`, component, appid)
	if err != nil || n == 0 {
		return err
	}
	return t.note(ctx, ofGrant, linkKey(component, appid), "delete", nil)
}

// CutAuthorizerTokens implements accounts.Tx.
func (t *Tx) CutAuthorizerTokens(ctx context.Context, component, appid string, at time.Time) error {
	t.touched.Add(appid)
	_, err := t.exec(ctx, `UPDATE access_tokens SET cut_at = $3 WHERE appid = $1 AND component = $2 AND (cut_at = 0 OR cut_at > $3) AND expires_at > $3`,
		appid, component, millis(at))
	return err
}

// VerifyTicket implements accounts.Tx.
func (t *Tx) VerifyTicket(ctx context.Context, component, hash string) (accounts.VerifyTicket, error) {
	k := accounts.VerifyTicket{Component: component, Hash: hash}
	var issued int64
	err := t.row(ctx, `SELECT issued_at FROM component_tickets WHERE component = $1 AND hash = $2`, component, hash).Scan(&issued)
	k.IssuedAt = fromMillis(issued)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoTicket
	}
	return k, err
}

// PutVerifyTicket implements accounts.Tx.
func (t *Tx) PutVerifyTicket(ctx context.Context, k accounts.VerifyTicket) error {
	_, err := t.exec(ctx, `INSERT INTO component_tickets (component, hash, issued_at) VALUES ($1, $2, $3)`, k.Component, k.Hash, millis(k.IssuedAt))
	return err
}

// LatestVerifyTicket implements accounts.Tx.
func (t *Tx) LatestVerifyTicket(ctx context.Context, component string) (time.Time, error) {
	var issued int64
	err := t.row(ctx, `SELECT COALESCE(MAX(issued_at), 0) FROM component_tickets WHERE component = $1`, component).Scan(&issued)
	return fromMillis(issued), err
}

// ForgetVerifyTickets implements accounts.Tx.
func (t *Tx) ForgetVerifyTickets(ctx context.Context, component string, before time.Time) error {
	_, err := t.exec(ctx, `DELETE FROM component_tickets WHERE component = $1 AND issued_at < $2`, component, millis(before))
	return err
}

// TicketsDue implements accounts.Tx.
func (t *Tx) TicketsDue(ctx context.Context, after, until time.Time, limit int) ([]string, error) {
	return list(ctx, t, scanText, `SELECT appid FROM components WHERE event_url <> '' AND NOT EXISTS
		(SELECT 1 FROM component_tickets WHERE component = components.appid AND issued_at > $1 AND issued_at <= $2)
		ORDER BY appid LIMIT $3`, millis(after), millis(until), limit)
}

// GrantCode implements accounts.Tx.
func (t *Tx) GrantCode(ctx context.Context, hash string) (accounts.GrantCode, error) {
	c := accounts.GrantCode{Hash: hash}
	var expires, used int64
	err := t.row(ctx, `SELECT kind, component, appid, expires_at, used_at FROM component_codes WHERE hash = $1`, hash).
		Scan(&c.Kind, &c.Component, &c.AppID, &expires, &used)
	c.ExpiresAt, c.UsedAt = fromMillis(expires), fromMillis(used)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoCode
	}
	return c, err
}

// PutGrantCode implements accounts.Tx.
func (t *Tx) PutGrantCode(ctx context.Context, c accounts.GrantCode) error {
	_, err := t.exec(ctx, `INSERT INTO component_codes (hash, kind, component, appid, expires_at, used_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (hash) DO UPDATE SET used_at = excluded.used_at`,
		c.Hash, string(c.Kind), c.Component, c.AppID, millis(c.ExpiresAt), millis(c.UsedAt))
	return err
}

// ForgetGrantCodes implements accounts.Tx.
func (t *Tx) ForgetGrantCodes(ctx context.Context, before time.Time) error {
	_, err := t.exec(ctx, `DELETE FROM component_codes WHERE expires_at < $1`, millis(before))
	return err
}

// ForgetPushes implements accounts.Tx.
func (t *Tx) ForgetPushes(ctx context.Context, component string, keep int) error {
	_, err := t.exec(ctx, `DELETE FROM pushes WHERE component = $1 AND next_at = 0 AND id <=
		(SELECT id FROM pushes WHERE component = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`, component, keep)
	return err
}
