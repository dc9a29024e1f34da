package adminapi

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

func showPast(d scan.Decision) client.PastDecision {
	o := client.PastDecision{Action: string(d.Action), AppID: d.AppID, Version: string(d.Version), Path: d.Path, Scene: d.Scene, URL: d.URL,
		Text: d.Text, Reason: string(d.Reason)}
	switch {
	case d.Code.Batch.ID != 0:
		o.Matched = &client.PastMatch{Kind: string(scan.ByCode), ApplicationID: d.Code.Batch.ID, CodeIndex: &d.Code.Index}
	case d.Kind != "":
		o.Matched = &client.PastMatch{Kind: string(d.Kind), Prefix: d.Matched.Prefix, Owner: d.Matched.Owner}
	}
	return o
}

// sinceShown is the maximum number of changes since a point in time that a response lists.
const sinceShown = 100

func (a serverAPI) resolveAsOf(ctx context.Context, in *client.ResolveAsOfQuery) (pastOf client.StateAsOf, err error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return pastOf, err
	}
	now := a.Now()
	if in.At.After(now) {
		return pastOf, refused("at: %s is not in the past: the server's clock shows %s", in.At.UTC().Format(time.RFC3339),
			now.UTC().Format(time.RFC3339))
	}
	req := scan.Request{Text: in.Text, User: in.User, Source: scan.Source(in.Source), At: in.At}
	anonymous := req
	anonymous.User = ""
	// The result must not reveal which users may test links of another account.
	public := func(d scan.Decision) bool {
		return len(accountIDs) > 0 && !slices.Contains(accountIDs, decisionOwner(d))
	}
	pastAnswer, err := a.Times.Resolve(ctx, req)
	if err == nil && public(pastAnswer.Decision) {
		pastAnswer, err = a.Times.Resolve(ctx, anonymous)
	}
	if err != nil {
		return pastOf, err
	}
	req.At, anonymous.At = now, now
	today := a.Resolver.Resolve(req)
	if public(today) {
		today = a.Resolver.Resolve(anonymous)
	}
	if len(accountIDs) > 0 {
		return a.theirPast(ctx, accountIDs, in.At, pastAnswer, today)
	}
	// The result also contains changes of the accounts that the text concerns now: the rule's owner and the Mini Program.
	names := pastAnswer.Names
	for _, appid := range []string{today.Matched.Owner, today.Matched.Target, today.AppID} {
		if name := (auditlog.Name{Kind: replica.AccountChange, Key: appid}); appid != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	list, err := a.Times.Store.ChangesAfter(ctx, names, in.At, sinceShown)
	if err != nil {
		return pastOf, err
	}
	pastOf = client.StateAsOf{AsOf: in.At, Past: showPast(pastAnswer.Decision), Current: showPast(today),
		Changes: mapped(list, showChangedSince)}
	if today.Code.Batch.ID != 0 {
		pastOf.Changes, err = a.addCodeEvents(ctx, pastOf.Changes, today, in.At)
	}
	return pastOf, err
}

func showChangedSince(e auditlog.Entry) client.ChangedSince {
	return client.ChangedSince{OccurredAt: e.OccurredAt, Kind: e.Kind, Key: e.Key, Actor: e.Actor, Via: e.Via, RID: e.RID,
		Action: e.Action, Seq: e.Seq}
}

// addCodeEvents appends the events of a code since a point in time.
func (a serverAPI) addCodeEvents(ctx context.Context, firstSinces []client.ChangedSince, d scan.Decision, t time.Time) (
	[]client.ChangedSince, error) {
	events, err := a.Codes.EventsAfter(ctx, d.Code.Batch.ID, d.Code.Index, t)
	for _, e := range slices.Backward(events) {
		firstSinces = append(firstSinces, client.ChangedSince{OccurredAt: e.OccurredAt, Kind: replica.CodesChange,
			Key: strconv.FormatInt(d.Code.Batch.ID, 10), Actor: e.Actor, RID: e.RID, Action: string(e.Action)})
	}
	slices.SortStableFunc(firstSinces, func(x, y client.ChangedSince) int { return x.OccurredAt.Compare(y.OccurredAt) })
	return firstSinces[:min(len(firstSinces), sinceShown)], err
}

func (a serverAPI) replayPlan(ctx context.Context, in *struct{ Body client.ReplayPlanRequest }) (client.ReplayResult, error) {
	var log scanlog.Log
	if a.ScanLog != nil {
		log = a.ScanLog()
	}
	if log == nil {
		return client.ReplayResult{}, huma.Error409Conflict("this server has no scan log to replay")
	}
	plan, caller := map[string]*rules.Rule{}, adminroute.CallerFromContext(ctx)
	for i, c := range in.Body.Changes {
		switch {
		case !caller.CanAccess(c.Owner):
			return client.ReplayResult{}, notTheirs(caller)
		// A caller limited to some accounts cannot replay an added rule: it may see unmatched scans only of the hosts of its own rules.
		case caller.Scoped() && c.Action == "add":
			return client.ReplayResult{}, huma.Error403Forbidden("replaying an add needs access to all accounts")
		}
		owner, err := a.Accounts.Get(ctx, c.Owner)
		if errors.Is(err, accounts.ErrNoAccount) {
			return client.ReplayResult{}, refused("changes[%d]: there is no account %.64s%s", i, c.Owner, a.nearAccount(ctx, c.Owner))
		}
		if err != nil {
			return client.ReplayResult{}, err
		}
		draft := rules.Draft{Prefix: c.Prefix, Path: c.Path, AppID: c.AppID, Occupy: c.Occupy, OpenVersion: rules.OpenRelease}
		if c.OpenVersion != 0 {
			draft.OpenVersion = c.OpenVersion
		}
		key, r, err := a.Rules.Preview(ctx, owner, c.Action, draft, c.Published)
		if err != nil {
			return client.ReplayResult{}, refused("changes[%d]: %s %.200s: %v", i, c.Action, c.Prefix, a.Problem(ctx, err))
		}
		plan[key] = r
	}
	return auditlog.Replay(ctx, log, a.Resolver, auditlog.ReplayQuery{Plan: plan, Since: a.Now().AddDate(0, 0, -in.Body.Days),
		MaxScans: cmp.Or(in.Body.MaxScans, auditlog.MaxReplayed), Owners: caller.Accounts})
}

// decisionOwner returns the account whose code or rule decides a scan; "" = none.
func decisionOwner(d scan.Decision) string { return cmp.Or(d.Code.Batch.Account, d.Matched.Owner) }

// theirPast returns the part of the past result of a text that the given accounts may see: decisions about their own rules and codes. Every
// scan of a code shows its current effect, but the past of an account is hidden from other accounts.
func (a serverAPI) theirPast(ctx context.Context, accountIDs []string, t time.Time, pastAnswer auditlog.Answer, today scan.Decision) (
	client.StateAsOf, error) {
	shown := func(d scan.Decision) client.PastDecision {
		if owner := decisionOwner(d); owner != "" && !slices.Contains(accountIDs, owner) {
			return client.PastDecision{Action: string(d.Action)}
		}
		return showPast(d)
	}
	pastOf := client.StateAsOf{AsOf: t, Past: shown(pastAnswer.Decision), Current: shown(today), Changes: []client.ChangedSince{}}
	prev, current := decisionOwner(pastAnswer.Decision), decisionOwner(today)
	if !slices.Contains(accountIDs, prev) && !slices.Contains(accountIDs, current) {
		return pastOf, nil
	}
	names := pastAnswer.Names
	if name := (auditlog.Name{Kind: replica.AccountChange, Key: current}); current != "" && !slices.Contains(names, name) {
		names = append(names, name)
	}
	list, err := a.Times.Store.ChangesAfter(ctx, names, t, sinceShown)
	list = slices.DeleteFunc(list, func(e auditlog.Entry) bool { return !concernsAccounts(e, accountIDs) })
	pastOf.Changes = mapped(list, showChangedSince)
	if b := today.Code.Batch; err == nil && b.ID != 0 && slices.Contains(accountIDs, b.Account) {
		pastOf.Changes, err = a.addCodeEvents(ctx, pastOf.Changes, today, t)
	}
	return pastOf, err
}

// concernsAccounts reports whether a change concerns one of the given accounts or a rule of these accounts.
func concernsAccounts(e auditlog.Entry, accountIDs []string) bool {
	if e.Kind == replica.AccountChange {
		return slices.Contains(accountIDs, e.Key)
	}
	return e.Kind == replica.RuleChange && slices.Contains(accountIDs, ownerIn(e))
}

type changeList struct {
	Changes []auditlog.Entry `json:"changes"`
}

func (a serverAPI) listChanges(ctx context.Context, in *client.ChangesQuery) (changeList, error) {
	if in.Key != "" && in.Kind == "" {
		return changeList{}, refused("key: give the kind too, for example kind=rule")
	}
	if in.Kind != "" && !slices.Contains(auditlog.Kinds, in.Kind) {
		return changeList{}, refused("kind: there is no %q%s; the kinds are %s", in.Kind, suggest.DidYouMean(in.Kind, auditlog.Kinds...),
			strings.Join(auditlog.Kinds, ", "))
	}
	list, err := a.History.Entries(ctx, auditlog.Query{After: in.After, Before: in.Before, Newest: in.Newest, Kind: in.Kind, Key: in.Key,
		Actor: in.Actor, Limit: in.Limit})
	return changeList{append([]auditlog.Entry{}, list...)}, err
}

func (a serverAPI) verifyAudit(ctx context.Context, _ *client.Empty) (auditlog.Checked, error) {
	done, err := a.History.VerifyChanges(ctx)
	if err == nil {
		done.Orphans, err = a.History.Orphans(ctx, a.Codes.Memory.Targets(a.Now()))
	}
	return done, err
}

func (a serverAPI) undoRuleChange(ctx context.Context, in *struct {
	Seq int64 `path:"seq" minimum:"1"`
}) (client.RuleChange, error) {
	done, err := a.Rules.Undo(ctx, in.Seq)
	if err != nil {
		return client.RuleChange{}, err
	}
	done.Seq = 0
	if newest, err := a.Rules.History(ctx, done.Rule.Prefix.Text, 1); err == nil && len(newest) == 1 {
		done.Seq = newest[0].Seq
	}
	return showRuleChange(done), nil
}
