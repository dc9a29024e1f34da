package console

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// The page of a rule: what it is, its code to print, who scans it and how it became so.

// ruleView is the data of one prefix's page.
type ruleView struct {
	Owner, Prefix string
	Rule          *client.StoredRule
	Left          string
	Picture       template.URL // of the prefix as a QR code; "" = it is too long for a screen
	Codes         []ruleCode   // the sizes in which it can be printed
	Scans         *ruleScans   // nil = the visitor's role sees none
	History       []client.RuleChange
	Occupiers     []client.StoredRule
	Check         *client.RuleCheck
	Link, Wrong   string // what the form of the code has, and what is wrong with it
	Asks          string // publish, delete or undo, which waits for a yes
	Seq           int64  // of the change that would be undone
	Foreseen      *impact
	Released      *client.Released
}

// ruleScans are the scans of a rule by day.
type ruleScans struct {
	Sum          int64
	Chart        chart
	All, Nothing string // the addresses of all statistics of the rule, and of what opened nothing near it
}

// ruleDays is the number of days of scans on the page of a rule.
const ruleDays = "30"

// showRule shows one prefix, with what was just found out about it.
func (pages rulePages) showRule(v *request, status int, data ruleView) {
	ctx := v.ctx()
	localRules, err := v.api.Rules.List(ctx, client.StoredRuleQuery{Owner: data.Owner, Prefix: data.Prefix, Limit: 1})
	if v.failed(err) {
		return
	}
	if len(localRules) > 0 {
		data.Rule = &localRules[0]
		data.Owner, data.Left = data.Rule.Owner, v.left(data.Rule.Owner)
		data.Link = cmp.Or(data.Link, data.Prefix)
		if grid, err := symbol.Readable(data.Prefix); err == nil { // it may be too long for a code
			data.Codes = ruleCodes(grid)
			if len(data.Prefix) <= symbol.MostOnScreen {
				picture, _ := grid.Address()
				data.Picture = template.URL(picture)
			}
		}
		if v.failed(storeResult(&data.Scans)(pages.scansOf(v, *data.Rule))) {
			return
		}
	}
	if v.failed(storeResult(&data.History)(v.api.Rules.ListChanges(ctx, data.Prefix))) ||
		v.failed(storeResult(&data.Occupiers)(v.api.Rules.ListConflicts(ctx, data.Prefix))) {
		return
	}
	v.show(status, "rule", data)
}

// impact is the effect that a change would have had on scans of the last days.
type impact struct {
	client.Replayed
	Days    int
	Unknown bool // this server keeps no log of scans
}

// What is foreseen of one change: a week, as far as a page can wait for it.
const (
	foreseenDays  = 7
	foreseenScans = 200_000
	foreseenTurns = 10
)

// foresee says what changes of rules would have done to the scans of the last week; nil = a change is impossible, and will say why.
func (v *request) foresee(changes ...client.PlannedRule) (*impact, error) {
	done, err := v.api.Rules.PreviewPlan(v.asking(), changes, foreseenDays, foreseenScans)
	switch said, is := mendable(err); {
	case is && said.Status == http.StatusConflict:
		return &impact{Unknown: true}, nil
	case is:
		return nil, nil
	}
	done.Changes = done.Changes[:min(len(done.Changes), foreseenTurns)]
	return &impact{Replayed: done, Days: foreseenDays}, err
}

// undoing returns the effect of undoing a change, by the history of its prefix, the newest first; false if it is not in it.
func undoing(history []client.RuleChange, seq int64) (plan client.PlannedRule, found bool) {
	i := slices.IndexFunc(history, func(c client.RuleChange) bool { return c.Seq == seq })
	if i < 0 {
		return plan, false
	}
	gone := func(c client.RuleChange) bool { return c.Action == "delete" || c.Action == "release" }
	currentRule := history[i].Rule
	if i+1 == len(history) || gone(history[i+1]) { // there was none before
		return client.PlannedRule{Do: "delete", Owner: currentRule.Owner, Prefix: currentRule.Prefix}, true
	}
	oldRule := history[i+1].Rule
	plan = client.PlannedRule{Do: "edit", Owner: oldRule.Owner, Prefix: oldRule.Prefix, Path: oldRule.Path, Occupy: oldRule.Occupy,
		OpenVersion: oldRule.OpenVersion, Published: &oldRule.Published}
	if gone(history[i]) {
		plan.Do = "add"
	}
	if oldRule.Target != oldRule.Owner {
		plan.AppID = oldRule.Target
	}
	return plan, true
}

// released returns the deletes that a release of a prefix comes to, of the first rules below it too where these go as well.
func (pages rulePages) released(v *request, owner, prefix string, isBelow bool) ([]client.PlannedRule, error) {
	plan := []client.PlannedRule{{Do: "delete", Owner: owner, Prefix: prefix}}
	if !isBelow {
		return plan, nil
	}
	list, err := v.api.Rules.ListPage(v.ctx(), client.StoredRuleQuery{Text: prefix, Limit: pageRows})
	for _, r := range list.Rules {
		if r.Prefix != prefix && strings.HasPrefix(r.Prefix, prefix) {
			plan = append(plan, client.PlannedRule{Do: "delete", Owner: r.Owner, Prefix: r.Prefix})
		}
	}
	return plan, err
}

// change returns the edit of a form.
func (f ruleForm) change() client.PlannedRule {
	ownRule := f.ownRule()
	return client.PlannedRule{Do: "edit", Owner: f.Owner, Prefix: ownRule.Prefix, Path: ownRule.Path, AppID: ownRule.AppID, Occupy: ownRule.Occupy,
		OpenVersion: ownRule.OpenVersion}
}

// scansOf returns the scans of a rule in the last days, drawn as its page of statistics draws them.
func (pages rulePages) scansOf(v *request, r client.StoredRule) (*ruleScans, error) {
	address := url.Values{"rule": {fmt.Sprint(r.ID)}, "days": {ruleDays}, "by": {"day"}}
	storedRequest := *v
	storedRequest.r = v.r.Clone(v.r.Context())
	storedRequest.r.URL.RawQuery = address.Encode()
	asked, err := storedRequest.dated()
	if err != nil {
		return nil, err
	}
	question := asked.query()
	question.Limit, question.Marks = drawnRows, true
	if asked.Numbers, err = v.api.Statistics.Get(v.ctx(), question); err != nil {
		return nil, err
	}
	found := ruleScans{All: Root + "/statistics?" + address.Encode(),
		Nothing: nothingOf(url.Values{"from": {asked.From}, "below": {r.Prefix}})}
	for _, row := range asked.Numbers.Rows {
		found.Sum += row.Scans
	}
	if found.Chart, err = storedRequest.charted(asked); err != nil {
		return nil, err
	}
	return &found, nil
}

// ruleCode is a size in which the code of a rule can be printed.
type ruleCode struct {
	Module string
	Side   int // of the whole code with its white edge, in millimetres
}

// Sizes returns the sizes of a code, of which code is chosen.
func (v view) Sizes(codes []ruleCode) (list []choice) {
	for _, code := range codes {
		list = append(list, choice{code.Module, v.say("rule.code.side", code.Side, code.Module)})
	}
	return list
}

// moduleSizes are those of a module: on a label, on a poster, on a wall. Cameras of phones read the smallest from a hand's breadth.
var moduleSizes = []string{"0.5mm", "2mm", "10mm"}

// codeDPI is for how many dots an inch codes are drawn: most office printers have this many, or twice as many.
const codeDPI = 300

// ruleCodes returns the sizes of a code.
func ruleCodes(grid symbol.Grid) (list []ruleCode) {
	for _, module := range moduleSizes {
		if d, err := drawCode(grid, module); err == nil {
			list = append(list, ruleCode{module, int(symbol.LengthOf(d.Width, d.DPI).Millimetres() + .5)})
		}
	}
	return list
}

func drawCode(grid symbol.Grid, module string) (symbol.Drawing, error) {
	size, err := symbol.ParseLength(module)
	if err != nil {
		return symbol.Drawing{}, err
	}
	return symbol.Style{Module: size, DPI: codeDPI, Ink: symbol.Black, Paper: symbol.White}.Draw(nil, grid)
}

// pictureKinds are the files in which a code is given out.
var pictureKinds = map[string]struct {
	kind  string
	write func(io.Writer, symbol.Drawing) error
}{"svg": {"image/svg+xml", symbol.SVG}, "png": {"image/png", symbol.PNG}, "pdf": {"application/pdf", symbol.PDF}}

// PictureKinds returns the files in which a code is given out.
func (v view) PictureKinds() []string { return slices.Sorted(maps.Keys(pictureKinds)) }

// Undoes reports whether the visitor may undo changes of rules.
func (v view) Undoes() bool { return v.May("rules") && v.All() }

// ruleCode answers the QR code of a link below a rule's prefix as a file.
func (pages rulePages) ruleCode(v *request) {
	q := v.r.URL.Query()
	owner, prefix, link := strings.TrimSpace(q.Get("owner")), strings.TrimSpace(q.Get("prefix")), strings.TrimSpace(q.Get("text"))
	localRules, err := v.api.Rules.List(v.ctx(), client.StoredRuleQuery{Owner: owner, Prefix: prefix, Limit: 1})
	if v.failed(err) {
		return
	}
	if len(localRules) == 0 || prefix == "" {
		v.fault(http.StatusNotFound, v.say("rule.none", prefix))
		return
	}
	data, file := ruleView{Owner: owner, Prefix: prefix, Link: link}, pictureKinds[q.Get("as")]
	if !strings.HasPrefix(link, prefix) {
		data.Wrong = v.say("rule.code.below", prefix)
		pages.showRule(v, http.StatusUnprocessableEntity, data)
		return
	}
	var d symbol.Drawing
	grid, err := symbol.Readable(link)
	if err == nil {
		d, err = drawCode(grid, q.Get("module"))
	}
	if err != nil || file.write == nil {
		data.Wrong = v.say("rule.code.none")
		pages.showRule(v, http.StatusUnprocessableEntity, data)
		return
	}
	_, name, _ := strings.Cut(strings.Trim(link, "/"), "://")
	v.attach(file.kind, "qr "+strings.NewReplacer("/", "_", ":", "_", "?", "_").Replace(name[:min(len(name), 100)])+"."+q.Get("as"))
	_ = file.write(v.w, d)
}
