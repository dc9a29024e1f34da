package accounts

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
)

// LinkStatus is the state of a link, with the numeric values of the Weixin platform. Contract: rules §3.4.
type LinkStatus int

// The states of a link between a service account and a Mini Program. Rules and scans consider only links in state LinkDone.
const (
	LinkDone              LinkStatus = 1
	LinkAwaitsMiniProgram LinkStatus = 2
	LinkRefused           LinkStatus = 3
	LinkAwaitsAccount     LinkStatus = 12
)

// Link is the link between a service account and a Mini Program.
type Link struct {
	Service     string
	MiniProgram string
	Status      LinkStatus
	// Unlinking reports that a request to end the link waits for the approval of the service account's administrator.
	Unlinking   bool
	NotifyUsers bool // notify the service account's followers
	ShowProfile bool // show the Mini Program on the service account's profile page
	CreatedAt   time.Time
	// ApprovalSkipped reports that an API call created the link without the approval of an administrator.
	ApprovalSkipped bool
}

// LinkedProgram is a link together with its Mini Program.
type LinkedProgram struct {
	Link
	Program Account
}

// Side is one of the two accounts of a link; the administrator of a side approves or rejects a change of the link.
type Side string

// The sides of a link.
const (
	AccountSide     Side = "account"
	MiniProgramSide Side = "mini_program"
)

// ErrNoLink is returned by the store if a link does not exist; clients of the platform API never see this error.
var ErrNoLink = errors.New("accounts: no such link")

// LinkTx is the part of a transaction that stores links.
type LinkTx interface {
	// Linked reports whether the link is in state LinkDone.
	Linked(ctx context.Context, service, miniProgram string) (bool, error)
	// Links lists the Mini Programs that are linked with a service account.
	Links(ctx context.Context, service string) ([]string, error)
	// LinksAt lists the linked Mini Programs of many service accounts; the map has no entry for accounts without links.
	LinksAt(ctx context.Context, services []string) (map[string][]string, error)
	// PutLinks stores distinct links in state LinkDone, like PutLink.
	PutLinks(ctx context.Context, all []Link) error
	// PutLink stores a link in state LinkDone, whatever its state was before.
	PutLink(ctx context.Context, service, miniProgram string, at time.Time) error
	DeleteLink(ctx context.Context, service, miniProgram string) error
	// Link returns the link, or ErrNoLink.
	Link(ctx context.Context, service, miniProgram string) (Link, error)
	// LinksOf lists the links of a service account in any state, oldest first.
	LinksOf(ctx context.Context, service string) ([]Link, error)
	SaveLink(ctx context.Context, l Link) error
	// CountLinks counts the links of a service account or a Mini Program that are in state LinkDone or await an approval.
	CountLinks(ctx context.Context, appid string) (int, error)
}

// Request returns the link as it is after a link request. Request returns 89015 if the link exists, and 89010 if the link is already
// requested. A rejected link may be requested again. Contract: rules §3.4.
func (l Link) Request(hold bool, now time.Time) (Link, error) {
	switch l.Status {
	case LinkDone:
		return l, errcode.HasLinked.WithDetail(behaviour.LinkDone, "%s is linked with %s", l.Service, l.MiniProgram)
	case LinkAwaitsAccount, LinkAwaitsMiniProgram:
		return l, errcode.LinkSent.WithDetail(behaviour.LinkAsked, "the link of %s with %s is not confirmed yet", l.Service, l.MiniProgram)
	}
	l.Status, l.CreatedAt, l.ApprovalSkipped = LinkDone, now, !hold
	if hold {
		l.Status = LinkAwaitsAccount
	}
	return l, nil
}

// End returns the link as it is after a request to end the link. End returns 89018 if the end is already requested. If the returned Status
// is 0, the link is to be removed now; otherwise the end waits for the approval of an administrator. A pending or rejected link is removed
// at once. Contract: rules §3.4.
func (l Link) End(hold bool) (Link, error) {
	switch {
	case l.Unlinking:
		return l, errcode.UnlinkSent.WithDetail(behaviour.LinkEndAsked, "the removal of the link of %s with %s is not confirmed yet",
			l.Service, l.MiniProgram)
	case l.Status != LinkDone || !hold:
		l.Status = 0
	default:
		l.Unlinking = true
	}
	return l, nil
}

// Confirm returns the link as it is after the approval or rejection of one side's administrator. A returned Status of 0 means that the link
// is to be removed. Confirm returns Invalid if no request waits for this side. Assumed(link.refused): a link also has state 3 after the
// service account's own administrator has rejected it.
func (l Link) Confirm(side Side, agree bool) (Link, error) {
	switch {
	case l.Unlinking && side == AccountSide:
		l.Unlinking = false
		if agree {
			l.Status = 0
		}
		return l, nil
	case l.Status == LinkAwaitsAccount && side == AccountSide:
		l.Status = LinkAwaitsMiniProgram
	case l.Status == LinkAwaitsMiniProgram && side == MiniProgramSide:
		l.Status = LinkDone
	default:
		return l, Invalidf("link %s with %s: no request is pending on the side %q", l.Service, l.MiniProgram, string(side))
	}
	if !agree {
		l.Status = LinkRefused
	}
	return l, nil
}

// LinkRequest is a caller's request for a link.
type LinkRequest struct {
	MiniProgram string
	NotifyUsers bool
	ShowProfile bool
}

// AskLink links a service account with a Mini Program, at once or, depending on a setting, after both administrators have approved.
// AskLink returns 48001 for an account that cannot link Mini Programs, 40013 for an AppID that belongs to no Mini Program, 89015
// for an existing link, 89010 for a link that is already requested, and 89007 or 89009 above the limit of the service account or
// the Mini Program. Contract: rules §3.4.
func (d *Service) AskLink(ctx context.Context, service Account, r LinkRequest) error {
	if err := service.MayLink(); err != nil {
		return err
	}
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		l, err := d.linkToChange(ctx, tx, service.AppID, r.MiniProgram)
		if err != nil && !errors.Is(err, ErrNoLink) {
			return err
		}
		s := d.Settings.Get()
		counts := l.Status != 0 && l.Status != LinkRefused
		hold := s.LinkApprovalRequired || s.Refuses(behaviour.LinkAtOnce)
		l, err = l.Request(hold, d.Now())
		if err != nil {
			return err
		}
		if err := limitLinks(ctx, tx, l, counts, s.MaxLinksPerServiceAccount, s.MaxLinksPerMiniProgram); err != nil {
			return err
		}
		if l.ApprovalSkipped {
			behaviour.Note(ctx, behaviour.LinkAtOnce)
		}
		l.NotifyUsers, l.ShowProfile = r.NotifyUsers, r.ShowProfile
		return tx.SaveLink(ctx, l)
	})
	d.changed(ctx, service.AppID)
	return err
}

// limitLinks returns 89007 if link l would exceed the limit of the service account, and 89009 if it would exceed that of the Mini Program.
func limitLinks(ctx context.Context, tx Tx, l Link, counted bool, ofAccount, ofProgram settings.Limit) error {
	if counted {
		return nil
	}
	for _, side := range []struct {
		appid string
		limit settings.Limit
		code  *errcode.Code
		row   behaviour.Row
	}{
		{l.Service, ofAccount, errcode.LinkQuota, behaviour.LinkLimitAccount},
		{l.MiniProgram, ofProgram, errcode.LinkLimit, behaviour.LinkLimitProgram},
	} {
		if side.limit == settings.Unlimited {
			continue
		}
		n, err := tx.CountLinks(ctx, side.appid)
		if err != nil {
			return err
		}
		if n >= int(side.limit) {
			return side.code.WithDetail(side.row, "%s has %d links: at most %d", side.appid, n, side.limit)
		}
	}
	return nil
}

// linkToChange locks the service account and the Mini Program and returns their link. If the link does not exist, linkToChange returns
// ErrNoLink and a new Link with Status 0. linkToChange returns 40013 for an AppID that belongs to no Mini Program.
func (d *Service) linkToChange(ctx context.Context, tx Tx, service, miniProgram string) (Link, error) {
	l := Link{Service: service, MiniProgram: miniProgram}
	// All transactions lock the AppIDs in sorted order, which prevents deadlocks.
	for _, appid := range slices.Sorted(slices.Values([]string{service, miniProgram})) {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return l, err
		}
	}
	if _, err := Keep(ctx, tx, service); err != nil {
		return l, err
	}
	program, err := tx.Account(ctx, miniProgram)
	if errors.Is(err, ErrNoAccount) {
		return l, errcode.InvalidAppID.WithDetail(behaviour.LinkAppIDUnknown, "there is no account %q", miniProgram)
	}
	if err != nil {
		return l, err
	}
	if program.Kind != MiniProgram {
		return l, errcode.InvalidAppID.WithDetail(behaviour.LinkAppIDUnknown, "%s is a %s, not a Mini Program", miniProgram, program.Kind)
	}
	found, err := tx.Link(ctx, service, miniProgram)
	if errors.Is(err, ErrNoLink) {
		return l, err
	}
	return found, err
}

// EndLink ends the link of a service account with a Mini Program, at once or, depending on a setting, after the account's
// administrator has approved. EndLink returns 48001 for an account that cannot link Mini Programs, 40013 for an AppID that belongs
// to no Mini Program, and 89018 if the end is already requested. Ending an absent link succeeds, so that a repeated call does not
// fail. Contract: rules §3.4, clients §12.
func (d *Service) EndLink(ctx context.Context, service Account, miniProgram string) error {
	if err := service.MayLink(); err != nil {
		return err
	}
	return d.changeLink(ctx, service.AppID, miniProgram, func(l Link) (Link, error) {
		if l.Status == 0 {
			behaviour.Note(ctx, behaviour.LinkEndAbsent)
			return l, nil
		}
		s := d.Settings.Get()
		next, err := l.End(s.LinkApprovalRequired || s.Refuses(behaviour.LinkEndAtOnce))
		if err == nil && next.Status == 0 && l.Status == LinkDone {
			behaviour.Note(ctx, behaviour.LinkEndAtOnce)
		}
		return next, err
	})
}

// ConfirmLink records the approval or rejection of a link by one side's administrator. ConfirmLink returns Invalid if no request
// waits for this side.
func (d *Service) ConfirmLink(ctx context.Context, service, miniProgram string, side Side, agree bool) error {
	return d.changeLink(ctx, service, miniProgram, func(l Link) (Link, error) { return l.Confirm(side, agree) })
}

// changeLink saves the link that the argument decide returns, or deletes the link if its Status is 0.
func (d *Service) changeLink(ctx context.Context, service, miniProgram string, decide func(Link) (Link, error)) error {
	err := d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		l, err := d.linkToChange(ctx, tx, service, miniProgram)
		if err != nil && !errors.Is(err, ErrNoLink) {
			return err
		}
		if l, err = decide(l); err != nil {
			return err
		}
		if l.Status == 0 {
			return tx.DeleteLink(ctx, service, miniProgram)
		}
		return tx.SaveLink(ctx, l)
	})
	d.changed(ctx, service)
	return err
}

// LinkedPrograms lists the links of a service account in any state, oldest first. ErrNoAccount.
func (d *Service) LinkedPrograms(ctx context.Context, service string) ([]LinkedProgram, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) (list []LinkedProgram, err error) {
		if err := tx.Prefetch(ctx, func() {
			_, _ = tx.Account(ctx, service)
			_, _ = tx.LinksOf(ctx, service)
		}); err != nil {
			return nil, err
		}
		if _, err := tx.Account(ctx, service); err != nil {
			return nil, err
		}
		links, err := tx.LinksOf(ctx, service)
		if err != nil {
			return nil, err
		}
		appids := make([]string, len(links))
		for i, l := range links {
			appids[i] = l.MiniProgram
		}
		programs, err := tx.AccountsAt(ctx, appids)
		for _, l := range links {
			i := slices.IndexFunc(programs, func(a Account) bool { return a.AppID == l.MiniProgram })
			if i < 0 {
				return list, cmp.Or(err, ErrNoAccount)
			}
			list = append(list, LinkedProgram{Link: l, Program: programs[i]})
		}
		return list, err
	})
}
