package client

import (
	"context"
)

// AuthorizationRequest is a third-party platform's request for authorisation, made with a link to the authorisation page.
type AuthorizationRequest struct {
	Component      string         `json:"component" doc:"the platform that asks"`
	ReturnTo       string         `json:"return_to" doc:"the origin that whoever agrees is sent back to"`
	PermissionSets []int          `json:"permission_sets" doc:"what it asks for"`
	Accounts       []AskedAccount `json:"accounts" doc:"those that it asks for and the caller may agree for, by AppID"`
	More           bool           `json:"more" doc:"there are more such accounts: name a part"`
}

// AskedAccount is an account for which a platform requests authorisation.
type AskedAccount struct {
	AppID string `json:"appid"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
}

// AuthorizationQuestion is a request for the details of an authorisation link.
type AuthorizationQuestion struct {
	Reference string `json:"reference" maxLength:"8192" doc:"what the authorisation page handed over, or the whole link of the platform"`
	Part      string `json:"part,omitempty" maxLength:"128" doc:"only accounts with it in their name or AppID"`
	Limit     int    `json:"limit,omitempty" minimum:"0" maximum:"500" doc:"of accounts; 50 where it is left out"`
}

// Get returns the details of a platform's authorisation request. For an invalid, expired or used reference of an authorisation
// link, the result is a *Problem with status 422.
func (c ConsentsService) Get(ctx context.Context, q AuthorizationQuestion) (AuthorizationRequest, error) {
	return post[AuthorizationRequest](ctx, c.transport, "authorizations/lookup", q)
}

// AuthorizationAgreed is a person's consent to an authorisation request.
type AuthorizationAgreed struct {
	Reference      string `json:"reference" maxLength:"8192" doc:"what the authorisation page handed over, or the whole link of the platform; it works once"`
	AppID          string `json:"appid" maxLength:"128" doc:"the account"`
	PermissionSets []int  `json:"permission_sets" doc:"of those that the platform asks for"`
	Move           bool   `json:"move,omitempty" doc:"true takes exclusive sets away from the platform that has them"`
}

// AuthorizationMade holds the address to which the browser is redirected after consent.
type AuthorizationMade struct {
	Location string `json:"location" doc:"the platform's address, with the auth_code"`
}

// Create authorises a platform to act for an account and returns the platform's redirect address with the auth_code. A *Problem
// with status 409 means that another platform has an exclusive permission set; status 422 means that the consent does not match the
// request, or that the reference is invalid.
func (c ConsentsService) Create(ctx context.Context, a AuthorizationAgreed) (location string, err error) {
	made, err := post[AuthorizationMade](ctx, c.transport, "authorizations", a)
	return made.Location, err
}
