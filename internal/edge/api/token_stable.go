package api

import "context"

// stableToken returns the same token until five minutes before its expiry, unless a refresh is forced. Contract: rules §3.1.
func (a *API) stableToken(ctx context.Context, c *call, f *fields) (any, error) {
	credentials, force := accountCredentials(c, f), f.flag("force_refresh")
	if f.err != nil {
		return nil, f.err
	}
	issued, err := a.Accounts.StableToken(ctx, credentials, force)
	c.attributeBySecret(credentials.AppID, err)
	if force {
		a.noteTokenRequest(c, err)
	}
	return tokenReply{AccessToken: issued.Text, ExpiresIn: issued.ExpiresIn}, err
}
