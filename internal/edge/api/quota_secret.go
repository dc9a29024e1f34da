package api

import (
	"cmp"
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// clearBySecret implements clearQuota with the account's secret, for an account that has no calls left to fetch a token. Contract:
// rules §3.1; clients send appid and appsecret in the query.
func (a *API) clearBySecret(ctx context.Context, c *call, f *fields) (any, error) {
	const grant = "client_credential" // fixed value, because the call has no grant_type field
	credentials := accounts.Credentials{GrantType: grant, AppID: f.text("appid"), Secret: f.text("appsecret"), IP: c.ip}
	if f.err != nil {
		return nil, f.err
	}
	err := rejectPlatform(a.Accounts.CheckSecret(ctx, credentials, grant))
	if err := a.spendBySecret(ctx, c, credentials.AppID, "/cgi-bin/clear_quota/v2", err); err != nil {
		return nil, err
	}
	return success, a.Calls.Clear(ctx, credentials.AppID, "")
}

// clearByPlatform implements clearBySecret for a platform: with appid, the call resets the counts of an account that authorised the
// platform and uses one of that account's monthly resets; without appid, it resets the platform's own counts. Contract: rules §3.1.
func (a *API) clearByPlatform(ctx context.Context, c *call, f *fields) (any, error) {
	credentials := platformCredentials(c, f, "appsecret")
	target := cmp.Or(f.text("appid"), credentials.AppID)
	if f.err != nil {
		return nil, f.err
	}
	err := a.Accounts.CheckPlatform(ctx, credentials, target)
	if err := a.spendBySecret(ctx, c, credentials.AppID, "/cgi-bin/component/clear_quota/v2", err); err != nil {
		return nil, err
	}
	return success, a.Calls.Clear(ctx, target, "")
}
