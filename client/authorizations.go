package client

import (
	"context"
)

// AuthorizationRequest is a third-party platform's request, by a link to the authorisation page.
type AuthorizationRequest struct {
	Component      string         `json:"component" doc:"the platform that asks"`
	ReturnTo       string         `json:"return_to" doc:"the origin that whoever agrees is sent back to"`
	PermissionSets []int          `json:"permission_sets" doc:"what it asks for"`
	Accounts       []AskedAccount `json:"accounts" doc:"those that it asks for and the caller may agree for, by AppID"`
	More           bool           `json:"more" doc:"there are more such accounts: name a part"`
}

// AskedAccount is an account that a platform asks for.
type AskedAccount struct {
	AppID string `json:"appid"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
}

// AuthorizationQuestion asks what a link is about.
type AuthorizationQuestion struct {
	Reference string `json:"reference" maxLength:"8192" doc:"what the authorisation page handed over, or the whole link of the platform"`
	Part      string `json:"part,omitempty" maxLength:"128" doc:"only accounts with it in their name or AppID"`
	Limit     int    `json:"limit,omitempty" minimum:"0" maximum:"500" doc:"of accounts; 50 where it is left out"`
}

// Get says what a platform asks for. A *Problem with status 422: the reference is not right, expired, or used.
func (c ConsentsService) Get(ctx context.Context, q AuthorizationQuestion) (AuthorizationRequest, error) {
	return post[AuthorizationRequest](ctx, c.transport, "authorizations/lookup", q)
}

// AuthorizationAgreed is a person's consent.
type AuthorizationAgreed struct {
	Reference      string `json:"reference" maxLength:"8192" doc:"what the authorisation page handed over, or the whole link of the platform; it works once"`
	AppID          string `json:"appid" maxLength:"128" doc:"the account"`
	PermissionSets []int  `json:"permission_sets" doc:"of those that the platform asks for"`
	Move           bool   `json:"move,omitempty" doc:"true takes exclusive sets away from the platform that has them"`
}

// AuthorizationMade holds the address at which a browser goes on after consent.
type AuthorizationMade struct {
	Location string `json:"location" doc:"the platform's address, with the auth_code"`
}

// Create lets a platform act for an account and returns the address by which the platform learns of it. A *Problem with
// status 409: another platform has an exclusive set; 422: what was agreed to is not what is asked for, or the reference is not right.
func (c ConsentsService) Create(ctx context.Context, a AuthorizationAgreed) (location string, err error) {
	made, err := post[AuthorizationMade](ctx, c.transport, "authorizations", a)
	return made.Location, err
}
