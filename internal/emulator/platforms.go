package emulator

import (
	"context"

	o "github.com/qrjump/qrjump/internal/infra/adminroute"
)

// Agreement is an account owner's consent, given through the API instead of a browser page.
type Agreement struct {
	Component      string `json:"component" doc:"AppID of the requesting platform"`
	PreAuthCode    string `json:"pre_auth_code"`
	AppID          string `json:"appid" doc:"AppID of the granting account"`
	PermissionSets []int  `json:"permission_sets,omitempty" doc:"IDs of the permission sets to grant; default: 3, 18, 33 and 46"`
	Move           bool   `json:"force_exclusive,omitempty" doc:"if true, exclusive permission sets are revoked from the platform that has them"`
}

// Platforms implements the emulator operations for third-party platforms.
type Platforms struct {
	// Authorize records the consent and returns the authorization_code.
	Authorize func(context.Context, Agreement) (string, error)
	// Ticket creates a verify ticket, pushes the ticket to the platform and returns it.
	Ticket func(ctx context.Context, component string) (string, error)
}

func (p Platforms) operations() []o.Route {
	return []o.Route{
		o.Post("/emulator/authorize", "authorize", o.Operator, p.authorize, "A person agrees to what a third-party platform asks"),
		o.Post("/emulator/ticket", "createTicket", o.Operator, p.makeTicket,
			"A verify ticket for a third-party platform, for tests without an event URL"),
	}
}

type agreedView struct {
	AuthCode string `json:"auth_code"`
}

func (p Platforms) authorize(ctx context.Context, in *struct{ Body Agreement }) (agreedView, error) {
	code, err := p.Authorize(ctx, in.Body)
	return agreedView{code}, err
}

type ticketView struct {
	Ticket string `json:"component_verify_ticket"`
}

func (p Platforms) makeTicket(ctx context.Context, in *struct {
	Body struct {
		Component string `json:"component"`
	}
}) (ticketView, error) {
	text, err := p.Ticket(ctx, in.Body.Component)
	return ticketView{text}, err
}
