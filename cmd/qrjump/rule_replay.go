package main

import (
	"io"
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
)

type ruleReplay struct {
	planFlags
	adminFlags
	Days int `default:"7" placeholder:"N"`
}

// replayMost is the maximum number of changes in one replay.
const replayMost = 1000

// Run prints how a plan would have changed the results of the scans in the last days.
func (c *ruleReplay) Run(s *session, wire *client.Client) error {
	if c.Days < 1 || c.Days > 3660 {
		return misused("rule_replay.days_want_1_to_3660", c.Days)
	}
	made, err := c.make(s, wire)
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
		return c.print(s, client.Replayed{Changes: []client.OutcomeChange{}}, nil, func(w io.Writer) {
			printMsg(w, "rule_replay.nothing_to_replay_the_rules")
		})
	case len(changes) > replayMost:
		return misused("rule_replay.changes_rules_at_most_are", c.File, len(changes), replayMost)
	}
	qrjump, err := c.asOperator(c.adminFlags)
	if err != nil {
		return err
	}
	done, err := qrjump.Rules.ReplayPlan(s.ctx, changes, c.Days)
	if err != nil {
		if isProblem(err, http.StatusConflict) {
			return hintError{error: failed("replay", c.File, err), next: tr("rule_replay.scans_are_kept_where_the")}
		}
		return failed("replay", c.File, err)
	}
	return c.print(s, done, nil, func(w io.Writer) { showReplay(w, c.File, c.Days, done) })
}

// owner returns the account whose rules the plan changes.
func (c *ruleReplay) owner(made plan) (string, error) {
	if c.AppID == "" && len(made.Steps) > 0 {
		return "", misused("rule_replay.missing_account")
	}
	return c.AppID, nil
}

// showReplay prints the changed results: the number of scans, the old result and the new result.
func showReplay(w io.Writer, file string, days int, done client.Replayed) {
	printMsg(w, "rule_replay.scanned_in_the_last_of",
		counted(int(done.Scans), "link"), counted(days, "day"), done.Examined, plain(file), done.Changed)
	if len(done.Changes) > 0 {
		printRows(w, []string{"SCANS", "OPENED", "WOULD OPEN", "EXAMPLE"}, done.Changes, func(t client.OutcomeChange) []string {
			example := ""
			if len(t.Examples) > 0 {
				example = t.Examples[0]
			}
			return []string{number(t.Scans), outcomeText(t.Before), outcomeText(t.After), example}
		})
	}
	if done.Truncated {
		printMsg(w, "rule_replay.there_were_more_scans_than")
	}
	if done.Anonymous {
		printMsg(w, "rule_replay.all_are_replayed_as_scans")
	}
}

// outcomeText describes the result of a scan in words.
func outcomeText(outcome string) string {
	rest, opens := strings.CutPrefix(outcome, client.OpenMiniProgram+" ")
	if !opens {
		return strings.ReplaceAll(outcome, "_", " ")
	}
	app, rest, _ := strings.Cut(rest, " ")
	prefix, page, _ := strings.Cut(rest, " ")
	return page + " of " + app + " by " + prefix
}
