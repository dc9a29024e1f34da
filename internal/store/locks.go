package store

import (
	"context"
	"slices"
)

// LockAccount implements accounts.Tx.
func (t *Tx) LockAccount(ctx context.Context, appid string) error {
	return t.lock(ctx, allAccounts, "account "+appid)
}

// LockAccounts implements accounts.Tx.
func (t *Tx) LockAccounts(ctx context.Context) error {
	if err := t.bulk(ctx); err != nil {
		return err
	}
	return t.lock(ctx, allAccounts, "")
}

// lock locks a part of a set of rows until the transaction ends; with part "", lock locks the whole set.
func (t *Tx) lock(ctx context.Context, full, part string) error {
	if t.groupChange != nil {
		if full != allRules || !slices.Contains(t.groupChange.parts[:], part) {
			return t.groupChange.rejectGrouping()
		}
		return nil
	}
	if query, args := t.engine.lock(full, part); query != "" {
		return t.run(ctx, query, args...)
	}
	return nil
}

// The names of the sets of rows that a transaction can lock, as a whole or in part.
const (
	allRules    = "all rules"
	allAccounts = "all accounts"
	allGS1      = "all GS1 links"
	allOutbox   = "all rows of an outbox"
)

func ownerPart(appid string) string   { return "owner " + appid }
func originPart(origin string) string { return "origin " + origin }

// LockOwner implements rules.Tx.
func (t *Tx) LockOwner(ctx context.Context, appid string) error {
	return t.lock(ctx, allRules, ownerPart(appid))
}

// LockOrigin implements rules.Tx.
func (t *Tx) LockOrigin(ctx context.Context, origin string) error {
	return t.lock(ctx, allRules, originPart(origin))
}

// LockRules implements rules.Tx.
func (t *Tx) LockRules(ctx context.Context) error {
	if err := t.bulk(ctx); err != nil {
		return err
	}
	return t.lock(ctx, allRules, "")
}
