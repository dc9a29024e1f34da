package accounts

import (
	"context"
	"errors"
	"time"
)

// Errors that the store returns to this package; clients of the platform API never see their text.
var (
	ErrNoGrant  = errors.New("accounts: no such authorisation")
	ErrNoTicket = errors.New("accounts: no such verify ticket")
	ErrNoCode   = errors.New("accounts: no such code")
)

// ComponentTx is the part of a transaction that stores components (third-party platforms).
type ComponentTx interface {
	// ComponentWithoutGrants returns a component without its grants, because a component can have very many grants.
	ComponentWithoutGrants(ctx context.Context, appid string) (Component, error)
	// PutComponentWithoutGrants stores a component and leaves its grants unchanged.
	PutComponentWithoutGrants(ctx context.Context, c Component) error
	// DeleteComponent deletes a component with its grants, tokens, tickets, codes and pushes.
	DeleteComponent(ctx context.Context, appid string) error
	// ComponentsAt returns the subset of appids that belong to components.
	ComponentsAt(ctx context.Context, appids []string) ([]string, error)
	// Components lists components without grants, sorted by AppID, starting after the given AppID.
	Components(ctx context.Context, after string, limit int) ([]Component, error)

	// Grant returns the grant of an account to a component, or ErrNoGrant.
	Grant(ctx context.Context, component, appid string) (Grant, error)
	// Grants lists the grants of a component in the order in which they were granted.
	Grants(ctx context.Context, component string, offset, limit int) ([]Grant, error)
	CountGrants(ctx context.Context, component string) (int, error)
	// Holders lists the components to which an account has granted permissions.
	Holders(ctx context.Context, appid string) ([]GrantedComponent, error)
	PutGrant(ctx context.Context, component string, g Grant) error
	DeleteGrant(ctx context.Context, component, appid string) error
	// ShortenAuthorizerTokens is ShortenTokens for the tokens with which a component calls on behalf of an account.
	ShortenAuthorizerTokens(ctx context.Context, component, appid string, at time.Time) error

	// VerifyTicket returns the verify ticket with the given hash, or ErrNoTicket.
	VerifyTicket(ctx context.Context, component, hash string) (VerifyTicket, error)
	PutVerifyTicket(ctx context.Context, t VerifyTicket) error
	// LatestVerifyTicket returns the issue time of the component's newest verify ticket; zero = the component has none.
	LatestVerifyTicket(ctx context.Context, component string) (time.Time, error)
	ForgetVerifyTickets(ctx context.Context, component string, before time.Time) error
	// TicketsDue lists components that have an event URL but no verify ticket issued in the period from "after" (exclusive) to "until".
	TicketsDue(ctx context.Context, after, until time.Time, limit int) ([]string, error)

	// GrantCode returns the code with the given hash, or ErrNoCode.
	GrantCode(ctx context.Context, hash string) (GrantCode, error)
	PutGrantCode(ctx context.Context, c GrantCode) error
	// ForgetGrantCodes deletes codes that expired before the given time.
	ForgetGrantCodes(ctx context.Context, before time.Time) error

	// ForgetPushes deletes the finished pushes of a component except the newest; the parameter "keep" is the number that stays.
	ForgetPushes(ctx context.Context, component string, keep int) error
}
