package api

import "context"

type preAuthCodeReply struct {
	Code      string `json:"pre_auth_code"`
	ExpiresIn int    `json:"expires_in"`
}

// createPreAuthCode creates the pre-authorisation code with which a person opens the authorisation page. Contract: rules §3.2.
func (a *API) createPreAuthCode(ctx context.Context, c *call, _ *fields) (any, error) {
	issued, err := a.Accounts.CreatePreAuthCode(ctx, c.component)
	return preAuthCodeReply{Code: issued.Text, ExpiresIn: issued.ExpiresIn}, err
}
