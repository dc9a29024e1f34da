package adminapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
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

func (a serverAPI) resolveThen(ctx context.Context, in *struct {
	Text string    `query:"text" required:"true" maxLength:"4096" doc:"what the camera read"`
	At   time.Time `query:"at" required:"true" doc:"the moment (RFC 3339)"`
	OwnedBy
	User   string      `query:"user" maxLength:"128" doc:"who scanned; left out: nobody in particular"`
	Source scan.Source `query:"source" enum:"scan,press,album" default:"scan"`
}) (pastOf client.StateAsOf, err error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return pastOf, err
	}
	now := a.Now()
	if in.At.After(now) {
		return pastOf, refused("at: %s is not past, the server's clock shows %s", in.At.UTC().Format(time.RFC3339),
			now.UTC().Format(time.RFC3339))
	}
	req := scan.Request{Text: in.Text, User: in.User, Source: in.Source, At: in.At}
	pastAnswer, err := a.Times.Resolve(ctx, req)
	if err != nil {
		return pastOf, err
	}
	req.At = now
	today := a.Resolver.Resolve(req)
	if len(accountIDs) > 0 {
		return a.theirPast(ctx, accountIDs, in.At, pastAnswer, today)
	}
	// Changes of the owner of the currently matching rule are included as well.
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
	pastOf = client.StateAsOf{At: in.At, Then: showPast(pastAnswer.Decision), Now: showPast(today),
		Since: mapped(list, showChangedSince)}
	if today.Code.Batch.ID != 0 {
		pastOf.Since, err = a.addCodeEvents(ctx, pastOf.Since, today, in.At)
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
		firstSinces = append(firstSinces, client.ChangedSince{OccurredAt: e.At, Kind: replica.CodesChange,
			Key:   strconv.FormatInt(d.Code.Batch.ID, 10),
			Actor: e.Actor, RID: e.RID, Action: string(e.Did)})
	}
	slices.SortStableFunc(firstSinces, func(x, y client.ChangedSince) int { return x.OccurredAt.Compare(y.OccurredAt) })
	return firstSinces[:min(len(firstSinces), sinceShown)], err
}

type plannedRule struct {
	Do          string `json:"do" enum:"add,edit,publish,delete" doc:"edit: the rule is what is said here from then on, also where a delete and an add would do it"`
	Owner       string `json:"owner" doc:"the account whose rule it is"`
	Prefix      string `json:"prefix" maxLength:"4096"`
	Path        string `json:"path,omitempty" doc:"add, edit: the page that opens"`
	AppID       string `json:"appid,omitempty" doc:"add, edit, for a service account: the Mini Program to open"`
	Occupy      bool   `json:"occupy,omitempty"`
	OpenVersion int    `json:"open_version,omitempty" doc:"left out: 3"`
	Published   *bool  `json:"published,omitempty" doc:"add, edit: published as well; left out: true for an add, as it is for an edit"`
}

func (a serverAPI) replayPlan(ctx context.Context, in *struct {
	Body struct {
		Changes []plannedRule `json:"changes" minItems:"1" maxItems:"1000"`
		Days    int           `json:"days" minimum:"1" maximum:"3660" default:"7"`
		Most    int64         `json:"most,omitempty" minimum:"1" maximum:"20000000" doc:"how many scans are read at most, the oldest first; left out: 20,000,000"`
	}
}) (auditlog.Replayed, error) {
	var log scanlog.Log
	if a.ScanLog != nil {
		log = a.ScanLog()
	}
	if log == nil {
		return auditlog.Replayed{}, huma.Error409Conflict("this server keeps no log of scans to replay")
	}
	plan, caller := map[string]*rules.Rule{}, adminroute.CallerFromContext(ctx)
	for i, c := range in.Body.Changes {
		switch {
		case !caller.CanAccess(c.Owner):
		// A caller that is limited to some accounts cannot replay an add: only accounts with a rule on a host see its unmatched scans.
		case caller.Scoped() && c.Do == "add":
			return auditlog.Replayed{}, huma.Error403Forbidden("an add is replayed for those who see all accounts")
		}
		owner, err := a.Accounts.Get(ctx, c.Owner)
		if errors.Is(err, accounts.ErrNoAccount) {
			return auditlog.Replayed{}, refused("changes[%d]: there is no account %.64s%s", i, c.Owner, a.nearAccount(ctx, c.Owner))
		}
		if err != nil {
			return auditlog.Replayed{}, err
		}
		draft := rules.Draft{Prefix: c.Prefix, Path: c.Path, AppID: c.AppID, Occupy: c.Occupy, OpenVersion: rules.OpenRelease}
		if c.OpenVersion != 0 {
			draft.OpenVersion = c.OpenVersion
		}
		key, r, err := a.Rules.Preview(ctx, owner, c.Do, draft, c.Published)
		if err != nil {
			return auditlog.Replayed{}, refused("changes[%d]: %s %.200s: %v", i, c.Do, c.Prefix, a.Problem(ctx, err))
		}
		plan[key] = r
	}
	return auditlog.Replay(ctx, log, a.Resolver, auditlog.Question{Plan: plan, Since: a.Now().AddDate(0, 0, -in.Body.Days),
		Most: cmp.Or(in.Body.Most, auditlog.MostReplayed), Owners: caller.Accounts})
}

// theirPast returns the part of the past result of a text that the given accounts may see: decisions about their own rules and
// codes. Anyone who scans a code sees its current effect, but the past of an account is hidden from other accounts.
func (a serverAPI) theirPast(ctx context.Context, accountIDs []string, t time.Time, pastAnswer auditlog.Answer, today scan.Decision) (
	client.StateAsOf, error) {
	ownerOf := func(d scan.Decision) string { return cmp.Or(d.Code.Batch.Account, d.Matched.Owner) }
	shown := func(d scan.Decision) client.PastDecision {
		if owner := ownerOf(d); owner != "" && !slices.Contains(accountIDs, owner) {
			return client.PastDecision{Action: string(d.Action)}
		}
		return showPast(d)
	}
	pastOf := client.StateAsOf{At: t, Then: shown(pastAnswer.Decision), Now: shown(today), Since: []client.ChangedSince{}}
	prev, current := ownerOf(pastAnswer.Decision), ownerOf(today)
	if !slices.Contains(accountIDs, prev) && !slices.Contains(accountIDs, current) {
		if prev != "" || current != "" {
			return pastOf, huma.Error403Forbidden("what opened here is another account's")
		}
		return pastOf, nil
	}
	names := pastAnswer.Names
	if name := (auditlog.Name{Kind: replica.AccountChange, Key: current}); current != "" && !slices.Contains(names, name) {
		names = append(names, name)
	}
	list, err := a.Times.Store.ChangesAfter(ctx, names, t, sinceShown)
	list = slices.DeleteFunc(list, func(e auditlog.Entry) bool { return !concernsAccounts(e, accountIDs) })
	pastOf.Since = mapped(list, showChangedSince)
	if b := today.Code.Batch; err == nil && b.ID != 0 && slices.Contains(accountIDs, b.Account) {
		pastOf.Since, err = a.addCodeEvents(ctx, pastOf.Since, today, t)
	}
	return pastOf, err
}

// concernsAccounts reports whether a change concerns one of the given accounts or a rule of these accounts.
func concernsAccounts(e auditlog.Entry, accountIDs []string) bool {
	if e.Kind == replica.AccountChange {
		return slices.Contains(accountIDs, e.Key)
	}
	var entry struct {
		Owner string `json:"owner"`
	}
	return e.Kind == replica.RuleChange && json.Unmarshal(e.Detail, &entry) == nil && slices.Contains(accountIDs, entry.Owner)
}
