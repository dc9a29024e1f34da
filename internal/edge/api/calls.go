package api

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
)

// account returns the account of the call: the account of the token, even where a platform calls for it; the platform that shows
// its own token; or the one with the right secret.
func (c *call) account() string { return cmp.Or(c.caller.AppID, c.component, c.proven) }

// author returns the author of the call's changes.
func (c *call) author() accounts.Actor {
	actor := accounts.Actor{ActorID: c.account(), RID: c.rid}
	if actor.ActorID != c.component {
		actor.Via = c.component
	}
	return actor
}

// bySecret remembers whose call it is where a secret stands in for a token, given the outcome err. A caller with a wrong secret is
// anonymous: its calls are neither counted nor logged for an account.
func (c *call) bySecret(appid string, err error) {
	if accounts.IsGuessing(err) {
		return
	}
	switch code, _ := errcode.FromError(err); code.Number {
	case errcode.OK.Number, errcode.InvalidIP.Number, errcode.SecretFrozen.Number, errcode.DailyLimit.Number, errcode.MinuteLimit.Number,
		errcode.TicketExpired.Number, errcode.TicketInvalid.Number, errcode.ComponentIP.Number:
		c.proven = appid
	}
}

// remember puts a call into the log that openapi/rid/get asks. Anonymous calls are not in it: no account could ask for them.
func (a *API) remember(r Record) {
	if r.Account == "" {
		return
	}
	a.Calls.Record(r.Kept())
}

// Kept returns the call as its log keeps it.
func (r Record) Kept() apiusage.Call {
	path, query, _ := strings.Cut(r.URL, "?")
	kept := apiusage.Call{RID: r.RID, Account: r.Account, OccurredAt: r.At, Took: r.Took, Path: path, Query: query,
		Request: r.Request, Response: r.Answer, ClientIP: r.IP, ErrCode: r.ErrCode,
		Detail: r.Detail}
	for _, row := range r.Behaviours {
		kept.Behaviours = append(kept.Behaviours, row.String())
	}
	return kept
}

// spendBySecret does for calls with a secret what run does for those with a token: it notes whose
// the call is and counts it.
func (a *API) spendBySecret(ctx context.Context, c *call, appid, path string, err error) error {
	c.bySecret(appid, err)
	if err != nil {
		return err
	}
	return a.Calls.Spend(ctx, appid, path)
}

// notAccount turns 61024, whose text speaks of tokens, into 40013.
func notAccount(err error) error {
	if errors.Is(err, errcode.ComponentToken) {
		return errcode.InvalidAppID.WithDetail(behaviour.QuotaPlatform, "the AppID is a third-party platform's")
	}
	return err
}
