package rules

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// DryRunResult is the result of DryRun, without the error.
type DryRunResult struct {
	// File is the URL of the verification file; "" if the prefix is invalid or the rule needs no file.
	File string
	// Vouched reports whether the operator trusts the host. If the operator does, the verification file is not fetched.
	Vouched bool
}

// DryRun makes the checks that Add makes before Add fetches the verification file, and returns the error that Add would return. DryRun
// changes no data and sends no request to any host.
func (s *Service) DryRun(ctx context.Context, owner accounts.Account, d Draft) (t DryRunResult, err error) {
	conf := s.Settings.Get()
	if kindFor(owner) == Ordinary {
		if p, wrong := ParsePrefix(d.Prefix, Ordinary, conf.AllowPrivateHosts); wrong == nil {
			t.File = p.ConfirmAddress(owner.Confirm.Name)
			status, err := accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) (DomainStatus, error) { return tx.Domain(ctx, p.Host) })
			if err != nil {
				return t, err
			}
			t.Vouched = vouched(p, status, conf)
		}
	}
	if err := checkDraft(owner, d); err != nil {
		return t, err
	}
	return t, s.Store.ViewRules(ctx, func(tx Tx) error {
		_, _, err := s.admit(ctx, tx, owner, d, conf)
		return err
	})
}

// RuleOf returns the rule that an account has for a prefix, or ErrNoRule.
func (s *Service) RuleOf(ctx context.Context, owner accounts.Account, prefix string) (Rule, error) {
	link, ok := ParseLink(prefix)
	if !ok {
		return Rule{}, ErrNoRule
	}
	list, err := s.Find(ctx, Query{Owner: owner.AppID, Keys: []string{link.Key}, Limit: 1})
	if err == nil && len(list) == 0 {
		err = ErrNoRule
	}
	if err != nil {
		return Rule{}, err
	}
	return list[0], nil
}
