package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/ruleplan"
)

type ruleReplay struct {
	planFlags
	adminFlags
	Days int `default:"7" placeholder:"N"`
}

// replayMost is how many changes one replay takes.
const replayMost = 1000

// Run says what the scans of the last days would have opened under a plan.
func (c *ruleReplay) Run(s *session) error {
	if c.Days < 1 || c.Days > 3660 {
		return misused("--days %d: want 1 to 3660", c.Days)
	}
	made, _, err := c.make(s)
	if err != nil {
		return err
	}
	owner, err := c.owner(made)
	if err != nil {
		return err
	}
	changes := ruleplan.Changes(owner, made.Steps)
	switch {
	case len(changes) == 0:
		return c.print(s, client.Replayed{Turns: []client.Turn{}}, func(w io.Writer) {
			fmt.Fprintln(w, "nothing to replay: the rules are as the file says")
		})
	case len(changes) > replayMost:
		return misused("%s changes %d rules: at most %d are replayed at once", c.File, len(changes), replayMost)
	}
	qrjump, err := c.asOperator(c.adminFlags)
	if err != nil {
		return err
	}
	done, err := qrjump.ReplayPlan(s.ctx, changes, c.Days)
	if err != nil {
		if isProblem(err, http.StatusConflict) {
			return advised{error: failed("replay", c.File, err), next: "scans are kept where the server has a ledger"}
		}
		return failed("replay", c.File, err)
	}
	return c.print(s, done, func(w io.Writer) { showReplay(w, c.File, c.Days, done) })
}

// owner is the account whose rules the plan changes.
func (c *ruleReplay) owner(made plan) (string, error) {
	if c.AppID == "" && len(made.Steps) > 0 {
		return "", misused("whose rules are they? give --appid as well")
	}
	return c.AppID, nil
}

// showReplay prints what would have become of scans.
func showReplay(w io.Writer, file string, days int, done client.Replayed) {
	fmt.Fprintf(w, "%s scanned in the last %s; %d of these scans fell where %s changes a rule, %d would have opened something else\n",
		counted(int(done.Scans), "link"), counted(days, "day"), done.Looked, plain(file), done.Turned)
	if len(done.Turns) > 0 {
		rows := [][]string{}
		for _, t := range done.Turns {
			example := ""
			if len(t.Examples) > 0 {
				example = t.Examples[0]
			}
			rows = append(rows, []string{number(t.Scans), outcomeText(t.Before), outcomeText(t.After), example})
		}
		printTable(w, []string{"SCANS", "OPENED", "WOULD OPEN", "FOR EXAMPLE"}, rows)
	}
	if done.Cut {
		fmt.Fprintln(w, "there were more scans than are replayed at once: these are the oldest")
	}
	if done.Anonymous {
		fmt.Fprintln(w, "all are replayed as scans of nobody in particular: test links open for their testers as before")
	}
}

// outcomeText says in words what a scan opens.
func outcomeText(outcome string) string {
	rest, opens := strings.CutPrefix(outcome, client.OpenMiniProgram+" ")
	if !opens {
		return strings.ReplaceAll(outcome, "_", " ")
	}
	app, rest, _ := strings.Cut(rest, " ")
	prefix, page, told := strings.Cut(rest, " ")
	if told { // an older server does not say the page
		page += " of "
	}
	return page + app + " by " + prefix
}
