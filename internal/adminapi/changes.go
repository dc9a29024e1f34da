package adminapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/history"
	"github.com/qrjump/qrjump/internal/rules"
)

func (a *Admin) registerChanges(api huma.API) {
	type changeList struct {
		Changes []history.Entry `json:"changes"`
	}
	huma.Register(api, operation(http.MethodGet, "/changes", "listChanges", "The audit log: every change, by whom and through which call, oldest first"), func(ctx context.Context, in *struct {
		After  int64  `query:"after" doc:"only changes after this number" minimum:"0"`
		Before int64  `query:"before" doc:"only changes before this number; with newest, to go back page by page" minimum:"0"`
		Newest bool   `query:"newest" doc:"newest first"`
		Kind   string `query:"kind" maxLength:"32" doc:"only of this kind, for example rule"`
		Key    string `query:"key" maxLength:"4096" doc:"only of this one; it needs a kind"`
		Actor  string `query:"actor" maxLength:"64" doc:"only by this AppID, or by admin or seed"`
		Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[changeList], error) {
		if in.Key != "" && in.Kind == "" {
			return nil, huma.Error422UnprocessableEntity("key: say of what kind, for example kind=rule")
		}
		list, err := a.History.Entries(ctx, history.Query{After: in.After, Before: in.Before, Newest: in.Newest, Kind: in.Kind, Key: in.Key, Actor: in.Actor, Limit: in.Limit})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[changeList]{changeList{append([]history.Entry{}, list...)}}, nil
	})

	op := operation(http.MethodPost, "/audit/verify", "verifyAudit", "Verify the whole audit log: its chain of hashes, and that rules, accounts and codes are what it says")
	op.DefaultStatus, op.Middlewares = http.StatusOK, huma.Middlewares{patient}
	huma.Register(api, op, func(ctx context.Context, _ *struct{}) (*answer[history.Checked], error) {
		done, err := a.History.VerifyChanges(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[history.Checked]{done}, nil
	})

	op = operation(http.MethodPost, "/rules/changes/{seq}/undo", "undoRuleChange", "Restore what was before a change of a rule, where nothing came after it")
	op.DefaultStatus = http.StatusOK
	op.Description = "An undo is a change of its own, can be undone like any other, and spends no publish and gives none back. 409 names what came after the change."
	huma.Register(api, op, func(ctx context.Context, in *struct {
		Seq int64 `path:"seq" minimum:"1"`
	}) (*answer[ruleChange], error) {
		done, err := a.Rules.Undo(ctx, in.Seq)
		if superseded, ok := errors.AsType[rules.Superseded](err); ok {
			return nil, huma.Error409Conflict(superseded.Error() + ": undo that first")
		}
		if errors.Is(err, rules.ErrNoChange) {
			return nil, huma.Error404NotFound("no change of a rule has this number; qrjump rule history PREFIX lists them")
		}
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := ruleChange{At: done.At, Actor: done.Actor, RID: done.RID, Did: done.Did, Rule: showRule(done.Rule)}
		if newest, err := a.Rules.History(ctx, done.Rule.Prefix.Text, 1); err == nil && len(newest) == 1 {
			shown.Seq = newest[0].Seq
		}
		return &answer[ruleChange]{shown}, nil
	})
}
