package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

type loginReply struct {
	SessionKey string `json:"session_key"`
	OpenID     string `json:"openid"`
	UnionID    string `json:"unionid,omitempty"`
}

// tradeLogin implements jscode2session: it returns the openid of the user whose app produced the js_code. The session key is random
// for each call; this server encrypts nothing with the key.
func (a *API) tradeLogin(ctx context.Context, c *call, f *fields) (any, error) {
	code := f.text("js_code")
	credentials := accountCredentials(c, f)
	err := a.Accounts.CheckSecret(ctx, credentials, "authorization_code")
	if err := a.spendBySecret(ctx, c, credentials.AppID, "/sns/jscode2session", err); err != nil {
		return nil, err
	}
	if code == "" {
		return nil, errcode.LoginCodeMissing.WithRow(behaviour.LoginCodeMissing)
	}
	return a.tradeCode(ctx, credentials.AppID, code)
}

// tradeLoginByPlatform implements jscode2session for a platform that an account authorised: the platform's token replaces the account's
// secret. tradeLoginByPlatform checks for errors in the same order as tradeLogin. Contract: rules §3.2.
func (a *API) tradeLoginByPlatform(ctx context.Context, c *call, f *fields) (any, error) {
	appid, grant, code := f.text("appid"), f.text("grant_type"), f.text("js_code")
	switch {
	case f.err != nil:
		return nil, f.err
	case appid == "":
		return nil, errcode.AppIDMissing.WithRow(behaviour.TokenAppIDMissing)
	}
	if _, err := a.Accounts.Get(ctx, appid); errors.Is(err, accounts.ErrNoAccount) {
		return nil, errcode.InvalidAppID.WithDetail(behaviour.TokenAppIDUnknown, "no account has the AppID %q", appid)
	} else if err != nil {
		return nil, err
	}
	if grant != "authorization_code" {
		return nil, errcode.InvalidGrantType.WithDetail(behaviour.TokenGrant, "grant_type is %q, not authorization_code", grant)
	}
	if err := a.authenticatePlatform(ctx, c); errors.Is(err, errcode.ComponentIP) {
		return nil, errcode.InvalidSource.Addressed(c.ip).WithDetail(behaviour.LoginAddress, "not in ip_allowlist of %s", c.component)
	} else if err != nil {
		return nil, err
	}
	if err := a.checkOwnComponent(ctx, c, f); err != nil {
		return nil, err
	}
	granted, err := a.Accounts.Authorization(ctx, c.component, appid)
	if err != nil {
		return nil, err
	}
	c.caller = granted.Account
	if err := a.Calls.Spend(ctx, appid, "/sns/component/jscode2session"); err != nil {
		return nil, err
	}
	if code == "" {
		return nil, errcode.LoginCodeMissing.WithRow(behaviour.LoginCodeMissing)
	}
	return a.tradeCode(ctx, appid, code)
}

// tradeCode exchanges a js_code for the identity of the account's user.
func (a *API) tradeCode(ctx context.Context, appid, code string) (any, error) {
	login, err := a.Codes.ExchangeLoginCode(ctx, appid, code)
	if err != nil {
		return nil, err
	}
	var key [16]byte
	if _, err := io.ReadFull(a.Random, key[:]); err != nil {
		return nil, fmt.Errorf("drawing a session key: %w", err)
	}
	return loginReply{SessionKey: base64.StdEncoding.EncodeToString(key[:]), OpenID: login.OpenID, UnionID: login.UnionID}, nil
}
