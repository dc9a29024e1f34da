package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// clearQuota sets the caller's counts of today to 0; appid must be its own.
// Contract: rules 3.1.
func (a *API) clearQuota(ctx context.Context, c *call, f *fields) (any, error) {
	appid := f.text("appid")
	if f.err != nil {
		return nil, f.err
	}
	if appid != c.account() {
		return nil, errcode.InvalidAppID.WithDetail(behaviour.QuotaAppID, "appid is %.40q, the token is that of %s", appid, c.account())
	}
	return success, a.Calls.Clear(ctx, c.account(), "")
}

// clearPath sets the caller's count of one interface to 0. It is one of the
// month's ten clears too. Contract: rules 3.1.
func (a *API) clearPath(ctx context.Context, c *call, f *fields) (any, error) {
	e, err := a.quotaPath(c, f)
	if err != nil {
		return nil, err
	}
	return success, a.Calls.Clear(ctx, c.account(), e.path)
}

// clearPlatform is clearQuota for a platform, whose token and AppID the call carries:
// one of the ten clears of the month that it has in all. Contract: rules 3.2.
func (a *API) clearPlatform(ctx context.Context, c *call, _ *fields) (any, error) {
	return success, a.Calls.Clear(ctx, c.component, "")
}
