package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/rules"
	"github.com/qrjump/qrjump/internal/spelling"
)

// planFlags are what plan and apply share.
type planFlags struct {
	member
	File   string `arg:"" help:"YAML file with a list of rules: prefix, path, occupy, open_version, test_links, published; appid for a service account. Also what rule list --json and rule export write: of that the rules of --appid."`
	Prune  bool   `help:"Delete the account's rules that are not in the file."`
	Target string `placeholder:"APPID" help:"Of a service account: look only at rules that open this Mini Program."`
	All    bool   `help:"Show every step, however many there are."`
}

// wantedRule is a rule as the file says it.
type wantedRule struct {
	Owner       string    `yaml:"owner"`
	Prefix      string    `yaml:"prefix"`
	Path        string    `yaml:"path"`
	AppID       string    `yaml:"appid"`
	Occupy      bool      `yaml:"occupy"`
	OpenVersion *int      `yaml:"open_version"`
	TestLinks   *[]string `yaml:"test_links"` // absent: those that are there stay
	Published   *bool     `yaml:"published"`  // absent: as it is, a new rule unpublished

	parsed rules.Prefix
	at     string // where it is, for people
	line   int
}

// storedRule is a rule that the account has.
type storedRule struct {
	client.Rule
	target string // of a service account's rule; "" = not known
	parsed rules.Prefix
}

// step is one call that a plan makes.
type step struct {
	Do     string `json:"do"` // add, edit, publish or delete
	Prefix string `json:"prefix"`
	Why    string `json:"why"`
	Done   bool   `json:"done"`
	// Live says that the step takes a published rule down.
	Live bool `json:"live,omitempty"`

	draft  client.RuleDraft // add, edit
	target string           // delete: of a service account's rule
	again  bool             // delete: the rule is added again
	lost   string           // delete, of a rule that is added again: what only the server knew of it
}

// plan is what makes the account's rules what the file says.
type plan struct {
	Steps         []step `json:"steps"`
	Publishes     int    `json:"publishes"`      // how many the steps spend
	PublishesLeft int    `json:"publishes_left"` // before them, this month
	Rules         int    `json:"rules"`          // in the file
}

// readWanted reads the file and says with their lines all that cannot be.
func (p *planFlags) readWanted() ([]wantedRule, error) {
	seen := map[string]int{}
	wanted, wrong, err := readRules(p.File, p.AppID, p.Target, func(w *wantedRule, wrong *faults) bool {
		if err := w.checkTestLinks(); err != nil {
			wrong.add(w.at, "%v", err)
			return false
		}
		if before, ok := seen[w.parsed.Key]; ok {
			wrong.add(w.at, "prefix %s is also on line %d", w.Prefix, before)
		}
		seen[w.parsed.Key] = w.line
		return true
	})
	if err != nil {
		return nil, err
	}
	return wanted, wrong.err(p.File)
}

// readRules reads the rules of a file that --appid and --target name, of them
// those that are kept, with what is wrong with the others.
func readRules(file, appid, target string, keep func(*wantedRule, *faults) bool) (wanted []wantedRule, wrong faults, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, misused("%v", err)
	}
	list, exported, err := ruleNodes(file, text)
	if err != nil {
		return nil, nil, err
	}
	for _, one := range list {
		w, ok := wrong.rule(one)
		if !ok || exported && appid != "" && w.Owner != appid {
			continue
		}
		if link, ok := rules.ParseLink(w.Prefix); ok && link.IsService() && w.AppID == "" {
			w.AppID = target // a list of the wire does not say it
		}
		if err := w.check(appid); err != nil {
			wrong.add(one.at, "%v", err)
			continue
		}
		if keep(&w, &wrong) {
			wanted = append(wanted, w)
		}
	}
	if len(wanted) == 0 && exported && len(list) > 0 && len(wrong) == 0 {
		return nil, nil, misused("%s has no rule of %s", file, appid)
	}
	return wanted, wrong, nil
}

// faults are what is wrong with a file, with their lines.
type faults []string

func (f *faults) add(at, format string, args ...any) {
	*f = append(*f, at+": "+fmt.Sprintf(format, args...))
}

// err is one error for all faults.
func (f faults) err(file string) error {
	switch len(f) {
	case 0:
		return nil
	case 1:
		return misuse(f[0])
	}
	return advised{error: misused("%s: %s; nothing was done", file, counted(len(f), "fault")), details: f}
}

// ruleNode is an entry of the file with its place.
type ruleNode struct {
	ast.Node
	file, at string
	line     int
}

// ruleKeys are the keys that a file may have, and those that only lists of a server
// have and that decide nothing.
var (
	ruleKeys   = []string{"owner", "prefix", "path", "appid", "occupy", "open_version", "test_links", "published"}
	serverKeys = []string{"total", "open", "publishes_left"}
)

// rule reads one rule; false where it cannot be read.
func (f *faults) rule(one ruleNode) (w wantedRule, ok bool) {
	entries, isMap := one.Node.(*ast.MappingNode)
	if !isMap {
		f.add(one.at, "want a rule with prefix and path")
		return w, false
	}
	before := len(*f)
	for _, entry := range entries.Values {
		if name := entry.Key.GetToken().Value; !slices.Contains(ruleKeys, name) {
			line := one.line + entry.Key.GetToken().Position.Line - one.GetToken().Position.Line
			f.add(fmt.Sprintf("%s:%d", one.file, line), "unknown key %q%s", name, spelling.DidYouMean(name, ruleKeys...))
		}
	}
	if err := yaml.NodeToValue(one.Node, &w); err != nil {
		f.add(one.at, "%s", yamlMessage(err))
	}
	w.at, w.line = one.at, one.line
	return w, len(*f) == before
}

// ruleNodes are the entries of the file's one key, rules, or the objects of a file
// with one a line; exported says that it is the latter, where each names its owner.
func ruleNodes(file string, text []byte) (list []ruleNode, exported bool, err error) {
	if lines := bytes.Split(bytes.TrimSpace(text), []byte("\n")); len(lines[0]) > 0 && lines[0][0] == '{' && json.Valid(lines[0]) &&
		!bytes.HasPrefix(bytes.TrimLeft(lines[0][1:], " "), []byte(`"rules"`)) {
		for i, line := range lines {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if !json.Valid(line) {
				return nil, true, misused("%s:%d: want a JSON object", file, i+1)
			}
			document, err := parseYAML(file, line)
			if err != nil {
				return nil, true, err
			}
			list = append(list, ruleNode{document, file, fmt.Sprintf("%s:%d", file, i+1), i + 1})
		}
		return list, true, nil
	}
	document, err := parseYAML(file, text)
	if err != nil {
		return nil, false, err
	}
	top, ok := document.(*ast.MappingNode)
	if !ok {
		return nil, false, misused("%s: want a list under the key rules", file)
	}
	ofServer := len(text) > 0 && bytes.TrimSpace(text)[0] == '{'
	for _, entry := range top.Values {
		name := entry.Key.GetToken().Value
		if ofServer && slices.Contains(serverKeys, name) {
			continue
		}
		if name != "rules" {
			return nil, false, misused("%s: unknown key %q: want rules", at(file, entry.Key), name)
		}
		switch value := entry.Value.(type) {
		case *ast.SequenceNode:
			for _, node := range value.Values {
				list = append(list, ruleNode{node, file, at(file, node), node.GetToken().Position.Line})
			}
		case *ast.NullNode:
		default:
			return nil, false, misused("%s: rules: want a list", at(file, entry.Key))
		}
	}
	return list, false, nil
}

// check says what cannot be of one rule. The server judges again.
func (w *wantedRule) check(owner string) error {
	link, ok := rules.ParseLink(w.Prefix)
	kind := rules.Ordinary
	if ok && link.IsService() {
		kind = rules.Service
	}
	var err error
	switch {
	case w.Prefix == "":
		return fmt.Errorf("prefix is missing")
	case w.Path == "":
		return fmt.Errorf("path is missing: name the page that %s opens", w.Prefix)
	case w.Owner != "" && owner != "" && w.Owner != owner:
		return fmt.Errorf("the rule is of %s, but %s calls: keep one file for each account", w.Owner, owner)
	case kind == rules.Service && w.AppID == "":
		return fmt.Errorf("appid is missing: name the Mini Program that %s opens", w.Prefix)
	case kind == rules.Service && (w.Occupy || w.OpenVersion != nil || w.TestLinks != nil):
		return fmt.Errorf("occupy, open_version and test_links are not for a service account's rule")
	case kind == rules.Ordinary && w.AppID != "" && owner != "" && w.AppID != owner:
		return fmt.Errorf("appid: only a service account's rule (http://weixin.qq.com/q/…) opens another Mini Program")
	case w.OpenVersion != nil && (*w.OpenVersion < rules.OpenDevelopment || *w.OpenVersion > rules.OpenRelease):
		return fmt.Errorf("open_version is %d: want 1, 2 or 3", *w.OpenVersion)
	}
	if w.parsed, err = rules.ParsePrefix(w.Prefix, kind, true); err != nil {
		return err
	}
	if w.TestLinks != nil && len(*w.TestLinks) > rules.MaxTestLinks {
		return fmt.Errorf("%d test links: at most %d", len(*w.TestLinks), rules.MaxTestLinks)
	}
	return nil
}

// checkTestLinks says which test link does not match.
func (w *wantedRule) checkTestLinks() error {
	if w.TestLinks == nil {
		return nil
	}
	for _, text := range *w.TestLinks {
		if link, ok := rules.ParseLink(text); !ok || !w.parsed.Matches(link) {
			return fmt.Errorf("test link %s does not match the prefix %s", text, w.Prefix)
		}
	}
	return nil
}

func (w *wantedRule) isService() bool { return w.parsed.IsService() }

// draft is the rule as the wire wants it.
func (w *wantedRule) draft() client.RuleDraft {
	d := client.RuleDraft{Prefix: w.Prefix, Path: w.Path, Occupy: w.Occupy, OpenVersion: client.OpenRelease}
	if w.isService() {
		d.AppID = w.AppID
	}
	if w.OpenVersion != nil {
		d.OpenVersion = client.OpenVersion(*w.OpenVersion)
	}
	if w.TestLinks != nil {
		d.TestLinks = *w.TestLinks
	}
	return d
}

// stored lists what the account has, by the key of the prefix. A list of the
// wire does not say what a service account's rules open, so each Mini Program
// of the file is asked for.
func (p *planFlags) stored(s *session, wire *client.Client, wanted []wantedRule) (have []storedRule, left int, err error) {
	index := map[string]int{}
	take := func(target string) error {
		list, err := wire.AllRules(s.ctx, target)
		if err != nil {
			return err
		}
		left = list.PublishesLeft
		for _, r := range list.Rules {
			parsed, err := rules.ParsePrefix(r.Prefix, kindOf(r), true)
			if err != nil {
				return fmt.Errorf("the server lists a rule that is none: %w", err)
			}
			i, ok := index[parsed.Key]
			if !ok {
				i = len(have)
				index[parsed.Key] = i
				have = append(have, storedRule{Rule: r, parsed: parsed})
			}
			have[i].target = target
		}
		return nil
	}
	if err := take(p.Target); err != nil || p.Target != "" {
		return have, left, err
	}
	asked := map[string]bool{}
	for _, w := range wanted {
		if w.isService() && !asked[w.AppID] {
			asked[w.AppID] = true
			if err := take(w.AppID); err != nil {
				return nil, 0, failed("rules that open", w.AppID, err)
			}
		}
	}
	return have, left, nil
}

func kindOf(r client.Rule) rules.Kind {
	if link, ok := rules.ParseLink(r.Prefix); ok && link.IsService() {
		return rules.Service
	}
	return rules.Ordinary
}

// decide is the plan: for each rule of the file what must be done, then what
// must go. A rule that must be replaced is down between two calls only.
func decide(wanted []wantedRule, have []storedRule, prune bool) []step {
	steps := []step{}
	stored := map[string]storedRule{}
	for _, h := range have {
		stored[h.parsed.Key] = h
	}
	for _, w := range wanted {
		h, ok := stored[w.parsed.Key]
		delete(stored, w.parsed.Key)
		if !ok {
			steps = append(steps, w.added("opens "+w.Path, w.Published != nil && *w.Published)...)
			continue
		}
		steps = append(steps, w.changed(h)...)
	}
	if prune {
		for _, h := range have {
			if _, left := stored[h.parsed.Key]; left {
				steps = append(steps, step{Do: "delete", Prefix: h.Prefix, Why: "it is not in the file", target: h.target,
					Live: h.Published})
			}
		}
	}
	return steps
}

// added are the steps that make a new rule.
func (w *wantedRule) added(why string, publish bool) []step {
	steps := []step{{Do: "add", Prefix: w.Prefix, Why: why, draft: w.draft()}}
	if publish {
		steps = append(steps, step{Do: "publish", Prefix: w.Prefix, Why: "everybody opens it"})
	}
	return steps
}

// changed are the steps that make a rule of the account what the file says.
func (w *wantedRule) changed(h storedRule) []step {
	d := w.draft()
	publish := h.Published
	if w.Published != nil {
		publish = *w.Published
	}
	differences := w.differences(h)
	if why := w.replaced(h); why != "" {
		lost := w.silent(h)
		if w.TestLinks == nil {
			w.TestLinks = &h.TestLinks // what the file does not name stays
		}
		steps := []step{{Do: "delete", Prefix: h.Prefix, Why: why, target: h.target, lost: lost, again: true, Live: h.Published}}
		return append(steps, w.added("opens "+w.Path, publish)...)
	}
	var steps []step
	if len(differences) > 0 {
		d.Prefix = h.Prefix
		steps = append(steps, step{Do: "edit", Prefix: h.Prefix, Why: strings.Join(differences, ", "), draft: d})
	}
	if publish && !h.Published {
		steps = append(steps, step{Do: "publish", Prefix: h.Prefix, Why: "everybody opens it"})
	}
	return steps
}

// silent is what a rule has that the file does not say: once the rule is
// deleted, nobody knows it any more.
func (w *wantedRule) silent(h storedRule) string {
	var list []string
	if w.Published == nil && h.Published {
		list = append(list, "published: true")
	}
	if w.TestLinks == nil && len(h.TestLinks) > 0 {
		list = append(list, "test_links: ["+strings.Join(h.TestLinks, ", ")+"]")
	}
	return strings.Join(list, ", ")
}

// replaced says why an edit cannot do it. Contract: rules 1.2.
func (w *wantedRule) replaced(h storedRule) string {
	switch {
	case w.parsed.Sub != h.parsed.Sub:
		return "it is " + h.Prefix + " now, and a prefix cannot change"
	case !h.Published:
		return ""
	case w.Published != nil && !*w.Published:
		return "a published rule cannot be taken back: it is added again"
	case w.isService() && len(w.differences(h)) > 0:
		return "a published service-account rule cannot change: " + strings.Join(w.differences(h), ", ")
	case w.Path != h.Path:
		return fmt.Sprintf("the page of a published rule cannot change: %s -> %s", h.Path, w.Path)
	}
	return ""
}

// differences lists what an edit would change.
func (w *wantedRule) differences(h storedRule) []string {
	var list []string
	d := w.draft()
	say := func(name string, from, to any) {
		if from != to {
			list = append(list, fmt.Sprintf("%s: %v -> %v", name, from, to))
		}
	}
	say("path", h.Path, d.Path)
	if w.isService() {
		say("appid", orDash(h.target), d.AppID)
		return list
	}
	say("occupy", h.Occupy, d.Occupy)
	say("open_version", h.OpenVersion, d.OpenVersion)
	if w.TestLinks != nil && !slices.Equal(h.TestLinks, *w.TestLinks) {
		list = append(list, fmt.Sprintf("test_links: %s -> %s", orDash(strings.Join(h.TestLinks, " ")),
			orDash(strings.Join(*w.TestLinks, " "))))
	}
	return list
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
		return plan{}, nil, fmt.Errorf("list rules: %w", err)
	}
	made := plan{Steps: decide(wanted, have, p.Prune), PublishesLeft: left, Rules: len(wanted)}
	for _, step := range made.Steps {
		if step.Do == "publish" {
			made.Publishes++
		}
		if link, ok := rules.ParseLink(step.Prefix); step.Do == "delete" && ok && link.IsService() && step.target == "" {
			// The wire neither lists what it opens nor deletes it without.
			return plan{}, nil, advised{error: fmt.Errorf("delete %s: nobody says which Mini Program it opens", step.Prefix),
				next: "delete it with: qrjump rule delete " + step.Prefix + " --target APPID"}
		}
	}
	return made, wire, nil
}

// Steps are marked by what they do to the rules that are there.
var marks = map[string]string{"add": "+", "edit": "~", "publish": "^", "delete": "-"}

// colours of a terminal for each mark: green, yellow, cyan, red.
var colours = map[string]string{"+": "32", "~": "33", "^": "36", "-": "31"}

// shownSteps is how many steps of a long plan are shown without --all.
const shownSteps = 50

// show prints the plan for people.
func (p plan) show(w io.Writer, all bool) {
	if len(p.Steps) == 0 {
		fmt.Fprintf(w, "nothing to do: %s as the file says, %s left this month\n", counted(p.Rules, "rule"),
			counted(p.PublishesLeft, "publish"))
		return
	}
	rows := [][]string{}
	counts := map[string]int{}
	for _, step := range p.Steps {
		counts[step.Do]++
		if all || len(rows) < shownSteps {
			rows = append(rows, []string{marks[step.Do], step.Do, step.Prefix, step.Why})
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
		fmt.Fprintf(w, "… and %d more: --all\n", left)
	}
	var parts []string
	for _, do := range []string{"add", "edit", "delete"} {
		if counts[do] > 0 {
			parts = append(parts, counted(counts[do], do))
		}
	}
	parts = append(parts, fmt.Sprintf("%d of %s left this month", p.Publishes, counted(p.PublishesLeft, "publish")))
	fmt.Fprintln(w, strings.Join(parts, ", "))
}

// affordable returns an error where the steps need more publishes than are left
// this month. A service account's may be unlimited while a number is shown.
func (p plan) affordable(file string) error {
	ordinary := !slices.ContainsFunc(p.Steps, func(one step) bool { return one.draft.AppID != "" || one.target != "" })
	if ordinary && p.Publishes > p.PublishesLeft {
		return fmt.Errorf("%s: %s wanted, %d left this month: nothing was done", file, counted(p.Publishes, "publish"), p.PublishesLeft)
	}
	return nil
}

// down says which live rules the steps take down: "" = none.
func (p plan) down() string {
	var texts []string
	for _, one := range p.Steps {
		if !one.Live {
			continue
		}
		did := "delete "
		if one.again {
			did = "delete and add again "
		}
		texts = append(texts, did+one.Prefix)
	}
	return strings.Join(texts, ", ")
}

type rulePlan struct {
	planFlags
	DetailedExitcode bool `help:"Exit with 2 where there is something to do, 0 where there is nothing and 1 after any error."`
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
		return coded{err, exitFailed}
	case len(made.Steps) > 0:
		return coded{errSaid, exitChanges}
	}
	return nil
}

type ruleApply struct {
	planFlags
	adminFlags
	Yes bool `help:"Yes, take live rules down, for good or to add them again."`
}

// Run shows the plan and does it, up to the first error. Doing it again goes
// on where it stopped, with what the file says: of a rule that was deleted to be
// added again the error tells what the file must say for that.
func (c *ruleApply) Run(s *session) error {
	made, wire, err := c.make(s)
	if err != nil {
		return err
	}
	if !c.JSON {
		made.show(s.out, c.All)
	}
	if err := made.affordable(c.File); err != nil {
		return err
	}
	if down := made.down(); down != "" && !c.Yes {
		if err := agreed(s, "this takes live rules down: "+down, "say --yes as well"); err != nil {
			return err
		}
	}
	applied := c.apply(s, wire, made.Steps)
	if c.JSON {
		if err := c.print(s, made, nil); err != nil {
			return err
		}
	} else if applied == nil && len(made.Steps) > 0 {
		fmt.Fprintf(s.out, "done: %s\n", counted(len(made.Steps), "step"))
	}
	return applied
}

// apply does the steps in order and marks those that are done.
func (c *ruleApply) apply(s *session, wire *client.Client, steps []step) error {
	for i := range steps {
		one := &steps[i]
		var err error
		switch one.Do {
		case "add":
			err = confirmFailed(s.ctx, c.serverFlags, c.adminFlags, wire.AddRule(s.ctx, one.draft))
		case "edit":
			err = wire.EditRule(s.ctx, one.draft)
		case "publish":
			err = wire.PublishRule(s.ctx, one.Prefix)
		case "delete":
			err = wire.DeleteRule(s.ctx, one.Prefix, one.target)
		}
		if err != nil {
			next, details := remedy(err)
			next = strings.TrimPrefix(next+"; "+soFar(steps[:i], one.Prefix), "; ")
			return advised{error: fmt.Errorf("step %d of %d, %s %s: %w", i+1, len(steps), one.Do, one.Prefix, err), next: next,
				details: details}
		}
		one.Done = true
	}
	return nil
}

// soFar says what was done before a step failed.
func soFar(done []step, prefix string) string {
	if len(done) == 0 {
		return "nothing was done"
	}
	var texts []string
	for _, one := range done {
		texts = append(texts, one.Do+" "+one.Prefix)
	}
	var text strings.Builder
	text.WriteString("done before: " + strings.Join(texts, ", "))
	if last := done[len(done)-1]; last.Do == "delete" && last.Prefix == prefix {
		text.WriteString("; the rule is gone until it is added again")
	}
	for _, one := range done {
		if one.Prefix == prefix && one.lost != "" {
			text.WriteString("; what the file does not say of the rule is lost: write " + one.lost + " there before you do it again")
		}
	}
	return text.String()
}
