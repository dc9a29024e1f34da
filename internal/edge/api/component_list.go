package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

type authorizer struct {
	AppID        string `json:"authorizer_appid"`
	RefreshToken string `json:"refresh_token"`
	AuthTime     int64  `json:"auth_time"`
}

type authorizerListReply struct {
	Total int          `json:"total_count"`
	List  []authorizer `json:"list"`
}

// authorizerList returns the accounts that authorised a platform. Contract: rules §3.2.
func (a *API) authorizerList(ctx context.Context, c *call, f *fields) (any, error) {
	offset, _ := f.number("offset")
	count, given := f.number("count")
	if !given {
		f.noteOrRefuse(behaviour.ComponentListDefault, "count", "a number")
		count = accounts.ListLimit
	}
	if f.err != nil {
		return nil, f.err
	}
	total, page, err := a.Accounts.Authorizations(ctx, c.component, offset, count)
	if err != nil {
		return nil, err
	}
	reply := authorizerListReply{Total: total, List: []authorizer{}}
	for _, authorization := range page {
		reply.List = append(reply.List, authorizer{authorization.Account.AppID, authorization.RefreshToken, authorization.GrantedAt.Unix()})
	}
	return reply, nil
}
