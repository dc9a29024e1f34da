package rules

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// MaxPath is the maximum length in bytes of a page path including its query. Assumed(rules.add.path): the platform documents no limit.
const MaxPath = 1024

// Service implements the transactions on rules.
type Service struct {
	Store    Store
	Settings *settings.Live
	Now      func() time.Time
	// CountNow returns the time that decides which month a publish counts for; nil = Now.
	CountNow func() time.Time
	// ClockBelieved reports whether the clock is reliable enough to delete expired data; nil = always.
	ClockBelieved func() bool
	Fetch         Fetch
	// Changed is called after a rule changed, before the change is acknowledged.
	Changed func(ctx context.Context, key string)
	// ManyChanged is called instead of Changed when about n rules changed at once; "first" is the number of the first of their changes.
	ManyChanged func(ctx context.Context, first int64, n int)
	// Queued is called when an event is waiting to be sent to an account.
	Queued func()

	// Epochs are the change counters of the Store. The Service caches lists of an account's rules until the account's epoch shows that
	// a rule may have changed. If Epochs is nil, every call reads the Store.
	Epochs *accounts.Epochs

	listings listings
	forgot   atomic.Int64        // time of the last deletion of expired checks of verification files, in Unix seconds
	nearing  semaphore.Semaphore // limits the concurrent reads of NearestRules
}

func (s *Service) countNow() time.Time {
	if s.CountNow == nil {
		return s.Now()
	}
	return s.CountNow()
}

// checkDraft checks the part of an add or edit that needs no database, in the order of the contract: ranges of values (40097), then the
// kind of account (85075, 48001). Contract: rules §1.8.
func checkDraft(owner accounts.Account, d Draft) error {
	// A page must not be blank. Contract: rules §6, number 28.
	if strings.TrimSpace(d.Path) == "" || len(d.Path) > MaxPath || !utf8.ValidString(d.Path) ||
		strings.ContainsFunc(d.Path, unicode.IsControl) {
		return errcode.InvalidArgs.WithDetail(behaviour.RulesPath, "path: want a page of 1 to %d bytes, not blank, without control characters",
			MaxPath)
	}
	if kindFor(owner) == KindService {
		if d.AppID == "" {
			return errcode.InvalidArgs.WithDetail(behaviour.RulesTargetMissing, "appid: a service-account rule names the Mini Program to open")
		}
	} else {
		if d.OpenVersion < OpenDevelopment || d.OpenVersion > OpenRelease {
			return errcode.InvalidArgs.WithDetail(behaviour.RulesOpenVersion, "open_version is %d: want 1, 2 or 3", d.OpenVersion)
		}
		if len(d.TestLinks) > MaxTestLinks {
			return errcode.InvalidArgs.WithDetail(behaviour.RulesTestLinksMany, "debug_url has %d test links: at most %d", len(d.TestLinks),
				MaxTestLinks)
		}
	}
	return owner.JumpRules()
}

// checkTarget returns 40166 unless the service account is linked to the Mini Program, and 85075 if the Mini Program is personal.
// Contract: rules §1.8, §6.
func checkTarget(ctx context.Context, tx Tx, owner accounts.Account, appid string) (target accounts.Account,
	link accounts.Link, err error) {
	target, err = tx.Account(ctx, appid)
	switch {
	case errors.Is(err, accounts.ErrNoAccount) || err == nil && target.Kind != accounts.MiniProgram:
		return target, link, errcode.InvalidWeappAppID.WithDetail(behaviour.RulesTargetUnknown, "appid %q is not a Mini Program", appid)
	case err != nil:
		return target, link, err
	}
	if link, err = checkLink(ctx, tx, owner, appid, behaviour.RulesTargetUnlinked); err != nil {
		return target, link, err
	}
	return target, link, target.JumpRules()
}

// checkLink returns 40166 unless the service account is linked to the Mini Program appid; row is the behaviour named in the error.
func checkLink(ctx context.Context, tx Tx, owner accounts.Account, appid string, row behaviour.Row) (accounts.Link, error) {
	link, err := tx.Link(ctx, owner.AppID, appid)
	if errors.Is(err, accounts.ErrNoLink) || err == nil && link.Status != accounts.LinkDone {
		return link, errcode.InvalidWeappAppID.WithDetail(row, "%s is not linked with %s", owner.AppID, appid)
	}
	return link, err
}

// Add adds an unpublished rule. Add checks for errors in the order of the contract, from an invalid value (40097) to a missing or wrong
// verification file (85069). Contract: rules §1.8.
func (s *Service) Add(ctx context.Context, owner accounts.Account, d Draft) error {
	conf := s.Settings.Get()
	if err := checkDraft(owner, d); err != nil {
		return err
	}
	p, err := ParsePrefix(d.Prefix, kindFor(owner), conf.AllowPrivateHosts)
	if err == nil && (kindFor(owner) == KindService || vouched(p, "", conf)) {
		return s.add(ctx, owner, d, conf, p, true) // no request to an external host is needed
	}
	var rule Rule
	var status DomainStatus
	// admit runs twice: before the request to an external host, and again in the transaction that writes, because other transactions may
	// write in the meantime.
	err = s.Store.ViewRules(ctx, func(tx Tx) (err error) {
		rule, status, err = s.admit(ctx, tx, owner, d, conf)
		return err
	})
	if err != nil {
		return err
	}
	if rule.Kind == Ordinary {
		record, err := s.confirm(ctx, owner, rule.Prefix, status, conf)
		record.RID, record.At = accounts.ActorFromContext(ctx).RID, s.Now()
		if failed := s.keep(context.WithoutCancel(ctx), record); failed != nil && err == nil {
			return failed
		}
		if err != nil {
			return err
		}
	}
	return s.add(ctx, owner, d, conf, rule.Prefix, false)
}

// add implements the transaction of Add. With confirms = true, add also stores the record that explains why no external host was contacted.
func (s *Service) add(ctx context.Context, owner accounts.Account, d Draft, conf settings.Settings, p Prefix, confirms bool) error {
	if confirms {
		s.deleteExpired(ctx)
	}
	err := s.Store.ChangeRules(ctx, limitHolder(owner, d), p.Origin(), func(tx Tx) error {
		if err := lock(ctx, tx, limitHolder(owner, d), p.Origin()); err != nil {
			return err
		}
		if err := tx.Prefetch(ctx, func() { readAdmission(ctx, tx, owner, d, p) }); err != nil {
			return err
		}
		if _, err := accounts.Keep(ctx, tx, owner.AppID); err != nil {
			return err
		}
		rule, status, err := s.admit(ctx, tx, owner, d, conf)
		if err != nil {
			return err
		}
		if confirms && rule.Kind == Ordinary {
			record, err := s.confirm(ctx, owner, p, status, conf)
			if err != nil {
				return err
			}
			record.RID, record.At = accounts.ActorFromContext(ctx).RID, s.Now()
			if err := tx.PutConfirmation(ctx, record); err != nil {
				return err
			}
		}
		rule.CreatedAt, rule.UpdatedAt = s.Now(), s.Now()
		_, err = tx.AddRule(ctx, rule, ChangeMeta{At: s.Now(), Action: "add"})
		if errors.Is(err, ErrPrefixTaken) {
			return errcode.PrefixOwned.WithDetail(behaviour.RulesAddOwned, "prefix %q was added by another account concurrently", d.Prefix)
		}
		return err
	})
	return s.awaitMemory(ctx, p.Key, err)
}

// lock locks the limit of rules of an account, and the rules of a scheme and host.
func lock(ctx context.Context, tx Tx, owner, origin string) error {
	if err := tx.LockOwner(ctx, owner); err != nil {
		return err
	}
	return tx.LockOrigin(ctx, origin)
}

// limitHolder returns the account whose limit of rules applies to the new rule.
func limitHolder(owner accounts.Account, d Draft) string {
	if kindFor(owner) == KindService {
		return d.AppID
	}
	return owner.AppID
}

// readAdmission makes the store calls of accounts.Keep and admit for a new rule, so that Prefetch reads all results in one round trip.
func readAdmission(ctx context.Context, tx Tx, owner accounts.Account, d Draft, p Prefix) {
	rule := Rule{Kind: kindFor(owner), Owner: owner.AppID, Target: owner.AppID, Prefix: p}
	_, _ = accounts.Keep(ctx, tx, owner.AppID)
	_ = checkOwners(ctx, tx, rule)
	if rule.Kind == KindService {
		_, _ = tx.Account(ctx, d.AppID)
		_, _ = tx.Link(ctx, owner.AppID, d.AppID)
		_, _ = checkMaker(ctx, tx, rule)
		_, _ = tx.CountTargeted(ctx, d.AppID)
		return
	}
	_, _ = tx.CountOwned(ctx, rule.Target)
	_, _ = tx.Domain(ctx, p.Host)
}

// admit checks whether the draft may become a rule of the owner, and returns the rule.
func (s *Service) admit(ctx context.Context, tx Tx, owner accounts.Account, d Draft, conf settings.Settings) (Rule, DomainStatus, error) {
	rule := Rule{Kind: kindFor(owner), Owner: owner.AppID, Target: owner.AppID, Path: d.Path}
	target := owner
	if rule.Kind == KindService {
		rule.Target = d.AppID
		var link accounts.Link
		var err error
		if target, link, err = checkTarget(ctx, tx, owner, d.AppID); err != nil {
			return Rule{}, "", err
		}
		if link.ApprovalSkipped {
			behaviour.Note(ctx, behaviour.LinkAtOnce)
		}
	}
	if err := noteOrRefusePage(ctx, conf, target, d.Path); err != nil {
		return Rule{}, "", err
	}
	p, err := ParsePrefix(d.Prefix, rule.Kind, conf.AllowPrivateHosts)
	if err != nil {
		return Rule{}, "", err
	}
	rule.Prefix = p
	if err := noteOrRefuseText(ctx, conf, p); err != nil {
		return Rule{}, "", err
	}
	if rule.Kind == Ordinary {
		if err := noteOrRefuseHost(ctx, p, conf); err != nil {
			return Rule{}, "", err
		}
		rule.Occupy, rule.OpenVersion, rule.TestLinks = d.Occupy, d.OpenVersion, d.TestLinks
		if err := admitTest(ctx, conf, owner, p, d); err != nil {
			return Rule{}, "", err
		}
	}
	if err := checkOwners(ctx, tx, rule); err != nil {
		return Rule{}, "", err
	}
	made, err := checkMaker(ctx, tx, rule)
	if err == nil && rule.Kind == KindService && !made {
		err = conf.NoteOrRefuse(ctx, behaviour.RulesAddMadeElsewhere, "no qrcode/create of this server made %.120q", d.Prefix)
	}
	if err != nil {
		return Rule{}, "", err
	}
	isAbove, err := checkCount(ctx, tx, rule, conf)
	if err == nil && isAbove {
		err = conf.NoteOrRefuse(ctx, behaviour.RulesAddAbove, "%s has as many rules as the platform lets it have", rule.Target)
	}
	if err != nil {
		return Rule{}, "", err
	}
	if rule.Kind == KindService {
		return rule, "", nil
	}
	status, err := tx.Domain(ctx, p.Host)
	switch {
	case err != nil:
		return Rule{}, "", err
	case status == Denied:
		return Rule{}, "", errcode.PrefixDenied.WithDetail(behaviour.RulesAddDenied, "the operator denies rules on %s", p.Host)
	case status == NoICP:
		return Rule{}, "", errcode.ICPFailed.WithDetail(behaviour.RulesAddICP, "the operator has no ICP record for %s", p.Host)
	}
	if status == "" && !named(p, status, conf) {
		if err := conf.NoteOrRefuse(ctx, behaviour.RulesAddICPUnasked, "no ICP record of %s is known", p.Host); err != nil {
			return Rule{}, "", err
		}
	}
	return rule, status, nil
}

// admitTest returns 85068 for a test link that does not match the prefix. A test link that is not a URL, and OpenRelease without a release,
// are recorded or rejected (NoteOrRefuse).
func admitTest(ctx context.Context, s settings.Settings, owner accounts.Account, p Prefix, d Draft) error {
	if err := checkTestLinks(p, d.TestLinks); err != nil {
		return err
	}
	if d.OpenVersion == OpenRelease && !owner.Has(accounts.Release) {
		if err := s.NoteOrRefuse(ctx, behaviour.RulesAddUnreleased, "open_version is 3, and %s has no release", owner.AppID); err != nil {
			return err
		}
	}
	for _, text := range d.TestLinks {
		if !strings.HasPrefix(text, p.Origin()) || strings.ContainsFunc(text, func(r rune) bool { return notURL(r) && r != '*' }) {
			return s.NoteOrRefuse(ctx, behaviour.RulesTestLinkForm,
				"test link %.120q: want a URL with scheme and host in small letters", text)
		}
	}
	return nil
}

// noteOrRefusePage records that a page may not exist, or returns 40097.
func noteOrRefusePage(ctx context.Context, s settings.Settings, target accounts.Account, path string) error {
	if strings.HasPrefix(path, "/") {
		if err := s.NoteOrRefuse(ctx, behaviour.RulesPathSlash, "path %.120q begins with /", path); err != nil {
			return err
		}
	}
	switch {
	case len(target.Pages) == 0:
		return s.NoteOrRefuse(ctx, behaviour.RulesPathUnasked, "")
	case !target.HasPage(path):
		return s.NoteOrRefuse(ctx, behaviour.RulesPathUnknown, "%s has no page %.120q", target.AppID, path)
	}
	return nil
}

// noteOrRefuseText records that the platform may compare another form of the prefix (encoding, capitals), or returns 85066.
func noteOrRefuseText(ctx context.Context, s settings.Settings, p Prefix) error {
	if strings.Contains(p.Text, "%") {
		if err := s.NoteOrRefuse(ctx, behaviour.RulesPrefixEncoded, "prefix %.120q has a %%", p.Text); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(p.Text, p.Origin()) {
		return s.NoteOrRefuse(ctx, behaviour.RulesPrefixCase, "prefix %.120q has capitals in front of its path", p.Text)
	}
	return nil
}

// noteOrRefuseHost records that the platform would reject a host, or returns 85066.
func noteOrRefuseHost(ctx context.Context, p Prefix, s settings.Settings) error {
	if row, reason := p.hostFault(false); row == behaviour.RulesPrefixHost {
		if err := s.NoteOrRefuse(ctx, behaviour.RulesPrefixPrivate, "prefix %.120q: %s", p.Text, reason); err != nil {
			return err
		}
	}
	if strings.Contains(p.Host[strings.LastIndexByte(p.Host, ']')+1:], ":") {
		if err := s.NoteOrRefuse(ctx, behaviour.RulesPrefixPortTaken, "prefix %.120q has a port", p.Text); err != nil {
			return err
		}
	}
	if p.underNewerDomain() {
		return s.NoteOrRefuse(ctx, behaviour.RulesPrefixNewerTaken, "prefix %.120q: the platform refused its top-level domain", p.Text)
	}
	return nil
}

// checkOwners returns 85071 if the caller already has the prefix, and 85072 if another account has the prefix (or one that matches the
// same links) or occupies a shorter one. Contract: rules §2.4, §2.10.
func checkOwners(ctx context.Context, tx Tx, rule Rule) error {
	ending, err := tx.RulesAt(ctx, rule.Prefix.Ends())
	if err != nil {
		return err
	}
	var conflict error
	for _, r := range ending {
		switch {
		case r.Prefix.Key == rule.Prefix.Key && r.Owner == rule.Owner:
			return errcode.PrefixAdded.WithDetail(behaviour.RulesAddOwn, "prefix %q is a rule of %s already", r.Prefix.Text, r.Owner)
		case r.Owner == rule.Owner:
		case r.Prefix.Key == rule.Prefix.Key, r.Prefix.sameLinks(rule.Prefix):
			conflict = errcode.PrefixOwned.WithDetail(behaviour.RulesAddOwned, "prefix %q belongs to another account", r.Prefix.Text)
		case r.Occupy && r.Prefix.Matches(rule.Prefix.Link):
			conflict = errcode.PrefixOwned.WithDetail(behaviour.RulesAddOccupied, "another account occupies links below %q", r.Prefix.Text)
		}
	}
	return conflict
}

// checkMaker returns 85072 for a code that another service account created; made reports whether an API call of the owner created
// the code. Assumed(rules.add.maker): a code created elsewhere, for example by the platform itself, may be used by any account.
func checkMaker(ctx context.Context, tx Tx, rule Rule) (made bool, err error) {
	code, isCode := accounts.CodeOf(rule.Prefix.Key)
	if rule.Kind != KindService || !isCode {
		return false, nil
	}
	q, err := tx.QRCode(ctx, code)
	if err == nil && q.Account != rule.Owner {
		return false, errcode.PrefixOwned.WithDetail(behaviour.RulesAddMaker, "prefix %q is a code of another account", rule.Prefix.Text)
	}
	if errors.Is(err, accounts.ErrNoQRCode) {
		return false, nil
	}
	return err == nil, err
}

// The platform's own limits, independent of the settings. Contract: rules §1.
const (
	platformRules        = 100
	platformServiceRules = 100_000
)

// checkCount returns 85073 if the rule exceeds the configured limit; isAbove reports whether the rule exceeds the platform's own limit.
func checkCount(ctx context.Context, tx Tx, rule Rule, s settings.Settings) (isAbove bool, err error) {
	count, limit, maximum := tx.CountOwned, s.RuleLimit, platformRules
	if rule.Kind == KindService {
		count, limit, maximum = tx.CountTargeted, s.ServiceRuleLimit, platformServiceRules
	}
	n, err := count(ctx, rule.Target)
	if err != nil {
		return false, err
	}
	if n >= limit {
		return false, errcode.PrefixLimit.WithDetail(behaviour.RulesAddLimit, "%s has %d rules, the limit is %d", rule.Target, n, limit)
	}
	return n >= maximum, nil
}

// Edit changes a rule of the caller. The error is 40097 if the caller has no rule with the prefix or if a field may not change.
// Contract: rules §1.2.
func (s *Service) Edit(ctx context.Context, owner accounts.Account, d Draft) error {
	conf := s.Settings.Get()
	if err := checkDraft(owner, d); err != nil {
		return err
	}
	var key string
	link, _ := ParseLink(d.Prefix)
	err := s.Store.ChangeRules(ctx, limitHolder(owner, d), link.Origin(), func(tx Tx) error {
		if err := tx.LockOwner(ctx, limitHolder(owner, d)); err != nil {
			return err
		}
		target := owner
		if kindFor(owner) == KindService {
			var err error
			if target, _, err = checkTarget(ctx, tx, owner, d.AppID); err != nil {
				return err
			}
		}
		// A rule that was added while private hosts were allowed can still be edited; without such a rule, the prefix is illegal.
		p, err := ParsePrefix(d.Prefix, kindFor(owner), true)
		if err != nil {
			return err
		}
		if err := tx.LockOrigin(ctx, p.Origin()); err != nil {
			return err
		}
		key = p.Key
		rule, err := ownRule(ctx, tx, owner, d.Prefix)
		if err != nil {
			_, illegal := ParsePrefix(d.Prefix, kindFor(owner), conf.AllowPrivateHosts)
			return cmp.Or(illegal, err)
		}
		if rule.Kind == Ordinary {
			// The test links are compared with the prefix as it was added, not as the edit spells it.
			if err := admitTest(ctx, conf, owner, rule.Prefix, d); err != nil {
				return err
			}
			status, err := tx.Domain(ctx, rule.Prefix.Host)
			if err != nil {
				return err
			}
			if !named(rule.Prefix, status, conf) {
				behaviour.Note(ctx, behaviour.RulesEditUnchecked)
			}
			if d.KeepLinks && len(rule.TestLinks) > 0 { // an absent or null field keeps the test links, [] clears them
				row := behaviour.RulesEditKeeps
				if d.EmptyLinks {
					row = behaviour.RulesEditKeepsEmpty
				}
				behaviour.Note(ctx, row)
			}
		}
		if d.Path != rule.Path && !rule.Published {
			if err := noteOrRefusePage(ctx, conf, target, d.Path); err != nil {
				return err
			}
		}
		retargeted := rule.Kind == KindService && d.AppID != rule.Target
		if rule, err = rule.Edit(d, s.Now()); err != nil {
			return err
		}
		if retargeted {
			if _, err := checkCount(ctx, tx, rule, conf); err != nil {
				return err
			}
		}
		// if the operator disallows edits without a check, an edit of a published rule counts as a publish
		if rule.Published && conf.Refuses(behaviour.RulesEditUnchecked) {
			if err := tx.AddPublish(ctx, owner.AppID, rule.Prefix.Key, s.countNow()); err != nil {
				return err
			}
		}
		return tx.PutRule(ctx, rule, ChangeMeta{At: s.Now(), Action: "edit"})
	})
	return s.awaitMemory(ctx, key, err)
}

// ownRule returns the caller's rule with a prefix. The error is 40097 if the caller has no rule with the prefix, even if another account
// has such a rule.
func ownRule(ctx context.Context, tx Tx, owner accounts.Account, prefix string) (Rule, error) {
	link, ok := ParseLink(prefix)
	if !ok {
		return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.RulesPrefixUnknown, "prefix %.120q is not a link", prefix)
	}
	rule, err := tx.Rule(ctx, link.Key)
	return ownedBy(owner, prefix, rule, err)
}

// ownedBy receives the result of reading a rule, and returns the rule if the caller owns it, otherwise the error 40097.
func ownedBy(owner accounts.Account, prefix string, rule Rule, err error) (Rule, error) {
	if errors.Is(err, ErrNoRule) || err == nil && rule.Owner != owner.AppID {
		return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.RulesPrefixUnknown,
			"%s has no rule with the prefix %.120q", owner.AppID, prefix)
	}
	return rule, err
}

// platformQuota is the number of publishes per month that the platform allows a Mini Program, independent of the settings.
// Contract: rules §1.
const platformQuota = 100

// Publish publishes a rule, which takes effect at once. Publishing a published rule again is free. The errors are 40097 for an
// unknown prefix, 40166 if the service account is no longer linked to the Mini Program, 85074 without a release, and 886000 if the
// monthly quota is used up. Contract: rules §1.4.
func (s *Service) Publish(ctx context.Context, owner accounts.Account, prefix string) error {
	if err := owner.JumpRules(); err != nil {
		return err
	}
	link, ok := ParseLink(prefix)
	if !ok {
		return errcode.InvalidArgs.WithDetail(behaviour.RulesPrefixUnknown, "prefix %.120q is not a link", prefix)
	}
	var key string
	err := s.Store.ChangeRules(ctx, owner.AppID, link.Origin(), func(tx Tx) error {
		key = ""
		conf := s.Settings.Get()
		since := conf.MonthStart(s.countNow()) // Assumed(rules.publish.month)
		// Concurrent edits and deletes of this rule wait for the lock on the rule's scheme and host.
		p, err := tx.Publishing(ctx, owner.AppID, link, since)
		rule, err := ownedBy(owner, prefix, p.Rule, err)
		if err != nil {
			return err
		}
		if rule.Kind == KindService {
			// The link between the service account and the Mini Program is checked even if the rule is already published: without
			// the link, no scan opens the rule.
			if _, err := checkLink(ctx, tx, owner, rule.Target, behaviour.RulesPublishUnlinked); err != nil {
				return err
			}
		}
		// Another node may have published the rule, and this node may not have applied the change yet: a scan after this response
		// must see the published rule.
		key = rule.Prefix.Key
		if rule.Published {
			behaviour.Note(ctx, behaviour.RulesPublishAgain)
			if !conf.Refuses(behaviour.RulesPublishAgain) {
				return nil
			}
		}
		if p.Target.AppID == "" {
			return errcode.NotReleased.WithDetail(behaviour.RulesPublishUnreleased, "%s was deleted", rule.Target)
		}
		// A new month may have begun while this call waited for the locks.
		now, counted, spent := s.Now(), s.countNow(), p.Spent
		if month := conf.MonthStart(counted); !month.Equal(since) {
			if spent, err = tx.PublishesSince(ctx, owner.AppID, month); err != nil {
				return err
			}
		}
		quota, above := conf.PublishQuota, behaviour.RulesPublishAbove
		if rule.Kind == KindService {
			quota, above = int(conf.ServicePublishQuota), behaviour.RulesPublishService
		}
		if spent >= platformQuota && spent < quota {
			if err := conf.NoteOrRefuse(ctx, above, "%s published %d times this month", owner.AppID, spent); err != nil {
				return err
			}
		}
		if !owner.JumpOpen || !p.Target.JumpOpen {
			behaviour.Note(ctx, behaviour.RulesPublishClosed)
		}
		if rule, err = rule.Publish(p.Target, spent, quota, now); err != nil {
			return err
		}
		if err := tx.PutRule(ctx, rule, ChangeMeta{At: s.Now(), Action: "publish"}); err != nil {
			return err
		}
		return tx.AddPublish(ctx, owner.AppID, rule.Prefix.Key, counted)
	})
	return s.awaitMemory(ctx, key, err)
}

// Delete deletes a rule, which takes effect at once and frees its prefix. The error is 40097 for an unknown prefix and, for a
// service account, if appid is missing or differs from the rule's Mini Program. Contract: rules §1.5.
func (s *Service) Delete(ctx context.Context, owner accounts.Account, prefix, appid string) error {
	if err := owner.JumpRules(); err != nil {
		return err
	}
	link, ok := ParseLink(prefix)
	if !ok {
		return errcode.InvalidArgs.WithDetail(behaviour.RulesPrefixUnknown, "prefix %.120q is not a link", prefix)
	}
	var key string
	err := s.Store.ChangeRules(ctx, owner.AppID, link.Origin(), func(tx Tx) error {
		if err := lock(ctx, tx, owner.AppID, link.Origin()); err != nil {
			return err
		}
		rule, err := ownRule(ctx, tx, owner, prefix)
		if err != nil {
			return err
		}
		if rule.Kind == KindService && appid != rule.Target {
			return errcode.InvalidArgs.WithDetail(behaviour.RulesDeleteTarget, "appid is %q: the rule %q opens %s", appid, rule.Prefix.Text,
				rule.Target)
		}
		if rule.Kind == KindService {
			link, err := tx.Link(ctx, owner.AppID, rule.Target)
			if err != nil && !errors.Is(err, accounts.ErrNoLink) {
				return err
			}
			if link.Status != accounts.LinkDone {
				behaviour.Note(ctx, behaviour.RulesDeleteUnlinked)
			}
		}
		key = rule.Prefix.Key
		return tx.DeleteRule(ctx, rule, ChangeMeta{At: s.Now(), Action: "delete"})
	})
	return s.awaitMemory(ctx, key, err)
}

// publishesLeft returns the number of publishes that an account has left this month; spent is the number of publishes that the account has
// already made. The result is never negative, because some clients read it as unsigned.
func (s *Service) publishesLeft(owner accounts.Account, spent int) int {
	conf := s.Settings.Get()
	quota := conf.PublishQuota
	if kindFor(owner) == KindService {
		quota = int(conf.ServicePublishQuota)
		if conf.ServicePublishQuota == settings.Unlimited {
			if !conf.Refuses(behaviour.RulesPublishService) {
				return platformQuota // without a limit, clients see the platform's full quota
			}
			quota = platformQuota
		}
	}
	return max(0, quota-spent)
}

// PublishesLeft returns the number of publishes that an account has left this month.
func (s *Service) PublishesLeft(ctx context.Context, owner accounts.Account) (int, error) {
	spent, err := accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) (int, error) {
		return tx.PublishesSince(ctx, owner.AppID, s.Settings.Get().MonthStart(s.countNow()))
	})
	return s.publishesLeft(owner, spent), err
}

// ConfirmFile returns the caller's verification file, which never changes. Contract: rules §1.6.
func (s *Service) ConfirmFile(owner accounts.Account) (accounts.ConfirmFile, error) {
	return owner.Confirm, owner.JumpRules()
}

// Occupiers returns the rules, of any owner, that prevent other accounts from adding a prefix: the rule with the prefix itself, and the
// shorter rules that occupy it. For the operator.
func (s *Service) Occupiers(ctx context.Context, prefix string) ([]Rule, error) {
	link, ok := ParseLink(prefix)
	if !ok || !PlainText(prefix) {
		return nil, errcode.IllegalPrefix.WithDetail(behaviour.RulesPrefixScheme, "prefix %.120q is not an http or https link", prefix)
	}
	list, err := accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Rule, error) { return tx.RulesAt(ctx, link.Ends()) })
	return slices.DeleteFunc(list, func(r Rule) bool { return r.Prefix.Key != link.Key && !(r.Occupy && r.Prefix.Matches(link)) }), err
}

// awaitMemory waits until the in-memory index has reloaded the rule that a transaction changed; key "" = no rule changed. awaitMemory also
// waits after an error other than errcode.Code, because the transaction may have committed before its connection was lost.
func (s *Service) awaitMemory(ctx context.Context, key string, err error) error {
	if _, decided := errors.AsType[*errcode.Code](err); key != "" && !decided && s.Changed != nil {
		// The change may be committed, so it must become visible even if the client has disconnected.
		s.Changed(context.WithoutCancel(ctx), key)
	}
	return err
}
