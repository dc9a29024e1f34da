package adminapi

import (
	"context"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

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

func (a serverAPI) verifyAudit(ctx context.Context, _ *noInput) (auditlog.Checked, error) {
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
