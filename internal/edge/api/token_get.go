package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// tokenReply has neither errcode nor errmsg, because some clients treat any errmsg as an error. Documented(wire.answer.bare).
// Contract: rules §3.1, clients §6.
type tokenReply struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
}

// accountCredentials returns the credentials of an account that calls without a token.
func accountCredentials(c *call, f *fields) accounts.Credentials {
	return accounts.Credentials{GrantType: f.text("grant_type"), AppID: f.text("appid"), Secret: f.text("secret"), IP: c.ip}
}

// token issues an access token; the previous token stays valid for five more minutes. Contract: rules §3.1.
func (a *API) token(ctx context.Context, c *call, f *fields) (any, error) {
	credentials := accountCredentials(c, f)
	issued, err := a.Accounts.IssueToken(ctx, credentials)
	c.attributeBySecret(credentials.AppID, err)
	a.noteTokenRequest(c, err)
	return tokenReply{AccessToken: issued.Text, ExpiresIn: issued.ExpiresIn}, err
}
