package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// MaxConfirmBody is the maximum length in bytes of the response with a verification file.
const MaxConfirmBody = 64

// ConfirmTimeout is the total timeout of fetching a verification file.
const ConfirmTimeout = 3 * time.Second

// FetchStep is one step of fetching a verification file.
type FetchStep struct {
	OccurredAt time.Time `json:"occurred_at"`
	Action     string    `json:"action"`
	Detail     string    `json:"detail"`
	Failed     bool      `json:"failed,omitempty"`
}

// Fetch downloads a file from an external host: it requires status 200 and at most MaxConfirmBody bytes, and otherwise returns an
// error with a reason of one line. The steps of the download are returned on success and on error.
type Fetch func(ctx context.Context, url string, allowPrivate bool) (body []byte, steps []FetchStep, err error)

// confirm checks that the owner controls the directory of a prefix, and returns a record of the check of the verification file; if the
// check fails, confirm returns the error 85069 with the reason. Contract: rules §2.7.
func (s *Service) confirm(ctx context.Context, owner accounts.Account, p Prefix, status DomainStatus, conf settings.Settings) (Confirmation,
	error) {
	c := Confirmation{Owner: owner.AppID, Prefix: p.Text, URL: p.ConfirmAddress(owner.Confirm.Name)}
	if vouched(p, status, conf) {
		c.OK, c.Reason = true, "the operator trusts "+p.Host
		row := behaviour.RulesConfirmVouched
		if named(p, status, conf) {
			row = behaviour.RulesConfirmNamed
		}
		behaviour.Note(ctx, row)
		return c, nil
	}
	if strings.Contains(c.URL, "%23") && strings.Contains(p.Path(), "#") {
		behaviour.Note(ctx, behaviour.RulesConfirmFragment)
	}
	body, steps, err := s.Fetch(ctx, c.URL, conf.AllowPrivateHosts)
	c.Steps = steps
	if err == nil {
		err = CheckFile(body, owner.Confirm.Content)
	}
	switch {
	case err != nil:
		c.Reason = err.Error()
	case string(body) != owner.Confirm.Content:
		if err := conf.NoteOrRefuse(ctx, behaviour.RulesConfirmTrim, "%s: white space before or after the content", c.URL); err != nil {
			_, c.Reason = errcode.FromError(err)
			return c, err
		}
		fallthrough
	default:
		c.OK, c.Reason = true, "the file is in place"
		return c, nil
	}
	return c, errcode.ConfirmFileFailed.WithDetail(behaviour.RulesConfirm, "%s: %s", c.URL, c.Reason)
}

// vouched reports whether the operator's settings exempt the host of a prefix from the verification file.
func vouched(p Prefix, status DomainStatus, s settings.Settings) bool {
	return (named(p, status, s) || s.Verification.Mode == settings.Trust) && !s.Refuses(behaviour.RulesConfirmVouched)
}

// named reports whether the operator lists the host of a prefix as trusted.
func named(p Prefix, status DomainStatus, s settings.Settings) bool {
	// Assumed(rules.confirm.named): a host that is listed without a port is trusted on every port.
	name, _, _ := strings.Cut(p.Host, ":")
	return status == Trusted || slices.Contains(s.Verification.Hosts, p.Host) || slices.Contains(s.Verification.Hosts, name)
}

// CheckFile returns an error if a response body differs from the content of a verification file. Contract: rules §2.7.
func CheckFile(body []byte, content string) error {
	if got := strings.TrimSpace(string(body)); got != content { // Assumed(rules.confirm.trim)
		return fmt.Errorf("the file contains %.40q, want exactly %q", got, content)
	}
	return nil
}

// confirmationMemory is the retention period of checks of verification files.
const confirmationMemory = 30 * 24 * time.Hour

// keep stores a check of a verification file, and deletes expired checks.
func (s *Service) keep(ctx context.Context, c Confirmation) error {
	s.deleteExpired(ctx)
	return s.Store.UpdateRules(ctx, func(tx Tx) error { return tx.PutConfirmation(ctx, c) })
}

// deleteExpired deletes expired checks of verification files, at most once a minute. If the deletion fails, the caller's change still
// proceeds.
func (s *Service) deleteExpired(ctx context.Context) {
	if s.ClockBelieved != nil && !s.ClockBelieved() {
		return
	}
	now := s.Now()
	last := s.forgot.Load()
	if start := now.Unix() - last; start >= 0 && start < 60 || !s.forgot.CompareAndSwap(last, now.Unix()) {
		return
	}
	_ = s.Store.UpdateRules(ctx, func(tx Tx) error { return tx.ForgetConfirmations(ctx, now.Add(-confirmationMemory)) })
}
