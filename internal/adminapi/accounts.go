package adminapi

import (
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
)

// account is an account as an operator sees it: no secret, no hash of one.
type account struct {
	AppID        string                   `json:"appid"`
	Kind         accounts.Kind            `json:"kind"`
	Name         string                   `json:"name"`
	Subject      accounts.Subject         `json:"subject"`
	Certified    bool                     `json:"certified"`
	Versions     []accounts.Version       `json:"versions"`
	JumpOpen     bool                     `json:"jump_open" doc:"false switches all its rules off"`
	Features     []string                 `json:"features"`
	Members      map[string]accounts.Role `json:"members" doc:"user to role"`
	MessageURL   string                   `json:"message_url"`
	URLScheme    string                   `json:"url_scheme" doc:"template of the address that opens the Mini Program from a browser"`
	IPAllowlist  []string                 `json:"ip_allowlist" doc:"ranges that may fetch tokens; empty = any"`
	Linked       []string                 `json:"linked" doc:"Mini Programs that a service account is linked with"`
	SecretFrozen bool                     `json:"secret_frozen"`
	CreatedAt    time.Time                `json:"created_at"`
	ConfirmFile  confirmFile              `json:"confirm_file" doc:"the verification file"`
}

type confirmFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// accountInput is what an operator may say of an account.
type accountInput struct {
	Kind          accounts.Kind            `json:"kind" enum:"mini_program,service_account,subscription_account"`
	Name          string                   `json:"name,omitempty"`
	Subject       accounts.Subject         `json:"subject,omitempty" enum:"company,personal,media,government,other"`
	Secret        string                   `json:"secret,omitempty" doc:"left out: the stored one stays"`
	Certified     bool                     `json:"certified,omitempty"`
	Versions      []accounts.Version       `json:"versions,omitempty"`
	JumpOpen      *bool                    `json:"jump_open,omitempty" doc:"left out: true"`
	Features      []string                 `json:"features,omitempty"`
	Members       map[string]accounts.Role `json:"members,omitempty"`
	MessageURL    string                   `json:"message_url,omitempty"`
	URLScheme     string                   `json:"url_scheme,omitempty" doc:"the scan page sends a browser to this address: an app's scheme, with {appid}, {path} and {query}"`
	IPAllowlist   []string                 `json:"ip_allowlist,omitempty"`
	MarketcodeKey string                   `json:"marketcode_key,omitempty" doc:"16 characters; left out: the stored one stays"`
	Linked        []string                 `json:"linked,omitempty" doc:"links to add"`
	SecretFrozen  bool                     `json:"secret_frozen,omitempty"`
}

// AppIDPath is exported because huma sees no embedded field that is not.
type AppIDPath struct {
	AppID string `path:"appid" maxLength:"128"`
}

func (a *Admin) show(ctx context.Context, one accounts.Account) (account, error) {
	shown := account{AppID: one.AppID, Kind: one.Kind, Name: one.Name, Subject: one.Subject, Certified: one.Certified,
		Versions: append([]accounts.Version{}, one.Versions...), JumpOpen: one.JumpOpen, Features: append([]string{}, one.Features...),
		Members: map[string]accounts.Role{}, MessageURL: one.MessageURL, URLScheme: one.URLScheme, IPAllowlist: append([]string{}, one.IPAllowlist...),
		SecretFrozen: one.SecretFrozen, CreatedAt: one.CreatedAt, ConfirmFile: confirmFile{one.Confirm.Name, one.Confirm.Content}}
	maps.Copy(shown.Members, one.Members)
	var err error
	shown.Linked, err = a.Accounts.Links(ctx, one.AppID)
	return shown, err
}

func (a *Admin) shown(ctx context.Context, one accounts.Account, err error) (*answer[account], error) {
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	view, err := a.show(ctx, one)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &answer[account]{view}, nil
}

// change changes one account and answers it.
func (a *Admin) change(ctx context.Context, appid string, f func(*accounts.Account) error) (*answer[account], error) {
	one, err := a.Accounts.Change(ctx, appid, f)
	return a.shown(ctx, one, err)
}

func (a *Admin) registerAccounts(api huma.API) {
	type accountList struct {
		Accounts []account `json:"accounts"`
	}
	huma.Register(api, operation(http.MethodGet, "/accounts", "listAccounts", "List accounts by AppID"), func(ctx context.Context, in *struct {
		After string `query:"after" doc:"only accounts after this AppID"`
		Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[accountList], error) {
		page, err := a.Accounts.List(ctx, in.After, in.Limit)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := accountList{Accounts: []account{}}
		for _, one := range page {
			view, err := a.show(ctx, one)
			if err != nil {
				return nil, a.problem(ctx, err)
			}
			shown.Accounts = append(shown.Accounts, view)
		}
		return &answer[accountList]{shown}, nil
	})

	huma.Register(api, operation(http.MethodGet, "/accounts/{appid}", "getAccount", "Show an account"), func(ctx context.Context, in *AppIDPath) (*answer[account], error) {
		one, err := a.Accounts.Get(ctx, in.AppID)
		return a.shown(ctx, one, err)
	})

	huma.Register(api, operation(http.MethodPut, "/accounts/{appid}", "putAccount", "Create or replace an account"), func(ctx context.Context, in *struct {
		AppIDPath
		Body accountInput
	}) (*answer[account], error) {
		b := in.Body
		r := accounts.Registration{Secret: b.Secret, MarketcodeKey: b.MarketcodeKey, Linked: b.Linked, Account: accounts.Account{
			AppID: in.AppID, Kind: b.Kind, Name: b.Name, Subject: b.Subject, Certified: b.Certified, Versions: b.Versions,
			JumpOpen: b.JumpOpen == nil || *b.JumpOpen, Features: b.Features, Members: b.Members, MessageURL: b.MessageURL, URLScheme: b.URLScheme,
			IPAllowlist: b.IPAllowlist, SecretFrozen: b.SecretFrozen,
		}}
		if err := a.Accounts.Put(ctx, r); err != nil {
			return nil, a.problem(ctx, err)
		}
		one, err := a.Accounts.Get(ctx, in.AppID)
		return a.shown(ctx, one, err)
	})

	huma.Register(api, operation(http.MethodPut, "/accounts/{appid}/versions", "setVersions", "Say which versions of a Mini Program exist"), func(ctx context.Context, in *struct {
		AppIDPath
		Body struct {
			Versions []accounts.Version `json:"versions"`
		}
	}) (*answer[account], error) {
		return a.change(ctx, in.AppID, func(one *accounts.Account) error {
			one.Versions = in.Body.Versions
			return nil
		})
	})

	huma.Register(api, operation(http.MethodPut, "/accounts/{appid}/jump", "setJump", "Switch all rules of an account on or off"), func(ctx context.Context, in *struct {
		AppIDPath
		Body struct {
			Open bool `json:"open"`
		}
	}) (*answer[account], error) {
		return a.change(ctx, in.AppID, func(one *accounts.Account) error {
			one.JumpOpen = in.Body.Open
			return nil
		})
	})

	huma.Register(api, operation(http.MethodDelete, "/accounts/{appid}/tokens", "endTokens", "End all access tokens of an account at once, also those with which platforms call for it"), func(ctx context.Context, in *AppIDPath) (*answer[account], error) {
		if err := a.Accounts.EndTokens(ctx, in.AppID); err != nil {
			return nil, a.problem(ctx, err)
		}
		one, err := a.Accounts.Get(ctx, in.AppID)
		return a.shown(ctx, one, err)
	})

	type MemberPath struct {
		AppIDPath
		User string `path:"user" maxLength:"512"`
	}
	huma.Register(api, operation(http.MethodPut, "/accounts/{appid}/members/{user}", "putMember", "Give a user a role"), func(ctx context.Context, in *struct {
		MemberPath
		Body struct {
			Role accounts.Role `json:"role" enum:"admin,developer,trial"`
		}
	}) (*answer[account], error) {
		return a.change(ctx, in.AppID, func(one *accounts.Account) error {
			members := maps.Clone(one.Members)
			if members == nil {
				members = map[string]accounts.Role{}
			}
			members[in.User] = in.Body.Role
			one.Members = members
			return nil
		})
	})
	huma.Register(api, operation(http.MethodDelete, "/accounts/{appid}/members/{user}", "deleteMember", "Take a user's role away"), func(ctx context.Context, in *MemberPath) (*answer[account], error) {
		return a.change(ctx, in.AppID, func(one *accounts.Account) error {
			members := maps.Clone(one.Members)
			delete(members, in.User)
			one.Members = members
			return nil
		})
	})

	type LinkPath struct {
		AppIDPath
		MiniProgram string `path:"mini_program" maxLength:"128"`
	}
	huma.Register(api, operation(http.MethodPut, "/accounts/{appid}/links/{mini_program}", "putLink", "Link a service account with a Mini Program"), func(ctx context.Context, in *LinkPath) (*answer[account], error) {
		if err := a.Accounts.Link(ctx, in.AppID, in.MiniProgram); err != nil {
			return nil, a.problem(ctx, err)
		}
		one, err := a.Accounts.Get(ctx, in.AppID)
		return a.shown(ctx, one, err)
	})
	huma.Register(api, operation(http.MethodDelete, "/accounts/{appid}/links/{mini_program}", "deleteLink", "End a link"), func(ctx context.Context, in *LinkPath) (*answer[account], error) {
		if err := a.Accounts.Unlink(ctx, in.AppID, in.MiniProgram); err != nil {
			return nil, a.problem(ctx, err)
		}
		one, err := a.Accounts.Get(ctx, in.AppID)
		return a.shown(ctx, one, err)
	})

	type quota struct {
		PublishesLeft int `json:"publishes_left" doc:"of this calendar month"`
	}
	huma.Register(api, operation(http.MethodGet, "/accounts/{appid}/quota", "getQuota", "How many publishes are left this month"), func(ctx context.Context, in *AppIDPath) (*answer[quota], error) {
		one, err := a.Accounts.Get(ctx, in.AppID)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		left, err := a.Rules.PublishesLeft(ctx, one)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[quota]{quota{left}}, nil
	})
}
