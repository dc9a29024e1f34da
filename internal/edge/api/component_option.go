package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// authorizerOptionReply has no errcode, like the sample in the platform's documentation.
type authorizerOptionReply struct {
	AppID string `json:"authorizer_appid,omitempty"` // absent from the newest pages of the documentation
	Name  string `json:"option_name"`
	Value string `json:"option_value"`
}

// readOption returns the option and the account that a call names. In the newest documentation, where paths lack api_, option_name is the
// only field; the authorizer_access_token identifies the account. Contract: rules §3.2.
func (a *API) readOption(ctx context.Context, c *call, f *fields) (appid, name string, err error) {
	appid, name = f.text("authorizer_appid"), f.text("option_name")
	local := c.caller.AppID
	switch {
	case f.err != nil:
		return "", "", f.err
	case local != "" && c.component == "":
		return "", "", errcode.WantsComponent.WithDetail(behaviour.CallerWantsPlatform, "the token is %s's own", local)
	case local != "" && appid == "":
		return local, name, nil
	case appid == "" || local != "" && appid != local:
		return "", "", errcode.InvalidArgs.WithDetail(behaviour.ComponentAccountMissing, "authorizer_appid is %.40q", appid)
	case c.needs&platform == 0:
		err = a.checkOwnComponent(ctx, c, f)
	}
	return appid, name, err
}

// authorizerOption returns an option of an account to a platform. Contract: rules §3.2.
func (a *API) authorizerOption(ctx context.Context, c *call, f *fields) (any, error) {
	appid, name, err := a.readOption(ctx, c, f)
	if err != nil {
		return nil, err
	}
	reply := authorizerOptionReply{Name: name}
	if c.needs&platform != 0 {
		reply.AppID = appid
	}
	reply.Value, err = a.Accounts.Option(ctx, c.component, appid, name)
	return reply, err
}

// setAuthorizerOption sets an option of an account for a platform. Contract: rules §3.2.
func (a *API) setAuthorizerOption(ctx context.Context, c *call, f *fields) (any, error) {
	appid, name, err := a.readOption(ctx, c, f)
	if err != nil {
		return nil, err
	}
	value := f.textOrNumber("option_value")
	if f.err != nil {
		return nil, f.err
	}
	return success, a.Accounts.SetOption(ctx, c.component, appid, name, value)
}
