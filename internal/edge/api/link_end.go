package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

// endLink removes the link between the calling service account and a Mini Program. Contract: rules §3.4.
func (a *API) endLink(ctx context.Context, c *call, f *fields) (any, error) {
	appid := f.required("appid", behaviour.LinkAppIDMissing, "appid is missing")
	if f.err != nil {
		return nil, f.err
	}
	return success, a.Accounts.EndLink(ctx, c.caller, appid)
}
