package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/errcode"
)

// authorizerOptionReply has no errcode, as the platform's sample has none.
type authorizerOptionReply struct {
	AppID string `json:"authorizer_appid"`
	Name  string `json:"option_name"`
	Value string `json:"option_value"`
}

// readOption reads whose option a call is about.
func readOption(f *fields) (appid, name string, err error) {
	appid, name = f.text("authorizer_appid"), f.text("option_name")
	if f.err == nil && appid == "" {
		f.err = errcode.InvalidArgs.With(behaviour.ComponentAccountMissing, "authorizer_appid is missing")
	}
	return appid, name, f.err
}

// authorizerOption tells a platform how an account is set. Contract: rules 3.2.
func (a *API) authorizerOption(ctx context.Context, c *call, f *fields) (any, error) {
	appid, name, err := readOption(f)
	if err != nil {
		return nil, err
	}
	value, err := a.Accounts.Option(ctx, c.component, appid, name)
	return authorizerOptionReply{AppID: appid, Name: name, Value: value}, err
}

// setAuthorizerOption sets an account for a platform. Contract: rules 3.2.
func (a *API) setAuthorizerOption(ctx context.Context, c *call, f *fields) (any, error) {
	appid, name, err := readOption(f)
	if err != nil {
		return nil, err
	}
	value := f.textOrNumber("option_value")
	if f.err != nil {
		return nil, f.err
	}
	return success, a.Accounts.SetOption(ctx, c.component, appid, name, value)
}
