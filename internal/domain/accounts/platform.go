package accounts

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// PutComponent creates or replaces a component (third-party platform). PutComponent receives the three secrets in plain text. An empty
// secret keeps the stored secret, and nil Grants keep the stored grants. If c.Grants is not nil, it replaces all stored grants; the
// component receives an event only for an account that c.Grants omits.
func (d *Service) PutComponent(ctx context.Context, c Component, secret, messageToken, aesKey string) error {
	if err := d.CheckComponent(c, secret, aesKey); err != nil {
		return err
	}
	return d.putComponent(ctx, c, nil, secret, messageToken, aesKey)
}

// ChangeComponent reads a component, lets the function "change" modify it, and stores it like PutComponent, in one transaction. The
// component's grants do not change. If the component does not exist yet, "change" receives a Component with only the AppID.
func (d *Service) ChangeComponent(ctx context.Context, appid string, change func(*Component), secret, messageToken, aesKey string) error {
	return d.putComponent(ctx, Component{AppID: appid}, change, secret, messageToken, aesKey)
}

// putComponent stores c. If the function "change" is not nil, putComponent instead applies it to the stored component.
func (d *Service) putComponent(ctx context.Context, c Component, change func(*Component), secret, messageToken, aesKey string) error {
	return d.push(ctx, func(tx Tx) error {
		oldNames, err := lockComponent(ctx, tx, c)
		if err != nil {
			return err
		}
		old, err := tx.ComponentWithoutGrants(ctx, c.AppID)
		sealed, now := c, d.Now()
		if change != nil && (err == nil || errors.Is(err, ErrNoComponent)) {
			sealed.EventURL, sealed.IPAllowlist, sealed.RedirectHosts = old.EventURL, old.IPAllowlist, old.RedirectHosts
			change(&sealed)
			if wrong := d.CheckComponent(sealed, secret, aesKey); wrong != nil {
				return wrong
			}
		}
		switch {
		case errors.Is(err, ErrNoComponent):
			if secret == "" || messageToken == "" || aesKey == "" {
				return Invalidf("component %s: want secret, message_token and encoding_aes_key of a new component", c.AppID)
			}
			sealed.CreatedAt = now
		case err != nil:
			return err
		default:
			sealed.CreatedAt, sealed.SecretHash, sealed.MessageToken, sealed.EncodingAESKey = old.CreatedAt, old.SecretHash,
				old.MessageToken, old.EncodingAESKey
		}
		if err := d.sealComponent(ctx, tx, &sealed, secret, messageToken, aesKey); err != nil {
			return err
		}
		if c.Grants == nil {
			return tx.PutComponentWithoutGrants(ctx, sealed)
		}
		if sealed.Grants, err = d.replaceGrants(ctx, tx, c, oldNames, now); err != nil {
			return err
		}
		return tx.PutComponent(ctx, sealed)
	})
}

// lockComponent locks a component, the accounts that granted it permissions, and the accounts in c.Grants. If c.Grants is not nil,
// lockComponent returns the accounts that currently grant the component permissions.
func lockComponent(ctx context.Context, tx Tx, c Component) (oldNames []string, err error) {
	if oldNames, err = grantedTo(ctx, tx, c); err != nil {
		return nil, err
	}
	accounts := slices.Clone(oldNames)
	for _, g := range c.Grants {
		accounts = append(accounts, g.AppID)
	}
	slices.Sort(accounts)
	// Accounts are locked before components, as in lockGrants.
	for _, appid := range append(slices.Compact(accounts), c.AppID) {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return nil, err
		}
	}
	if _, err := tx.Account(ctx, c.AppID); err == nil {
		return nil, Invalidf("appid %s is an account's", c.AppID)
	} else if !errors.Is(err, ErrNoAccount) {
		return nil, err
	}
	// While the locks are held, no other transaction can change the grants of the component. The second call of grantedTo also returns
	// accounts that authorised the component while lockComponent waited for the locks.
	return grantedTo(ctx, tx, c)
}

// sealComponent encrypts the given secrets; an empty secret keeps the stored secret.
func (d *Service) sealComponent(ctx context.Context, tx Tx, c *Component, secret, messageToken, aesKey string) (err error) {
	old := c.SecretHash
	if c.SecretHash, err = d.newSecret("component", c.AppID, secret, old); err != nil {
		return err
	}
	if secret != "" && c.SecretHash != old {
		if err := tx.ShortenTokens(ctx, Token{AppID: c.AppID, Kind: Platform, IssuedAt: d.Now()}, d.Now()); err != nil {
			return err
		}
	}
	if messageToken != "" {
		c.MessageToken = d.Key.Seal("components/message_token/"+c.AppID, []byte(messageToken))
	}
	if aesKey != "" {
		c.EncodingAESKey = d.Key.Seal("components/encoding_aes_key/"+c.AppID, []byte(aesKey))
	}
	return nil
}

// replaceGrants replaces the stored grants of a component with the grants of c. The grant of an account that c omits ends at once, and the
// component receives a push.
func (d *Service) replaceGrants(ctx context.Context, tx Tx, c Component, oldNames []string, now time.Time) (granted []Grant, err error) {
	for _, appid := range oldNames {
		if slices.ContainsFunc(c.Grants, func(g Grant) bool { return g.AppID == appid }) {
			continue
		}
		if err := d.revoke(ctx, tx, c.AppID, appid, now); err != nil {
			return nil, err
		}
	}
	for _, g := range c.Grants {
		g, err := d.plantGrant(ctx, tx, c.AppID, g, now)
		if err != nil {
			return nil, err
		}
		granted = append(granted, g)
	}
	return granted, nil
}

// CheckComponent returns the errors of PutComponent that can be detected without the store.
func (d *Service) CheckComponent(c Component, secret, aesKey string) error {
	if err := c.Validate(aesKey); err != nil {
		return err
	}
	return checkSecret("component", c.AppID, secret)
}

// grantedTo lists the accounts that authorised the component c; the list is empty if c.Grants is nil or the component is new.
func grantedTo(ctx context.Context, tx Tx, c Component) ([]string, error) {
	if c.Grants == nil {
		return nil, nil
	}
	old, err := tx.Component(ctx, c.AppID)
	if errors.Is(err, ErrNoComponent) {
		return nil, nil
	}
	var appids []string
	for _, g := range old.Grants {
		appids = append(appids, g.AppID)
	}
	return appids, err
}

// plantGrant returns the grant to store for a grant g that the operator entered: it keeps the refresh token of an existing grant.
func (d *Service) plantGrant(ctx context.Context, tx Tx, component string, g Grant, now time.Time) (Grant, error) {
	if _, err := tx.Account(ctx, g.AppID); errors.Is(err, ErrNoAccount) {
		return g, Invalidf("component %s: authorizations: there is no account %s", component, g.AppID)
	} else if err != nil {
		return g, err
	}
	holders, err := tx.Holders(ctx, g.AppID)
	if err != nil {
		return g, err
	}
	planted, err := d.newGrant(component, g.AppID, g.PermissionSets, now)
	if err != nil {
		return g, err
	}
	for _, h := range holders {
		if h.Component == component {
			planted.RefreshToken, planted.GrantedAt = h.Grant.RefreshToken, h.Grant.GrantedAt
			continue
		}
		if len(excluding(h.Grant.PermissionSets, g.PermissionSets)) != len(h.Grant.PermissionSets) {
			return g, Invalidf("component %s: authorizations: %v", component, ExclusiveConflict{AppID: g.AppID,
				Set: MiniProgramDev, By: h.Component})
		}
	}
	return planted, nil
}

// CheckPlatform checks the secret and the address of a component that calls without a token, for itself or for an account. CheckPlatform
// returns 40013 if the account "target" did not authorise the component. Contract: rules §3.2.
func (d *Service) CheckPlatform(ctx context.Context, c PlatformCredentials, target string) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error {
		if err := d.checkPlatform(ctx, tx, c); err != nil || target == c.AppID {
			return err
		}
		_, err := tx.Grant(ctx, c.AppID, target)
		if errors.Is(err, ErrNoGrant) {
			return errcode.InvalidAppID.WithDetail(behaviour.QuotaStranger, "%.40q did not authorise the platform %s", target, c.AppID)
		}
		return err
	})
}
