package rules

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// This file contains the operator's queries and settings, which cover the rules of all owners.

// Find returns rules of any owner, oldest first.
func (s *Service) Find(ctx context.Context, q Query) ([]Rule, error) {
	q.NoTotal = true
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Rule, error) {
		list, _, err := tx.List(ctx, q)
		return list, err
	})
}

// Named returns the owners and prefixes of rules by their IDs, including deleted rules.
func (s *Service) Named(ctx context.Context, ids []int64) ([]Named, error) {
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Named, error) { return tx.Named(ctx, ids) })
}

// ErrNotLink is returned for a text that is not an http or https link.
var ErrNotLink = errors.New("not an http or https link")

// History lists the changes of a prefix by any owner, newest first.
func (s *Service) History(ctx context.Context, prefix string, limit int) ([]Change, error) {
	link, ok := ParseLink(prefix)
	if !ok || !PlainText(prefix) {
		return nil, fmt.Errorf("prefix %.120q: %w", prefix, ErrNotLink)
	}
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Change, error) { return tx.Changes(ctx, link.Key, limit) })
}

// ErrBusy reports that NearestRules waited too long for other calls of NearestRules.
var ErrBusy = errors.New("too many concurrent requests for the rules near a link")

const (
	// nearAtOnce is the maximum number of concurrent reads of NearestRules: explanations must leave database connections for other work.
	nearAtOnce = 2
	nearTime   = 10 * time.Second // how long a call waits for a free slot
)

// NearestRules returns the stored rules near a link, for an explanation of the link. It returns ErrBusy if no slot becomes free within
// nearTime.
func (s *Service) NearestRules(ctx context.Context, link Link) ([]Rule, error) {
	const looked = 100
	turn, cancel := context.WithTimeoutCause(ctx, nearTime, ErrBusy)
	defer cancel()
	done, err := s.nearing.Acquire(turn, nearAtOnce, 0)
	if err != nil {
		return nil, err
	}
	defer done()
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Rule, error) { return tx.NearestRules(ctx, link, looked) })
}

// Confirmations lists checks of verification files, newest first.
func (s *Service) Confirmations(ctx context.Context, q VerificationQuery) ([]Confirmation, error) {
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Confirmation, error) { return tx.Confirmations(ctx, q) })
}

// Domains lists, in order, at most limit hosts with a status set by the operator (0 = all), beginning after a given host.
func (s *Service) Domains(ctx context.Context, after string, limit int) ([]Domain, error) {
	return accounts.Transact(ctx, s.Store.ViewRules, func(tx Tx) ([]Domain, error) { return tx.Domains(ctx, after, limit) })
}

var domainHost = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9_.\[\]:-]{1,255}$`)
})

// ErrNoDomain is returned for a host without a status set by the operator.
var ErrNoDomain = errors.New("this host has no status; for the hosts with one: qrjump api listDomains")

// SetDomain sets the operator's status of a host; status "" deletes the status and returns ErrNoDomain if the host has none.
func (s *Service) SetDomain(ctx context.Context, host string, status DomainStatus) error {
	host = strings.ToLower(host)
	if !domainHost().MatchString(host) {
		return accounts.Invalid(fmt.Sprintf("host %.120q: want a host name, with a port if rules have one", host))
	}
	return s.Store.UpdateRules(ctx, func(tx Tx) error {
		if status == "" {
			return tx.DeleteDomain(ctx, host)
		}
		return tx.PutDomain(ctx, Domain{Host: host, Status: status, At: s.Now()})
	})
}

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
