package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// checkLinks returns error 48001 for kinds of accounts that have no links, and for accounts that call with their own token unless the
// operator allows such calls. Contract: rules §3.4.
func (a *API) checkLinks(c *call) error {
	if c.component == "" && a.Settings.Refuses(behaviour.LinkOwnTaken) {
		return errcode.Unauthorized.WithDetail(behaviour.LinkOwnToken,
			"only a third-party platform may call this for %s; behaviours {\"link.own_token_taken\": \"allow\"} lets accounts themselves", c.caller.AppID)
	}
	if c.component == "" {
		c.notes.Add(behaviour.LinkOwnTaken)
	}
	return c.caller.MayLink()
}

func readLinkRequest(f *fields) (accounts.LinkRequest, error) {
	r := accounts.LinkRequest{MiniProgram: f.text("appid"),
		NotifyUsers: f.numericFlag("notify_users"), ShowProfile: f.numericFlag("show_profile")}
	switch {
	case f.err != nil:
	case r.MiniProgram == "":
		f.err = errcode.InvalidArgs.WithDetail(behaviour.LinkAppIDMissing, "appid is missing")
	case f.isAbsent("notify_users") && f.isAbsent("show_profile"):
		// Contract: clients §17: two clients disagree on the meaning of a call that has neither field.
		f.err = errcode.InvalidArgs.WithDetail(behaviour.LinkFlagsMissing, "neither notify_users nor show_profile is given")
	}
	return r, f.err
}

// askLink requests a link between the calling service account and a Mini Program. Contract: rules §3.4.
func (a *API) askLink(ctx context.Context, c *call, r accounts.LinkRequest) (any, error) {
	return success, a.Accounts.AskLink(ctx, c.caller, r)
}
