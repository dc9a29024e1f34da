package client

import (
	"context"
	"net/http"
	"time"
)

// The values of an AccountLink's Status.
const (
	LinkStands       = 1
	LinkWaitsProgram = 2  // for the Mini Program's administrator
	LinkRefused      = 3  // by one of them
	LinkWaitsAccount = 12 // for the service account's administrator
)

// The two sides of a link.
const (
	SideAccount     = "account" // the service account
	SideMiniProgram = "mini_program"
)

// AccountLink is a link of a service account with a Mini Program.
type AccountLink struct {
	MiniProgram string    `json:"mini_program"`
	Name        string    `json:"name" doc:"of the Mini Program"`
	Status      int       `json:"status" doc:"1 linked, 2 waiting for the Mini Program's administrator, 3 refused, 12 waiting for the account's administrator"`
	Unlinking   bool      `json:"unlinking" doc:"the end of the link waits for the account's administrator"`
	NotifyUsers bool      `json:"notify_users"`
	ShowProfile bool      `json:"show_profile"`
	CreatedAt   time.Time `json:"created_at"`
}

// AccountLinkList are the links of a service account.
type AccountLinkList struct {
	Links []AccountLink `json:"links"`
}

// Waits returns the side whose administrator must answer, SideAccount or SideMiniProgram; "" = the link waits for no answer.
func (l AccountLink) Waits() string {
	switch {
	case l.Status == LinkWaitsProgram:
		return SideMiniProgram
	case l.Status == LinkWaitsAccount, l.Unlinking:
		return SideAccount
	}
	return ""
}

// List lists the links of a service account in any state. A *Problem with status
// 404: there is no such account.
func (c LinksService) List(ctx context.Context, service string) ([]AccountLink, error) {
	return c.links(ctx, http.MethodGet, nil, service)
}

// links makes a call that answers all links of a service account.
func (c *transport) links(ctx context.Context, method string, body any, service string, rest ...string) ([]AccountLink, error) {
	reply, err := ask[AccountLinkList](ctx, c, method, accountPath(service, append([]string{"links"}, rest...)...), body)
	return reply.Links, err
}

// Confirm agrees to a link, or to its end, or refuses it, for the administrator of one side,
// SideAccount or SideMiniProgram. It returns the links of the service account. A *Problem with
// status 422: nothing waits for that side.
func (c LinksService) Confirm(ctx context.Context, service, miniProgram, side string, agree bool) ([]AccountLink, error) {
	return c.links(ctx, http.MethodPost, map[string]any{"side": side, "agree": agree}, service, miniProgram, "confirm")
}
