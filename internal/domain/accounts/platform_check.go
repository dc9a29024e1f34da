package accounts

import (
	"context"
	"errors"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// CheckPlatform checks the secret and the address of a component that calls without a token, for itself or for an account. CheckPlatform
// returns 40013 if the account "target" did not authorise the component. Contract: rules §3.2.
func (d *Service) CheckPlatform(ctx context.Context, c PlatformCredentials, target string) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error {
		if _, err := d.checkPlatform(ctx, tx, c); err != nil || target == c.AppID {
			return err
		}
		_, err := tx.Grant(ctx, c.AppID, target)
		if errors.Is(err, ErrNoGrant) {
			return errcode.InvalidAppID.WithDetail(behaviour.QuotaStranger, "%.40q did not authorise the platform %s", target, c.AppID)
		}
		return err
	})
}
