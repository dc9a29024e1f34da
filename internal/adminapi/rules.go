package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/rules"
)

// rule is a rule as an operator sees it.
type rule struct {
	ID          int64      `json:"id" doc:"order of being added"`
	Kind        rules.Kind `json:"kind"`
	Owner       string     `json:"owner"`
	Target      string     `json:"target" doc:"the Mini Program that opens"`
	Prefix      string     `json:"prefix"`
	Path        string     `json:"path"`
	Occupy      bool       `json:"occupy"`
	OpenVersion int        `json:"open_version,omitempty"`
	TestLinks   []string   `json:"test_links"`
	Published   bool       `json:"published"`
	CreatedAt   time.Time  `json:"created_at"`
	ChangedAt   time.Time  `json:"changed_at"`
	PublishedAt *time.Time `json:"published_at,omitempty"`
}

func showRule(r rules.Rule) rule {
	shown := rule{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text, Path: r.Path, Occupy: r.Occupy,
		OpenVersion: r.OpenVersion, TestLinks: append([]string{}, r.TestLinks...), Published: r.Published,
		CreatedAt: r.CreatedAt, ChangedAt: r.ChangedAt}
	if !r.PublishedAt.IsZero() {
		shown.PublishedAt = &r.PublishedAt
	}
	return shown
}

type ruleList struct {
	Rules []rule `json:"rules"`
}

func showRules(list []rules.Rule) *answer[ruleList] {
	shown := ruleList{Rules: []rule{}}
	for _, r := range list {
		shown.Rules = append(shown.Rules, showRule(r))
	}
	return &answer[ruleList]{shown}
}

type ruleChange struct {
	Seq    int64     `json:"seq"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor" doc:"AppID, seed or admin"`
	RID    string    `json:"rid,omitempty"`
	Did    string    `json:"did" doc:"add, edit, publish, delete or release"`
	Rule   rule      `json:"rule" doc:"after the change; for a delete or release, before it"`
	Reason string    `json:"reason,omitempty" doc:"of a release"`
}

type confirmation struct {
	RID    string            `json:"rid"`
	At     time.Time         `json:"at"`
	Owner  string            `json:"owner"`
	Prefix string            `json:"prefix"`
	URL    string            `json:"url"`
	OK     bool              `json:"ok"`
	Reason string            `json:"reason"`
	Steps  []rules.FetchStep `json:"steps"`
}

func (a *Admin) registerRules(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/rules", "listRules", "List rules of all owners, oldest first"), func(ctx context.Context, in *struct {
		Owner  string `query:"owner"`
		Target string `query:"target"`
		After  int64  `query:"after" doc:"only rules after this id" minimum:"0"`
		Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[ruleList], error) {
		list, err := a.Rules.Find(ctx, rules.Query{Owner: in.Owner, Target: in.Target, AfterID: in.After, Limit: in.Limit})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return showRules(list), nil
	})

	type history struct {
		Changes []ruleChange `json:"changes"`
	}
	huma.Register(api, operation(http.MethodGet, "/rules/history", "ruleHistory", "What happened to a prefix, newest first"), func(ctx context.Context, in *struct {
		Prefix string `query:"prefix" required:"true"`
		Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[history], error) {
		changes, err := a.Rules.History(ctx, in.Prefix, in.Limit)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := history{Changes: []ruleChange{}}
		for _, c := range changes {
			shown.Changes = append(shown.Changes, ruleChange{Seq: c.Seq, At: c.At, Actor: c.Actor, RID: c.RID, Did: c.Did, Rule: showRule(c.Rule), Reason: c.Reason})
		}
		return &answer[history]{shown}, nil
	})

	huma.Register(api, operation(http.MethodGet, "/rules/occupiers", "ruleOccupiers", "Which rules forbid a prefix to others"), func(ctx context.Context, in *struct {
		Prefix string `query:"prefix" required:"true"`
	}) (*answer[ruleList], error) {
		list, err := a.Rules.Occupiers(ctx, in.Prefix)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return showRules(list), nil
	})

	type confirmations struct {
		Confirmations []confirmation `json:"confirmations"`
	}
	huma.Register(api, operation(http.MethodGet, "/confirmations", "listConfirmations", "Checks of verification files, newest first: why a check failed"), func(ctx context.Context, in *struct {
		RID   string `query:"rid" doc:"the request id of the call"`
		Owner string `query:"owner"`
		Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[confirmations], error) {
		list, err := a.Rules.Confirmations(ctx, rules.ConfirmationQuery{RID: in.RID, Owner: in.Owner, Limit: in.Limit})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := confirmations{Confirmations: []confirmation{}}
		for _, c := range list {
			shown.Confirmations = append(shown.Confirmations, confirmation{RID: c.RID, At: c.At, Owner: c.Owner, Prefix: c.Prefix, URL: c.URL,
				OK: c.OK, Reason: c.Reason, Steps: append([]rules.FetchStep{}, c.Steps...)})
		}
		return &answer[confirmations]{shown}, nil
	})
}
