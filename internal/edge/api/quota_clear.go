package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// clearQuota resets the caller's call counts of today to 0; appid must be the caller's own. Contract: rules §3.1.
func (a *API) clearQuota(ctx context.Context, c *call, f *fields) (any, error) {
	appid := f.text("appid")
	if f.err != nil {
		return nil, f.err
	}
	if appid != c.account() {
		return nil, errcode.InvalidAppID.WithDetail(behaviour.QuotaAppID, "appid is %.40q, but the token belongs to %s", appid, c.account())
	}
	return success, a.Calls.Clear(ctx, c.account(), "")
}

// clearPath resets the caller's call count of one interface to 0. A reset of one interface also uses one of the ten quota resets
// per month. Contract: rules §3.1.
func (a *API) clearPath(ctx context.Context, c *call, f *fields) (any, error) {
	e, err := a.quotaEndpoint(c, f)
	if err != nil {
		return nil, err
	}
	return success, a.Calls.Clear(ctx, c.account(), e.path)
}

// clearPlatform implements clearQuota for a platform, identified by its token and AppID; each call uses one of the platform's ten
// resets per month. Contract: rules §3.2.
func (a *API) clearPlatform(ctx context.Context, c *call, _ *fields) (any, error) {
	return success, a.Calls.Clear(ctx, c.component, "")
}
