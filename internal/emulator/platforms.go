package emulator

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Agreed is what a person agreed to, without a page.
type Agreed struct {
	Component      string `json:"component" doc:"the platform that asked"`
	PreAuthCode    string `json:"pre_auth_code"`
	AppID          string `json:"appid" doc:"the account"`
	PermissionSets []int  `json:"permission_sets,omitempty" doc:"left out: 3, 18, 33 and 46"`
	Move           bool   `json:"move,omitempty" doc:"true takes exclusive sets away from the platform that has them"`
}

// Platforms is the emulator's part of third-party platforms. Its functions
// return errors of huma.
type Platforms struct {
	// Authorize agrees and returns the authorization_code.
	Authorize func(context.Context, Agreed) (string, error)
	// Ticket makes a verify ticket, pushes it and returns it.
	Ticket func(ctx context.Context, component string) (string, error)
}

// Register adds the operations to the API and its document.
func (p Platforms) Register(api huma.API) {
	type agreedView struct {
		AuthCode string `json:"auth_code"`
	}
	huma.Register(api, operation(http.MethodPost, "/authorize", "authorize", "A person agrees to what a third-party platform asks"), func(ctx context.Context, in *struct{ Body Agreed }) (*answer[agreedView], error) {
		code, err := p.Authorize(ctx, in.Body)
		if err != nil {
			return nil, err
		}
		return &answer[agreedView]{agreedView{code}}, nil
	})
	type ticketView struct {
		Ticket string `json:"component_verify_ticket"`
	}
	huma.Register(api, operation(http.MethodPost, "/ticket", "makeTicket", "A verify ticket for a third-party platform, for tests without an event URL"), func(ctx context.Context, in *struct {
		Body struct {
			Component string `json:"component"`
		}
	}) (*answer[ticketView], error) {
		text, err := p.Ticket(ctx, in.Body.Component)
		if err != nil {
			return nil, err
		}
		return &answer[ticketView]{ticketView{text}}, nil
	})
}
