package adminapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/errcode"
)

// link is a link as an operator sees it.
type link struct {
	MiniProgram string    `json:"mini_program"`
	Name        string    `json:"name" doc:"of the Mini Program"`
	Status      int       `json:"status" doc:"1 linked, 2 waiting for the Mini Program's administrator, 3 refused, 12 waiting for the account's administrator"`
	Unlinking   bool      `json:"unlinking" doc:"the end of the link waits for the account's administrator"`
	NotifyUsers bool      `json:"notify_users"`
	ShowProfile bool      `json:"show_profile"`
	CreatedAt   time.Time `json:"created_at"`
}

type linkList struct {
	Links []link `json:"links"`
}

func (a *Admin) shownLinks(ctx context.Context, appid string) (*answer[linkList], error) {
	list, err := a.Accounts.LinkedPrograms(ctx, appid)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	shown := linkList{Links: []link{}}
	for _, l := range list {
		shown.Links = append(shown.Links, link{MiniProgram: l.MiniProgram, Name: l.Program.Name, Status: int(l.Status), Unlinking: l.Unlinking,
			NotifyUsers: l.NotifyUsers, ShowProfile: l.ShowProfile, CreatedAt: l.CreatedAt})
	}
	return &answer[linkList]{shown}, nil
}

func (a *Admin) registerLinks(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/accounts/{appid}/links", "listLinks", "List the links of a service account in any state"), func(ctx context.Context, in *AppIDPath) (*answer[linkList], error) {
		return a.shownLinks(ctx, in.AppID)
	})
	confirm := operation(http.MethodPost, "/accounts/{appid}/links/{mini_program}/confirm", "confirmLink", "Answer for one side's administrator: link, or end a link, or not")
	confirm.DefaultStatus = http.StatusOK
	huma.Register(api, confirm, func(ctx context.Context, in *struct {
		AppIDPath
		MiniProgram string `path:"mini_program" maxLength:"128"`
		Body        struct {
			Side  accounts.Side `json:"side" enum:"account,mini_program"`
			Agree bool          `json:"agree"`
		}
	}) (*answer[linkList], error) {
		err := a.Accounts.ConfirmLink(ctx, in.AppID, in.MiniProgram, in.Body.Side, in.Body.Agree)
		if errors.Is(err, errcode.InvalidAppID) {
			err = accounts.ErrNoAccount
		}
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return a.shownLinks(ctx, in.AppID)
	})
}
