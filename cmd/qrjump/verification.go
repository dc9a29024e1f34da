package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type confirmationList struct {
	operator
	Account string `placeholder:"APPID"`
	Prefix  string `placeholder:"PREFIX"`
	RID     string `name:"rid" placeholder:"RID"`
	Failed  bool
	Limit   int `default:"50" placeholder:"N"`
}

// Run lists checks of verification files, the newest last.
func (c *confirmationList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Verifications.ListChecks(s.ctx, client.ConfirmationQuery{RID: c.RID, Owner: c.Account, Prefix: c.Prefix,
		Failed: c.Failed,
		Limit:  c.Limit})
	if err != nil {
		return failed("list", "confirmations", err)
	}
	return listing[client.Confirmation]{name: "confirmations", newestFirst: true,
		none:  said("verification.no_check_of_a_verification"),
		heads: []string{"AT", "RID", "ACCOUNT", "FOUND", "PREFIX", "WHY"},
		more:  said("verification.each_step_of_one_qrjump"),
		row: func(one client.Confirmation) []string {
			return []string{when(one.At), one.RID, one.Owner, yesNo(one.OK), one.Prefix, one.Reason}
		}}.print(s, c.outputFlags, list, emptyFor(s, qrjump, said("verification.list_confirmations_of"), c.Account, len(list)))
}

type confirmationShow struct {
	operator
	RID string `arg:"" placeholder:"RID"`
}

// Run tells one check in full.
func (c *confirmationShow) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Verifications.ListChecks(s.ctx, client.ConfirmationQuery{RID: c.RID, Limit: 1})
	if err != nil {
		return failed(said("verification.show_confirmation"), c.RID, err)
	}
	if len(list) == 0 {
		return absent(advised{error: fault("verification.show_confirmation_no_call_of",
			c.RID),
			next: said("verification.see_qrjump_confirmation_list")})
	}
	one := list[0]
	return c.print(s, one, func(w io.Writer) {
		printFields(w, [2]string{"at", when(one.At)}, [2]string{"account", one.Owner}, [2]string{"prefix", one.Prefix},
			[2]string{"file", one.URL}, [2]string{"found", yesNo(one.OK)}, [2]string{"why", one.Reason})
		if len(one.Steps) == 0 {
			tell(w, "verification.nothing_was_fetched_the_operator")
			return
		}
		fmt.Fprintln(w)
		began := one.Steps[0].At
		rows := [][]string{}
		for _, step := range one.Steps {
			mark := ""
			if step.Failed {
				mark = "failed"
			}
			rows = append(rows, []string{"+" + step.At.Sub(began).Round(time.Millisecond).String(), stepText(step.Did), mark, step.Detail})
		}
		printTable(w, []string{"AFTER", "STEP", "", "WHAT CAME OF IT"}, rows)
		if !one.OK {
			tell(w, "verification.where_the_file_must_be")
		}
	})
}

// stepWords are the steps of looking for a file, as the server names them.
var stepWords = map[string]string{
	"url":      "verification.the_address_is_checked",
	"resolve":  "verification.its_name_is_looked_up",
	"connect":  "verification.it_connects",
	"tls":      "verification.the_certificate_is_checked",
	"send":     "verification.the_file_is_asked_for",
	"answer":   "verification.an_answer_comes",
	"body":     "verification.the_file_is_read",
	"redirect": "verification.it_is_sent_elsewhere",
	"compare":  "verification.what_came_is_compared",
}

// stepText says a step in words.
func stepText(did string) string {
	if key := stepWords[did]; key != "" {
		return said(key)
	}
	return strings.ReplaceAll(did, "_", " ")
}

type recheckList struct {
	operator
	Account string `placeholder:"APPID"`
	Failing bool
}

// Run lists the latest looks at verification files, page by page.
func (c *recheckList) Run(s *session, qrjump *client.Client) error {
	const page = 1000
	all, err := everyPage(page, func(after client.Recheck) ([]client.Recheck, error) {
		return qrjump.Verifications.List(s.ctx, client.RecheckQuery{Owner: c.Account, Failing: c.Failing, Limit: page,
			AfterOwner:     after.Owner,
			AfterDirectory: after.Directory})
	})
	if err != nil {
		return failed("list", "rechecks", err)
	}
	none := said("verification.no_verification_file_was_looked")
	if c.Failing {
		none = said("verification.every_verification_file_that_was")
	}
	return listing[client.Recheck]{name: "rechecks", none: none,
		heads: []string{"ACCOUNT", "DIRECTORY", "IN PLACE", "FAILING SINCE", "LOOKED AT", "NEXT LOOK", "WHY"},
		row: func(one client.Recheck) []string {
			return []string{one.Owner, one.Directory, yesNo(one.OK), moment(one.Since), when(one.CheckedAt), when(one.NextAt), one.Reason}
		}}.print(s, c.outputFlags, all, emptyFor(s, qrjump, said("verification.list_rechecks_of"), c.Account, len(all)))
}

type recheckNow struct{ operator }

// Run looks at all verification files now.
func (c *recheckNow) Run(s *session, qrjump *client.Client) error {
	done, err := qrjump.Verifications.Run(s.ctx)
	see := ""
	if done.Failing > 0 {
		see = said("verification.see_qrjump_recheck_list_failing")
	}
	return c.outcome(s, done, failed("look", said("verification.at_the_verification_files"), err),
		"verification.looked_at_others_follow_in", counted(done.Files, "file"), done.Failing, see)
}

type userErase struct {
	operator
	User      string `arg:""`
	Namespace string `placeholder:"NAME"`
	ending
}

// Run makes every scan of a user anonymous.
func (c *userErase) Run(s *session, qrjump *client.Client) error {
	whose := said("verification.in_the_namespace", c.User, orElse(c.Namespace, "default"))
	if err := c.confirmed(s, said("verification.every_scan_of", whose)); err != nil {
		return err
	}
	scans, err := qrjump.Scans.EraseUser(s.ctx, c.Namespace, c.User)
	says := said("verification.erased_anonymous_now_and_count", whose, said("verification.scans_are", scans))
	if scans == 0 {
		says = said("verification.no_scan_of", whose)
	}
	return c.outcome(s, map[string]any{"scans": scans}, failed("erase", whose, err), "plain", plain(says))
}
