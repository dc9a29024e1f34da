package api

import "context"

// endLink removes the link between the calling service account and a Mini Program. Contract: rules §3.4.
func (a *API) endLink(ctx context.Context, c *call, appid string) (any, error) {
	return success, a.Accounts.EndLink(ctx, c.caller, appid)
}
