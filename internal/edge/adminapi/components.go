package adminapi

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

type ComponentPath struct {
	Component string `path:"component" maxLength:"128"`
}

func showGrant(g accounts.Authorization) client.Authorization {
	return client.Authorization{AppID: g.Account.AppID, PermissionSets: append([]int{}, g.Sets...), GrantedAt: g.GrantedAt}
}

// showComponent returns a component for a response, without secrets.
func showComponent(ctx context.Context, component accounts.Component, authorized accounts.Authorizations) client.Component {
	shown := client.Component{AppID: component.AppID, EventURL: component.EventURL, IPAllowlist: words[string](component.IPAllowlist),
		RedirectHosts: words[string](component.RedirectHosts),
		CreatedAt:     component.CreatedAt}
	// The grants of accounts to a platform are excluded from the revision, because calls of the wire API change them.
	shown.HasRevision = revisionOf(shown, component.SecretHash, component.MessageToken, component.EncodingAESKey)
	shown.EventURL = shownURL(ctx, shown.EventURL)
	shown.Total, shown.Authorizations = authorized.Total, mapped(authorized.Page, showGrant)
	return shown
}

func (a accountAPI) listComponents(ctx context.Context, in *client.ComponentQuery) (client.ComponentList, error) {
	page, err := a.Accounts.ListComponents(ctx, in.After, in.Limit)
	shown := client.ComponentList{Components: []client.Component{}}
	if err != nil {
		return shown, err
	}
	authorized, err := a.Accounts.AuthorizationsOf(ctx, mapped(page, func(c accounts.Component) string { return c.AppID }))
	for i := range authorized {
		shown.Components = append(shown.Components, showComponent(ctx, page[i], authorized[i]))
	}
	return shown, err
}

func (a accountAPI) getComponent(ctx context.Context, in *ComponentPath) (client.Component, error) {
	component, err := a.Accounts.GetComponent(ctx, in.Component)
	if err != nil {
		return client.Component{}, err
	}
	authorized, err := a.Accounts.AuthorizationsOf(ctx, []string{component.AppID})
	if err != nil {
		return client.Component{}, err
	}
	return showComponent(ctx, component, authorized[0]), nil
}

func (a accountAPI) putComponent(ctx context.Context, in *struct {
	ComponentPath
	Body client.ComponentPut
}) (client.Component, error) {
	b := in.Body
	err := a.Accounts.ChangeComponent(ctx, in.Component, func(component *accounts.Component) {
		if b.EventURL != nil {
			component.EventURL = *b.EventURL
		}
		// An empty list replaces the stored list; an absent list leaves the stored list unchanged.
		if b.IPAllowlist != nil {
			component.IPAllowlist = *b.IPAllowlist
		}
		if b.RedirectHosts != nil {
			component.RedirectHosts = *b.RedirectHosts
		}
	}, b.Secret, b.MessageToken, b.EncodingAESKey)
	return readAfter(ctx, err, a.getComponent, &in.ComponentPath)
}

func (a accountAPI) deleteComponent(ctx context.Context, in *struct {
	ComponentPath
	client.DeletionQuery
}) (client.Deletion, error) {
	has, err := a.Accounts.DeleteComponent(ctx, in.Component, in.DryRun)
	return showDeletion(in.Component, has, !in.DryRun), err
}

func (a accountAPI) listPushes(ctx context.Context, in *struct {
	ComponentPath
	client.PushQuery
}) (client.PushList, error) {
	list, err := a.Accounts.Pushes(ctx, in.Component, in.Limit)
	return client.PushList{Pushes: mapped(list, func(p outbox.Row) client.Push {
		return client.Push{ID: p.ID, InfoType: p.Event, AppID: p.AppID, CreatedAt: p.CreatedAt, URL: shownURL(ctx, p.URL), Message: p.Shown,
			Attempts: p.Attempts, Delivered: p.State() == outbox.Delivered, SentAt: optional(p.SentAt), NextAt: optional(p.NextAt),
			Status: p.Status, Response: p.Response, Error: p.Error}
	})}, err
}

type Revocation struct {
	ComponentPath
	AppIDPath
}

func (a accountAPI) revokeAuthorization(ctx context.Context, in *Revocation) (client.Revoked, error) {
	return client.Revoked{Revoked: true}, a.Accounts.Revoke(ctx, in.Component, in.AppID)
}

// RevocationByAccount is a Revocation whose If-Match precondition concerns the account.
type RevocationByAccount struct{ Revocation }

func (a accountAPI) revokeAccountAuthorization(ctx context.Context, in *RevocationByAccount) (client.Revoked, error) {
	return a.revokeAuthorization(ctx, &in.Revocation)
}

func (a accountAPI) listAccountAuthorizations(ctx context.Context, in *AppIDPath) (client.ComponentGrantList, error) {
	list, err := a.Accounts.GrantsBy(ctx, in.AppID)
	return client.ComponentGrantList{Authorizations: mapped(list, func(h accounts.GrantedComponent) client.ComponentGrant {
		return client.ComponentGrant{Component: h.Component, PermissionSets: append([]int{}, h.Grant.PermissionSets...),
			GrantedAt: h.Grant.GrantedAt}
	})}, err
}

// candidates is the default number of accounts in a response.
const candidates = 50

func (a accountAPI) lookupAuthorization(ctx context.Context, in *struct {
	Body client.ConsentQuery
}) (client.AuthorizationRequest, error) {
	asked, err := a.Accounts.OpenRequest(ctx, in.Body.Reference)
	if err != nil {
		return client.AuthorizationRequest{}, unread(err)
	}
	list, hasMore, err := a.Accounts.Candidates(ctx, asked, in.Body.Part, cmp.Or(in.Body.Limit, candidates),
		adminroute.CallerFromContext(ctx).CanAccess)
	return client.AuthorizationRequest{Component: asked.Component.AppID, ReturnTo: asked.Origin(),
		PermissionSets: append([]int{}, asked.Sets...), More: hasMore, Accounts: mapped(list,
			func(account accounts.Account) client.RequestedAccount {
				return client.RequestedAccount{AppID: account.AppID, Name: account.Name, Kind: string(account.Kind)}
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

func (a accountAPI) grantAuthorization(ctx context.Context, in *struct {
	Body client.ConsentGrant
}) (client.ConsentResult, error) {
	b := in.Body
	asked, err := a.Accounts.OpenRequest(ctx, b.Reference)
	if err != nil {
		return client.ConsentResult{}, unread(err)
	}
	if !adminroute.CallerFromContext(ctx).CanAccess(b.AppID) {
		return client.ConsentResult{}, huma.Error403Forbidden("appid: you may not grant authorizations of this account")
	}
	account, err := a.Accounts.Get(ctx, b.AppID)
	if errors.Is(err, accounts.ErrNoAccount) || err == nil && !asked.Suits(account) {
		return client.ConsentResult{}, refused("appid: want one of the accounts that the platform requests")
	}
	if err != nil {
		return client.ConsentResult{}, err
	}
	if len(b.PermissionSets) == 0 ||
		slices.ContainsFunc(b.PermissionSets, func(id int) bool { return !slices.Contains(asked.Sets, id) }) {
		return client.ConsentResult{}, refused("permission_sets: want at least one of those that the platform requests")
	}
	code, err := a.Accounts.Agree(ctx, accounts.Agreement{Component: asked.Component.AppID, PreAuthCode: asked.PreAuthCode,
		AppID: b.AppID, Sets: b.PermissionSets, ForceExclusive: b.Move})
	if err != nil {
		return client.ConsentResult{}, unread(err)
	}
	return client.ConsentResult{Location: asked.Return(code)}, nil
}
