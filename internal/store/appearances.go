package store

import (
	"context"
	"encoding/base64"

	"github.com/qrjump/qrjump/internal/domain/branding"
)

// appearanceRows maps the branding of accounts to rows of table appearances, except the columns with pictures.
var appearanceRows = mapper[branding.Appearance]{table: "appearances", key: "appid", notFound: branding.ErrNone,
	columns: "appid, accent, help, open_at_once, texts, logo_hash, logo_width, logo_height, logo_bytes",
	targets: func(a *branding.Appearance) []any {
		return []any{&a.AppID, &a.Accent, &a.Help, &a.OpenAtOnce, inJSON(&a.Texts), &a.Logo.Hash, &a.Logo.Width, &a.Logo.Height,
			&a.Logo.Bytes}
	}}

func (t brandingQueries) Appearance(ctx context.Context, appid string) (branding.Appearance, error) {
	return appearanceRows.find(ctx, t.Tx, `appid = $1`, appid)
}

func (t brandingQueries) Logo(ctx context.Context, hash string) ([]byte, error) {
	text, err := scalar[string](ctx, t.Tx, `SELECT logo FROM appearances WHERE logo_hash = $1 AND logo_hash <> '' LIMIT 1`, hash)
	if err != nil {
		return nil, replaceNoRows(err, branding.ErrNone)
	}
	return base64.StdEncoding.DecodeString(text)
}

func (t brandingQueries) PutAppearance(ctx context.Context, a branding.Appearance, png []byte) error {
	if err := appearanceRows.put(ctx, t.Tx, a); err != nil {
		return err
	}
	err := t.run(ctx, `UPDATE appearances SET logo = $1 WHERE appid = $2`, base64.StdEncoding.EncodeToString(png), a.AppID)
	return t.noteAfter(ctx, err, ofAppearance, a.AppID, "put", map[string]any{"accent": a.Accent, "help": a.Help,
		"open_at_once": a.OpenAtOnce, "texts": a.Texts, "logo": a.Logo.Hash})
}
