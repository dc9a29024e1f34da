package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// IsRemoval reports whether the rule no longer exists after the change.
func (c Change) IsRemoval() bool { return c.Action == "delete" || c.Action == "force_delete" }

// ErrConflict is returned for a change that cannot be undone because a later change of the same rule exists.
type ErrConflict struct{ By Change }

func (s ErrConflict) Error() string {
	return fmt.Sprintf("change %d by %s at %s (%s) came after it", s.By.Seq, s.By.ActorID, s.By.At.UTC().Format("2006-01-02T15:04:05Z"),
		s.By.Action)
}

// ErrNoChange is returned for a number that is not a change of a rule.
var ErrNoChange = errors.New("rules: no such change")

// Undo restores the state before a change of a rule. It returns ErrConflict if a later change exists, and an error of Add if a deleted rule
// cannot be added again. Assumed(rules.undo): an undo is an action of the operator, so it neither uses a publish nor refunds one. Undo
// returns the change that it made.
func (s *Service) Undo(ctx context.Context, seq int64) (Change, error) {
	actor := accounts.Actor{ActorID: accounts.ActorFromContext(ctx).ActorID, RID: fmt.Sprintf("undo-%d", seq)}
	ctx = accounts.WithActor(ctx, actor)
	var done Change
	err := s.Store.UpdateRules(ctx, func(tx Tx) error {
		done = Change{}
		change, oldChange, err := tx.RuleChange(ctx, seq)
		if err != nil {
			return err
		}
		prefix := change.Rule.Prefix
		// A change of the target concerns the limits of two accounts. Every transaction locks accounts in the same order.
		owners := []string{limited(change.Rule), limited(oldChange.Rule)}
		slices.Sort(owners)
		for _, owner := range slices.Compact(owners) {
			if err := tx.LockOwner(ctx, owner); err != nil {
				return err
			}
		}
		if err := tx.LockOrigin(ctx, prefix.Origin()); err != nil {
			return err
		}
		newest, err := tx.Changes(ctx, prefix.Key, 1)
		if err != nil {
			return err
		}
		if newest[0].Seq != seq {
			return ErrConflict{newest[0]}
		}
		now := s.Now()
		did := ChangeMeta{At: now}
		had := oldChange.Seq > 0 && !oldChange.IsRemoval()
		r := change.Rule
		switch {
		case !change.IsRemoval() && !had:
			did.Action = "delete"
			err = tx.DeleteRule(ctx, r, did)
		case !change.IsRemoval():
			did.Action = "edit"
			r = oldChange.Rule
			r.ID, r.UpdatedAt = change.Rule.ID, now
			if r.Target != change.Rule.Target {
				err = s.checkRestored(ctx, tx, r)
			}
			if err == nil {
				err = tx.PutRule(ctx, r, did)
			}
		default:
			did.Action = "add"
			r, err = s.bringBack(ctx, tx, r, did)
		}
		done = Change{Actor: actor, ChangeMeta: did, Rule: r}
		return err
	})
	return done, s.awaitMemory(ctx, done.Rule.Prefix.Key, err)
}

// limited returns the account whose limit of rules applies to this rule.
func limited(r Rule) string {
	if r.Kind == KindService {
		return r.Target
	}
	return r.Owner
}

// checkRestored checks that the owner of a rule exists, and that the rule may open its target and does not exceed the limit of rules.
func (s *Service) checkRestored(ctx context.Context, tx Tx, r Rule) error {
	owner, err := tx.KeepAccount(ctx, r.Owner)
	if errors.Is(err, accounts.ErrNoAccount) {
		return accounts.Invalid(fmt.Sprintf("the account %s, which owned the rule, was deleted", r.Owner))
	}
	if err == nil && r.Kind == KindService {
		_, _, err = checkTarget(ctx, tx, owner, r.Target)
	}
	if err == nil {
		_, err = checkCount(ctx, tx, r, s.Settings.Get())
	}
	return err
}

// bringBack adds a deleted rule again if the checks still allow it.
func (s *Service) bringBack(ctx context.Context, tx Tx, r Rule, did ChangeMeta) (Rule, error) {
	if err := s.checkRestored(ctx, tx, r); err != nil {
		return r, err
	}
	if err := checkOwners(ctx, tx, r); err != nil {
		return r, err
	}
	// Another service account may have created the code since.
	if _, err := checkMaker(ctx, tx, r); err != nil {
		return r, err
	}
	r.UpdatedAt = did.At
	return tx.AddRule(ctx, r, did)
}

// Preview returns the rule that would result from an add, an edit, a publish or a delete, without changing anything; nil = no rule. Preview
// applies the same checks as Seed. An edit may change every field of a rule, because a caller can replace the rule by a delete and an add.
// If published is nil, an added rule is published, and an edited rule keeps its state.
func (s *Service) Preview(
	ctx context.Context, owner accounts.Account, do string, d Draft, published *bool,
) (key string, r *Rule, err error) {
	if do == "add" || do == "edit" {
		if err := checkDraft(owner, d); err != nil {
			return "", nil, err
		}
	}
	p, err := ParsePrefix(d.Prefix, kindFor(owner), true)
	if err != nil {
		return "", nil, err
	}
	err = s.Store.ViewRules(ctx, func(tx Tx) error {
		if do == "add" {
			conf := s.Settings.Get()
			conf.AllowPrivateHosts, conf.Strict, conf.Behaviours = true, false, nil
			added, _, err := s.admit(ctx, tx, owner, d, conf)
			added.Published = published == nil || *published
			r = &added
			return err
		}
		have, err := ownRule(ctx, tx, owner, d.Prefix)
		if err != nil || do == "delete" {
			return err
		}
		if do == "publish" {
			have.Published = true
		}
		if do == "edit" {
			have.Prefix, have.Path = p, d.Path
			if published != nil {
				have.Published = *published
			}
			if have.Kind == KindService {
				have.Target = d.AppID
			} else {
				have.Occupy, have.OpenVersion = d.Occupy, d.OpenVersion
			}
		}
		r = &have
		return nil
	})
	return p.Key, r, err
}
