package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/history"
	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/live"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/scan"
)

// opened is a decision as the past shows it: no scan id, no ticket.
type opened struct {
	Action  scan.Action  `json:"action"`
	AppID   string       `json:"appid,omitempty"`
	Version string       `json:"version,omitempty"`
	Path    string       `json:"path,omitempty"`
	Scene   int          `json:"scene,omitempty"`
	URL     string       `json:"url,omitempty"`
	Text    string       `json:"text,omitempty"`
	Reason  codes.Reason `json:"reason,omitempty"`
	Matched *openedMatch `json:"matched,omitempty"`
}

type openedMatch struct {
	Kind   scan.MatchKind `json:"kind"`
	Prefix string         `json:"prefix,omitempty"`
	Owner  string         `json:"owner,omitempty"`
	Batch  int64          `json:"application_id,omitempty"`
	Index  *int64         `json:"code_index,omitempty"`
}

func showOpened(d scan.Decision) opened {
	o := opened{Action: d.Action, AppID: d.AppID, Version: string(d.Version), Path: d.Path, Scene: d.Scene, URL: d.URL, Text: d.Text, Reason: d.Reason}
	switch {
	case d.Code.Batch.ID != 0:
		o.Matched = &openedMatch{Kind: scan.ByCode, Batch: d.Code.Batch.ID, Index: &d.Code.Index}
	case d.Kind != "":
		o.Matched = &openedMatch{Kind: d.Kind, Prefix: d.Matched.Prefix, Owner: d.Matched.Owner}
	}
	return o
}

// changedSince is a change between a moment and now.
type changedSince struct {
	At    time.Time `json:"at"`
	Kind  string    `json:"kind"`
	Key   string    `json:"key"`
	Actor string    `json:"actor"`
	Via   string    `json:"via,omitempty"`
	RID   string    `json:"rid,omitempty"`
	Did   string    `json:"did"`
	Seq   int64     `json:"seq,omitempty" doc:"of the change; a rule's can be undone by it"`
}

// sinceShown is how many changes since a moment are shown.
const sinceShown = 100

func (a *Admin) registerHistory(api huma.API) {
	type past struct {
		At    time.Time      `json:"at"`
		Then  opened         `json:"then" doc:"what it opened at that moment"`
		Now   opened         `json:"now" doc:"what it opens now"`
		Since []changedSince `json:"since" doc:"what changed since then of all that the answer depends on, at most 100, oldest first"`
	}
	huma.Register(api, operation(http.MethodGet, "/history/resolve", "resolveThen", "What a link or a code opened at a past moment, and who changed it since"), func(ctx context.Context, in *struct {
		Text   string      `query:"text" required:"true" maxLength:"4096" doc:"what the camera read"`
		At     time.Time   `query:"at" required:"true" doc:"the moment (RFC 3339)"`
		User   string      `query:"user" maxLength:"128" doc:"who scanned; left out: nobody in particular"`
		Source scan.Source `query:"source" enum:"scan,press,album" default:"scan"`
	}) (*answer[past], error) {
		now := a.Now()
		if in.At.After(now) {
			return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("at: %s is not past, the server's clock shows %s", in.At.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)))
		}
		req := scan.Request{Text: in.Text, User: in.User, Source: in.Source, At: in.At}
		then, err := a.Times.Resolve(ctx, req)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		req.At = now
		today := a.Resolver.Resolve(req)
		// Who owns what opens now had a part in it as well.
		names := then.Names
		for _, appid := range []string{today.Matched.Owner, today.Matched.Target, today.AppID} {
			if name := (history.Name{Kind: live.AccountChange, Key: appid}); appid != "" && !contains(names, name) {
				names = append(names, name)
			}
		}
		shown := past{At: in.At, Then: showOpened(then.Decision), Now: showOpened(today), Since: []changedSince{}}
		list, err := a.Times.Store.ChangesAfter(ctx, names, in.At, sinceShown)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		for _, e := range list {
			shown.Since = append(shown.Since, changedSince{At: e.At, Kind: e.Kind, Key: e.Key, Actor: e.Actor, Via: e.Via, RID: e.RID, Did: e.Did, Seq: e.Seq})
		}
		if b := today.Code.Batch; b.ID != 0 {
			events, err := a.Codes.EventsAfter(ctx, b.ID, today.Code.Index, in.At)
			if err != nil {
				return nil, a.problem(ctx, err)
			}
			for i := len(events) - 1; i >= 0; i-- {
				e := events[i]
				shown.Since = append(shown.Since, changedSince{At: e.At, Kind: live.CodesChange, Key: strconv.FormatInt(b.ID, 10), Actor: e.Actor, RID: e.RID, Did: string(e.Did)})
			}
		}
		slices.SortStableFunc(shown.Since, func(x, y changedSince) int { return x.At.Compare(y.At) })
		shown.Since = shown.Since[:min(len(shown.Since), sinceShown)]
		return &answer[past]{shown}, nil
	})
	a.registerReplay(api)
}

func contains(names []history.Name, name history.Name) bool {
	return slices.Contains(names, name)
}

func (a *Admin) registerReplay(api huma.API) {
	type plannedRule struct {
		Do          string `json:"do" enum:"add,publish,delete"`
		Owner       string `json:"owner" doc:"the account whose rule it is"`
		Prefix      string `json:"prefix" maxLength:"4096"`
		Path        string `json:"path,omitempty" doc:"add: the page that opens"`
		AppID       string `json:"appid,omitempty" doc:"add, for a service account: the Mini Program to open"`
		Occupy      bool   `json:"occupy,omitempty"`
		OpenVersion int    `json:"open_version,omitempty" doc:"left out: 3"`
		Published   *bool  `json:"published,omitempty" doc:"add: published as well; left out: true"`
	}
	op := operation(http.MethodPost, "/rules/plan/replay", "replayPlan", "What would a planned change have done to the scans of the last days?")
	op.DefaultStatus, op.Middlewares = http.StatusOK, huma.Middlewares{patient}
	op.Description = "Nothing is changed. Every link that was scanned is decided by the rules as they are now and by the rules as they would be."
	huma.Register(api, op, func(ctx context.Context, in *struct {
		Body struct {
			Changes []plannedRule `json:"changes" minItems:"1" maxItems:"1000"`
			Days    int           `json:"days" minimum:"1" maximum:"3660" default:"7"`
		}
	}) (*answer[history.Replayed], error) {
		var log ledger.Log
		if a.ScanLog != nil {
			log = a.ScanLog()
		}
		if log == nil {
			return nil, huma.Error409Conflict("this server keeps no log of scans to replay")
		}
		plan := map[string]*rules.Rule{}
		for i, c := range in.Body.Changes {
			owner, err := a.Accounts.Get(ctx, c.Owner)
			if errors.Is(err, accounts.ErrNoAccount) {
				return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("changes[%d]: there is no account %.64s", i, c.Owner))
			}
			if err != nil {
				return nil, a.problem(ctx, err)
			}
			draft := rules.Draft{Prefix: c.Prefix, Path: c.Path, AppID: c.AppID, Occupy: c.Occupy, OpenVersion: rules.OpenRelease}
			if c.OpenVersion != 0 {
				draft.OpenVersion = c.OpenVersion
			}
			key, r, err := a.Rules.Foresee(ctx, owner, c.Do, draft, c.Published == nil || *c.Published)
			if err != nil {
				return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("changes[%d]: %s %.200s: %v", i, c.Do, c.Prefix, a.problem(ctx, err)))
			}
			plan[key] = r
		}
		done, err := history.Replay(ctx, log, a.Resolver, plan, a.Now().AddDate(0, 0, -in.Body.Days))
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[history.Replayed]{done}, nil
	})
}
