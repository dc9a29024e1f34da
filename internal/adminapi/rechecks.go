package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/rules"
)

// recheck is the latest look at a verification file.
type recheck struct {
	Owner     string     `json:"owner"`
	Directory string     `json:"directory"`
	Prefix    string     `json:"prefix" doc:"of one of the rules there"`
	CheckedAt time.Time  `json:"checked_at"`
	OK        bool       `json:"ok"`
	Reason    string     `json:"reason"`
	Since     *time.Time `json:"failing_since,omitempty"`
	NextAt    time.Time  `json:"next_at"`
}

func (a *Admin) registerRechecks(api huma.API) {
	type recheckList struct {
		Rechecks []recheck `json:"rechecks"`
	}
	huma.Register(api, operation(http.MethodGet, "/rechecks", "listRechecks", "The nightly look at verification files: what is in place and what is not; rules go on either way"), func(ctx context.Context, in *struct {
		Owner          string `query:"owner"`
		Failing        bool   `query:"failing" doc:"only files that are not in place"`
		AfterOwner     string `query:"after_owner" doc:"with after_directory: the last one of the page before"`
		AfterDirectory string `query:"after_directory"`
		Limit          int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[recheckList], error) {
		list, err := a.Rechecks.Store.Rechecks(ctx, rules.RecheckQuery{Owner: in.Owner, Failing: in.Failing, AfterOwner: in.AfterOwner, AfterDirectory: in.AfterDirectory, Limit: in.Limit})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := recheckList{Rechecks: []recheck{}}
		for _, r := range list {
			one := recheck{Owner: r.Owner, Directory: r.Directory, Prefix: r.Prefix, CheckedAt: r.CheckedAt, OK: r.OK, Reason: r.Reason, NextAt: r.NextAt}
			if !r.Since.IsZero() {
				one.Since = &r.Since
			}
			shown.Rechecks = append(shown.Rechecks, one)
		}
		return &answer[recheckList]{shown}, nil
	})

	type looked struct {
		Files int   `json:"files" doc:"how many were looked at in this call; the rest follows in the background"`
		Bad   int64 `json:"failing" doc:"how many of all are not in place"`
	}
	huma.Register(api, operation(http.MethodPost, "/rechecks", "recheckNow", "Look at all verification files now, and wait for the first of them"), func(ctx context.Context, _ *struct{}) (*answer[looked], error) {
		var done looked
		var err error
		if done.Files, err = a.Rechecks.LookNow(ctx, 50); err != nil {
			return nil, a.problem(ctx, err)
		}
		if done.Bad, err = a.Rechecks.Store.CountFailing(ctx); err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[looked]{done}, nil
	})
}
