package adminapi

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// candidates is the default number of accounts in a response.
const candidates = 50

func (a accountAPI) lookupAuthorization(ctx context.Context, in *struct {
	Body client.AuthorizationQuestion
}) (client.AuthorizationRequest, error) {
	asked, err := a.Accounts.OpenRequest(ctx, in.Body.Reference)
	if err != nil {
		return client.AuthorizationRequest{}, unread(err)
	}
	list, hasMore, err := a.Accounts.Candidates(ctx, asked, in.Body.Part, cmp.Or(in.Body.Limit, candidates),
		adminroute.CallerFromContext(ctx).CanAccess)
	return client.AuthorizationRequest{Component: asked.Component.AppID, ReturnTo: asked.Origin(),
		PermissionSets: append([]int{}, asked.Sets...), More: hasMore, Accounts: mapped(list,
			func(account accounts.Account) client.AskedAccount {
				return client.AskedAccount{AppID: account.AppID, Name: account.Name, Kind: string(account.Kind)}
			})}, err
}

// unread returns the problem for an invalid authorization reference.
func unread(err error) error {
	if bad, is := errors.AsType[accounts.BadRequest](err); is {
		return refused("reference: %s", bad)
	}
	if bad, is := errors.AsType[accounts.Invalid](err); is {
		return refused("reference: %s", string(bad))
	}
	return err
}

func (a accountAPI) agreeToPlatform(ctx context.Context, in *struct {
	Body client.AuthorizationAgreed
}) (client.AuthorizationMade, error) {
	b := in.Body
	asked, err := a.Accounts.OpenRequest(ctx, b.Reference)
	if err != nil {
		return client.AuthorizationMade{}, unread(err)
	}
	if !adminroute.CallerFromContext(ctx).CanAccess(b.AppID) {
		return client.AuthorizationMade{}, huma.Error403Forbidden("appid: you may not grant authorizations of this account")
	}
	account, err := a.Accounts.Get(ctx, b.AppID)
	if errors.Is(err, accounts.ErrNoAccount) || err == nil && !asked.Suits(account) {
		return client.AuthorizationMade{}, refused("appid: want one of the accounts that the platform requests")
	}
	if err != nil {
		return client.AuthorizationMade{}, err
	}
	if len(b.PermissionSets) == 0 || slices.ContainsFunc(b.PermissionSets, func(id int) bool { return !slices.Contains(asked.Sets, id) }) {
		return client.AuthorizationMade{}, refused("permission_sets: want at least one of those that the platform requests")
	}
	code, err := a.Accounts.Agree(ctx, accounts.Agreement{Component: asked.Component.AppID, PreAuthCode: asked.PreAuthCode,
		AppID: b.AppID, Sets: b.PermissionSets, ForceExclusive: b.Move})
	if err != nil {
		return client.AuthorizationMade{}, unread(err)
	}
	return client.AuthorizationMade{Location: asked.Return(code)}, nil
}
