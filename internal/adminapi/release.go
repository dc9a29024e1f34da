package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/rules"
)

// notice is what an account was told.
type notice struct {
	ID     int64               `json:"id"`
	At     time.Time           `json:"at"`
	Kind   accounts.NoticeKind `json:"kind" doc:"prefix_released: a rule was taken away"`
	Prefix string              `json:"prefix"`
	Reason string              `json:"reason"`
}

func (a *Admin) registerRelease(api huma.API) {
	type released struct {
		Released []rule `json:"released" doc:"as they were"`
		More     bool   `json:"more" doc:"there are others left: call again"`
	}
	op := operation(http.MethodPost, "/prefixes/release", "releasePrefix",
		"Take rules away from their owners, because the domain changed hands. Publishes that were spent stay spent; the old owners are told")
	op.Middlewares = huma.Middlewares{patient} // up to rules.MaxRelease transactions
	huma.Register(api, op, func(ctx context.Context, in *struct {
		Body struct {
			Prefix string `json:"prefix"`
			Below  bool   `json:"below,omitempty" doc:"also every rule that begins with the prefix, which ends in / then"`
			Reason string `json:"reason" doc:"for the audit log and the old owners; at most 500 bytes"`
		}
	}) (*answer[released], error) {
		list, more, err := a.Rules.Release(ctx, rules.ReleaseRequest{Prefix: in.Body.Prefix, Below: in.Body.Below, Reason: in.Body.Reason})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[released]{released{showRules(list).Body.Rules, more}}, nil
	})

	type noticeList struct {
		Notices []notice `json:"notices"`
	}
	huma.Register(api, operation(http.MethodGet, "/accounts/{appid}/notices", "listNotices", "What an account was told that the operator did to it, newest first"), func(ctx context.Context, in *struct {
		AppIDPath
		Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[noticeList], error) {
		list, err := a.Accounts.Notices(ctx, in.AppID, in.Limit)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := noticeList{Notices: []notice{}}
		for _, n := range list {
			shown.Notices = append(shown.Notices, notice{n.ID, n.At, n.Kind, n.Prefix, n.Reason})
		}
		return &answer[noticeList]{shown}, nil
	})
}
