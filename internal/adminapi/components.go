package adminapi

import (
	"context"
	"errors"
	"time"

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

type ComponentPath struct {
	Component string `path:"component" maxLength:"128"`
}

func showGrant(g accounts.Authorization) authorization {
	return authorization{g.Account.AppID, append([]int{}, g.Sets...), g.GrantedAt}
}

func (a *Admin) showComponent(ctx context.Context, one accounts.Component) (component, error) {
	total, page, err := a.Accounts.Authorizations(ctx, one.AppID, 0, accounts.ListLimit)
	return component{AppID: one.AppID, EventURL: one.EventURL, IPAllowlist: words[string](one.IPAllowlist),
		RedirectHosts: words[string](one.RedirectHosts),
		CreatedAt:     one.CreatedAt, Total: total, Authorizations: each(page, showGrant)}, err
}

type componentList struct {
	Components []component `json:"components"`
}

func (a *Admin) listComponents(ctx context.Context, in *struct {
	After string `query:"after" doc:"only platforms after this AppID"`
	Page
}) (componentList, error) {
	page, err := a.Accounts.ListComponents(ctx, in.After, in.Limit)
	shown := componentList{Components: []component{}}
	for _, one := range page {
		var view component
		if view, err = a.showComponent(ctx, one); err != nil {
			break
		}
		shown.Components = append(shown.Components, view)
	}
	return shown, err
}

func (a *Admin) getComponent(ctx context.Context, in *ComponentPath) (component, error) {
	one, err := a.Accounts.GetComponent(ctx, in.Component)
	if err != nil {
		return component{}, err
	}
	return a.showComponent(ctx, one)
}

func (a *Admin) putComponent(ctx context.Context, in *struct {
	ComponentPath
	Body componentInput
}) (component, error) {
	b := in.Body
	one, err := a.Accounts.GetComponent(ctx, in.Component)
	if err != nil && !errors.Is(err, accounts.ErrNoComponent) {
		return component{}, err
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
		return component{}, err
	}
	return a.getComponent(ctx, &in.ComponentPath)
}

type pushList struct {
	Pushes []push `json:"pushes"`
}

func (a *Admin) listPushes(ctx context.Context, in *struct {
	ComponentPath
	Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
}) (pushList, error) {
	list, err := a.Accounts.Pushes(ctx, in.Component, in.Limit)
	return pushList{each(list, func(p outbox.Row) push {
		return push{ID: p.ID, InfoType: p.Event, AppID: p.AppID, CreatedAt: p.CreatedAt, URL: p.URL, Message: p.Shown,
			Attempts: p.Attempts, Delivered: p.State() == outbox.Delivered, SentAt: optional(p.SentAt), NextAt: optional(p.NextAt),
			Status: p.Status, Answer: p.Answer, Fault: p.Fault}
	})}, err
}

type withdrawn struct {
	Withdrawn bool `json:"withdrawn"`
}

func (a *Admin) withdrawAuthorization(ctx context.Context, in *struct {
	ComponentPath
	AppIDPath
}) (withdrawn, error) {
	return withdrawn{true}, a.Accounts.Withdraw(ctx, in.Component, in.AppID)
}

type holding struct {
	Component      string    `json:"component"`
	PermissionSets []int     `json:"permission_sets"`
	GrantedAt      time.Time `json:"granted_at"`
}

type holdings struct {
	Authorizations []holding `json:"authorizations"`
}

func (a *Admin) listHolders(ctx context.Context, in *AppIDPath) (holdings, error) {
	list, err := a.Accounts.GrantsBy(ctx, in.AppID)
	return holdings{each(list, func(h accounts.Holder) holding {
		return holding{h.Component, append([]int{}, h.Grant.PermissionSets...), h.Grant.GrantedAt}
	})}, err
}
