package accounts

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Contract: rules §3.2.
const (
	// PreAuthLife is the lifetime of a pre_auth_code.
	PreAuthLife = 30 * time.Minute
	// AuthCodeLife is the lifetime of an authorization_code.
	AuthCodeLife = 10 * time.Minute
	// ListLimit is the maximum number of authorised accounts in one page of a list.
	ListLimit = 500
)

// CodeKind is the purpose of a single-use code.
type CodeKind string

// The kinds of single-use codes.
const (
	PreAuthCode CodeKind = "pre_auth"
	AuthCode    CodeKind = "auth"
)

// Prefixes of generated codes and refresh tokens.
const (
	preAuthMark = "preauthcode@@@"
	authMark    = "queryauthcode@@@"
	refreshMark = "refreshtoken@@@"
)

// GrantCode is a single-use authorisation code as stored.
type GrantCode struct {
	Hash      string
	Kind      CodeKind
	Component string
	AppID     string // for AuthCode only: the account that the code is for
	ExpiresAt time.Time
	UsedAt    time.Time // zero = not used yet
}

// expired reports whether the code has expired, or was issued by a node whose clock was far ahead.
func (c GrantCode) expired(now time.Time) bool {
	// Codes of both kinds live for at most PreAuthLife, so the code was issued at ExpiresAt minus PreAuthLife or later
	return !now.Before(c.ExpiresAt) || IssuedInFuture(c.ExpiresAt.Add(-PreAuthLife), now)
}

func newMarkedText(random io.Reader, mark string) (string, error) {
	raw := make([]byte, 48)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("generating a code: %w", err)
	}
	return mark + base64.RawURLEncoding.EncodeToString(raw), nil
}

// newCode generates and stores a single-use code.
func (d *Service) newCode(ctx context.Context, tx Tx, c GrantCode, mark string) (string, error) {
	text, err := newMarkedText(d.Random, mark)
	if err != nil {
		return "", err
	}
	c.Hash = d.Key.Hash(string(c.Kind)+"_code", text)
	return text, tx.PutGrantCode(ctx, c)
}

// code returns the stored code with the given text, or ErrNoCode if this code does not exist or has another component or kind.
func (d *Service) code(ctx context.Context, tx Tx, component string, kind CodeKind, text string) (GrantCode, error) {
	c, err := tx.GrantCode(ctx, d.Key.Hash(string(kind)+"_code", text))
	if err == nil && (c.Kind != kind || c.Component != component) {
		return GrantCode{}, ErrNoCode
	}
	return c, err
}

// CreatePreAuthCode is api_create_preauthcode. Contract: rules §3.2.
func (d *Service) CreatePreAuthCode(ctx context.Context, component string) (Issued, error) {
	var text string
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) (err error) {
		now := d.Now()
		if d.canDeleteExpired() {
			if err := tx.ForgetGrantCodes(ctx, now.Add(-tokenMemory)); err != nil {
				return err
			}
		}
		text, err = d.newCode(ctx, tx, GrantCode{Kind: PreAuthCode, Component: component, ExpiresAt: now.Add(PreAuthLife)}, preAuthMark)
		return err
	})
	return Issued{Text: text, ExpiresIn: int(PreAuthLife / time.Second)}, err
}

// CheckPreAuthCode returns an Invalid error if the component has no such pre_auth_code, or if the code was used or has expired.
func (d *Service) CheckPreAuthCode(ctx context.Context, component, text string) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error {
		_, err := d.preAuthCode(ctx, tx, component, text, d.Now())
		return err
	})
}

func (d *Service) preAuthCode(ctx context.Context, tx Tx, component, text string, now time.Time) (GrantCode, error) {
	c, err := d.code(ctx, tx, component, PreAuthCode, text)
	switch {
	case errors.Is(err, ErrNoCode):
		return c, Invalidf("the pre_auth_code was not created for %s", component)
	case err != nil:
		return c, err
	case !c.UsedAt.IsZero():
		return c, Invalidf("the pre_auth_code was used already: the platform must create another")
	case c.expired(now):
		return c, Invalidf("the pre_auth_code has expired: the platform must create another")
	}
	return c, nil
}

// Agreement is the consent of a user to the authorisation request of a component.
type Agreement struct {
	Component   string
	PreAuthCode string
	AppID       string
	Sets        []int
	// ForceExclusive reports that the user agreed to transfer exclusive permission sets from another component.
	ForceExclusive bool
}

// ExclusiveConflict is returned by Agree when another component holds an exclusive permission set and the user did not agree to
// transfer the set.
type ExclusiveConflict struct {
	AppID string
	Set   int
	By    string
}

func (t ExclusiveConflict) Error() string {
	return fmt.Sprintf("permission set %d of %s is exclusive, and the platform %s has it", t.Set, t.AppID, t.By)
}

// Agree grants a component the permission sets that a user agreed to, and returns the authorization_code. Agree returns
// ErrNoComponent, ErrNoAccount, Invalid or ExclusiveConflict.
func (d *Service) Agree(ctx context.Context, a Agreement) (Issued, error) {
	a.Sets = ordered(a.Sets)
	if len(a.Sets) == 0 {
		return Issued{}, Invalidf("approve at least one permission set")
	}
	if err := ValidSets(a.Sets); err != nil {
		return Issued{}, Invalidf("permission_sets: %v", err)
	}
	var text string
	err := d.push(ctx, func(tx Tx) error {
		holders, err := lockGrants(ctx, tx, a.AppID, a.Component)
		if err != nil {
			return err
		}
		c, err := tx.ComponentWithoutGrants(ctx, a.Component)
		if err != nil {
			return err
		}
		now := d.Now()
		code, err := d.preAuthCode(ctx, tx, a.Component, a.PreAuthCode, now)
		if err != nil {
			return err
		}
		if _, err := tx.Account(ctx, a.AppID); err != nil {
			return err
		}
		if err := d.makeRoom(ctx, tx, a, holders, now); err != nil {
			return err
		}
		if text, err = d.newCode(ctx, tx, GrantCode{Kind: AuthCode, Component: a.Component, AppID: a.AppID,
			ExpiresAt: now.Add(AuthCodeLife)}, authMark); err != nil {
			return err
		}
		code.UsedAt = now
		if err := tx.PutGrantCode(ctx, code); err != nil {
			return err
		}
		if err := d.endAuthorized(ctx, tx, a, now); err != nil {
			return err
		}
		old, err := tx.Grant(ctx, a.Component, a.AppID)
		did := UpdatedPush
		switch {
		case errors.Is(err, ErrNoGrant):
			did = AuthorizedPush
		case err != nil:
			return err
		case slices.Equal(ordered(old.PermissionSets), a.Sets):
			// Assumed(consent.same): the permission sets are unchanged, so the component receives no event and keeps its refresh token.
			old.GrantedAt = now
			return tx.PutGrant(ctx, a.Component, old)
		}
		grant, err := d.newGrant(a.Component, a.AppID, a.Sets, now)
		if err != nil {
			return err
		}
		if err := tx.PutGrant(ctx, a.Component, grant); err != nil {
			return err
		}
		return d.pushGrant(ctx, tx, c, grantEvent{did, a.AppID, now, text, a.PreAuthCode})
	})
	return Issued{Text: text, ExpiresIn: int(AuthCodeLife / time.Second)}, err
}

// endAuthorized ends the tokens that a component received before a user authorised the component again. The tokens end at once. If an
// operator override allows the behaviour ComponentReauthorized, they end after TokenOverlap, as after a refresh. Contract: rules §3.2.
func (d *Service) endAuthorized(ctx context.Context, tx Tx, a Agreement, now time.Time) error {
	cut := now
	if s := d.Settings.Get(); !s.Refuses(behaviour.ComponentReauthorized) {
		cut = now.Add(TokenOverlap)
	}
	return tx.ShortenTokens(ctx, Token{AppID: a.AppID, Component: a.Component, Kind: Authorizer, IssuedAt: now}, cut)
}

// lockGrants locks an account and then its components in AppID order, so that concurrent changes of the account's grants wait.
// Contract: decisions 0004.
func lockGrants(ctx context.Context, tx Tx, appid string, components ...string) ([]GrantedComponent, error) {
	if err := tx.LockAccount(ctx, appid); err != nil {
		return nil, err
	}
	holders, err := tx.Holders(ctx, appid)
	if err != nil {
		return nil, err
	}
	for _, h := range holders {
		components = append(components, h.Component)
	}
	slices.Sort(components)
	for _, component := range slices.Compact(components) {
		if err := tx.LockAccount(ctx, component); err != nil {
			return nil, err
		}
	}
	return tx.Holders(ctx, appid)
}

// makeRoom resolves the conflicts that arise if other components hold exclusive permission sets of the account. If the user agreed to
// transfer an exclusive permission set, makeRoom removes the set from the other component; otherwise makeRoom returns ExclusiveConflict.
func (d *Service) makeRoom(ctx context.Context, tx Tx, a Agreement, holders []GrantedComponent, now time.Time) error {
	for _, h := range holders {
		left := excluding(h.Grant.PermissionSets, a.Sets)
		if h.Component == a.Component || len(left) == len(h.Grant.PermissionSets) {
			continue
		}
		if !a.ForceExclusive {
			return ExclusiveConflict{AppID: a.AppID, Set: MiniProgramDev, By: h.Component}
		}
		if len(left) == 0 {
			if err := d.revoke(ctx, tx, h.Component, a.AppID, now); err != nil {
				return err
			}
			continue
		}
		h.Grant.PermissionSets = left
		if err := tx.PutGrant(ctx, h.Component, h.Grant); err != nil {
			return err
		}
		component, err := tx.ComponentWithoutGrants(ctx, h.Component)
		if err != nil {
			return err
		}
		code, err := d.newCode(ctx, tx, GrantCode{Kind: AuthCode, Component: h.Component, AppID: a.AppID, ExpiresAt: now.Add(AuthCodeLife)},
			authMark)
		if err != nil {
			return err
		}
		if err := d.pushGrant(ctx, tx, component, grantEvent{UpdatedPush, a.AppID, now, code, ""}); err != nil {
			return err
		}
	}
	return nil
}

func refreshPlace(component, appid string) string {
	return "grants/refresh_token/" + component + "/" + appid
}

// newGrant returns a grant with a newly generated refresh token.
func (d *Service) newGrant(component, appid string, sets []int, now time.Time) (Grant, error) {
	text, err := newMarkedText(d.Random, refreshMark)
	if err != nil {
		return Grant{}, err
	}
	return Grant{AppID: appid, PermissionSets: ordered(sets), RefreshToken: d.Key.Seal(refreshPlace(component, appid), []byte(text)),
		GrantedAt: now}, nil
}

// grantEvent is a change of an account's authorisation of a component; code and preAuthCode are empty for the type UnauthorizedPush.
type grantEvent struct {
	infoType, appid   string
	occurredAt        time.Time
	code, preAuthCode string
}

// pushGrant queues a push of an authorisation event to the component. Contract: rules §3.2.
func (d *Service) pushGrant(ctx context.Context, tx Tx, c Component, e grantEvent) error {
	if c.EventURL == "" {
		return nil
	}
	elements := []element{{name: "AuthorizerAppid", text: e.appid}}
	if e.infoType != UnauthorizedPush {
		elements = append(elements, element{name: "AuthorizationCode", text: e.code, secret: true},
			element{name: "AuthorizationCodeExpiredTime", text: strconv.FormatInt(e.occurredAt.Add(AuthCodeLife).Unix(), 10)},
			element{name: "PreAuthCode", text: e.preAuthCode, secret: true})
	}
	return d.addPush(ctx, tx, outbox.Row{Receiver: c.AppID, Event: e.infoType, AppID: e.appid, URL: c.EventURL,
		CreatedAt: e.occurredAt}, elements)
}

// Revoke deletes the grant of an account to a component; the component's tokens for the account end at once. ErrNoGrant.
func (d *Service) Revoke(ctx context.Context, component, appid string) error {
	return d.push(ctx, func(tx Tx) error {
		if _, err := lockGrants(ctx, tx, appid, component); err != nil {
			return err
		}
		if _, err := tx.Grant(ctx, component, appid); err != nil {
			return err
		}
		return d.revoke(ctx, tx, component, appid, d.Now())
	})
}

func (d *Service) revoke(ctx context.Context, tx Tx, component, appid string, now time.Time) error {
	if err := tx.DeleteGrant(ctx, component, appid); err != nil {
		return err
	}
	// The tokens issued under the deleted grant must not become valid again when the account authorises the component again.
	if err := tx.ShortenTokens(ctx, Token{AppID: appid, Component: component, Kind: Authorizer, IssuedAt: now}, now); err != nil {
		return err
	}
	c, err := tx.ComponentWithoutGrants(ctx, component)
	if err != nil {
		return err
	}
	return d.pushGrant(ctx, tx, c, grantEvent{infoType: UnauthorizedPush, appid: appid, occurredAt: now})
}

// Authorization is the description of a grant as returned to a component.
type Authorization struct {
	Account      Account
	Sets         []int
	RefreshToken string
	GrantedAt    time.Time
	Token        Issued // empty if no token is issued
}

// TradeAuthCode implements api_query_auth: it exchanges an authorization_code for the tokens of the account. TradeAuthCode returns 61009
// for an unknown code, 61010 for a used or expired code, or 61003 if the account has revoked the grant. Contract: rules §3.2.
func (d *Service) TradeAuthCode(ctx context.Context, component, text string) (Authorization, error) {
	var code GrantCode
	find := func(tx Tx) (err error) {
		code, err = d.code(ctx, tx, component, AuthCode, text)
		if errors.Is(err, ErrNoCode) {
			return errcode.GrantCodeInvalid.WithDetail(behaviour.ComponentCodeUnknown,
				"no such authorization_code was issued to %s", component)
		}
		if err == nil && (!code.UsedAt.IsZero() || code.expired(d.Now())) {
			return errcode.GrantCodeExpired.WithDetail(behaviour.ComponentCodeUsed,
				"the authorization_code for %s was used already, or is older than ten minutes", code.AppID)
		}
		return err
	}
	if err := d.Store.ViewAccounts(ctx, find); err != nil {
		return Authorization{}, err
	}
	return d.authorize(ctx, component, code.AppID, func(tx Tx, now time.Time) error {
		if err := find(tx); err != nil {
			return err
		}
		code.UsedAt = now
		return tx.PutGrantCode(ctx, code)
	}, func(Authorization) error { return nil })
}

// RefreshAuthorizerToken implements api_authorizer_token. RefreshAuthorizerToken returns 40013 if the account does not exist, 61003 if the
// account did not authorise the component, and 61023 for a text that is not the current refresh token. Contract: rules §3.2.
func (d *Service) RefreshAuthorizerToken(ctx context.Context, component, appid, refresh string) (Authorization, error) {
	// Observed(component.refresh.same): the response contains the same refresh token as before.
	return d.authorize(ctx, component, appid, func(Tx, time.Time) error { return nil }, func(a Authorization) error {
		if subtle.ConstantTimeCompare([]byte(refresh), []byte(a.RefreshToken)) != 1 {
			return errcode.InvalidRefresh.WithDetail(behaviour.ComponentRefresh, "not the refresh token of %s for %s", appid, component)
		}
		return nil
	})
}

// authorize issues an authorizer_access_token. Before that, it calls the function "first", reads the grant, and passes the grant to the
// function "check"; it returns an error of any of these steps. The previous token stays valid for five more minutes.
func (d *Service) authorize(ctx context.Context, component, appid string, first func(Tx, time.Time) error,
	check func(Authorization) error) (Authorization, error) {
	var a Authorization
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		for _, name := range []string{appid, component} {
			if err := tx.LockAccount(ctx, name); err != nil {
				return err
			}
		}
		now := d.Now()
		if err := first(tx, now); err != nil {
			return err
		}
		var err error
		if a, err = d.authorization(ctx, tx, component, appid); err != nil {
			return err
		}
		if err := check(a); err != nil {
			return err
		}
		a.Token, err = d.issue(ctx, tx, Token{AppID: appid, Component: component, Kind: Authorizer}, now, now.Add(TokenOverlap))
		return err
	})
	if err != nil {
		return Authorization{}, err
	}
	return a, nil
}

// authorization reads the grant of an account to a component: it returns 40013 if the account does not exist, and 61003 if the account did
// not authorise the component.
func (d *Service) authorization(ctx context.Context, tx Tx, component, appid string) (Authorization, error) {
	account, err := tx.Account(ctx, appid)
	if errors.Is(err, ErrNoAccount) {
		return Authorization{}, errcode.InvalidAppID.WithDetail(behaviour.ComponentAccountUnknown, "no account has the AppID %q", appid)
	}
	if err != nil {
		return Authorization{}, err
	}
	g, err := tx.Grant(ctx, component, appid)
	if errors.Is(err, ErrNoGrant) {
		return Authorization{}, errcode.NotAuthorizing.WithDetail(behaviour.ComponentAccountStranger,
			"%s did not authorise %s", appid, component)
	}
	if err != nil {
		return Authorization{}, err
	}
	refresh, err := d.refreshToken(component, g)
	return Authorization{Account: account, Sets: g.PermissionSets, RefreshToken: refresh, GrantedAt: g.GrantedAt}, err
}

func (d *Service) refreshToken(component string, g Grant) (string, error) {
	text, err := d.Key.Open(refreshPlace(component, g.AppID), g.RefreshToken)
	if err != nil {
		return "", fmt.Errorf("the refresh token of %s for %s: %w", g.AppID, component, err)
	}
	return string(text), nil
}

// Authorization implements api_get_authorizer_info. Contract: rules §3.2.
func (d *Service) Authorization(ctx context.Context, component, appid string) (Authorization, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (Authorization, error) { return d.authorization(ctx, tx, component, appid) })
}

// Authorizations implements api_get_authorizer_list: it returns 40170 if count is above 500. The returned accounts have only the
// AppID set. Contract: rules §3.2.
func (d *Service) Authorizations(ctx context.Context, component string, offset, count int) (total int, page []Authorization, err error) {
	switch {
	case count > ListLimit:
		return 0, nil, errcode.TooManyListed.WithDetail(behaviour.ComponentListCount, "count is %d: at most %d", count, ListLimit)
	case offset < 0 || count < 0:
		return 0, nil, errcode.InvalidArgs.WithDetail(behaviour.ComponentListRange,
			"offset is %d and count %d: want 0 or more", offset, count)
	}
	all, err := Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]Authorizations, error) {
		return d.authorizations(ctx, tx, []string{component}, offset, count)
	})
	if err != nil {
		return 0, nil, err
	}
	return all[0].Total, all[0].Page, nil
}

// Authorizations is one page of the accounts that authorised a component, and the total number of these accounts.
type Authorizations struct {
	Total int
	Page  []Authorization
}

// AuthorizationsOf returns, for each component, the first page of the accounts that authorised it. These accounts have only the AppID set.
func (d *Service) AuthorizationsOf(ctx context.Context, components []string) ([]Authorizations, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (all []Authorizations, err error) {
		for names := range slices.Chunk(components, 50) {
			found, err := d.authorizations(ctx, tx, names, 0, ListLimit)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	})
}

func (d *Service) authorizations(ctx context.Context, tx Tx, components []string, offset, count int) ([]Authorizations, error) {
	if err := tx.Prefetch(ctx, func() {
		for _, component := range components {
			_, _ = tx.CountGrants(ctx, component)
			_, _ = tx.Grants(ctx, component, offset, count)
		}
	}); err != nil {
		return nil, err
	}
	all := make([]Authorizations, len(components))
	for i, component := range components {
		var err error
		if all[i].Total, err = tx.CountGrants(ctx, component); err != nil {
			return nil, err
		}
		grants, err := tx.Grants(ctx, component, offset, count)
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			refresh, err := d.refreshToken(component, g)
			if err != nil {
				return nil, err
			}
			all[i].Page = append(all[i].Page, Authorization{Account: Account{AppID: g.AppID}, Sets: g.PermissionSets, RefreshToken: refresh,
				GrantedAt: g.GrantedAt})
		}
	}
	return all, nil
}

// GetComponent returns a component without its grants, or ErrNoComponent.
func (d *Service) GetComponent(ctx context.Context, appid string) (Component, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (Component, error) { return tx.ComponentWithoutGrants(ctx, appid) })
}

// ListComponents lists components without their grants, sorted by AppID.
func (d *Service) ListComponents(ctx context.Context, cursor string, limit int) ([]Component, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]Component, error) { return tx.Components(ctx, cursor, limit) })
}

// GrantsBy lists the components to which an account granted permissions, with the permissions. ErrNoAccount.
func (d *Service) GrantsBy(ctx context.Context, appid string) ([]GrantedComponent, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]GrantedComponent, error) {
		if _, err := tx.Account(ctx, appid); err != nil {
			return nil, err
		}
		return tx.Holders(ctx, appid)
	})
}
