package accounts

import (
	"context"
	"errors"
	"time"
)

// Sentinels of the store; never for callers of the wire.
var (
	ErrNoGrant  = errors.New("accounts: no such authorisation")
	ErrNoTicket = errors.New("accounts: no such verify ticket")
	ErrNoCode   = errors.New("accounts: no such code")
)

// ComponentTx is the part of a transaction that stores third-party platforms.
type ComponentTx interface {
	// ComponentAlone is Component without the grants: there may be very many of them.
	ComponentAlone(ctx context.Context, appid string) (Component, error)
	// PutComponentAlone is PutComponent, but leaves the grants as they are.
	PutComponentAlone(ctx context.Context, c Component) error
	// DeleteComponent removes a platform with its grants, tokens, tickets, codes and pushes.
	DeleteComponent(ctx context.Context, appid string) error
	// ComponentsAt returns those of the AppIDs that are of components.
	ComponentsAt(ctx context.Context, appids []string) ([]string, error)
	// Components lists by AppID, the first after the given one, without grants.
	Components(ctx context.Context, after string, limit int) ([]Component, error)

	// Grant returns ErrNoGrant where there is none.
	Grant(ctx context.Context, component, appid string) (Grant, error)
	// Grants lists the grants of a component in the order in which they were given.
	Grants(ctx context.Context, component string, offset, limit int) ([]Grant, error)
	CountGrants(ctx context.Context, component string) (int, error)
	// Holders lists the components that an account granted something.
	Holders(ctx context.Context, appid string) ([]GrantedComponent, error)
	PutGrant(ctx context.Context, component string, g Grant) error
	DeleteGrant(ctx context.Context, component, appid string) error
	// CutAuthorizerTokens is CutTokens for the tokens with which a component calls for an account.
	CutAuthorizerTokens(ctx context.Context, component, appid string, at time.Time) error

	// VerifyTicket returns ErrNoTicket where there is none.
	VerifyTicket(ctx context.Context, component, hash string) (VerifyTicket, error)
	PutVerifyTicket(ctx context.Context, t VerifyTicket) error
	// LatestVerifyTicket returns the time at which the newest ticket was issued; zero = never.
	LatestVerifyTicket(ctx context.Context, component string) (time.Time, error)
	ForgetVerifyTickets(ctx context.Context, component string, before time.Time) error
	// TicketsDue lists components with an event URL that have no ticket issued
	// after one time and not after another.
	TicketsDue(ctx context.Context, after, until time.Time, limit int) ([]string, error)

	// GrantCode returns ErrNoCode where there is none.
	GrantCode(ctx context.Context, hash string) (GrantCode, error)
	PutGrantCode(ctx context.Context, c GrantCode) error
	// ForgetGrantCodes removes codes that expired before a time.
	ForgetGrantCodes(ctx context.Context, before time.Time) error

	// ForgetPushes removes finished pushes but for the newest.
	ForgetPushes(ctx context.Context, component string, keep int) error
}
