package adminapi

import (
	"context"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
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
	shown.Revised = revisionOf(shown, component.SecretHash, component.MessageToken, component.EncodingAESKey)
	shown.EventURL = shownURL(ctx, shown.EventURL)
	shown.Total, shown.Authorizations = authorized.Total, mapped(authorized.Page, showGrant)
	return shown
}

func (a accountAPI) listComponents(ctx context.Context, in *struct {
	After string `query:"after" doc:"only platforms with a greater AppID"`
	Page
}) (client.ComponentList, error) {
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
	DryRun
}) (client.Deletion, error) {
	has, err := a.Accounts.DeleteComponent(ctx, in.Component, in.DryRun.DryRun)
	return showDeletion(in.Component, has, !in.DryRun.DryRun), err
}

func (a accountAPI) listPushes(ctx context.Context, in *struct {
	ComponentPath
	Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
}) (client.PushList, error) {
	list, err := a.Accounts.Pushes(ctx, in.Component, in.Limit)
	return client.PushList{Pushes: mapped(list, func(p outbox.Row) client.Push {
		return client.Push{ID: p.ID, InfoType: p.Event, AppID: p.AppID, CreatedAt: p.CreatedAt, URL: shownURL(ctx, p.URL), Message: p.Shown,
			Attempts: p.Attempts, Delivered: p.State() == outbox.Delivered, SentAt: optional(p.SentAt), NextAt: optional(p.NextAt),
			Status: p.Status, Response: p.Response, Error: p.Error}
	})}, err
}

type Withdrawal struct {
	ComponentPath
	AppIDPath
}

func (a accountAPI) withdrawAuthorization(ctx context.Context, in *Withdrawal) (client.Revoked, error) {
	return client.Revoked{Revoked: true}, a.Accounts.Withdraw(ctx, in.Component, in.AppID)
}

// WithdrawalByAccount is a Withdrawal whose If-Match precondition concerns the account.
type WithdrawalByAccount struct{ Withdrawal }

func (a accountAPI) withdrawFromAccount(ctx context.Context, in *WithdrawalByAccount) (client.Revoked, error) {
	return a.withdrawAuthorization(ctx, &in.Withdrawal)
}

func (a accountAPI) listHolders(ctx context.Context, in *AppIDPath) (client.HoldingList, error) {
	list, err := a.Accounts.GrantsBy(ctx, in.AppID)
	return client.HoldingList{Authorizations: mapped(list, func(h accounts.GrantedComponent) client.Holding {
		return client.Holding{Component: h.Component, PermissionSets: append([]int{}, h.Grant.PermissionSets...),
			GrantedAt: h.Grant.GrantedAt}
	})}, err
}
