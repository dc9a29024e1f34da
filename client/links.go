package client

import (
	"context"
	"net/http"
	"time"
)

// The values of AccountLink.Status.
const (
	LinkStands       = 1
	LinkWaitsProgram = 2  // The link waits for the consent of the Mini Program's administrator.
	LinkRefused      = 3  // One of the two administrators rejected the link.
	LinkWaitsAccount = 12 // The link waits for the consent of the service account's administrator.
)

// The two sides of a link.
const (
	SideAccount     = "account" // the service account
	SideMiniProgram = "mini_program"
)

// AccountLink is a link of a service account with a Mini Program.
type AccountLink struct {
	MiniProgram string    `json:"mini_program"`
	Name        string    `json:"name" doc:"name of the Mini Program"`
	Status      int       `json:"status" doc:"1 linked, 2 waiting for the Mini Program's administrator, 3 rejected, 12 waiting for the account's administrator"`
	Unlinking   bool      `json:"unlinking" doc:"whether removal of the link waits for the account's administrator"`
	NotifyUsers bool      `json:"notify_users"`
	ShowProfile bool      `json:"show_profile"`
	CreatedAt   time.Time `json:"created_at"`
}

// AccountLinkList is the list of a service account's links.
type AccountLinkList struct {
	Links []AccountLink `json:"links"`
}

// Waits returns the side whose administrator must decide, SideAccount or SideMiniProgram; "" means that no decision is pending.
func (l AccountLink) Waits() string {
	switch {
	case l.Status == LinkWaitsProgram:
		return SideMiniProgram
	case l.Status == LinkWaitsAccount, l.Unlinking:
		return SideAccount
	}
	return ""
}

// List lists the links of a service account in all states. If the account does not exist, the result is a *Problem with status 404.
func (c LinksService) List(ctx context.Context, service string) ([]AccountLink, error) {
	return c.links(ctx, http.MethodGet, nil, service)
}

// links makes a call whose response contains all links of a service account.
func (c *transport) links(ctx context.Context, method string, body any, service string, rest ...string) ([]AccountLink, error) {
	reply, err := send[AccountLinkList](ctx, c, method, accountPath(service, append([]string{"links"}, rest...)...), body)
	return reply.Links, err
}

// Confirm accepts or rejects a link or its removal on behalf of the administrator of one side, SideAccount or SideMiniProgram. Confirm
// returns the links of the service account. If no decision of the given side is pending, the result is a *Problem with status 422.
func (c LinksService) Confirm(ctx context.Context, service, miniProgram, side string, agree bool) ([]AccountLink, error) {
	return c.links(ctx, http.MethodPost, map[string]any{"side": side, "approve": agree}, service, miniProgram, "confirm")
}
