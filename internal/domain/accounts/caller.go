package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Caller is the identity behind a valid access token.
type Caller struct {
	Account // zero if the token is a component's own token
	// Component is the component that calls on behalf of the account or of itself; "" for an account that calls with its own token.
	Component string

	// Outlived reports that the account authorised the component again after this token was issued, and that a setting keeps the
	// old token valid.
	Outlived bool

	sets  []int
	addrs []string
}

// Reached returns an error if the caller's address is not in the IP allowlist: 61004 for a component, 40164 for a service account.
func (d *Service) Reached(ctx context.Context, c Caller, ip netip.Addr) error {
	switch {
	case c.Component != "":
		return d.checkAllowlist(ctx, allowlist{c.Component, c.addrs, errcode.ComponentIP, behaviour.CallerAddress}, ip)
	case c.Kind == ServiceAccount:
		return d.checkAllowlist(ctx, allowlist{c.AppID, c.Account.IPAllowlist, errcode.InvalidIP, behaviour.CallerAddressAccount}, ip)
	}
	return nil
}

// allowlist contains the IP allowlist of an account or a component, and the error code for calls from other addresses.
type allowlist struct {
	of     string
	addrs  []string
	code   *errcode.Code
	decide behaviour.Row
}

// checkAllowlist returns an error with the code in l if l does not contain the address. An empty allowlist accepts every address; in strict
// mode it rejects every address.
func (d *Service) checkAllowlist(ctx context.Context, l allowlist, ip netip.Addr) error {
	switch {
	case !allowed(ip, l.addrs):
		return l.code.Addressed(ip).WithDetail(l.decide, "not in ip_allowlist of %s", l.of)
	case len(l.addrs) > 0:
	case d.Settings.Refuses(behaviour.CallerAddressUnlisted):
		return l.code.Addressed(ip).WithDetail(behaviour.CallerAddressUnlisted, "strict: %s has no ip_allowlist", l.of)
	default:
		behaviour.Note(ctx, behaviour.CallerAddressUnlisted)
	}
	return nil
}

// Granted returns 61007 if a component calls on behalf of an account that did not grant it the permission set. Contract: rules §3.3.
func (c Caller) Granted(set int) error {
	if c.Component == "" || set == 0 || slices.Contains(c.sets, set) {
		return nil
	}
	return errcode.NotComponentSet.WithDetail(behaviour.CallerSetMissing, "%s did not grant %s permission set %d",
		c.AppID, c.Component, set)
}

// Identify returns the owner of an access token: it returns 40001 for a replaced or unknown token, 42001 for an expired token, and
// 61003 for a token of a component whose grant the account has revoked. Contract: rules §3.6.
func (d *Service) Identify(ctx context.Context, text string) (Caller, error) {
	return d.IdentifyWithin(ctx, text, nil)
}

// Rate is a limit of calls per second of an account, counted over all nodes.
type Rate struct {
	Path  string // API path; the calls of an account are counted per path
	Limit int
	// Counted reports that the call was counted, and Allowed that it is within the limit.
	Counted, Allowed bool
}

// Key returns the key under which the calls of an account are counted.
func (r *Rate) Key(appid string) string { return appid + " " + r.Path }

// SetPassing records that a call with a token of the account appid was counted. IdentifyWithin then counts the next call with the token in
// the same round trip that reads the token. appid "" = the call was rejected, so the next call is checked before being counted.
func (d *Service) SetPassing(text, appid string) {
	if d.Epochs != nil || !tokenShaped(text) {
		return
	}
	hash := d.tokenHash(text)
	if passing, ok := d.countedTokens.get(hash); passing == appid && ok {
		return
	}
	d.countedTokens.drop(hash)
	if appid != "" {
		d.countedTokens.put(hash, appid)
	}
}

func (d *Service) tokenHash(text string) [sha256.Size]byte {
	d.hasherOnce.Do(func() { d.hasher = d.Key.Hasher(tokenPurpose) })
	return d.hasher.Sum(text)
}

// IdentifyWithin returns the owner of a token like Identify. IdentifyWithin also counts the call against the limit in rate if SetPassing
// recorded the last call with the token; rate = nil counts nothing.
func (d *Service) IdentifyWithin(ctx context.Context, text string, rate *Rate) (Caller, error) {
	if !tokenShaped(text) {
		return Caller{}, errcode.InvalidCredential.WithDetail(behaviour.CallerTokenText, "the text does not have the form of a token")
	}
	hash := d.tokenHash(text)
	if d.Epochs == nil {
		i, err := d.identify(ctx, hash, rate)
		return i.caller, err
	}
	if i, ok := d.identities.get(d.Epochs, hash); ok {
		// A cached token may have expired since it was cached.
		return i.caller, i.token.Check(d.Now())
	}
	began := d.Epochs.all()
	i, err := d.identify(ctx, hash, nil)
	if err != nil {
		d.identities.drop(hash)
		return i.caller, err
	}
	d.identities.putRead(&began, hash, &i)
	return i.caller, nil
}

// identify reads the owner of the token with the given hash from the store, and counts the call like IdentifyWithin.
func (d *Service) identify(ctx context.Context, hash [sha256.Size]byte, rate *Rate) (identity, error) {
	var i identity
	err := d.Store.ViewAccounts(ctx, func(tx Tx) error {
		appid := ""
		if rate != nil {
			appid, _ = d.countedTokens.get(hash)
		}
		t, account, err := tx.Bearer(ctx, hex.EncodeToString(hash[:]), appid, rate)
		if err == nil {
			i = identity{token: t, account: t.AppID}
			if err = t.Check(d.Now()); err == nil {
				i.caller.Account = account
			}
			return err
		}
		if !errors.Is(err, ErrNoToken) {
			return err
		}
		t, err = tx.Token(ctx, hex.EncodeToString(hash[:]))
		if errors.Is(err, ErrNoToken) {
			return errcode.InvalidCredential.WithDetail(behaviour.CallerTokenUnknown, "no such token")
		}
		if err != nil {
			return err
		}
		i = identity{token: t, caller: Caller{Component: t.Component}, account: t.AppID}
		caller := &i.caller
		if t.Kind == Platform {
			caller.Component = t.AppID
		}
		i.platform = caller.Component
		if caller.Component != "" {
			if err := d.platform(ctx, tx, t, caller); err != nil {
				return err
			}
		}
		if err := t.Check(d.Now()); err != nil || t.Kind == Platform {
			return err
		}
		caller.Account, err = tx.Account(ctx, t.AppID)
		if errors.Is(err, ErrNoAccount) {
			return Deleted(t.AppID)
		}
		return err
	})
	return i, err
}

// Deleted returns the error for a call by an account that has been deleted: it wraps 40001 and ErrNoAccount.
func Deleted(appid string) error {
	return fmt.Errorf("%w: %w", errcode.InvalidCredential.WithDetail(behaviour.CallerTokenUnknown, "account %s was deleted",
		appid), ErrNoAccount)
}

// Keep returns the current account and prevents its deletion until the transaction ends; for a deleted account Keep returns the
// error of Deleted.
func Keep(ctx context.Context, tx interface {
	KeepAccount(ctx context.Context, appid string) (Account, error)
}, appid string) (Account, error) {
	a, err := tx.KeepAccount(ctx, appid)
	if errors.Is(err, ErrNoAccount) {
		err = Deleted(appid)
	}
	return a, err
}

// platform checks token t of a component: it returns an error if the component was deleted, or if the account has revoked its grant.
func (d *Service) platform(ctx context.Context, tx Tx, t Token, caller *Caller) error {
	c, err := tx.ComponentWithoutGrants(ctx, caller.Component)
	if errors.Is(err, ErrNoComponent) {
		return errcode.InvalidComponent.WithDetail(behaviour.CallerPlatformOther, "the platform %s was deleted", caller.Component)
	}
	if err != nil {
		return err
	}
	caller.addrs = c.IPAllowlist
	if t.Kind == Platform {
		return nil
	}
	g, err := tx.Grant(ctx, t.Component, t.AppID)
	if errors.Is(err, ErrNoGrant) {
		// The error code is not that of an invalid token, because a new token would not help the caller.
		return errcode.NotAuthorizing.WithDetail(behaviour.CallerWithdrawn, "%s revoked its authorization of %s", t.AppID, t.Component)
	}
	caller.sets = g.PermissionSets
	caller.Outlived = err == nil && t.IssuedAt.Before(g.GrantedAt) && t.SupersededAt.Equal(g.GrantedAt.Add(TokenOverlap))
	return err
}

// AuthenticateWithin identifies the caller of an API call by or on behalf of an account, and counts the call like IdentifyWithin; it
// returns 48001 for a component's own token.
func (d *Service) AuthenticateWithin(ctx context.Context, text string, rate *Rate) (Caller, error) {
	caller, err := d.IdentifyWithin(ctx, text, rate)
	if err == nil && caller.AppID == "" {
		return Caller{}, errcode.Unauthorized.WithDetail(behaviour.CallerWantsAccount,
			"the token is the platform %s's own, not an account's",
			caller.Component)
	}
	return caller, err
}

// AuthenticatePlatform identifies the caller of an API call that only components may make; it returns 61014 for a token of an account.
func (d *Service) AuthenticatePlatform(ctx context.Context, text string) (Caller, error) {
	caller, err := d.Identify(ctx, text)
	if err == nil && caller.AppID != "" {
		return Caller{}, errcode.WantsComponent.WithDetail(behaviour.CallerWantsPlatform,
			"the token belongs to the account %s", caller.AppID)
	}
	return caller, err
}

// OwnComponent returns nil if the request names the component that owns the token. OwnComponent returns 41018 if the request names no
// component, 61011 if it names another component, and the error of noPlatform if it names an unknown AppID.
func (d *Service) OwnComponent(ctx context.Context, caller Caller, named string) error {
	switch named {
	case caller.Component:
		return nil
	case "":
		return errcode.ComponentMissing.WithRow(behaviour.CallerPlatformMissing)
	}
	return d.Store.ViewAccounts(ctx, func(tx Tx) error {
		if _, err := tx.ComponentWithoutGrants(ctx, named); errors.Is(err, ErrNoComponent) {
			return noPlatform(ctx, tx, named)
		} else if err != nil {
			return err
		}
		return errcode.InvalidComponent.WithDetail(behaviour.CallerPlatformOther,
			"component_appid is %s, but the token belongs to %s", named, caller.Component)
	})
}

// Actor identifies the author of a change and the API call that made the change.
type Actor struct {
	ActorID string // AppID, "admin", "seed", or "server" for changes without a request
	Via     string // AppID of the component that made the call on behalf of the actor; "" = none
	RID     string // request ID of the API call; "" if no platform API call made the change
}

type authorKey struct{}

// WithActor returns a context that makes the given actor the author of all changes made with the context.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, authorKey{}, a)
}

// ActorFromContext returns the actor that WithActor set last. If the context has no actor, ActorFromContext returns the actor "server":
// HTTP handlers set an actor for every request, so only the server's background work has none.
func ActorFromContext(ctx context.Context) Actor {
	if a, ok := ctx.Value(authorKey{}).(Actor); ok {
		return a
	}
	return Actor{ActorID: "server"}
}
