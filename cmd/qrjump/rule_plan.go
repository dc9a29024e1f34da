package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// planFlags holds the common flags of plan and apply.
type planFlags struct {
	member
	File   string `arg:"" file:"in"`
	Prune  bool
	Target string `placeholder:"APPID"`
	All    bool
}

// plan is the list of steps that make the account's rules equal to a file.
type plan struct {
	Steps         []ruleplan.Step `json:"steps"`
	Publishes     int             `json:"publishes"`      // The number of publishes that the steps need.
	PublishesLeft int             `json:"publishes_left"` // The number of publishes that are left this month before the steps are executed.
	Rules         int             `json:"rules"`          // in the file
}

// readWanted parses the file and reports all invalid rules with their lines.
func (p *planFlags) readWanted() ([]ruleplan.Desired, error) {
	text, err := os.ReadFile(p.File)
	if err != nil {
		return nil, usageError(inReader(err).Error())
	}
	wanted, wrong, err := ruleplan.ReadToApply(p.File, text, p.AppID, p.Target)
	if err != nil {
		return nil, usageError(err.Error())
	}
	return wanted, faultsOf(p.File, wrong)
}

// faultsOf returns a single error for all errors in a file.
func faultsOf(file string, f ruleplan.FileErrors) error {
	switch len(f) {
	case 0:
		return nil
	case 1:
		return usageError(f[0])
	}
	for i := range f {
		f[i] = inReader(errors.New(f[i])).Error()
	}
	return hintError{error: misused("ask.nothing_was_done", file, counted(len(f), "mistake")), details: f}
}

// stored returns the rules of the account, keyed by prefix. The wire API does not tell which Mini Program a service account's rule opens,
// so stored requests one list for each Mini Program in the file.
func (p *planFlags) stored(s *session, caller ruleCaller, wanted []ruleplan.Desired) (have []ruleplan.Stored, left int, err error) {
	if o, ok := caller.(*operatorRules); ok {
		return o.stored, o.left, nil
	}
	wire := caller.(client.WireService)
	index := map[string]int{}
	take := func(target string) error {
		list, err := allRules(s, wire, target)
		if err != nil {
			return err
		}
		left = list.PublishesLeft
		for _, r := range list.Rules {
			parsed, err := rules.ParsePrefix(r.Prefix, ruleplan.KindOf(r), true)
			if err != nil {
				return fault("rule_plan.the_server_lists_a_rule", err)
			}
			i, ok := index[parsed.Key]
			if !ok {
				i = len(have)
				index[parsed.Key] = i
				have = append(have, ruleplan.Stored{Rule: r, Parsed: parsed})
			}
			have[i].Target = target
		}
		return nil
	}
	if err := take(p.Target); err != nil || p.Target != "" {
		return have, left, err
	}
	asked := map[string]bool{}
	for _, w := range wanted {
		if w.IsService() && !asked[w.AppID] {
			asked[w.AppID] = true
			if err := take(w.AppID); err != nil {
				return nil, 0, failed(tr("rule_plan.rules_that_open"), w.AppID, err)
			}
		}
	}
	return have, left, nil
}

// make reads the file and the account's rules, and computes the plan.
func (p *planFlags) make(s *session, wire ruleCaller) (plan, error) {
	wanted, err := p.readWanted()
	if err != nil {
		return plan{}, err
	}
	return p.decide(s, wire, wanted)
}

// decide reads the account's rules, and computes the plan for the rules of its file.
func (p *planFlags) decide(s *session, wire ruleCaller, wanted []ruleplan.Desired) (plan, error) {
	have, left, err := p.stored(s, wire, wanted)
	if err != nil {
		return plan{}, fault("rule.list_rules", err)
	}
	made := plan{Steps: ruleplan.Decide(wanted, have, p.Prune), PublishesLeft: left, Rules: len(wanted)}
	for _, step := range made.Steps {
		if step.Action == "publish" {
			made.Publishes++
		}
		if link, ok := rules.ParseLink(step.Prefix); step.Action == "delete" && ok && link.IsService() && step.Target == "" {
			// The deletion of a service account's rule needs the AppID of the Mini Program, which the wire API does not list.
			return plan{}, hintError{error: fault("rule_plan.target_unknown", step.Prefix),
				next: tr("rule_plan.delete_it_with_qrjump_rule") + shellWord(step.Prefix) + tr("rule_plan.target_appid")}
		}
	}
	return made, nil
}

// marks maps each kind of step to its symbol in the printed plan.
var marks = map[string]string{"add": "+", "edit": "~", "publish": "^", "delete": "-"}

// colours holds the ANSI colour of each mark: green, yellow, cyan, red.
var colours = map[string]string{"+": "32", "~": "33", "^": "36", "-": "31"}

// shownSteps is the maximum number of printed steps without --all.
const shownSteps = 50

// show prints the plan as text.
func (p plan) show(w io.Writer, all bool) {
	if len(p.Steps) == 0 {
		printMsg(w, "rule_plan.nothing_to_do_as_the", counted(p.Rules, "rule"), counted(p.PublishesLeft, "publish"))
		return
	}
	rows := [][]string{}
	counts := map[string]int{}
	for _, step := range p.Steps {
		counts[step.Action]++
		if all || len(rows) < shownSteps {
			rows = append(rows, []string{marks[step.Action], localizeOr("did."+step.Action, step.Action), step.Prefix,
				inReader(errors.New(step.Reason)).Error()})
		}
	}
	var table strings.Builder
	printTable(&table, []string{"", "ACTION", "PREFIX", "REASON"}, rows)
	coloured := onTerminal(w)
	for line := range strings.Lines(table.String()) {
		if colour := colours[line[:1]]; coloured && colour != "" {
			line = "\x1b[" + colour + "m" + strings.TrimSuffix(line, "\n") + "\x1b[0m\n"
		}
		io.WriteString(w, line)
	}
	if left := len(p.Steps) - len(rows); left > 0 {
		printMsg(w, "rule_plan.and_more_all", left)
	}
	part := func(do string) string { return textIf(counts[do] > 0, counted(counts[do], do)) }
	fmt.Fprintln(w, joined(", ", part("add"), part("edit"), part("delete"),
		tr("rule_plan.needs_left_this_month", counted(p.Publishes, "publish"), p.PublishesLeft)))
}

// checkQuota returns an error if the steps need more publishes than are left this month. Plans of a service account are not checked: its
// publishes may be unlimited even if the rule list shows a number.
func (p plan) checkQuota(file string) error {
	ordinary := !slices.ContainsFunc(p.Steps, func(step ruleplan.Step) bool { return step.Draft.AppID != "" || step.Target != "" })
	if ordinary && p.Publishes > p.PublishesLeft {
		return fault("rule_plan.wanted_left_this_month_nothing", file, counted(p.Publishes, "publish"), p.PublishesLeft)
	}
	return nil
}

// down lists the published rules that the steps unpublish or delete; with every, it also lists the unpublished rules.
func (p plan) down(every bool) (texts []string) {
	for _, step := range p.Steps {
		if !step.TakesOffline && !(every && step.Action == "delete") {
			continue
		}
		did := textOr(step.AddedAgain, tr("rule_plan.delete_and_add_again"), "delete ")
		texts = append(texts, did+step.Prefix)
	}
	return texts
}

type rulePlan struct {
	planFlags
	accountsFlags
	DetailedExitcode bool
}

// Run shows the changes that the command apply would make; it returns an error if the publishes left this month are too few.
func (c *rulePlan) Run(s *session) error {
	plans, err := c.planned(s, c.accountsFlags)
	if err == nil {
		err = c.printPlans(s, plans)
	}
	if err == nil {
		err = checkQuotas(plans)
	}
	return planExit(c.DetailedExitcode, slices.ContainsFunc(plans, func(a *rulesPlan) bool { return len(a.Steps) > 0 }), err)
}

// planExit returns the error of a plan command. With --detailed-exitcode, the exit code distinguishes a failure from a plan with changes.
func planExit(detailed, changes bool, err error) error {
	switch {
	case !detailed:
		return err
	case err != nil:
		return exitError{err, exitFailed}
	case changes:
		return exitError{errReported, exitChanges}
	}
	return nil
}

type ruleApply struct {
	planFlags
	accountsFlags
	confirmFlag
}

// Run shows the plan and executes its steps, up to the first error. The next run continues at the failed step. If a rule was deleted and
// could not be added again, the error explains how to change the file for the next run. The accounts of a folder follow one another.
func (c *ruleApply) Run(s *session) error {
	plans, err := c.planned(s, c.accountsFlags)
	if err != nil {
		return err
	}
	if c.isTable() {
		if err := c.printPlans(s, plans); err != nil {
			return err
		}
	}
	if err := checkQuotas(plans); err != nil {
		return err
	}
	var down []string
	for _, account := range plans {
		down = append(down, account.down(s.inProduction())...)
	}
	if len(down) > 0 {
		key := textOr(s.inProduction(), "rule_plan.removes", "rule_plan.removes_published")
		if err := c.confirmed(s, tr(key)+strings.Join(down, ", ")); err != nil {
			return err
		}
	}
	var applied error
	steps := 0
	for i, account := range plans {
		if applied == nil {
			applied = stopped(plans, i, c.apply(s, account, account.moves))
		}
	}
	for i, account := range plans {
		if applied == nil {
			applied = stopped(plans, i, c.apply(s, account, len(account.Steps)))
		}
		steps += len(account.Steps)
	}
	if c.isJSON() {
		if err := c.printPlans(s, plans); err != nil {
			return err
		}
	} else if applied == nil && steps > 0 {
		printMsg(s.out, "rule_plan.done", counted(steps, "step"))
	}
	return applied
}

// apply executes the first n steps of a plan, except those that are already done, and marks the completed steps. If the account is at its
// limit of rules, apply deletes rules that are not in the file before it adds the next rule.
func (c *ruleApply) apply(s *session, account *rulesPlan, n int) error {
	wire, steps := account.caller, account.Steps
	for i := 0; i < n; i++ {
		step := &steps[i]
		if step.Done {
			continue
		}
		var err error
		switch step.Action {
		case "add":
			err = confirmFailed(s.ctx, c.serverFlags, c.adminFlags, wire.CreateRule(s.ctx, step.Draft))
		case "edit":
			err = wire.UpdateRule(s.ctx, step.Draft)
		case "publish":
			err = wire.PublishRule(s.ctx, step.Prefix)
		case "delete":
			err = wire.DeleteRule(s.ctx, step.Prefix, step.Target)
		}
		if next := slices.IndexFunc(steps[i:], ruleplan.Step.Prunes); err != nil && next > 0 && isRuleLimit(s.ctx, wire, *step, err) {
			prune := steps[i+next]
			copy(steps[i+1:], steps[i:i+next])
			steps[i] = prune
			i--
			continue
		}
		if err != nil {
			next, details := remedy(err)
			return hintError{error: fault("rule_plan.step_of", i+1, len(steps), step.Action, step.Prefix, err), details: details,
				next: strings.TrimPrefix(next.String()+"; "+completedSteps(steps[:i], step.Key()), "; ")}
		}
		step.Done = true
	}
	return nil
}

// isRuleLimit reports whether a step failed because the account has as many rules as it may have.
func isRuleLimit(ctx context.Context, caller ruleCaller, step ruleplan.Step, err error) bool {
	if o, ok := caller.(*operatorRules); ok && step.Action == "add" && isProblem(err, http.StatusUnprocessableEntity) {
		check, unchecked := o.Check(ctx, o.appid, ruleplan.RuleInput(step.Draft), false)
		return unchecked == nil && check.ErrCode == errcode.PrefixLimit.Number
	}
	w, ok := errors.AsType[*client.WireError](err)
	return ok && w.Code == errcode.PrefixLimit.Number
}

// completedSteps lists the completed steps before the step that failed; key is the normalized prefix of this step.
func completedSteps(done []ruleplan.Step, key string) string {
	if len(done) == 0 {
		return tr("rule_plan.nothing_was_done")
	}
	texts := mapped(done, func(step ruleplan.Step) string { return string(step.Action) + " " + step.Prefix })
	var text strings.Builder
	text.WriteString(tr("rule_plan.done_before") + strings.Join(texts, ", "))
	if last := done[len(done)-1]; last.Action == "delete" && last.Key() == key {
		text.WriteString(tr("rule_plan.the_rule_is_gone_until"))
	}
	for _, step := range done {
		if step.Key() == key && step.Lost != "" {
			text.WriteString(tr("rule_plan.what_the_file_does_not") + step.Lost + tr("rule_plan.there_before_you_do_it"))
		}
	}
	return text.String()
}

type rulePull struct {
	member
	accountsFlags
	Dir    string   `arg:"" optional:"" file:"dir"`
	Target []string `placeholder:"APPID"`
}

// Run prints the account's rules in the format of rule plan, or writes a file for each account of a folder. With the credentials of an
// account or a platform, Run uses only the wire API, so it works with the platform too.
func (c *rulePull) Run(s *session) error {
	if c.Dir != "" {
		return c.pullTo(s)
	}
	if c.Component != "" {
		return misused("rule_dir.component_folder")
	}
	wire, err := c.client(s)
	if err != nil {
		return err
	}
	file, err := c.read(s, wire.Wire)
	if err != nil || c.isJSON() {
		return c.print(s, file, err, nil)
	}
	text, err := pulled(file, c.AppID)
	if err == nil {
		_, err = io.WriteString(s.out, text)
	}
	return err
}

// ofAccount returns the words "of account APPID" for a message; "" if the account is not known.
func ofAccount(appid string) string {
	if appid == "" {
		return ""
	}
	return tr("rule_pull.of_account", plain(appid))
}

// errMoving is the error of a list that changed during every attempt to read it.
var errMoving = constant("rule_pull.rules_were_added_or_deleted")

// allRules lists all rules of the account; for a service account, target is the Mini Program that the rules open.
func allRules(s *session, wire client.WireService, target string) (client.RuleList, error) {
	list, err := wire.ListAllRules(s.ctx, target)
	if errors.Is(err, client.ErrRulesChanged) {
		err = errMoving
	}
	return list, err
}

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
	made, err := c.make(s, wire.Wire)
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
		return c.print(s, client.ReplayResult{Changes: []client.OutcomeChange{}}, nil, func(w io.Writer) {
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
func showReplay(w io.Writer, file string, days int, done client.ReplayResult) {
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
