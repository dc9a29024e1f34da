// Package ruleplan computes the steps that bring the rules of an account in line with a rules file, and reads and writes such files.
package ruleplan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// Desired is a rule as a rules file describes it.
type Desired struct {
	Owner       string    `yaml:"owner"`
	Prefix      string    `yaml:"prefix"`
	Path        string    `yaml:"path"`
	AppID       string    `yaml:"appid"`
	Occupy      bool      `yaml:"occupy"`
	OpenVersion *int      `yaml:"open_version"`
	TestLinks   *[]string `yaml:"test_links"` // absent: existing test links are kept
	Published   *bool     `yaml:"published"`  // absent: a stored rule keeps its state, a new rule stays unpublished

	Parsed   rules.Prefix `yaml:"-"`
	Location string       `yaml:"-"` // position of the rule in the rules file, for messages
	Line     int          `yaml:"-"`
}

// Stored is a rule that the account currently has.
type Stored struct {
	client.Rule
	Target string // Mini Program of a service account's rule; "" = unknown
	Parsed rules.Prefix
}

// Step is one API call of a plan.
type Step struct {
	Action string `json:"action"` // one of add, edit, publish and delete
	Prefix string `json:"prefix"`
	Reason string `json:"reason"`
	Done   bool   `json:"done"`
	// TakesOffline reports whether the step takes a published rule offline.
	TakesOffline bool `json:"takes_offline,omitempty"`

	Draft      client.RuleDraft `json:"-"` // add, edit
	Target     string           `json:"-"` // for a delete: the Mini Program of a service account's rule
	AddedAgain bool             `json:"-"` // for a delete: the rule is added again
	Lost       string           `json:"-"` // if AddedAgain is true: settings that are lost, because the rules file does not contain them
}

// Key returns the normalized prefix, which is the same for two prefixes that cannot both have a rule.
func (s Step) Key() string {
	link, _ := rules.ParseLink(s.Prefix)
	return link.Key
}

// Prunes reports whether the step deletes a rule that is not in the rules file.
func (s Step) Prunes() bool { return s.Action == "delete" && !s.AddedAgain }

// Read parses the rules of a file that belong to an owner ("" = any owner). wrong contains the errors of invalid rules; err is set if the
// rules file as a whole cannot be read. target is the Mini Program of service account rules that state no Mini Program.
func Read(file string, text []byte, owner, target string) (wanted []Desired, wrong FileErrors, err error) {
	return read(file, text, owner, target, func(*Desired, *FileErrors) bool { return true })
}

// ReadToApply reads like Read, and also rejects duplicate prefixes and test links that do not match their prefix.
func ReadToApply(file string, text []byte, owner, target string) (wanted []Desired, wrong FileErrors, err error) {
	seen := map[string]int{}
	return read(file, text, owner, target, func(w *Desired, wrong *FileErrors) bool {
		if err := w.checkTestLinks(); err != nil {
			wrong.add(w.Location, "%v", err)
			return false
		}
		if prev, ok := seen[w.Parsed.Key]; ok {
			wrong.add(w.Location, "prefix %s is also on line %d", w.Prefix, prev)
		}
		seen[w.Parsed.Key] = w.Line
		return true
	})
}

// read parses a file like Read, and returns only the rules for which the function keep returns true.
func read(file string, text []byte, owner, target string, keep func(*Desired, *FileErrors) bool) (wanted []Desired, wrong FileErrors,
	err error) {
	n := 0
	exported, err := eachRule(file, text, func(node ruleNode) {
		n++
		w, ok := wrong.rule(node)
		if !ok || node.exported && owner != "" && w.Owner != owner {
			return
		}
		if link, ok := rules.ParseLink(w.Prefix); ok && link.IsService() && w.AppID == "" {
			w.AppID = target // a list of rules from the server omits the AppID
		}
		if err := w.check(owner); err != nil {
			wrong.add(node.location, "%v", err)
			return
		}
		if keep(&w, &wrong) {
			wanted = append(wanted, w)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if len(wanted) == 0 && exported && n > 0 && len(wrong) == 0 {
		return nil, nil, fmt.Errorf("%s has no rule of %s", file, owner)
	}
	return wanted, wrong, nil
}

// FileErrors lists the errors of a file, with their line numbers.
type FileErrors []string

func (f *FileErrors) add(location, format string, args ...any) {
	*f = append(*f, location+": "+fmt.Sprintf(format, args...))
}

// ruleNode is a parsed entry of a rules file with its position.
type ruleNode struct {
	ast.Node
	file, location string
	line           int
	exported       bool // the entry is from an export with one object per line
}

// ruleKeys lists the keys that a rule may have. serverKeys contains the other keys in a list from a server, which are ignored.
var (
	ruleKeys   = []string{"owner", "prefix", "path", "appid", "occupy", "open_version", "test_links", "published"}
	serverKeys = []string{"total", "open", "publishes_left"}
)

// rule parses one rule; ok is false if the rule cannot be parsed.
func (f *FileErrors) rule(node ruleNode) (w Desired, ok bool) {
	entries, isMap := node.Node.(*ast.MappingNode)
	if !isMap {
		f.add(node.location, "want a rule with prefix and path")
		return w, false
	}
	prev := len(*f)
	for _, entry := range entries.Values {
		if name := entry.Key.GetToken().Value; !slices.Contains(ruleKeys, name) {
			line := node.line + entry.Key.GetToken().Position.Line - node.GetToken().Position.Line
			f.add(fmt.Sprintf("%s:%d", node.file, line), "unknown key %q%s", name, suggest.DidYouMean(name, ruleKeys...))
		}
	}
	if err := yaml.NodeToValue(node.Node, &w); err != nil {
		f.add(node.location, "%s", safeyaml.Message(err))
	}
	w.Location, w.Line = node.location, node.line
	return w, len(*f) == prev
}

// eachRule calls visit for each rule of a file. Either the file has the single key "rules", or each line is one object with an owner; in
// the second case exported is true. The file is parsed entry by entry, never as a whole.
func eachRule(file string, text []byte, visit func(ruleNode)) (exported bool, err error) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		first, _, _ := bytes.Cut(trimmed, []byte("\n"))
		switch {
		case json.Valid(first) && !bytes.HasPrefix(bytes.TrimLeft(first[1:], " "), []byte(`"rules"`)):
			return true, eachLine(file, trimmed, visit)
		case json.Valid(trimmed):
			return false, eachOfList(file, text, visit)
		}
	}
	pieces, ok := safeyaml.Pieces(text, "rules")
	if !ok {
		return false, fmt.Errorf("%s: it is too long: want an entry for each rule under rules, all indented alike", file)
	}
	for piece := range pieces {
		if err := eachNode(file, piece, visit); err != nil {
			return false, err
		}
	}
	return false, nil
}

// eachLine implements eachRule for a file with one object per line.
func eachLine(file string, text []byte, visit func(ruleNode)) error {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if !json.Valid(line) {
			return fmt.Errorf("%s:%d: want a JSON object", file, n)
		}
		document, err := safeyaml.Parse(file, line)
		if err != nil {
			return err
		}
		visit(ruleNode{document, file, fmt.Sprintf("%s:%d", file, n), n, true})
	}
	return nil
}

// eachOfList implements eachRule for a JSON list as a server returns it.
func eachOfList(file string, text []byte, visit func(ruleNode)) error {
	line, counted := 1, int64(0)
	d := json.NewDecoder(bytes.NewReader(text))
	fn := func(length int) string { // returns the position of the object that was read last
		begins := d.InputOffset() - int64(length)
		line, counted = line+bytes.Count(text[counted:begins], []byte("\n")), begins
		return fmt.Sprintf("%s:%d", file, line)
	}
	_, err := d.Token() // the brace
	for err == nil && d.More() {
		var name json.Token
		if name, err = d.Token(); err != nil {
			break
		}
		if name != "rules" && !slices.Contains(serverKeys, fmt.Sprint(name)) {
			return fmt.Errorf("%s: unknown key %q: want rules", fn(0), name)
		}
		if name != "rules" {
			var skipped json.RawMessage
			err = d.Decode(&skipped)
			continue
		}
		begins := fn(0)
		open, wrong := d.Token()
		err = wrong
		if open == nil {
			continue // null
		}
		if open != json.Delim('[') {
			return fmt.Errorf("%s: rules: want a list", begins)
		}
		for err == nil && d.More() {
			var raw json.RawMessage
			if err = d.Decode(&raw); err != nil {
				break
			}
			place := fn(len(raw))
			var stored client.StoredRule
			if json.Unmarshal(raw, &stored) == nil && stored.Revision != "" { // from the operator's list
				s, _ := FromAPI(stored) // The check of the rule reports an invalid prefix.
				raw, _ = json.Marshal(struct {
					Owner string `json:"owner"`
					Written
				}{stored.Owner, Write(s.Rule, s.Target)})
			}
			node, wrong := safeyaml.Parse(file, raw)
			if err = wrong; err == nil {
				visit(ruleNode{node, file, place, line, false})
			}
		}
		if err == nil {
			_, err = d.Token() // the bracket
		}
	}
	return err
}

// eachNode implements eachRule for a YAML text.
func eachNode(file string, text []byte, visit func(ruleNode)) error {
	document, err := safeyaml.Parse(file, text)
	if err != nil {
		return err
	}
	top, ok := document.(*ast.MappingNode)
	if !ok {
		return fmt.Errorf("%s: want a list under the key rules", file)
	}
	ofServer := len(text) > 0 && bytes.TrimSpace(text)[0] == '{'
	for _, entry := range top.Values {
		name := entry.Key.GetToken().Value
		if ofServer && slices.Contains(serverKeys, name) {
			continue
		}
		if name != "rules" {
			return fmt.Errorf("%s: unknown key %q: want rules", safeyaml.Location(file, entry.Key), name)
		}
		switch value := entry.Value.(type) {
		case *ast.SequenceNode:
			for _, node := range value.Values {
				visit(ruleNode{node, file, safeyaml.Location(file, node), node.GetToken().Position.Line, false})
			}
		case *ast.NullNode:
		default:
			return fmt.Errorf("%s: rules: want a list", safeyaml.Location(file, entry.Key))
		}
	}
	return nil
}

// check returns an error if the rule is invalid. The server checks every rule again.
func (w *Desired) check(owner string) error {
	link, ok := rules.ParseLink(w.Prefix)
	kind := rules.Ordinary
	if ok && link.IsService() {
		kind = rules.KindService
	}
	var err error
	switch {
	case w.Prefix == "":
		return fmt.Errorf("prefix is missing")
	case w.Path == "":
		return fmt.Errorf("path is missing: name the page that %s opens", w.Prefix)
	case w.Owner != "" && owner != "" && w.Owner != owner:
		return fmt.Errorf("the rule belongs to %s, but the caller is %s: keep one file for each account", w.Owner, owner)
	case kind == rules.KindService && w.AppID == "":
		return fmt.Errorf("appid is missing: name the Mini Program that %s opens", w.Prefix)
	case kind == rules.KindService && (w.Occupy || w.OpenVersion != nil || w.TestLinks != nil):
		return fmt.Errorf("occupy, open_version and test_links are not for a service account's rule")
	case kind == rules.Ordinary && w.AppID != "" && owner != "" && w.AppID != owner:
		return fmt.Errorf("appid: only a service account's rule (http://weixin.qq.com/q/…) opens another Mini Program")
	case w.OpenVersion != nil && (*w.OpenVersion < rules.OpenDevelopment || *w.OpenVersion > rules.OpenRelease):
		return fmt.Errorf("open_version is %d: want 1, 2 or 3", *w.OpenVersion)
	}
	if w.Parsed, err = rules.ParsePrefix(w.Prefix, kind, true); err != nil {
		return err
	}
	if w.TestLinks != nil && len(*w.TestLinks) > rules.MaxTestLinks {
		return fmt.Errorf("%d test links: at most %d", len(*w.TestLinks), rules.MaxTestLinks)
	}
	return nil
}

// checkTestLinks returns an error that names a test link that does not match the prefix.
func (w *Desired) checkTestLinks() error {
	if w.TestLinks == nil {
		return nil
	}
	for _, text := range *w.TestLinks {
		if !w.matches(text) {
			return fmt.Errorf("test link %s does not match the prefix %s", text, w.Prefix)
		}
	}
	return nil
}

// matches reports whether a text is a link that matches the prefix.
func (w *Desired) matches(text string) bool {
	link, ok := rules.ParseLink(text)
	return ok && w.Parsed.Matches(link)
}

func (w *Desired) IsService() bool { return w.Parsed.IsService() }

// Draft returns the rule in the form of an API request.
func (w *Desired) Draft() client.RuleDraft {
	d := client.RuleDraft{Prefix: w.Prefix, Path: w.Path, Occupy: w.Occupy, OpenVersion: client.OpenRelease}
	if w.IsService() {
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

// RuleInput converts a draft to the form in which an operator sets a rule for an account.
func RuleInput(d client.RuleDraft) client.RuleInput {
	r := client.RuleInput{Prefix: d.Prefix, Path: d.Path, AppID: d.AppID, Occupy: d.Occupy}
	if d.AppID == "" {
		r.OpenVersion = int(d.OpenVersion)
		if d.TestLinks != nil {
			links := slices.Clone(d.TestLinks)
			r.TestLinks = &links
		}
	}
	return r
}

func KindOf(r client.Rule) rules.Kind {
	if link, ok := rules.ParseLink(r.Prefix); ok && link.IsService() {
		return rules.KindService
	}
	return rules.Ordinary
}

// Decide returns the plan: first the steps for each rule of the rules file, then the deletions. A rule that must be replaced is
// offline only between two calls.
func Decide(wanted []Desired, have []Stored, prune bool) []Step {
	steps := []Step{}
	stored := map[string]Stored{}
	for _, h := range have {
		stored[h.Parsed.Key] = h
	}
	for _, w := range wanted {
		h, ok := stored[w.Parsed.Key]
		delete(stored, w.Parsed.Key)
		if !ok {
			steps = append(steps, w.added("opens "+w.Path, w.Published != nil && *w.Published)...)
			continue
		}
		steps = append(steps, w.changed(h)...)
	}
	if prune {
		for _, h := range have {
			if _, left := stored[h.Parsed.Key]; left {
				steps = append(steps, Step{Action: "delete", Prefix: h.Prefix, Reason: "it is not in the file", Target: h.Target,
					TakesOffline: h.Published})
			}
		}
	}
	return steps
}

// added returns the steps that create a new rule.
func (w *Desired) added(reason string, publish bool) []Step {
	steps := []Step{{Action: "add", Prefix: w.Prefix, Reason: reason, Draft: w.Draft()}}
	if publish {
		steps = append(steps, Step{Action: "publish", Prefix: w.Prefix, Reason: "every user opens it"})
	}
	return steps
}

// changed returns the steps that bring a stored rule in line with the rules file.
func (w *Desired) changed(h Stored) []Step {
	d := w.Draft()
	publish := h.Published
	if w.Published != nil {
		publish = *w.Published
	}
	differences := w.differences(h)
	if reason := w.replaced(h); reason != "" {
		if unmatched := slices.DeleteFunc(slices.Clone(h.TestLinks), w.matches); w.TestLinks == nil && len(unmatched) > 0 {
			reason += "; " + ("test links that do not match the new prefix are lost: " + strings.Join(unmatched, ", "))
			h.TestLinks = slices.DeleteFunc(slices.Clone(h.TestLinks), func(text string) bool { return !w.matches(text) })
		}
		lost := w.silent(h)
		w.TestLinks = cmp.Or(w.TestLinks, &h.TestLinks) // fields that the rules file omits keep their stored value
		steps := []Step{{Action: "delete", Prefix: h.Prefix, Reason: reason, Target: h.Target, Lost: lost, AddedAgain: true,
			TakesOffline: h.Published}}
		return append(steps, w.added("opens "+w.Path, publish)...)
	}
	var steps []Step
	if len(differences) > 0 {
		d.Prefix = h.Prefix
		steps = append(steps, Step{Action: "edit", Prefix: h.Prefix, Reason: strings.Join(differences, ", "), Draft: d})
	}
	if publish && !h.Published {
		steps = append(steps, Step{Action: "publish", Prefix: h.Prefix, Reason: "every user opens it"})
	}
	return steps
}

// silent returns the fields of a stored rule that are absent from the rules file, so that a deletion of the rule would lose them.
func (w *Desired) silent(h Stored) string {
	var list []string
	if w.Published == nil && h.Published {
		list = append(list, "published: true")
	}
	if w.TestLinks == nil && len(h.TestLinks) > 0 {
		list = append(list, "test_links: ["+strings.Join(h.TestLinks, ", ")+"]")
	}
	return strings.Join(list, ", ")
}

// replaced returns the reason why an edit is not possible and the rule must be replaced; "" = an edit is possible. Contract: rules §1.2.
func (w *Desired) replaced(h Stored) string {
	switch {
	case w.Parsed.Sub != h.Parsed.Sub:
		return "it is " + h.Prefix + " now, and a prefix cannot be changed"
	case !h.Published:
		return ""
	case w.Published != nil && !*w.Published:
		return "a published rule cannot be unpublished: it is deleted and added again"
	case w.IsService() && len(w.differences(h)) > 0:
		return "a published service-account rule cannot be changed: " + strings.Join(w.differences(h), ", ")
	case w.Path != h.Path:
		return fmt.Sprintf("the page of a published rule cannot be changed: %s -> %s", h.Path, w.Path)
	}
	return ""
}

// differences lists the fields that an edit would change.
func (w *Desired) differences(h Stored) []string {
	var list []string
	d := w.Draft()
	say := func(name string, from, to any) {
		if from != to {
			list = append(list, fmt.Sprintf("%s: %v -> %v", name, from, to))
		}
	}
	say("path", h.Path, d.Path)
	if w.IsService() {
		say("appid", cmp.Or(h.Target, "-"), d.AppID)
		return list
	}
	say("occupy", h.Occupy, d.Occupy)
	say("open_version", h.OpenVersion, d.OpenVersion)
	if w.TestLinks != nil && !slices.Equal(h.TestLinks, *w.TestLinks) {
		list = append(list, fmt.Sprintf("test_links: %s -> %s", cmp.Or(strings.Join(h.TestLinks, " "), "-"),
			cmp.Or(strings.Join(*w.TestLinks, " "), "-")))
	}
	return list
}

// Changes returns the steps of a plan as one change per rule: a delete followed by an add becomes one edit.
func Changes(owner string, steps []Step) []client.PlannedRule {
	counts := map[string]int{}
	changes := []client.PlannedRule{}
	for _, step := range steps {
		i, known := counts[step.Key()]
		if !known {
			i = len(changes)
			counts[step.Key()] = i
			changes = append(changes, client.PlannedRule{Owner: owner, Prefix: step.Prefix})
		}
		change := &changes[i]
		switch step.Action {
		case "delete":
			change.Action = client.PlanDelete
		case "publish":
			change.Action = cmp.Or(change.Action, client.PlanPublish)
			change.Published = new(true)
		case "add", "edit":
			previous := change.Action
			change.Action = client.PlanAdd
			if previous == client.PlanDelete || step.Action == "edit" {
				change.Action = client.PlanEdit
			}
			change.Path, change.AppID = step.Draft.Path, step.Draft.AppID
			change.Occupy, change.OpenVersion = step.Draft.Occupy, int(step.Draft.OpenVersion)
			change.Prefix = step.Prefix // a rule that is deleted and added again may have a different ending of its prefix
			if step.Action == "add" {
				change.Published = new(false) // set to true if a publish step follows
			}
		}
	}
	return changes
}

// File is the content of a rules file that Read can parse.
type File struct {
	Rules []Written `yaml:"rules" json:"rules"`
}

// Written is a rule in the format of a rules file. Written contains all fields, so that the plan for an unchanged file has no steps.
type Written struct {
	Prefix      string    `yaml:"prefix" json:"prefix"`
	Path        string    `yaml:"path" json:"path"`
	AppID       string    `yaml:"appid,omitempty" json:"appid,omitempty"`
	Occupy      *bool     `yaml:"occupy,omitempty" json:"occupy,omitempty"`
	OpenVersion *int      `yaml:"open_version,omitempty" json:"open_version,omitempty"`
	TestLinks   *[]string `yaml:"test_links,omitempty" json:"test_links,omitempty"`
	Published   bool      `yaml:"published" json:"published"`
}

// Write converts a rule to the format of a rules file; target is the Mini Program that a rule of a service account opens.
func Write(r client.Rule, target string) Written {
	w := Written{Prefix: r.Prefix, Path: r.Path, Published: r.Published}
	if KindOf(r) == rules.KindService {
		w.AppID = target
		return w
	}
	links := append([]string{}, r.TestLinks...)
	w.Occupy, w.OpenVersion, w.TestLinks = new(r.Occupy), new(int(r.OpenVersion)), &links
	return w
}

// Text returns the rules file as YAML.
func (f File) Text() ([]byte, error) { return safeyaml.Marshal(f) }

// FromAPI converts a rule of the API to the form that Decide compares.
func FromAPI(r client.StoredRule) (Stored, error) {
	s := Stored{Rule: client.Rule{Prefix: r.Prefix, Path: r.Path, Published: r.Published, Occupy: r.Occupy,
		OpenVersion: client.OpenVersion(r.OpenVersion), TestLinks: r.TestLinks}}
	if KindOf(s.Rule) == rules.KindService {
		s.Target = r.Target
	}
	var err error
	s.Parsed, err = rules.ParsePrefix(r.Prefix, KindOf(s.Rule), true)
	return s, err
}
