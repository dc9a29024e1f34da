package client

import (
	"context"
	"net/http"
	"time"
)

// Component is a third-party platform in the operator's view, without its secret or a hash of its secret.
type Component struct {
	AppID          string          `json:"appid"`
	EventURL       string          `json:"event_url" doc:"URL that receives tickets and events; empty = none"`
	IPAllowlist    []string        `json:"ip_allowlist" doc:"address ranges that may call; empty = any"`
	RedirectHosts  []string        `json:"redirect_hosts" doc:"hosts to which the authorisation page may redirect"`
	CreatedAt      time.Time       `json:"created_at"`
	Total          int             `json:"total_authorizations"`
	Authorizations []Authorization `json:"authorizations" doc:"authorisations, at most 500"`
	HasRevision
}

// Authorization is the set of permissions that an account has granted to a platform.
type Authorization struct {
	AppID          string    `json:"appid"`
	PermissionSets []int     `json:"permission_sets"`
	GrantedAt      time.Time `json:"granted_at"`
}

// ComponentList is a page of platforms.
type ComponentList struct {
	Components []Component `json:"components"`
}

// ComponentQuery selects a page of platforms.
type ComponentQuery struct {
	After string `query:"after" doc:"only platforms with a greater AppID"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// ComponentPut is the requested state of a platform. An omitted field remains unchanged.
type ComponentPut struct {
	Secret         string    `json:"secret,omitempty" doc:"AppSecret; omit to keep the stored one"`
	MessageToken   string    `json:"message_token,omitempty" doc:"message token; omit to keep the stored one"`
	EncodingAESKey string    `json:"encoding_aes_key,omitempty" doc:"message key, 43 characters; omit to keep the stored one"`
	EventURL       *string   `json:"event_url,omitempty" doc:"URL that receives tickets and events; omit to keep the stored one"`
	IPAllowlist    *[]string `json:"ip_allowlist,omitempty" doc:"address ranges that may call; omit to keep the stored ones; [] = any"`
	RedirectHosts  *[]string `json:"redirect_hosts,omitempty" doc:"hosts to which the authorisation page may redirect; omit to keep the stored ones"`
}

// Push is a message that was pushed to a platform, without secrets.
type Push struct {
	ID        int64      `json:"id"`
	InfoType  string     `json:"info_type"`
	AppID     string     `json:"appid,omitempty" answer:"optional" doc:"AppID of the account that the message concerns"`
	CreatedAt time.Time  `json:"created_at"`
	URL       string     `json:"url"`
	Message   string     `json:"message" doc:"decrypted message; tickets and codes are masked"`
	Attempts  int        `json:"attempts"`
	Delivered bool       `json:"delivered"`
	SentAt    *time.Time `json:"sent_at,omitempty" doc:"time of the last attempt"`
	NextAt    *time.Time `json:"next_at,omitempty" doc:"time of the next attempt"`
	Status    int        `json:"status,omitempty" answer:"optional" doc:"HTTP status of the last response"`
	Response  string     `json:"response,omitempty" answer:"optional"`
	Error     string     `json:"error,omitempty" answer:"optional" doc:"reason why delivery failed"`
}

// PushList is a list of messages that were pushed to a platform.
type PushList struct {
	Pushes []Push `json:"pushes"`
}

// PushQuery limits the number of messages in a list.
type PushQuery struct {
	Limit int `query:"limit" default:"50" minimum:"1" maximum:"1000"`
}

// List returns at most limit third-party platforms whose AppID follows cursor, sorted by AppID; limit 0 = the default page size.
func (c ComponentsService) List(ctx context.Context, cursor string, limit int) ([]Component, error) {
	reply, err := OpListComponents.call(ctx, c.transport, ComponentQuery{cursor, limit})
	return reply.Components, err
}

// Get returns one third-party platform and the accounts that authorised the platform. If the platform does not exist, the result is
// a *Problem with status 404.
func (c ComponentsService) Get(ctx context.Context, appid string) (Component, error) {
	return OpGetComponent.call(ctx, c.transport, Empty{}, appid)
}

// Set creates a third-party platform, or changes the fields that are set in p; existing authorisations remain. If a field is
// invalid, the result is a *Problem with status 422 that describes the error.
func (c ComponentsService) Set(ctx context.Context, appid string, p ComponentPut) (Component, error) {
	component, err := OpPutComponent.call(ctx, c.transport, p, appid)
	if err == nil && component.AppID != appid {
		err = c.invalidResponse(http.MethodPut, OpPutComponent.url(appid), "it is about platform %q", component.AppID)
	}
	return component, err
}

// Delete deletes a third-party platform with all its authorisations. With dryRun, Delete only reports the objects that would be deleted.
func (c ComponentsService) Delete(ctx context.Context, appid string, dryRun bool) (Deletion, error) {
	return c.deleteWhole(ctx, OpDeleteComponent, appid, dryRun)
}

// ListPushes lists at most limit messages that were pushed to a platform's event URL, newest first, with the responses; limit 0
// selects the server's default page size. If the platform does not exist, the result is a *Problem with status 404.
func (c ComponentsService) ListPushes(ctx context.Context, component string, limit int) ([]Push, error) {
	reply, err := OpListPushes.call(ctx, c.transport, PushQuery{limit}, component)
	return reply.Pushes, err
}

// ComponentGrant is an authorisation that an account granted, with the authorised platform.
type ComponentGrant struct {
	Component      string    `json:"component"`
	PermissionSets []int     `json:"permission_sets"`
	GrantedAt      time.Time `json:"granted_at"`
}

// ComponentGrantList is the list of platforms that an account authorised.
type ComponentGrantList struct {
	Authorizations []ComponentGrant `json:"authorizations"`
}

// ListAuthorizations lists the platforms that an account authorised. For an unknown account, the result is a *Problem with status 404.
func (c AccountsService) ListAuthorizations(ctx context.Context, appid string) ([]ComponentGrant, error) {
	reply, err := OpListAccountAuthorizations.call(ctx, c.transport, Empty{}, appid)
	return reply.Authorizations, err
}

// Revoked is the response after an authorisation has been revoked.
type Revoked struct {
	Revoked bool `json:"revoked"`
}

// RevokeAuthorization revokes an account's authorisation of a platform; the tokens of the authorisation become invalid immediately.
// If the account has not authorised the platform, the result is a *Problem with status 404.
func (c ComponentsService) RevokeAuthorization(ctx context.Context, component, appid string) error {
	return OpRevokeAuthorization.do(ctx, c.transport, Empty{}, component, appid)
}

// RevokeAuthorization works like ComponentsService.RevokeAuthorization, but IfMatch compares the revision of the account, not that of
// the platform.
func (c AccountsService) RevokeAuthorization(ctx context.Context, appid, component string) error {
	return OpRevokeAccountAuthorization.do(ctx, c.transport, Empty{}, appid, component)
}

// Consent is the consent that a person gives on the consent page; with the emulator, the page is not needed.
type Consent struct {
	Component      string `json:"component" doc:"AppID of the requesting platform"`
	PreAuthCode    string `json:"pre_auth_code"`
	AppID          string `json:"appid" doc:"AppID of the granting account"`
	PermissionSets []int  `json:"permission_sets,omitempty" doc:"IDs of the permission sets to grant; default: 3, 18, 33 and 46"`
	Move           bool   `json:"force_exclusive,omitempty" doc:"if true, exclusive permission sets are revoked from the platform that has them"`
}

// AuthCode is the response to a Consent.
type AuthCode struct {
	AuthCode string `json:"auth_code"`
}

// Authorize grants a platform's authorisation request and returns the authorization_code. Authorize works only on a server with
// --dev or --emulator.
func (c EmulatorService) Authorize(ctx context.Context, a Consent) (code string, err error) {
	reply, err := OpAuthorize.call(ctx, c.transport, a)
	return reply.AuthCode, err
}

// TicketRequest is a request for a component_verify_ticket of a platform.
type TicketRequest struct {
	Component string `json:"component"`
}

// VerifyTicket contains a component_verify_ticket.
type VerifyTicket struct {
	Ticket string `json:"component_verify_ticket"`
}

// CreateTicket creates a component_verify_ticket for a platform, pushes the ticket and returns it. CreateTicket works only on a
// server with --dev or --emulator.
func (c EmulatorService) CreateTicket(ctx context.Context, component string) (ticket string, err error) {
	reply, err := OpCreateTicket.call(ctx, c.transport, TicketRequest{component})
	return reply.Ticket, err
}

// AuthorizationRequest is a third-party platform's request for authorisation, made with a link to the authorisation page.
type AuthorizationRequest struct {
	Component      string             `json:"component" doc:"AppID of the requesting platform"`
	ReturnTo       string             `json:"return_to" doc:"origin to which the user is redirected after granting"`
	PermissionSets []int              `json:"permission_sets" doc:"IDs of the requested permission sets"`
	Accounts       []RequestedAccount `json:"accounts" doc:"requested accounts for which the caller may grant the authorisation, by AppID"`
	More           bool               `json:"more" doc:"whether more accounts match; narrow them with part"`
}

// RequestedAccount is an account for which a platform requests authorisation.
type RequestedAccount struct {
	AppID string `json:"appid"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
}

// ConsentQuery is a request for the details of an authorisation link.
type ConsentQuery struct {
	Reference string `json:"reference" maxLength:"8192" doc:"reference from the authorisation page, or the platform's whole link"`
	Part      string `json:"part,omitempty" maxLength:"128" doc:"text that must occur in the AppID or name of an account"`
	Limit     int    `json:"limit,omitempty" minimum:"0" maximum:"500" doc:"maximum number of accounts; default: 50"`
}

// Get returns the details of a platform's authorisation request. If the reference is invalid, expired or used, the result is a
// *Problem with status 422.
func (c ConsentsService) Get(ctx context.Context, q ConsentQuery) (AuthorizationRequest, error) {
	return OpLookupAuthorization.call(ctx, c.transport, q)
}

// ConsentGrant is a person's consent to an authorisation request.
type ConsentGrant struct {
	Reference      string `json:"reference" maxLength:"8192" doc:"reference from the authorisation page, or the platform's whole link; works once"`
	AppID          string `json:"appid" maxLength:"128" doc:"AppID of the granting account"`
	PermissionSets []int  `json:"permission_sets" doc:"IDs of the permission sets to grant, a subset of the requested ones"`
	Move           bool   `json:"force_exclusive,omitempty" doc:"if true, exclusive permission sets are revoked from the platform that has them"`
}

// ConsentResult holds the address to which the browser is redirected after consent.
type ConsentResult struct {
	Location string `json:"location" doc:"platform's redirect URL with the auth_code"`
}

// Create authorises a platform to act for an account and returns the platform's redirect address with the auth_code. A *Problem
// with status 409 means that another platform has an exclusive permission set; status 422 means that the consent does not match the
// request, or that the reference is invalid.
func (c ConsentsService) Create(ctx context.Context, a ConsentGrant) (location string, err error) {
	made, err := OpGrantAuthorization.call(ctx, c.transport, a)
	return made.Location, err
}
