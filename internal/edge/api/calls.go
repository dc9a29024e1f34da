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

// account returns the AppID to which the call is attributed. The result is the account of the token, even if a platform makes the call; the
// platform, if the token is a platform's own; or, without a token, the account that sent its valid secret.
func (c *call) account() string { return cmp.Or(c.caller.AppID, c.component, c.secretOwner) }

// actor returns the actor that the audit log names for changes of this call.
func (c *call) actor() accounts.Actor {
	actor := accounts.Actor{ActorID: c.account(), RID: c.rid}
	if actor.ActorID != c.component {
		actor.Via = c.component
	}
	return actor
}

// attributeBySecret sets the account of a call that authenticates with a secret instead of a token; err is the result of the check of the
// secret. A caller with a wrong secret stays anonymous: its calls are neither counted nor logged for an account.
func (c *call) attributeBySecret(appid string, err error) {
	if _, guessing := errors.AsType[accounts.Guessing](err); guessing {
		return
	}
	switch code, _ := errcode.FromError(err); code.Number {
	case errcode.OK.Number, errcode.InvalidIP.Number, errcode.SecretFrozen.Number, errcode.DailyLimit.Number, errcode.MinuteLimit.Number,
		errcode.TicketExpired.Number, errcode.TicketInvalid.Number, errcode.ComponentIP.Number:
		c.secretOwner = appid
	}
}

// recordCall writes a call to the log that openapi/rid/get reads. Anonymous calls are not logged, because no account could query them.
func (a *API) recordCall(r Record) {
	if r.Account == "" {
		return
	}
	a.Calls.Record(r.LogEntry())
}

// LogEntry returns the call in the form in which the call log stores it.
func (r Record) LogEntry() apiusage.Call {
	path, query, _ := strings.Cut(r.URL, "?")
	return apiusage.Call{RID: r.RID, Account: r.Account, OccurredAt: r.At, Duration: r.Took, Path: path, Query: query,
		Request: r.Request, Response: r.Answer, ClientIP: r.IP, ErrCode: r.ErrCode, Detail: r.Detail, Behaviours: r.Behaviours}
}

// spendBySecret sets the account of a call that authenticates with a secret, and counts the call, as run does for calls with a token.
func (a *API) spendBySecret(ctx context.Context, c *call, appid, path string, err error) error {
	c.attributeBySecret(appid, err)
	if err != nil {
		return err
	}
	return a.Calls.Spend(ctx, appid, path)
}

// rejectPlatform replaces error 61024, whose text concerns tokens, with 40013.
func rejectPlatform(err error) error {
	if errors.Is(err, errcode.ComponentToken) {
		return errcode.InvalidAppID.WithDetail(behaviour.QuotaPlatform, "the AppID is a third-party platform's")
	}
	return err
}
