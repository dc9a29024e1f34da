package client

import (
	"context"
)

// AuthorizationRequest is a third-party platform's request for authorisation, made with a link to the authorisation page.
type AuthorizationRequest struct {
	Component      string         `json:"component" doc:"AppID of the requesting platform"`
	ReturnTo       string         `json:"return_to" doc:"origin to which the user is redirected after granting"`
	PermissionSets []int          `json:"permission_sets" doc:"IDs of the requested permission sets"`
	Accounts       []AskedAccount `json:"accounts" doc:"requested accounts for which the caller may grant the authorisation, by AppID"`
	More           bool           `json:"more" doc:"whether more accounts match; narrow them with part"`
}

// AskedAccount is an account for which a platform requests authorisation.
type AskedAccount struct {
	AppID string `json:"appid"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
}

// AuthorizationQuestion is a request for the details of an authorisation link.
type AuthorizationQuestion struct {
	Reference string `json:"reference" maxLength:"8192" doc:"reference from the authorisation page, or the platform's whole link"`
	Part      string `json:"part,omitempty" maxLength:"128" doc:"text that must occur in the AppID or name of an account"`
	Limit     int    `json:"limit,omitempty" minimum:"0" maximum:"500" doc:"maximum number of accounts; default: 50"`
}

// Get returns the details of a platform's authorisation request. If the reference is invalid, expired or used, the result is a
// *Problem with status 422.
func (c ConsentsService) Get(ctx context.Context, q AuthorizationQuestion) (AuthorizationRequest, error) {
	return post[AuthorizationRequest](ctx, c.transport, "authorizations/lookup", q)
}

// AuthorizationAgreed is a person's consent to an authorisation request.
type AuthorizationAgreed struct {
	Reference      string `json:"reference" maxLength:"8192" doc:"reference from the authorisation page, or the platform's whole link; works once"`
	AppID          string `json:"appid" maxLength:"128" doc:"AppID of the granting account"`
	PermissionSets []int  `json:"permission_sets" doc:"IDs of the permission sets to grant, a subset of the requested ones"`
	Move           bool   `json:"force_exclusive,omitempty" doc:"if true, exclusive permission sets are revoked from the platform that has them"`
}

// AuthorizationMade holds the address to which the browser is redirected after consent.
type AuthorizationMade struct {
	Location string `json:"location" doc:"platform's redirect URL with the auth_code"`
}

// Create authorises a platform to act for an account and returns the platform's redirect address with the auth_code. A *Problem
// with status 409 means that another platform has an exclusive permission set; status 422 means that the consent does not match the
// request, or that the reference is invalid.
func (c ConsentsService) Create(ctx context.Context, a AuthorizationAgreed) (location string, err error) {
	made, err := post[AuthorizationMade](ctx, c.transport, "authorizations", a)
	return made.Location, err
}
