package adminapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/outbox"
)

// component is a third-party platform as an operator sees it: no secret, no
// hash of one.
type component struct {
	AppID          string          `json:"appid"`
	EventURL       string          `json:"event_url" doc:"where tickets and events are pushed; empty = nowhere"`
	IPAllowlist    []string        `json:"ip_allowlist" doc:"ranges that may call; empty = any"`
	RedirectHosts  []string        `json:"redirect_hosts" doc:"where the authorisation page may send people back"`
	CreatedAt      time.Time       `json:"created_at"`
	Total          int             `json:"total_authorizations"`
	Authorizations []authorization `json:"authorizations" doc:"the first 500"`
}

type authorization struct {
	AppID          string    `json:"appid"`
	PermissionSets []int     `json:"permission_sets"`
	GrantedAt      time.Time `json:"granted_at"`
}

type componentInput struct {
	Secret         string   `json:"secret,omitempty" doc:"left out: the stored one stays"`
	MessageToken   string   `json:"message_token,omitempty" doc:"left out: the stored one stays"`
	EncodingAESKey string   `json:"encoding_aes_key,omitempty" doc:"43 characters; left out: the stored one stays"`
	EventURL       *string  `json:"event_url,omitempty" doc:"left out: the stored one stays"`
	IPAllowlist    []string `json:"ip_allowlist,omitempty" doc:"left out: the stored one stays; []: any address"`
	RedirectHosts  []string `json:"redirect_hosts,omitempty" doc:"left out: the stored one stays"`
}

// push is one message to a platform, without its secrets.
type push struct {
	ID        int64      `json:"id"`
	InfoType  string     `json:"info_type"`
	AppID     string     `json:"appid,omitempty" doc:"the account that it is about"`
	CreatedAt time.Time  `json:"created_at"`
	URL       string     `json:"url"`
	Message   string     `json:"message" doc:"what is in the envelope, with tickets and codes masked"`
	Attempts  int        `json:"attempts"`
	Delivered bool       `json:"delivered"`
	SentAt    *time.Time `json:"sent_at,omitempty" doc:"the last attempt"`
	NextAt    *time.Time `json:"next_at,omitempty" doc:"when it is tried again"`
	Status    int        `json:"status,omitempty" doc:"the HTTP status of the last answer"`
	Answer    string     `json:"answer,omitempty"`
	Fault     string     `json:"fault,omitempty" doc:"why it was not delivered"`
}

// ComponentPath is exported because huma sees no embedded field that is not.
type ComponentPath struct {
	Component string `path:"component" maxLength:"128"`
}

func (a *Admin) showComponent(ctx context.Context, one accounts.Component) (component, error) {
	shown := component{AppID: one.AppID, EventURL: one.EventURL, IPAllowlist: append([]string{}, one.IPAllowlist...),
		RedirectHosts: append([]string{}, one.RedirectHosts...), CreatedAt: one.CreatedAt, Authorizations: []authorization{}}
	total, page, err := a.Accounts.Authorizations(ctx, one.AppID, 0, accounts.ListLimit)
	shown.Total = total
	for _, g := range page {
		shown.Authorizations = append(shown.Authorizations, authorization{g.Account.AppID, append([]int{}, g.Sets...), g.GrantedAt})
	}
	return shown, err
}

func (a *Admin) getComponent(ctx context.Context, appid string) (*answer[component], error) {
	one, err := a.Accounts.GetComponent(ctx, appid)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	shown, err := a.showComponent(ctx, one)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &answer[component]{shown}, nil
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (a *Admin) registerComponents(api huma.API) {
	type componentList struct {
		Components []component `json:"components"`
	}
	huma.Register(api, operation(http.MethodGet, "/components", "listComponents", "List third-party platforms by AppID"), func(ctx context.Context, in *struct {
		After string `query:"after" doc:"only platforms after this AppID"`
		Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[componentList], error) {
		page, err := a.Accounts.ListComponents(ctx, in.After, in.Limit)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := componentList{Components: []component{}}
		for _, one := range page {
			view, err := a.showComponent(ctx, one)
			if err != nil {
				return nil, a.problem(ctx, err)
			}
			shown.Components = append(shown.Components, view)
		}
		return &answer[componentList]{shown}, nil
	})
	huma.Register(api, operation(http.MethodGet, "/components/{component}", "getComponent", "One third-party platform and who authorised it"), func(ctx context.Context, in *ComponentPath) (*answer[component], error) {
		return a.getComponent(ctx, in.Component)
	})
	huma.Register(api, operation(http.MethodPut, "/components/{component}", "putComponent", "Create or change a third-party platform; its authorisations stay"), func(ctx context.Context, in *struct {
		ComponentPath
		Body componentInput
	}) (*answer[component], error) {
		b := in.Body
		one, err := a.Accounts.GetComponent(ctx, in.Component)
		if err != nil && !errors.Is(err, accounts.ErrNoComponent) {
			return nil, a.problem(ctx, err)
		}
		one = accounts.Component{AppID: in.Component, EventURL: one.EventURL, IPAllowlist: one.IPAllowlist, RedirectHosts: one.RedirectHosts}
		if b.EventURL != nil {
			one.EventURL = *b.EventURL
		}
		// An empty list is said, an absent one is not.
		if b.IPAllowlist != nil {
			one.IPAllowlist = b.IPAllowlist
		}
		if b.RedirectHosts != nil {
			one.RedirectHosts = b.RedirectHosts
		}
		if err := a.Accounts.PutComponent(ctx, one, b.Secret, b.MessageToken, b.EncodingAESKey); err != nil {
			return nil, a.problem(ctx, err)
		}
		return a.getComponent(ctx, in.Component)
	})
	type pushList struct {
		Pushes []push `json:"pushes"`
	}
	huma.Register(api, operation(http.MethodGet, "/components/{component}/pushes", "listPushes", "What was sent to a platform's event URL, and answered, newest first; tickets and codes are masked"), func(ctx context.Context, in *struct {
		ComponentPath
		Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
	}) (*answer[pushList], error) {
		list, err := a.Accounts.Pushes(ctx, in.Component, in.Limit)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := pushList{Pushes: []push{}}
		for _, p := range list {
			shown.Pushes = append(shown.Pushes, push{ID: p.ID, InfoType: p.Event, AppID: p.AppID, CreatedAt: p.CreatedAt, URL: p.URL, Message: p.Shown,
				Attempts: p.Attempts, Delivered: p.State() == outbox.Delivered, SentAt: optional(p.SentAt), NextAt: optional(p.NextAt), Status: p.Status, Answer: p.Answer, Fault: p.Fault})
		}
		return &answer[pushList]{shown}, nil
	})

	type AuthorizationPath struct {
		ComponentPath
		AppIDPath
	}
	type withdrawn struct {
		Withdrawn bool `json:"withdrawn"`
	}
	withdraw := func(ctx context.Context, in *AuthorizationPath) (*answer[withdrawn], error) {
		if err := a.Accounts.Withdraw(ctx, in.Component, in.AppID); err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[withdrawn]{withdrawn{true}}, nil
	}
	huma.Register(api, operation(http.MethodDelete, "/components/{component}/authorizations/{appid}", "withdrawAuthorization",
		"An account takes back what it granted a platform: its tokens end at once"), withdraw)
	huma.Register(api, operation(http.MethodDelete, "/accounts/{appid}/authorizations/{component}", "withdrawFromAccount",
		"The same, by the account's side"), withdraw)

	type holding struct {
		Component      string    `json:"component"`
		PermissionSets []int     `json:"permission_sets"`
		GrantedAt      time.Time `json:"granted_at"`
	}
	type holdings struct {
		Authorizations []holding `json:"authorizations"`
	}
	huma.Register(api, operation(http.MethodGet, "/accounts/{appid}/authorizations", "listHolders", "Which platforms an account authorised"), func(ctx context.Context, in *AppIDPath) (*answer[holdings], error) {
		list, err := a.Accounts.GrantsBy(ctx, in.AppID)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := holdings{Authorizations: []holding{}}
		for _, h := range list {
			shown.Authorizations = append(shown.Authorizations, holding{h.Component, append([]int{}, h.Grant.PermissionSets...), h.Grant.GrantedAt})
		}
		return &answer[holdings]{shown}, nil
	})
}
