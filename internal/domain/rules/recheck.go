package rules

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// RecheckEvery is the interval at which each verification file is fetched again.
const RecheckEvery = 24 * time.Hour

// Reverification is the result of the latest check of the verification file in one directory. The result changes no rules.
type Reverification struct {
	Owner        string
	Directory    string // directory URL of the verification file, with a final slash
	Prefix       string // prefix of one of the rules whose verification file is in Directory
	CheckedAt    time.Time
	OK           bool
	Reason       string
	FailingSince time.Time // time of the first of the consecutive failures; zero = the last check passed
	NextAt       time.Time
}

// RecheckStore keeps rechecks.
type RecheckStore interface {
	// Add adds the directories of a list that are not stored yet.
	Add(ctx context.Context, list []Reverification) error
	// Claim returns due rechecks, the most overdue first, and postpones them so that no other node claims them.
	Claim(ctx context.Context, now, again time.Time, limit int) ([]Reverification, error)
	Save(ctx context.Context, r Reverification) error
	Delete(ctx context.Context, owner, directory string) error
	// MakeDue makes the rechecks of all directories due.
	MakeDue(ctx context.Context, now time.Time) error
	List(ctx context.Context, q ReverificationQuery) ([]Reverification, error)
	// CountFailing counts the directories whose last check failed.
	CountFailing(ctx context.Context) (int64, error)
}

// ReverificationQuery selects rechecks by owner and directory.
type ReverificationQuery struct {
	Owner   string // "" = any
	Failing bool   // only directories whose last check failed
	// AfterOwner and AfterDirectory identify the last entry of the previous page.
	AfterOwner, AfterDirectory string
	Limit                      int
}

// Verifier fetches every verification file again once a day, at times spread over the day.
type Verifier struct {
	Service *Service
	Store   RecheckStore
	Log     *slog.Logger
	// Off reports whether the operator has disabled rechecks; nil = enabled.
	Off func() bool
	// Failing is called with the number of directories whose last check failed.
	Failing func(int64)
}

const (
	// recheckHands is the maximum number of concurrent fetches.
	recheckHands = 8
	// recheckLease is the duration for which a claimed directory is reserved for one node.
	recheckLease = time.Hour
	// plannedPage is the number of rules that are read at once to find their directories, and plannedSeen is the maximum number of
	// remembered directories. After each page, the search for directories pauses for plannedRest times the time that the page took, so that
	// it uses at most a fifth of a core.
	plannedPage, plannedSeen, plannedRest = 1000, 1 << 18, 4
)

// Run checks the due verification files at every interval until ctx ends.
func (r *Verifier) Run(ctx context.Context, interval time.Duration) {
	tick := time.Tick(interval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		if r.Off != nil && r.Off() {
			continue
		}
		for ctx.Err() == nil {
			n, err := r.RunDue(ctx, 4*recheckHands)
			if err != nil && ctx.Err() == nil {
				r.Log.ErrorContext(ctx, "verification recheck failed", "error", err)
			}
			if err != nil || n == 0 {
				break
			}
		}
		if r.Failing == nil {
			continue
		}
		if n, err := r.Store.CountFailing(ctx); err == nil {
			r.Failing(n)
		}
	}
}

// RunDue checks at most limit due verification files and returns the number of files checked.
func (r *Verifier) RunDue(ctx context.Context, limit int) (n int, err error) {
	now := r.Service.Now()
	// The row without an owner schedules the search for new directories.
	if err := r.Store.Add(ctx, []Reverification{{NextAt: now}}); err != nil {
		return 0, err
	}
	due, err := r.Store.Claim(ctx, now, now.Add(recheckLease), limit)
	if err != nil {
		return 0, err
	}
	var hands sync.WaitGroup
	places := make(chan struct{}, recheckHands)
	faults := make([]error, len(due))
	for i, reverification := range due {
		if reverification.Owner == "" {
			if err := r.plan(ctx, reverification, now, false); err != nil {
				faults[i] = err
			}
			continue
		}
		n++
		places <- struct{}{}
		hands.Go(func() {
			defer func() { <-places }()
			faults[i] = r.verifyDirectory(ctx, reverification)
		})
	}
	hands.Wait()
	if n == 0 && len(due) > 0 {
		n = 1 // only the search for directories was due; it may have added due files, so the caller must continue
	}
	return n, errors.Join(faults...)
}

// RunAll makes all verification files due, including those of new rules, and checks at most limit of them. RunAll returns the number of
// files checked.
func (r *Verifier) RunAll(ctx context.Context, limit int) (n int, err error) {
	now := r.Service.Now()
	if err := r.Store.Add(ctx, []Reverification{{NextAt: now}}); err != nil {
		return 0, err
	}
	if err := r.plan(ctx, Reverification{}, now, true); err != nil {
		return 0, err
	}
	if err := r.Store.MakeDue(ctx, now); err != nil {
		return 0, err
	}
	return r.RunDue(ctx, limit)
}

// plan adds the directories of all rules, each with its own time of day for the check. There may be ten million rules, so they are read in
// pages. After each page plan pauses, unless a caller waits (hurry).
func (r *Verifier) plan(ctx context.Context, planned Reverification, now time.Time, hurry bool) error {
	// If two directories have the same hash, the second one is not added. The hash must be unpredictable, because owners of rules choose
	// the names of the directories.
	seed := maphash.MakeSeed()
	seen := map[uint64]bool{}
	var fresh []Reverification
	for q := (Query{Limit: plannedPage, NoTotal: true}); ; {
		began := time.Now()
		var page []Rule
		err := r.Service.Store.ViewRules(ctx, func(tx Tx) (err error) {
			page, _, err = tx.List(ctx, q)
			return err
		})
		if err != nil {
			return fmt.Errorf("listing the directories of rules: %w", err)
		}
		fresh = fresh[:0]
		for i := range page {
			rule := &page[i]
			q.AfterID = rule.ID
			if rule.Kind != Ordinary {
				continue
			}
			directory := rule.Prefix.ConfirmAddress("")
			name := rule.Owner + " " + directory
			mark := maphash.String(seed, name)
			if seen[mark] {
				continue
			}
			if len(seen) >= plannedSeen {
				clear(seen) // clearing seen is safe, because the store ignores directories that it already has
			}
			seen[mark] = true
			// The time of day may be predictable, so an unseeded hash is sufficient.
			sum := fnv.New64a()
			_, _ = io.WriteString(sum, name)
			place := sum.Sum64()
			fresh = append(fresh, Reverification{Owner: rule.Owner, Directory: directory, Prefix: rule.Prefix.Text, OK: true,
				NextAt: now.Add(time.Duration(place % uint64(RecheckEvery)))})
		}
		if err := r.Store.Add(ctx, fresh); err != nil {
			return err
		}
		if len(page) < plannedPage {
			break
		}
		if hurry {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(plannedRest * time.Since(began)):
		}
	}
	planned.CheckedAt, planned.OK, planned.NextAt = now, true, now.Add(RecheckEvery)
	return r.Store.Save(ctx, planned)
}

// ruleThere returns the prefix of a rule that the owner has in the directory: p, the prefix of the last check, if the rule still exists,
// otherwise the prefix of another rule. If the owner has no rule in the directory, it returns ErrNoRule.
func ruleThere(ctx context.Context, tx Tx, reverification Reverification, p Prefix) (Prefix, error) {
	rule, err := tx.Rule(ctx, p.Key)
	if err == nil && rule.Owner == reverification.Owner {
		return rule.Prefix, nil
	}
	if err != nil && !errors.Is(err, ErrNoRule) {
		return p, err
	}
	rule, err = tx.RuleIn(ctx, reverification.Owner, reverification.Directory)
	return rule.Prefix, err
}

// verifyDirectory checks the verification file of one directory.
func (r *Verifier) verifyDirectory(ctx context.Context, reverification Reverification) error {
	b := r.Service
	p, err := ParsePrefix(reverification.Prefix, Ordinary, true)
	if err != nil {
		return r.Store.Delete(ctx, reverification.Owner, reverification.Directory)
	}
	var owner accounts.Account
	var status DomainStatus
	err = b.Store.ViewRules(ctx, func(tx Tx) (err error) {
		if p, err = ruleThere(ctx, tx, reverification, p); err != nil {
			return err
		}
		if owner, err = tx.Account(ctx, reverification.Owner); err != nil {
			return err
		}
		status, err = tx.Domain(ctx, p.Host)
		return err
	})
	if errors.Is(err, ErrNoRule) || errors.Is(err, accounts.ErrNoAccount) {
		return r.Store.Delete(ctx, reverification.Owner, reverification.Directory)
	}
	if err != nil {
		return err
	}
	found, err := b.confirm(ctx, owner, p, status, b.Settings.Get())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if code, _ := errcode.FromError(err); err != nil && code != errcode.ConfirmFileFailed {
		return err
	}
	now := b.Now()
	reverification.Prefix = p.Text
	reverification.CheckedAt, reverification.OK, reverification.Reason, reverification.NextAt = now, found.OK,
		found.Reason, now.Add(RecheckEvery)
	switch {
	case found.OK:
		if !reverification.FailingSince.IsZero() {
			r.Log.InfoContext(ctx, "verification file restored", "owner", reverification.Owner, "url", found.URL)
		}
		reverification.FailingSince = time.Time{}
	default:
		if reverification.FailingSince.IsZero() {
			reverification.FailingSince = now
		}
		r.Log.WarnContext(ctx, "verification file missing; rules stay active, but the owner may have lost the host",
			"owner", reverification.Owner,
			"url", found.URL, "since", reverification.FailingSince.UTC().Format(time.RFC3339), "reason", found.Reason)
	}
	return r.Store.Save(ctx, reverification)
}
