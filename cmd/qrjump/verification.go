package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type verificationList struct {
	operator
	Account string `placeholder:"APPID"`
	Prefix  string `placeholder:"PREFIX"`
	RID     string `name:"rid" placeholder:"RID"`
	Failed  bool
	Limit   int `default:"50" placeholder:"N"`
}

// verificationCheck is a check of a verification file.
type verificationCheck struct {
	Kind string `json:"kind"` // "add": the check when a rule was added; "nightly": the latest nightly check of a directory
	client.DomainVerification
	Since  *time.Time `json:"failing_since,omitempty"`
	NextAt *time.Time `json:"next_at,omitempty"`
}

// read returns the checks that the flags select, newest first.
func (c *verificationList) read(s *session, qrjump *client.Client) (all []verificationCheck, err error) {
	added, err := qrjump.Verifications.ListChecks(s.ctx, client.VerificationQuery{RID: c.RID, Owner: c.Account, Prefix: c.Prefix,
		OK: textIf(c.Failed, "false"), Limit: c.Limit})
	for _, confirmation := range added {
		all = append(all, verificationCheck{Kind: "add", DomainVerification: confirmation})
	}
	if err != nil || c.RID != "" || c.Prefix != "" {
		return all, err
	}
	const page = 1000
	nightly, err := everyPage(page, func(lastRecheck client.Reverification) ([]client.Reverification, error) {
		return qrjump.Verifications.List(s.ctx, client.ReverificationQuery{Owner: c.Account, Failing: c.Failed, Limit: page,
			AfterOwner:     lastRecheck.Owner,
			AfterDirectory: lastRecheck.Directory})
	})
	for _, recheck := range nightly {
		all = append(all, verificationCheck{Kind: "nightly", Since: recheck.Since, NextAt: &recheck.NextAt,
			DomainVerification: client.DomainVerification{
				OccurredAt: recheck.CheckedAt, Owner: recheck.Owner, Prefix: recheck.Directory, OK: recheck.OK, Reason: recheck.Reason}})
	}
	slices.SortStableFunc(all, func(a, b verificationCheck) int { return b.OccurredAt.Compare(a.OccurredAt) })
	return all, err
}

// Run lists checks of verification files: nightly checks, and checks of added rules. With --rid, Run prints the steps of one check.
func (c *verificationList) Run(s *session, qrjump *client.Client) error {
	all, err := c.read(s, qrjump)
	switch {
	case err != nil:
		return failed("list", "verifications", err)
	case c.RID != "" && len(all) == 0:
		return absent(hintError{error: fault("verification.no_call_of", c.RID), next: tr("verification.see_list")})
	case c.RID != "" && !c.isJSON():
		all[0].show(s.out)
		return nil
	}
	return listing[verificationCheck]{name: "verifications", newestFirst: true, none: tr("verification.no_check_of_a_verification"),
		heads: []string{"TIME", "KIND", "ACCOUNT", "FOUND", "PREFIX", "FAILING SINCE", "NEXT CHECK", "RID", "REASON"},
		more:  tr("verification.each_step_of_one_qrjump"),
		row: func(check verificationCheck) []string {
			return []string{formatTime(check.OccurredAt), check.Kind, check.Owner, yesNo(check.OK), check.Prefix,
				moment(check.Since), moment(check.NextAt),
				orDash(check.RID), check.Reason}
		}}.print(s, c.outputFlags, all, emptyFor(s, qrjump, tr("verification.list_verifications_of"), c.Account, len(all), nil))
}

// show prints all details of one check.
func (one verificationCheck) show(w io.Writer) {
	printFields(w, [2]string{"at", formatTime(one.OccurredAt)}, [2]string{"account", one.Owner}, [2]string{"prefix", one.Prefix},
		[2]string{"file", one.URL}, [2]string{"found", yesNo(one.OK)}, [2]string{"reason", one.Reason})
	if len(one.Steps) == 0 {
		printMsg(w, "verification.nothing_was_fetched_the_operator")
		return
	}
	fmt.Fprintln(w)
	began := one.Steps[0].OccurredAt
	printRows(w, []string{"AFTER", "STEP", "", "RESULT"}, one.Steps, func(step client.VerificationStep) []string {
		return []string{"+" + step.OccurredAt.Sub(began).Round(time.Millisecond).String(),
			localizeOr("verification.step."+step.Action, strings.ReplaceAll(step.Action, "_", " ")),
			textIf(step.Failed, "failed"), step.Detail}
	})
	if !one.OK {
		printMsg(w, "verification.where_the_file_must_be")
	}
}

type verificationRun struct{ operator }

// Run starts a check of all verification files.
func (c *verificationRun) Run(s *session, qrjump *client.Client) error {
	done, err := qrjump.Verifications.Run(s.ctx)
	see := textIf(done.Failing > 0, tr("verification.see_list_failed"))
	return c.outcome(s, done, failed("look", tr("verification.at_the_verification_files"), err),
		"verification.checked", counted(done.Files, "file"), done.Failing, see)
}
