package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/errcode"
)

type loginReply struct {
	SessionKey string `json:"session_key"`
	OpenID     string `json:"openid"`
}

// tradeLogin is jscode2session: the openid of the user whose app made the
// js_code. The session key is new each time; nothing here is sealed with it.
func (a *API) tradeLogin(ctx context.Context, c *call, f *fields) (any, error) {
	code := f.text("js_code")
	credentials := accounts.Credentials{GrantType: f.text("grant_type"), AppID: f.text("appid"), Secret: f.text("secret"), IP: c.ip}
	err := a.Accounts.CheckSecret(ctx, credentials, "authorization_code")
	if err := a.spendBySecret(ctx, c, credentials.AppID, "/sns/jscode2session", err); err != nil {
		return nil, err
	}
	if code == "" {
		return nil, errcode.LoginCodeMissing.By(behaviour.LoginCodeMissing)
	}
	openid, err := a.Codes.Trade(ctx, credentials.AppID, code)
	if err != nil {
		return nil, err
	}
	var key [16]byte
	if _, err := io.ReadFull(a.Random, key[:]); err != nil {
		return nil, fmt.Errorf("drawing a session key: %w", err)
	}
	return loginReply{SessionKey: base64.StdEncoding.EncodeToString(key[:]), OpenID: openid}, nil
}
