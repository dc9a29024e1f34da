// Package rules implements jump rules: matching of prefixes, the life cycle of a rule, occupation and quotas.
package rules

import (
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Kind is one of the two kinds of rule. The kind of a rule follows from the kind of its owner.
type Kind string

const (
	// Ordinary rules belong to a Mini Program and match links of the Mini Program's own domain.
	Ordinary Kind = "rule"
	// Service rules belong to a service account: one of the account's QR codes opens a linked Mini Program.
	KindService Kind = "service_rule"
)

// OpenVersion selects the version that a test link opens, and the users for which the link opens it. Contract: rules §1.1.
const (
	OpenDevelopment = 1 // developers open the development version
	OpenTrial       = 2 // administrators and trial users open the trial version
	OpenRelease     = 3 // developers, administrators and trial users open the release
)

// MaxTestLinks is the maximum number of test links of a rule.
const MaxTestLinks = 5

// Rule maps a prefix to a page of a Mini Program.
type Rule struct {
	ID          int64 // increases in the order in which rules are added
	Kind        Kind
	Owner       string // AppID of a Mini Program or a service account
	Target      string // AppID of the Mini Program that opens
	Prefix      Prefix
	Path        string
	Occupy      bool // other accounts may not add a rule below this prefix
	OpenVersion int
	TestLinks   []string
	Published   bool
	CreatedAt   time.Time
	UpdatedAt   time.Time
	PublishedAt time.Time // zero = never
}

// Errors of the store; they are never returned to API clients.
var (
	ErrNoRule      = errors.New("rules: no such rule")
	ErrPrefixTaken = errors.New("rules: the prefix has an owner")
)

// Draft is the requested content of a rule.
type Draft struct {
	Prefix      string
	Path        string
	AppID       string // service-account rules: the Mini Program to open
	Occupy      bool
	OpenVersion int
	TestLinks   []string
	KeepLinks   bool // an edit keeps the stored test links, for example if the client sent none
	EmptyLinks  bool // the client sent an empty list, and KeepLinks is true because of a setting
}

// kindFor returns the kind of rule that an account can create.
func kindFor(owner accounts.Account) Kind {
	if owner.Kind == accounts.ServiceAccount {
		return KindService
	}
	return Ordinary
}

// checkTestLinks returns 85068 for the first test link that does not match the prefix. Contract: rules §2.6.
func checkTestLinks(p Prefix, links []string) error {
	for _, text := range links {
		link, ok := ParseLink(text)
		if !ok || !PlainText(text) || !p.Matches(link) {
			return errcode.TestLinkNotBelow.WithDetail(behaviour.RulesTestLink,
				"test link %.120q does not match the prefix %q", text, p.Text)
		}
	}
	return nil
}

// Edit returns the edited rule, or error 40097 if the edit changes a field that must not change. The state stays. Contract: rules §1.2.
func (r Rule) Edit(d Draft, now time.Time) (Rule, error) {
	if r.Published {
		if r.Kind == KindService {
			return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.RulesEditService,
				"a published service-account rule cannot be edited: delete %q and add it again",
				r.Prefix.Text)
		}
		if d.Path != r.Path {
			return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.RulesEditPage,
				"the page of a published rule cannot be changed: delete %q and add it again", r.Prefix.Text)
		}
	}
	r.Path, r.UpdatedAt = d.Path, now
	if r.Kind == KindService {
		r.Target = d.AppID
		return r, nil
	}
	r.Occupy, r.OpenVersion = d.Occupy, d.OpenVersion
	if !d.KeepLinks {
		r.TestLinks = slices.Clone(d.TestLinks)
	}
	return r, nil
}

// Publish returns the rule as published; the errors are 85074 if the Mini Program to open has no release, and 886000 if the monthly
// quota is used up. Contract: rules §1.4.
func (r Rule) Publish(target accounts.Account, spent, quota int, now time.Time) (Rule, error) {
	switch {
	case !target.Has(accounts.Release):
		return Rule{}, errcode.NotReleased.WithDetail(behaviour.RulesPublishUnreleased, "%s has no released version", target.AppID)
	case spent >= quota:
		return Rule{}, errcode.PublishQuota.WithDetail(behaviour.RulesPublishQuota, "%s published %d times this month", r.Owner, spent)
	}
	r.Published, r.UpdatedAt, r.PublishedAt = true, now, now
	return r, nil
}

// TestVersion returns the version that a member with a role opens through a test link; ok is false for a role that the rule's
// OpenVersion excludes. Contract: rules §1.1, §2.6.
func (r Rule) TestVersion(role accounts.Role) (v accounts.Version, ok bool) {
	switch r.OpenVersion {
	case OpenDevelopment:
		return accounts.Development, role == accounts.Developer
	case OpenTrial:
		return accounts.Trial, role == accounts.Admin || role == accounts.TrialUser
	case OpenRelease:
		return accounts.Release, role == accounts.Admin || role == accounts.TrialUser || role == accounts.Developer
	}
	return "", false
}

// State returns the numeric state of the rule in API responses.
func (r Rule) State() int {
	if r.Published {
		return 2
	}
	return 1
}
