package accounts

import (
	"context"
	"fmt"
	"strings"
)

// Count is a number of objects of one kind.
type Count struct {
	Kind  string
	Count int
}

// Dependencies lists the objects that are deleted with an account or a component, and the objects that prevent the deletion. Printed codes
// prevent the deletion because they must resolve for ever; rules and GS1 keys prevent it until they are deleted separately.
type Dependencies struct {
	Deleted, Blocking []Count
}

// InUse is the error of Delete for an account with objects that prevent its deletion.
type InUse struct {
	AppID    string
	Blocking []Count
}

func (e InUse) Error() string {
	var blocking []string
	for _, keep := range e.Blocking {
		blocking = append(blocking, fmt.Sprint(keep.Kind, " ", keep.Count))
	}
	return fmt.Sprintf("account %s cannot be deleted, because it has: %s", e.AppID, strings.Join(blocking, ", "))
}

// Delete deletes an account unless objects prevent the deletion, such as active codes that open the account. With dry = true, Delete only
// lists the objects to delete and the objects that prevent the deletion. A concurrent transaction that adds such a preventing object
// commits before the deletion or fails. Delete notifies the account's components of the end of the authorisation. ErrNoAccount, InUse.
func (d *Service) Delete(ctx context.Context, appid string, dry bool) (Dependencies, error) {
	var deps Dependencies
	var linked []string
	err := d.push(ctx, func(tx Tx) error {
		holders, err := lockGrants(ctx, tx, appid)
		if err != nil {
			return err
		}
		if err := tx.LockOwnedObjects(ctx, appid); err != nil {
			return err
		}
		if _, err := tx.Account(ctx, appid); err != nil {
			return err
		}
		if deps, err = tx.OwnedObjects(ctx, appid, d.Now()); err != nil {
			return err
		}
		n, err := d.ActiveCodes(ctx, tx, appid)
		if err != nil {
			return err
		}
		if n > 0 {
			deps.Blocking = append(deps.Blocking, Count{"active_codes", n})
		}
		switch {
		case dry:
			return nil
		case len(deps.Blocking) > 0:
			return InUse{AppID: appid, Blocking: deps.Blocking}
		}
		for _, h := range holders {
			if err := d.revoke(ctx, tx, h.Component, appid, d.Now()); err != nil {
				return err
			}
		}
		if linked, err = tx.Links(ctx, appid); err != nil {
			return err
		}
		return tx.DeleteAccount(ctx, appid)
	})
	if !dry {
		d.changed(ctx, append(linked, appid)...)
	}
	return deps, err
}

// DeleteComponent deletes a component and all grants to the component; with dry = true, it only counts the grants. ErrNoComponent.
func (d *Service) DeleteComponent(ctx context.Context, appid string, dry bool) (Dependencies, error) {
	return Transact(ctx, d.Store.UpdateAccounts, func(tx Tx) (deps Dependencies, err error) {
		// Because Grants is not nil, lockComponent locks all accounts that granted the component permissions, and then the component.
		granted, err := lockComponent(ctx, tx, Component{AppID: appid, Grants: []Grant{}})
		if err != nil {
			return deps, err
		}
		if _, err := tx.ComponentWithoutGrants(ctx, appid); err != nil {
			return deps, err
		}
		if len(granted) > 0 {
			deps.Deleted = []Count{{"authorizations", len(granted)}}
		}
		if dry {
			return deps, nil
		}
		return deps, tx.DeleteComponent(ctx, appid)
	})
}
