package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

var componentRows = mapper[accounts.Component]{table: "components", key: "appid", notFound: accounts.ErrNoComponent,
	columns: "appid, secret_hash, message_token, encoding_aes_key, event_url, ip_allowlist, redirect_hosts, created_at",
	targets: func(c *accounts.Component) []any {
		return []any{&c.AppID, &c.SecretHash, &c.MessageToken, &c.EncodingAESKey, &c.EventURL, inJSON(&c.IPAllowlist),
			inJSON(&c.RedirectHosts), moment{&c.CreatedAt}}
	}}

func (t accountQueries) ComponentWithoutGrants(ctx context.Context, appid string) (accounts.Component, error) {
	return componentRows.find(ctx, t.Tx, `appid = $1`, appid)
}

func (t accountQueries) PutComponentWithoutGrants(ctx context.Context, c accounts.Component) error {
	t.touched.Add(c.AppID)
	old, err := t.ComponentWithoutGrants(ctx, c.AppID)
	did := "edit"
	if errors.Is(err, accounts.ErrNoComponent) {
		did, err = "add", nil
	}
	if err != nil {
		return err
	}
	err = componentRows.put(ctx, t.Tx, c, "created_at")
	return t.noteAfter(ctx, err, ofComponent, c.AppID, did, map[string]any{"event_url": c.EventURL, "ip_allowlist": c.IPAllowlist,
		"redirect_hosts": c.RedirectHosts, "new_secret": c.SecretHash != old.SecretHash,
		"new_message_token": c.MessageToken != old.MessageToken, "new_encoding_aes_key": c.EncodingAESKey != old.EncodingAESKey})
}

func (t accountQueries) DeleteComponent(ctx context.Context, appid string) error {
	t.touched.Add(appid)
	granted, err := list(ctx, t.Tx, scanText, `DELETE FROM grants WHERE component = $1 RETURNING appid`, appid)
	if err != nil {
		return err
	}
	slices.Sort(granted)
	for _, account := range granted {
		t.touched.Add(account)
		if err := t.note(ctx, ofGrant, linkKey(appid, account), "delete", nil); err != nil {
			return err
		}
	}
	err = t.runAll(ctx,
		write(`DELETE FROM access_tokens WHERE appid = $1 OR component = $1`, appid),
		write(`DELETE FROM component_tickets WHERE component = $1`, appid),
		write(`DELETE FROM component_codes WHERE component = $1`, appid),
		write(`DELETE FROM pushes WHERE component = $1`, appid),
		write(`DELETE FROM components WHERE appid = $1`, appid))
	return t.noteAfter(ctx, err, ofComponent, appid, "delete", nil)
}

func (t accountQueries) ComponentsAt(ctx context.Context, appids []string) ([]string, error) {
	return listAt(ctx, t.Tx, scanText, `SELECT appid FROM components WHERE appid IN`, ``, appids)
}

func (t accountQueries) Components(ctx context.Context, rest string, limit int) ([]accounts.Component, error) {
	return componentRows.all(ctx, t.Tx, `WHERE appid > $1 ORDER BY appid LIMIT $2`, rest, limit)
}

// grantRows maps the grants of components; holderRows adds the component to each grant.
var (
	grantRows = mapper[accounts.Grant]{table: "grants", notFound: accounts.ErrNoGrant,
		columns: "appid, permission_sets, refresh_token, granted_at",
		targets: func(g *accounts.Grant) []any {
			return []any{&g.AppID, inJSON(&g.PermissionSets), &g.RefreshToken, moment{&g.GrantedAt}}
		}}
	holderRows = mapper[accounts.GrantedComponent]{table: "grants", key: "component, appid",
		columns: "appid, permission_sets, refresh_token, granted_at, component",
		targets: func(h *accounts.GrantedComponent) []any { return append(grantRows.targets(&h.Grant), &h.Component) }}
)

func (t accountQueries) Grant(ctx context.Context, component, appid string) (accounts.Grant, error) {
	return grantRows.find(ctx, t.Tx, `component = $1 AND appid = $2`, component, appid)
}

func (t accountQueries) Grants(ctx context.Context, component string, offset, limit int) ([]accounts.Grant, error) {
	return grantRows.all(ctx, t.Tx, `WHERE component = $1 ORDER BY granted_at, appid LIMIT $2 OFFSET $3`, component, limit, offset)
}

func (t accountQueries) CountGrants(ctx context.Context, component string) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM grants WHERE component = $1`, component)
}

func (t accountQueries) Holders(ctx context.Context, appid string) ([]accounts.GrantedComponent, error) {
	return holderRows.all(ctx, t.Tx, `WHERE appid = $1 ORDER BY component`, appid)
}

func (t accountQueries) PutGrant(ctx context.Context, component string, g accounts.Grant) error {
	t.touched.Add(g.AppID)
	err := holderRows.put(ctx, t.Tx, accounts.GrantedComponent{Component: component, Grant: g})
	return t.noteAfter(ctx, err, ofGrant, linkKey(component, g.AppID), "put", map[string]any{"permission_sets": g.PermissionSets})
}

func (t accountQueries) DeleteGrant(ctx context.Context, component, appid string) error {
	t.touched.Add(appid)
	return t.remove(ctx, nil, ofGrant, linkKey(component, appid),
		`DELETE FROM grants WHERE component = $1 AND appid = $2`, component, appid)
}

func (t accountQueries) VerifyTicket(ctx context.Context, component, hash string) (accounts.VerifyTicket, error) {
	k := accounts.VerifyTicket{Component: component, Hash: hash}
	var issued int64
	err := t.row(ctx, `SELECT issued_at FROM component_tickets WHERE component = $1 AND hash = $2`, component, hash).Scan(&issued)
	k.IssuedAt = fromMillis(issued)
	return k, replaceNoRows(err, accounts.ErrNoTicket)
}

func (t accountQueries) PutVerifyTicket(ctx context.Context, k accounts.VerifyTicket) error {
	return t.run(ctx, `INSERT INTO component_tickets (component, hash, issued_at) VALUES ($1, $2, $3)`, k.Component, k.Hash,
		millis(k.IssuedAt))
}

func (t accountQueries) LatestVerifyTicket(ctx context.Context, component string) (time.Time, error) {
	issued, err := scalar[int64](ctx, t.Tx, `SELECT COALESCE(MAX(issued_at), 0) FROM component_tickets WHERE component = $1`, component)
	return fromMillis(issued), err
}

func (t accountQueries) ForgetVerifyTickets(ctx context.Context, component string, before time.Time) error {
	return t.run(ctx, `DELETE FROM component_tickets WHERE component = $1 AND issued_at < $2`, component, millis(before))
}

func (t accountQueries) TicketsDue(ctx context.Context, after, until time.Time, limit int) ([]string, error) {
	return list(ctx, t.Tx, scanText, `SELECT appid FROM components WHERE event_url <> '' AND NOT EXISTS
		(SELECT 1 FROM component_tickets WHERE component = components.appid AND issued_at > $1 AND issued_at <= $2)
		ORDER BY appid LIMIT $3`, millis(after), millis(until), limit)
}

var grantCodeRows = mapper[accounts.GrantCode]{table: "component_codes", key: "hash", notFound: accounts.ErrNoCode,
	columns: "hash, kind, component, appid, expires_at, used_at",
	targets: func(c *accounts.GrantCode) []any {
		return []any{&c.Hash, &c.Kind, &c.Component, &c.AppID, moment{&c.ExpiresAt}, moment{&c.UsedAt}}
	}}

func (t accountQueries) GrantCode(ctx context.Context, hash string) (accounts.GrantCode, error) {
	return grantCodeRows.find(ctx, t.Tx, `hash = $1`, hash)
}

func (t accountQueries) PutGrantCode(ctx context.Context, c accounts.GrantCode) error {
	return grantCodeRows.put(ctx, t.Tx, c, "kind", "component", "appid", "expires_at")
}

func (t accountQueries) ForgetGrantCodes(ctx context.Context, before time.Time) error {
	return t.run(ctx, `DELETE FROM component_codes WHERE expires_at < $1`, millis(before))
}

func (t accountQueries) ForgetPushes(ctx context.Context, component string, keep int) error {
	return t.run(ctx, `DELETE FROM pushes WHERE component = $1 AND next_attempt_at = 0 AND id <=
		(SELECT id FROM pushes WHERE component = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`, component, keep)
}
