package rules

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Limits of a forced release.
const (
	// MaxReason is the maximum length in bytes of the reason for a release.
	MaxReason = 500
	// MaxRelease is the maximum number of rules that one call releases.
	MaxRelease = 1000
)

// ReleaseRequest selects the rules that an operator takes away from their owners.
type ReleaseRequest struct {
	Prefix string
	// If Below is true, all rules whose prefix begins with Prefix are selected, and Prefix must end in "/".
	Below  bool
	Reason string // for the audit log and the previous owners
	DryRun bool   // only return the rules, delete nothing
}

// Release deletes rules without the consent of their owners, because the domain has a new owner: the prefixes become free at once. Each
// rule is deleted in its own transaction, which writes the reason to the audit log, a notice to the previous owner and, if the owner has a
// message URL, an event. Publishes of a deleted rule still count for the monthly quota of its owner. Release returns the rules as they were
// before the deletion; hasMore is true if another call must delete the remaining rules. A rule that its owner deleted in the meantime is
// not an error; ErrNoRule is returned if no rule existed at all.
func (s *Service) Release(ctx context.Context, req ReleaseRequest) (released []Rule, hasMore bool, err error) {
	link, ok := ParseLink(req.Prefix)
	switch {
	case !ok || !PlainText(req.Prefix):
		return nil, false, fmt.Errorf("prefix %.120q: %w", req.Prefix, ErrNotLink)
	case strings.TrimSpace(req.Reason) == "" || len(req.Reason) > MaxReason || !utf8.ValidString(req.Reason) ||
		strings.ContainsFunc(req.Reason, unicode.IsControl):
		return nil, false, accounts.Invalid(fmt.Sprintf(
			"reason: want 1 to %d bytes without control characters; the old owner sees it", MaxReason))
	case req.Below && !strings.HasSuffix(link.Key, "/"):
		return nil, false, accounts.Invalid(fmt.Sprintf("prefix %.120q: only a prefix that ends in / has links below it", req.Prefix))
	}
	list, err := accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Rule, error) {
		if req.Below {
			return tx.RulesBelow(ctx, link.Key, MaxRelease+1)
		}
		return tx.RulesAt(ctx, []string{link.Key})
	})
	if err != nil {
		return nil, false, err
	}
	if len(list) == 0 {
		return nil, false, ErrNoRule
	}
	if hasMore = len(list) > MaxRelease; hasMore {
		list = list[:MaxRelease]
	}
	if req.DryRun {
		return list, hasMore, nil
	}
	for _, r := range list {
		gone, err := s.release(ctx, r, req.Reason)
		if err != nil {
			return released, true, err
		}
		if gone {
			released = append(released, r)
		}
	}
	return released, hasMore, nil
}

// release deletes one rule; gone is false if its owner deleted the rule first.
func (s *Service) release(ctx context.Context, r Rule, reason string) (gone bool, err error) {
	key, told := r.Prefix.Key, false
	err = s.Store.UpdateRules(ctx, func(tx Tx) error {
		gone, told = false, false
		if err := lock(ctx, tx, r.Owner, r.Prefix.Origin()); err != nil {
			return err
		}
		currentRule, err := tx.Rule(ctx, key)
		if errors.Is(err, ErrNoRule) || err == nil && currentRule.ID != r.ID {
			return nil
		}
		if err != nil {
			return err
		}
		t := s.Now()
		if err := tx.DeleteRule(ctx, currentRule, ChangeMeta{At: t, Action: "force_delete", Reason: reason}); err != nil {
			return err
		}
		notice := accounts.Notice{Account: r.Owner, At: t, Kind: accounts.ForceDeleted, Prefix: currentRule.Prefix.Text, Reason: reason}
		if err := tx.AddNotice(ctx, notice); err != nil {
			return err
		}
		owner, err := tx.Account(ctx, r.Owner)
		switch {
		case errors.Is(err, accounts.ErrNoAccount):
		case err != nil:
			return err
		case owner.MessageURL != "":
			told = true
			if err := accounts.QueueMessage(ctx, tx, r.Owner, notice.Event(owner), t, t); err != nil {
				return err
			}
		}
		gone = true
		return nil
	})
	if err == nil && told && s.Queued != nil {
		s.Queued()
	}
	return gone, s.awaitMemory(ctx, key, err)
}
