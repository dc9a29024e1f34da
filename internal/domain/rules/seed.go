package rules

import (
	"context"
	"errors"
	"fmt"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// ValidateSeed returns the prefix of a rule for Seed, or an error if the rule is invalid regardless of the stored data.
func ValidateSeed(owner accounts.Account, d Draft) (Prefix, error) {
	err := checkDraft(owner, d)
	if err == nil {
		var p Prefix
		if p, err = ParsePrefix(d.Prefix, kindFor(owner), true); err == nil {
			return p, nil
		}
	}
	return Prefix{}, fmt.Errorf("rule %q of %s: %w", d.Prefix, owner.AppID, err)
}

// Seed stores a rule from an operator's seed file. Seed checks the same as Add, except the verification file and the quota. If the
// owner already has the rule, Seed updates it to match the seed file.
func (s *Service) Seed(ctx context.Context, owner accounts.Account, d Draft, published bool) error {
	p, err := ValidateSeed(owner, d)
	if err != nil {
		return err
	}
	conf := s.Settings.Get()
	conf.RuleLimit, conf.ServiceRuleLimit = 1<<40, 1<<40
	// The operator chose the host, so private hosts are allowed in a seed file even if accounts may not use them.
	conf.AllowPrivateHosts, conf.Strict, conf.Behaviours = true, false, nil
	var key string
	err = s.Store.UpdateRules(ctx, func(tx Tx) error {
		if err := lock(ctx, tx, limitHolder(owner, d), p.Origin()); err != nil {
			return err
		}
		if _, err := accounts.Keep(ctx, tx, owner.AppID); err != nil {
			return err
		}
		now := s.Now()
		did := ChangeMeta{At: now, Action: "add"}
		rule, _, err := s.admit(ctx, tx, owner, d, conf)
		exists := errors.Is(err, errcode.PrefixAdded)
		if exists {
			did.Action = "edit"
			if rule, err = ownRule(ctx, tx, owner, d.Prefix); err == nil {
				rule.Published = false
				rule, err = rule.Edit(d, now)
			}
		}
		if err != nil {
			return err
		}
		rule.Published = published
		if published {
			rule.PublishedAt = now
		}
		key = rule.Prefix.Key
		if exists {
			return tx.PutRule(ctx, rule, did)
		}
		rule.CreatedAt, rule.UpdatedAt = now, now
		_, err = tx.AddRule(ctx, rule, did)
		return err
	})
	if err = s.awaitMemory(ctx, key, err); err != nil {
		return fmt.Errorf("rule %q of %s: %w", d.Prefix, owner.AppID, err)
	}
	return nil
}
