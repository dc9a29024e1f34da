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
	list, err := qrjump.Confirmations(s.ctx, client.ConfirmationQuery{RID: c.RID, Owner: c.Account, Prefix: c.Prefix, Failed: c.Failed,
		Limit: c.Limit})
	if err != nil {
		return failed("list", "confirmations", err)
	}
	return listing[client.Confirmation]{name: "confirmations", newestFirst: true,
		none:  "no check of a verification file is like that; they are kept for 30 days",
		heads: []string{"AT", "RID", "ACCOUNT", "FOUND", "PREFIX", "WHY"},
		more:  "each step of one: qrjump confirmation show RID",
		row: func(one client.Confirmation) []string {
			return []string{when(one.At), one.RID, one.Owner, yesNo(one.OK), one.Prefix, one.Reason}
		}}.print(s, c.outputFlags, list, emptyFor(s, qrjump, "list confirmations of", c.Account, len(list)))
}

type confirmationShow struct {
	operator
	RID string `arg:"" placeholder:"RID"`
}

// Run tells one check in full.
func (c *confirmationShow) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Confirmations(s.ctx, client.ConfirmationQuery{RID: c.RID, Limit: 1})
	if err != nil {
		return failed("show confirmation", c.RID, err)
	}
	if len(list) == 0 {
		return absent(advised{error: fmt.Errorf("show confirmation %s: no call of the last 30 days with this request id looked for a file",
			c.RID),
			next: "see: qrjump confirmation list"})
	}
	one := list[0]
	return c.print(s, one, func(w io.Writer) {
		printFields(w, [2]string{"at", when(one.At)}, [2]string{"account", one.Owner}, [2]string{"prefix", one.Prefix},
			[2]string{"file", one.URL}, [2]string{"found", yesNo(one.OK)}, [2]string{"why", one.Reason})
		if len(one.Steps) == 0 {
			fmt.Fprintln(w, "nothing was fetched: the operator vouches for the host")
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
			fmt.Fprintln(w, "where the file must be, and what must be in it: qrjump rule file --prefix PREFIX")
		}
	})
}

// stepWords are the steps of looking for a file, as the server names them.
var stepWords = map[string]string{"url": "the address is checked", "resolve": "its name is looked up", "connect": "it connects",
	"tls": "the certificate is checked", "send": "the file is asked for", "answer": "an answer comes", "body": "the file is read",
	"redirect": "it is sent elsewhere", "compare": "what came is compared"}

// stepText says a step in words.
func stepText(did string) string {
	return orElse(stepWords[did], strings.ReplaceAll(did, "_", " "))
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
		return qrjump.Rechecks(s.ctx, client.RecheckQuery{Owner: c.Account, Failing: c.Failing, Limit: page, AfterOwner: after.Owner,
			AfterDirectory: after.Directory})
	})
	if err != nil {
		return failed("list", "rechecks", err)
	}
	none := "no verification file was looked at yet; look now with: qrjump recheck now"
	if c.Failing {
		none = "every verification file that was looked at is in place"
	}
	return listing[client.Recheck]{name: "rechecks", none: none,
		heads: []string{"ACCOUNT", "DIRECTORY", "IN PLACE", "FAILING SINCE", "LOOKED AT", "NEXT LOOK", "WHY"},
		row: func(one client.Recheck) []string {
			return []string{one.Owner, one.Directory, yesNo(one.OK), moment(one.Since), when(one.CheckedAt), when(one.NextAt), one.Reason}
		}}.print(s, c.outputFlags, all, emptyFor(s, qrjump, "list rechecks of", c.Account, len(all)))
}

type recheckNow struct{ operator }

// Run looks at all verification files now.
func (c *recheckNow) Run(s *session, qrjump *client.Client) error {
	done, err := qrjump.RecheckNow(s.ctx)
	see := ""
	if done.Failing > 0 {
		see = "\nsee: qrjump recheck list --failing"
	}
	return c.outcome(s, done, failed("look", "at the verification files", err),
		"looked at %s; others follow in the background. Not in place of all that are known: %d%s", counted(done.Files, "file"), done.Failing, see)
}

type userErase struct {
	operator
	User      string `arg:""`
	Namespace string `placeholder:"NAME"`
	Yes       bool
}

// Run makes every scan of a user anonymous.
func (c *userErase) Run(s *session, qrjump *client.Client) error {
	whose := c.User + " in the namespace " + orElse(c.Namespace, "default")
	if err := confirmed(s, c.Yes, "every scan of "+whose+" becomes anonymous, and tickets and logins of theirs end, for ever"); err != nil {
		return err
	}
	scans, err := qrjump.EraseUser(s.ctx, c.Namespace, c.User)
	says := fmt.Sprintf("erased %s: %s anonymous now, and count as before", whose, isAre(scans, "scan"))
	if scans == 0 {
		says = "no scan of " + whose + " is known; tickets and logins, if there were any, are gone"
	}
	return c.outcome(s, map[string]any{"scans": scans}, failed("erase", whose, err), "%s", plain(says))
}

// isAre is a number with its noun and its verb.
func isAre(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}
