package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

type authorizerTokenReply struct {
	Token        string `json:"authorizer_access_token"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"authorizer_refresh_token"`
}

// authorizerToken issues a new token of an account to a platform. Contract: rules §3.2.
func (a *API) authorizerToken(ctx context.Context, c *call, f *fields) (any, error) {
	appid, refresh := f.text("authorizer_appid"), f.text("authorizer_refresh_token")
	// A missing refresh token gets the same error as a wrong refresh token, so only the AppID is required here. Contract: rules §3.2.
	if f.err == nil && appid == "" {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.ComponentAccountMissing, "authorizer_appid is missing")
	}
	if f.err != nil {
		return nil, f.err
	}
	got, err := a.Accounts.RefreshAuthorizerToken(ctx, c.component, appid, refresh)
	a.noteTokenRequest(c, err, appid)
	return authorizerTokenReply{Token: got.Token.Text, ExpiresIn: got.Token.ExpiresIn, RefreshToken: got.RefreshToken}, err
}
