package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Component is a third-party platform as the operator sees it: no secret, no
// hash of one.
type Component struct {
	AppID          string          `json:"appid"`
	EventURL       string          `json:"event_url" doc:"where tickets and events are pushed; empty = nowhere"`
	IPAllowlist    []string        `json:"ip_allowlist" doc:"ranges that may call; empty = any"`
	RedirectHosts  []string        `json:"redirect_hosts" doc:"where the authorisation page may send people back"`
	CreatedAt      time.Time       `json:"created_at"`
	Total          int             `json:"total_authorizations"`
	Authorizations []Authorization `json:"authorizations" doc:"the first 500"`
	Revised
}

// Authorization is a grant of an account to a platform.
type Authorization struct {
	AppID          string    `json:"appid"`
	PermissionSets []int     `json:"permission_sets"`
	GrantedAt      time.Time `json:"granted_at"`
}

// ComponentList is a page of platforms.
type ComponentList struct {
	Components []Component `json:"components"`
}

// ComponentPut is the requested state of a platform. A field that is left out stays as it is.
type ComponentPut struct {
	Secret         string    `json:"secret,omitempty" doc:"left out: the stored one stays"`
	MessageToken   string    `json:"message_token,omitempty" doc:"left out: the stored one stays"`
	EncodingAESKey string    `json:"encoding_aes_key,omitempty" doc:"43 characters; left out: the stored one stays"`
	EventURL       *string   `json:"event_url,omitempty" doc:"left out: the stored one stays"`
	IPAllowlist    *[]string `json:"ip_allowlist,omitempty" doc:"left out: the stored one stays; []: any address"`
	RedirectHosts  *[]string `json:"redirect_hosts,omitempty" doc:"left out: the stored one stays"`
}

// Push is one message to a platform, without its secrets.
type Push struct {
	ID        int64      `json:"id"`
	InfoType  string     `json:"info_type"`
	AppID     string     `json:"appid,omitempty" answer:"optional" doc:"the account that it is about"`
	CreatedAt time.Time  `json:"created_at"`
	URL       string     `json:"url"`
	Message   string     `json:"message" doc:"what is in the envelope, with tickets and codes masked"`
	Attempts  int        `json:"attempts"`
	Delivered bool       `json:"delivered"`
	SentAt    *time.Time `json:"sent_at,omitempty" doc:"the last attempt"`
	NextAt    *time.Time `json:"next_at,omitempty" doc:"when it is tried again"`
	Status    int        `json:"status,omitempty" answer:"optional" doc:"the HTTP status of the last answer"`
	Response  string     `json:"response,omitempty" answer:"optional"`
	Error     string     `json:"error,omitempty" answer:"optional" doc:"why it was not delivered"`
}

// PushList are messages to a platform.
type PushList struct {
	Pushes []Push `json:"pushes"`
}

// componentPath returns the path of something of a platform.
func componentPath(appid string) string { return "components/" + url.PathEscape(appid) }

// List lists at most limit third-party platforms by AppID, the first after
// the given one; 0 = as many as the server likes to give.
func (c ComponentsService) List(ctx context.Context, cursor string, limit int) ([]Component, error) {
	reply, err := get[ComponentList](ctx, c.transport, withQuery("components", params{"after": cursor, "limit": limit}))
	return reply.Components, err
}

// Get returns one third-party platform and which accounts authorised it. A
// *Problem with status 404: there is none.
func (c ComponentsService) Get(ctx context.Context, appid string) (Component, error) {
	return get[Component](ctx, c.transport, componentPath(appid))
}

// Set creates a third-party platform, or changes the fields that p names; its
// authorisations stay. A *Problem with status 422 says what is wrong.
func (c ComponentsService) Set(ctx context.Context, appid string, p ComponentPut) (Component, error) {
	component, err := put[Component](ctx, c.transport, componentPath(appid), p)
	if err == nil && component.AppID != appid {
		err = c.wrong(http.MethodPut, "/admin/v1/"+componentPath(appid), "it tells of platform %q", component.AppID)
	}
	return component, err
}

// Delete deletes a third-party platform with all its authorisations. With dryRun it only says what would go.
func (c ComponentsService) Delete(ctx context.Context, appid string, dryRun bool) (Deletion, error) {
	return c.deleteWhole(ctx, componentPath(appid), appid, dryRun)
}

// ListPushes lists at most limit messages that were sent to a platform's event URL,
// newest first, with what was answered; 0 = as many as the server likes to give.
// A *Problem with status 404: there is no such platform.
func (c ComponentsService) ListPushes(ctx context.Context, component string, limit int) ([]Push, error) {
	reply, err := get[PushList](ctx, c.transport, withQuery(componentPath(component)+"/pushes", params{"limit": limit}))
	return reply.Pushes, err
}

// Holding is a platform that an account authorised.
type Holding struct {
	Component      string    `json:"component"`
	PermissionSets []int     `json:"permission_sets"`
	GrantedAt      time.Time `json:"granted_at"`
}

// HoldingList are the platforms that an account authorised.
type HoldingList struct {
	Authorizations []Holding `json:"authorizations"`
}

// ListAuthorizations lists which platforms an account authorised. A *Problem with
// status 404: there is no such account.
func (c AccountsService) ListAuthorizations(ctx context.Context, appid string) ([]Holding, error) {
	reply, err := get[HoldingList](ctx, c.transport, accountPath(appid, "authorizations"))
	return reply.Authorizations, err
}

// Withdrawn says that an authorisation ended.
type Revoked struct {
	Revoked bool `json:"revoked"`
}

// RevokeAuthorization ends what an account granted a platform; the tokens of the grant end at
// once. A *Problem with status 404: the account did not authorise the platform.
func (c ComponentsService) RevokeAuthorization(ctx context.Context, component, appid string) error {
	_, err := remove[Revoked](ctx, c.transport, componentPath(component)+"/authorizations/"+url.PathEscape(appid))
	return err
}

// RevokeAuthorization is Withdraw seen from the account: its IfMatch is about the account, that of Withdraw about the platform.
func (c AccountsService) RevokeAuthorization(ctx context.Context, appid, component string) error {
	_, err := remove[Revoked](ctx, c.transport, accountPath(appid, "authorizations", component))
	return err
}

// Agreement is the consent that a person would give on the page of consent; with the emulator no page is needed.
type Agreement struct {
	Component      string `json:"component" doc:"the platform that asked"`
	PreAuthCode    string `json:"pre_auth_code"`
	AppID          string `json:"appid" doc:"the account"`
	PermissionSets []int  `json:"permission_sets,omitempty" doc:"left out: 3, 18, 33 and 46"`
	Move           bool   `json:"move,omitempty" doc:"true takes exclusive sets away from the platform that has them"`
}

// Authorize agrees to what a platform asks and returns its authorization_code.
// Only a server with --dev or --emulator can.
func (c EmulatorService) Authorize(ctx context.Context, a Agreement) (code string, err error) {
	var reply struct {
		AuthCode string `json:"auth_code"`
	}
	err = c.admin(ctx, http.MethodPost, "emulator/authorize", a, &reply)
	return reply.AuthCode, err
}

// CreateTicket makes a component_verify_ticket for a platform, pushes it and returns
// it. Only a server with --dev or --emulator can.
func (c EmulatorService) CreateTicket(ctx context.Context, component string) (ticket string, err error) {
	var reply struct {
		Ticket string `json:"component_verify_ticket"`
	}
	err = c.admin(ctx, http.MethodPost, "emulator/ticket", map[string]any{"component": component}, &reply)
	return reply.Ticket, err
}
