package api

import "context"

type queryAuthReply struct {
	Info struct {
		AppID        string     `json:"authorizer_appid"`
		Token        string     `json:"authorizer_access_token"`
		ExpiresIn    int        `json:"expires_in"`
		RefreshToken string     `json:"authorizer_refresh_token"`
		Sets         []funcInfo `json:"func_info"`
	} `json:"authorization_info"`
}

// queryAuth exchanges an authorization_code for the tokens of the account. Contract: rules §3.2.
func (a *API) queryAuth(ctx context.Context, c *call, code string) (any, error) {
	got, err := a.Accounts.TradeAuthCode(ctx, c.component, code)
	if err != nil {
		return nil, err
	}
	var reply queryAuthReply
	reply.Info.AppID, reply.Info.Token, reply.Info.ExpiresIn = got.Account.AppID, got.Token.Text, got.Token.ExpiresIn
	reply.Info.RefreshToken, reply.Info.Sets = got.RefreshToken, funcInfos(got.Sets)
	return reply, nil
}
