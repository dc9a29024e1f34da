package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// planFlags are the common flags of plan and apply.
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
	Publishes     int             `json:"publishes"`      // how many the steps spend
	PublishesLeft int             `json:"publishes_left"` // before them, this month
	Rules         int             `json:"rules"`          // in the file
}

// readWanted reads the file and says with their lines all that cannot be.
func (p *planFlags) readWanted() ([]ruleplan.Wanted, error) {
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

// faultsOf is one error for all faults of a file.
func faultsOf(file string, f ruleplan.Faults) error {
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

// stored lists what the account has, by the key of the prefix. A list of the
// wire does not say what a service account's rules open, so each Mini Program
// of the file is asked for.
func (p *planFlags) stored(s *session, wire *client.Client, wanted []ruleplan.Wanted) (have []ruleplan.Stored, left int, err error) {
	index := map[string]int{}
	take := func(target string) error {
		list, err := wire.Wire.ListAllRules(s.ctx, target)
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
				return nil, 0, failed(said("rule_plan.rules_that_open"), w.AppID, err)
			}
		}
	}
	return have, left, nil
}

// make reads the file, asks the server and decides.
func (p *planFlags) make(s *session) (plan, *client.Client, error) {
	wanted, err := p.readWanted()
	if err != nil {
		return plan{}, nil, err
	}
	wire, err := p.client(s)
	if err != nil {
		return plan{}, nil, err
	}
	have, left, err := p.stored(s, wire, wanted)
	if err != nil {
		return plan{}, nil, fault("rule.list_rules", err)
	}
	made := plan{Steps: ruleplan.Decide(wanted, have, p.Prune), PublishesLeft: left, Rules: len(wanted)}
	for _, step := range made.Steps {
		if step.Do == "publish" {
			made.Publishes++
		}
		if link, ok := rules.ParseLink(step.Prefix); step.Do == "delete" && ok && link.IsService() && step.Target == "" {
			// The wire neither lists what it opens nor deletes it without.
			return plan{}, nil, hintError{error: fault("rule_plan.delete_nobody_says_which_mini", step.Prefix),
				next: said("rule_plan.delete_it_with_qrjump_rule") + shellWord(step.Prefix) + said("rule_plan.target_appid")}
		}
	}
	return made, wire, nil
}

// Steps are marked by what they do to the rules that are there.
var marks = map[string]string{"add": "+", "edit": "~", "publish": "^", "delete": "-"}

// colours of a terminal for each mark: green, yellow, cyan, red.
var colours = map[string]string{"+": "32", "~": "33", "^": "36", "-": "31"}

// shownSteps is the number of steps of a long plan that are shown without --all.
const shownSteps = 50

// show prints the plan for people.
func (p plan) show(w io.Writer, all bool) {
	if len(p.Steps) == 0 {
		tell(w, "rule_plan.nothing_to_do_as_the", counted(p.Rules, "rule"),
			counted(p.PublishesLeft, "publish"))
		return
	}
	rows := [][]string{}
	counts := map[string]int{}
	for _, step := range p.Steps {
		counts[step.Do]++
		if all || len(rows) < shownSteps {
			rows = append(rows, []string{marks[step.Do], maybeSaid("did."+step.Do, step.Do), step.Prefix,
				inReader(errors.New(step.Why)).Error()})
		}
	}
	var table strings.Builder
	printTable(&table, []string{"", "DO", "PREFIX", "WHY"}, rows)
	coloured := onTerminal(w)
	for line := range strings.Lines(table.String()) {
		if colour := colours[line[:1]]; coloured && colour != "" {
			line = "\x1b[" + colour + "m" + strings.TrimSuffix(line, "\n") + "\x1b[0m\n"
		}
		io.WriteString(w, line)
	}
	if left := len(p.Steps) - len(rows); left > 0 {
		tell(w, "rule_plan.and_more_all", left)
	}
	var parts []string
	for _, do := range []string{"add", "edit", "delete"} {
		if counts[do] > 0 {
			parts = append(parts, counted(counts[do], do))
		}
	}
	parts = append(parts, said("rule_plan.needs_left_this_month", counted(p.Publishes, "publish"), p.PublishesLeft))
	fmt.Fprintln(w, strings.Join(parts, ", "))
}

// affordable returns an error where the steps need more publishes than are left
// this month. A service account's may be unlimited while a number is shown.
func (p plan) affordable(file string) error {
	ordinary := !slices.ContainsFunc(p.Steps, func(step ruleplan.Step) bool { return step.Draft.AppID != "" || step.Target != "" })
	if ordinary && p.Publishes > p.PublishesLeft {
		return fault("rule_plan.wanted_left_this_month_nothing", file, counted(p.Publishes, "publish"), p.PublishesLeft)
	}
	return nil
}

// down says which live rules the steps take down: "" = none.
func (p plan) down() string {
	var texts []string
	for _, step := range p.Steps {
		if !step.Live {
			continue
		}
		did := "delete "
		if step.AddedAgain {
			did = said("rule_plan.delete_and_add_again")
		}
		texts = append(texts, did+step.Prefix)
	}
	return strings.Join(texts, ", ")
}

type rulePlan struct {
	planFlags
	DetailedExitcode bool
}

// Run shows what apply would do; it fails where apply would do nothing because
// of the month's publishes.
func (c *rulePlan) Run(s *session) error {
	made, _, err := c.make(s)
	if err == nil {
		err = c.print(s, made, func(w io.Writer) { made.show(w, c.All) })
	}
	if err == nil {
		err = made.affordable(c.File)
	}
	switch {
	case !c.DetailedExitcode:
		return err
	case err != nil:
		return exitError{err, exitFailed}
	case len(made.Steps) > 0:
		return exitError{errSaid, exitChanges}
	}
	return nil
}

type ruleApply struct {
	planFlags
	adminFlags
	ending
}

// Run shows the plan and does it, up to the first error. Doing it again goes
// on where it stopped, with what the file says: of a rule that was deleted to be
// added again the error tells what the file must say for that.
func (c *ruleApply) Run(s *session) error {
	made, wire, err := c.make(s)
	if err != nil {
		return err
	}
	if c.isTable() {
		made.show(s.out, c.All)
	}
	if err := made.affordable(c.File); err != nil {
		return err
	}
	if down := made.down(); down != "" {
		if err := c.confirmed(s, said("rule_plan.this_takes_live_rules_down")+down); err != nil {
			return err
		}
	}
	applied := c.apply(s, wire, made.Steps)
	if c.isJSON() {
		if err := c.print(s, made, nil); err != nil {
			return err
		}
	} else if applied == nil && len(made.Steps) > 0 {
		tell(s.out, "rule_plan.done", counted(len(made.Steps), "step"))
	}
	return applied
}

// apply does the steps in order and marks those that are done.
func (c *ruleApply) apply(s *session, wire *client.Client, steps []ruleplan.Step) error {
	for i := range steps {
		step := &steps[i]
		var err error
		switch step.Do {
		case "add":
			err = confirmFailed(s.ctx, c.serverFlags, c.adminFlags, wire.Wire.CreateRule(s.ctx, step.Draft))
		case "edit":
			err = wire.Wire.UpdateRule(s.ctx, step.Draft)
		case "publish":
			err = wire.Wire.PublishRule(s.ctx, step.Prefix)
		case "delete":
			err = wire.Wire.DeleteRule(s.ctx, step.Prefix, step.Target)
		}
		if err != nil {
			next, details := remedy(err)
			return hintError{error: fault("rule_plan.step_of", i+1, len(steps), step.Do, step.Prefix, err), details: details,
				next: strings.TrimPrefix(next.String()+"; "+soFar(steps[:i], step.Prefix), "; ")}
		}
		step.Done = true
	}
	return nil
}

// soFar says what was done before a step failed.
func soFar(done []ruleplan.Step, prefix string) string {
	if len(done) == 0 {
		return said("rule_plan.nothing_was_done")
	}
	var texts []string
	for _, step := range done {
		texts = append(texts, step.Do+" "+step.Prefix)
	}
	var text strings.Builder
	text.WriteString(said("rule_plan.done_before") + strings.Join(texts, ", "))
	if last := done[len(done)-1]; last.Do == "delete" && last.Prefix == prefix {
		text.WriteString(said("rule_plan.the_rule_is_gone_until"))
	}
	for _, step := range done {
		if step.Prefix == prefix && step.Lost != "" {
			text.WriteString(said("rule_plan.what_the_file_does_not") + step.Lost + said("rule_plan.there_before_you_do_it"))
		}
	}
	return text.String()
}
