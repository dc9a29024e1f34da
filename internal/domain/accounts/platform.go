package accounts

import (
	"context"
	"errors"
	"slices"
	"time"
)

// PutComponent creates or replaces a third-party platform. The three secrets come in the clear. An
// empty secret leaves the stored one, and nil Grants leave the stored ones. Grants that are given
// replace all others, without an event.
func (d *Service) PutComponent(ctx context.Context, c Component, secret, messageToken, aesKey string) error {
	if err := d.CheckComponent(c, secret, aesKey); err != nil {
		return err
	}
	return d.putComponent(ctx, c, nil, secret, messageToken, aesKey)
}

// ChangeComponent reads a platform, lets change change it, and stores it as PutComponent does, in one transaction. Its
// grants stay. A platform that does not exist yet comes to change with its AppID alone.
func (d *Service) ChangeComponent(ctx context.Context, appid string, change func(*Component), secret, messageToken, aesKey string) error {
	return d.putComponent(ctx, Component{AppID: appid}, change, secret, messageToken, aesKey)
}

// putComponent stores c, or, where change is given, the stored platform as change made it.
func (d *Service) putComponent(ctx context.Context, c Component, change func(*Component), secret, messageToken, aesKey string) error {
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		oldNames, err := lockComponent(ctx, tx, c)
		if err != nil {
			return err
		}
		old, err := tx.ComponentAlone(ctx, c.AppID)
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
			if aesKey == "" {
				return invalidf("component %s: encoding_aes_key must be 43 characters of Base64", c.AppID)
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
			return tx.PutComponentAlone(ctx, sealed)
		}
		if sealed.Grants, err = d.replaceGrants(ctx, tx, c, oldNames, now); err != nil {
			return err
		}
		return tx.PutComponent(ctx, sealed)
	})
	if err == nil {
		d.wakePusher()
	}
	return err
}

// lockComponent locks the platform, the accounts that grant it something, and those that c says are to. It returns the
// accounts that grant it something now.
func lockComponent(ctx context.Context, tx Tx, c Component) (oldNames []string, err error) {
	if oldNames, err = grantedTo(ctx, tx, c); err != nil {
		return nil, err
	}
	accounts := slices.Clone(oldNames)
	for _, g := range c.Grants {
		accounts = append(accounts, g.AppID)
	}
	slices.Sort(accounts)
	// Accounts before platforms, as lockGrants does.
	for _, appid := range append(slices.Compact(accounts), c.AppID) {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return nil, err
		}
	}
	if _, err := tx.Account(ctx, c.AppID); err == nil {
		return nil, invalidf("appid %s is an account's", c.AppID)
	} else if !errors.Is(err, ErrNoAccount) {
		return nil, err
	}
	// From here on no other transaction changes its grants. One that was made meanwhile ends like the others.
	return grantedTo(ctx, tx, c)
}

// sealComponent seals the secrets that are given; where one is empty the stored one stays.
func (d *Service) sealComponent(ctx context.Context, tx Tx, c *Component, secret, messageToken, aesKey string) (err error) {
	old := c.SecretHash
	if c.SecretHash, err = d.newSecret("component", c.AppID, secret, old); err != nil {
		return err
	}
	if secret != "" && c.SecretHash != old {
		if err := tx.CutTokens(ctx, c.AppID, Platform, d.Now()); err != nil {
			return err
		}
	}
	if messageToken != "" || c.MessageToken == "" {
		c.MessageToken = d.Key.Seal("components/message_token/"+c.AppID, []byte(messageToken))
	}
	if aesKey != "" {
		c.EncodingAESKey = d.Key.Seal("components/encoding_aes_key/"+c.AppID, []byte(aesKey))
	}
	return nil
}

// replaceGrants makes the grants those of c. A set that is no longer granted ends at once, and the platform
// gets a push.
func (d *Service) replaceGrants(ctx context.Context, tx Tx, c Component, oldNames []string, now time.Time) (granted []Grant, err error) {
	for _, appid := range oldNames {
		if slices.ContainsFunc(c.Grants, func(g Grant) bool { return g.AppID == appid }) {
			continue
		}
		if err := d.withdraw(ctx, tx, c.AppID, appid, now); err != nil {
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

// CheckComponent returns an error for what PutComponent would refuse without a look at the store.
func (d *Service) CheckComponent(c Component, secret, aesKey string) error {
	if err := c.Validate(aesKey); err != nil {
		return err
	}
	return checkSecret("component", c.AppID, secret)
}

// grantedTo lists the accounts that lose their grant if the new list of c leaves them out; none
// where c says nothing of grants, or the platform is new.
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

// plantGrant returns a grant as an operator gives it.
func (d *Service) plantGrant(ctx context.Context, tx Tx, component string, g Grant, now time.Time) (Grant, error) {
	if _, err := tx.Account(ctx, g.AppID); errors.Is(err, ErrNoAccount) {
		return g, invalidf("component %s: authorizations: there is no account %s", component, g.AppID)
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
			return g, invalidf("component %s: authorizations: %v", component, ExclusiveConflict{AppID: g.AppID,
				Set: MiniProgramDev, By: h.Component})
		}
	}
	return planted, nil
}

// cutEarlier makes the earlier tokens of a token's series end at a time.
func cutEarlier(ctx context.Context, tx Tx, t Token, moment time.Time) error {
	if t.Series == Authorizer {
		return tx.CutAuthorizerTokens(ctx, t.Component, t.AppID, moment)
	}
	return tx.CutTokens(ctx, t.AppID, t.Series, moment)
}
