package api

import (
	"cmp"
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// permissionSets contains, for each kind of account, the permission set that a platform needs for calls in the account's name; 0 = none.
// Contract: rules §3.3.
type permissionSets struct{ miniProgram, official int }

// ruleSets contains the permission sets for jump rules: one for Mini Programs, one for service accounts.
var ruleSets = permissionSets{miniProgram: accounts.MiniProgramDev, official: accounts.AccountService}

// samePermissionSet returns a permissionSets value with the same permission set for all kinds of accounts.
func samePermissionSet(set int) permissionSets { return permissionSets{set, set} }

func (s permissionSets) forKind(kind accounts.Kind) int {
	if kind == accounts.MiniProgram {
		return s.miniProgram
	}
	return s.official
}

// accountTokenErrors lists the error codes that every endpoint with an account's token can return: MinuteLimit if a setting limits the
// calls of service accounts per minute, and errors of calls that platforms make in an account's name.
var accountTokenErrors = []*errcode.Code{errcode.MinuteLimit, errcode.Unauthorized, errcode.NotAuthorizing, errcode.InvalidIP,
	errcode.ComponentIP, errcode.InvalidComponent, errcode.NotComponentSet}

// authenticate finds the account or platform that owns the token in the query. If a platform makes the call in the account's name,
// authenticate checks the permissions of the platform. Contract: rules §1.8, the order of checks.
func (a *API) authenticate(ctx context.Context, e endpoint, c *call, s settings.Settings) (err error) {
	text := c.query.Get("access_token")
	if text == "" && e.needs&eitherToken != 0 {
		text = c.query.Get("component_access_token")
	}
	if text == "" {
		return errcode.TokenMissing.WithDetail(behaviour.CallerTokenMissing, "no access_token in the query")
	}
	identify := a.Accounts.AuthenticateWithin
	if e.needs&eitherToken != 0 {
		identify = a.Accounts.IdentifyWithin
	}
	if a.countsAcrossNodes(e, s) {
		c.bearer, c.rate = text, &accounts.Rate{Path: e.path, Limit: int(e.perSecond(s))}
		defer func() {
			if err != nil {
				a.Accounts.SetPassing(text, "")
			}
		}()
	}
	caller, err := identify(ctx, text, c.rate)
	if err != nil {
		return err
	}
	c.caller, c.component, c.granted = caller.Account, caller.Component, caller.Granted
	if err := a.Accounts.Reached(ctx, caller, c.ip); err != nil {
		return err
	}
	if caller.Outlived {
		if err := a.noteOrRefuse(c, behaviour.ComponentReauthorized, "%s authorised %s anew", c.caller.AppID, c.component); err != nil {
			return err
		}
	}
	err = caller.Granted(e.permissionSets.forKind(caller.Kind))
	if err != nil || e.checkAccess == nil || a.Settings.Refuses(behaviour.CodesGate) {
		return err
	}
	err = e.checkAccess(a, c)
	c.accessDenied = err != nil
	return err
}

// checkAccessAfterBody checks whether the account may use the endpoint's family, if a setting delays this check until the body was read.
func (a *API) checkAccessAfterBody(e endpoint, c *call) error {
	if e.checkAccess == nil || c.needs&token == 0 || !a.Settings.Refuses(behaviour.CodesGate) {
		return nil
	}
	return e.checkAccess(a, c)
}

// authenticatePlatform finds the platform that owns the token in the query. Contract: rules §3.2: the token is accepted under two
// parameter names.
func (a *API) authenticatePlatform(ctx context.Context, c *call) error {
	text := cmp.Or(c.query.Get("access_token"), c.query.Get("component_access_token"))
	if text == "" {
		return errcode.TokenMissing.WithDetail(behaviour.CallerTokenMissing, "no component_access_token in the query")
	}
	caller, err := a.Accounts.AuthenticatePlatform(ctx, text)
	if err != nil {
		return err
	}
	c.component = caller.Component
	return a.Accounts.Reached(ctx, caller, c.ip)
}

// checkOwnComponent checks that component_appid is the AppID of the platform that owns the token of the call.
func (a *API) checkOwnComponent(ctx context.Context, c *call, f *fields) error {
	appid := f.text("component_appid")
	if f.err != nil {
		return f.err
	}
	return a.Accounts.OwnComponent(ctx, accounts.Caller{Component: c.component}, appid)
}

// funcInfo describes a permission set in a response to a platform.
type funcInfo struct {
	Category typeID `json:"funcscope_category"`
}

func funcInfos(sets []int) []funcInfo {
	list := make([]funcInfo, len(sets))
	for i, id := range sets {
		list[i].Category.ID = id
	}
	return list
}

// platformCredentials returns the AppID and secret of a platform that calls without a token. The secret has two possible field
// names. Contract: rules §3.2, clients.
func platformCredentials(c *call, f *fields, secret string) accounts.PlatformCredentials {
	return accounts.PlatformCredentials{AppID: f.text("component_appid"), Secret: f.text(secret), IP: c.ip}
}
