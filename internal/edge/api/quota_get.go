package api

import (
	"context"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

type quotaReply struct {
	envelope
	Quota struct {
		Limit  int `json:"daily_limit"`
		Used   int `json:"used"`
		Remain int `json:"remain"`
	} `json:"quota"`
	Rate      rate `json:"rate_limit"`
	Component rate `json:"component_rate_limit"`
}

// rate is a maximum number of calls within a period.
type rate struct {
	Calls   int `json:"call_count"`
	Seconds int `json:"refresh_second"`
}

// getQuota returns today's quota of the caller for an interface. Contract: rules §3.1.
func (a *API) getQuota(ctx context.Context, c *call, f *fields) (any, error) {
	e, err := a.quotaEndpoint(c, f)
	if err != nil {
		return nil, err
	}
	quota, err := a.Calls.Quota(ctx, c.account(), e.path)
	if err != nil {
		return nil, err
	}
	reply := quotaReply{envelope: success}
	reply.Quota.Limit, reply.Quota.Used, reply.Quota.Remain = quota.Limit, quota.Used, max(0, quota.Limit-quota.Used)
	reply.Rate = a.rateFor(e, quota.Limit)
	// On this server, calls that a platform makes in an account's name have the same limit as the account's own calls.
	reply.Component = reply.Rate
	return reply, nil
}

// rateFor returns the limit that applies in addition to the daily limit. Without an additional limit, rateFor returns the daily limit
// in the same form.
func (a *API) rateFor(e endpoint, perDay int) rate {
	switch limit := e.perSecond(a.Settings.Get()); {
	case e.path == "/cgi-bin/stable_token":
		return rate{Calls: accounts.StablePerMinute, Seconds: 60}
	case e.needs&token != 0 && limit != settings.Unlimited:
		return rate{Calls: int(limit), Seconds: 1}
	}
	return rate{Calls: perDay, Seconds: 24 * 60 * 60}
}

// quotaEndpoint returns the interface that a call names: error 76021 for an unknown path, 76022 for an interface whose quota the caller
// may not see.
func (a *API) quotaEndpoint(c *call, f *fields) (endpoint, error) {
	path := f.text("cgi_path")
	switch {
	case f.err != nil:
		return endpoint{}, f.err
	case path == "":
		return endpoint{}, errcode.InvalidArgs.WithDetail(behaviour.QuotaPathMissing, "cgi_path is missing")
	case strings.HasPrefix(path, "/") && strings.Contains(path, "/sns/"):
		return endpoint{}, errcode.PathNotPermitted.WithDetail(behaviour.QuotaPathSNS, "%.80q: quotas of /sns/ are not shown", path)
	}
	e, known := a.table[path]
	if !known {
		return endpoint{}, errcode.PathNotFound.WithDetail(behaviour.QuotaPathUnknown, "no endpoint has the path %.80q", path)
	}
	if err := a.checkQuotaAccess(c, e); err != nil {
		return endpoint{}, errcode.PathNotPermitted.WithDetail(behaviour.QuotaPathNotYours, "%s: %v", path, err)
	}
	return e, nil
}

// checkQuotaAccess returns an error if a caller has no quota for an interface: wrong kind of account, missing permission set of a platform,
// or an account that may not use the interface's family. Contract: rules §3.1.
func (a *API) checkQuotaAccess(c *call, e endpoint) error {
	isPlatformPath := strings.HasPrefix(e.path, "/cgi-bin/component/")
	switch {
	case c.caller.AppID == "" && !isPlatformPath && e.needs&eitherToken == 0:
		return errcode.Unauthorized.WithDetail(behaviour.QuotaPathNotYours, "it needs an account's token, and the caller is a platform")
	case c.caller.AppID != "" && isPlatformPath && (c.component == "" || e.needs&eitherToken == 0 || c.caller.Kind == accounts.MiniProgram):
		return errcode.WantsComponent.WithDetail(behaviour.QuotaPathNotYours, "it is for platforms")
	case c.caller.AppID == "":
		return nil
	}
	if err := c.granted(e.permissionSets.forKind(c.caller.Kind)); err != nil {
		return err
	}
	if e.permissionSets == ruleSets {
		return c.caller.JumpRules() // also rejects a personal Mini Program
	}
	if e.checkAccess == nil {
		return nil
	}
	// This check uses a separate call value, so that it does not add behaviours to the notes of c.
	return e.checkAccess(a, &call{caller: c.caller, component: c.component})
}
