package console

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// The page of a rule shows its settings, its printable code, its scans and its history.

// ruleView contains the data of the page of a prefix.
type ruleView struct {
	Owner, Prefix string
	Rule          *client.StoredRule
	PublishesLeft string
	Picture       template.URL // the QR code of the prefix; "" = the prefix is too long for a code on a screen
	Codes         []ruleCode   // the sizes in which the code can be printed
	Scans         *statisticsView
	UnmatchedURL  string // address of the unmatched scans near the prefix
	History       []client.RuleChange
	Occupiers     []client.StoredRule
	Check         *client.RuleCheck
	Link, Wrong   string // the link typed in the form for a code, and its error message
	Deleted       *client.ForceDeleteResult
}

// ruleDays is the number of days of scans on the pages of rules, accounts and applications.
const ruleDays = 30

// showRule shows the page of a prefix with the result of the last action.
func (pages rulePages) showRule(v *request, status int, data ruleView) error {
	ctx := v.ctx()
	found, err := v.api.Rules.List(ctx, client.StoredRuleQuery{Owner: data.Owner, Prefix: data.Prefix, Limit: 1})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		data.Rule = &found[0]
		data.Owner, data.PublishesLeft = data.Rule.Owner, v.publishesLeft(data.Rule.Owner)
		data.Link = cmp.Or(data.Link, data.Prefix)
		if grid, err := symbol.Readable(data.Prefix); err == nil { // the prefix may be too long for a QR code
			data.Codes = ruleCodes(grid)
			if len(data.Prefix) <= symbol.MaxScreenPixels {
				picture, _ := grid.Address()
				data.Picture = template.URL(picture)
			}
		}
		if err := storeResult(&data.Scans)(v.scansOf(ruleDays, "rule", fmt.Sprint(data.Rule.ID))); err != nil {
			return err
		}
		data.UnmatchedURL = unmatchedURL(url.Values{"from": {data.Scans.From}, "below": {data.Rule.Prefix}})
	}
	if err := cmp.Or(storeResult(&data.History)(v.api.Rules.ListChanges(ctx, data.Prefix)),
		storeResult(&data.Occupiers)(v.api.Rules.ListConflicts(ctx, data.Prefix))); err != nil {
		return err
	}
	return v.show(status, "rule", data)
}

// impact is the effect that a change of rules would have had on the scans of the last days.
type impact struct {
	client.ReplayResult
	Days    int
	Unknown bool // the effect is unknown: this server stores no log of scans
}

// Limits for the preview of a change: scans of one week, within the time that a page can wait.
const (
	foreseenDays  = 7
	foreseenScans = 200_000
	foreseenTurns = 10
)

// foresee returns the effect that changes of rules would have had on the scans of the last week; nil = a change is invalid, so
// applying it returns the error.
func (v *request) foresee(changes ...client.PlannedRule) (*impact, error) {
	done, err := v.api.Rules.PreviewPlan(v.asking(), changes, foreseenDays, foreseenScans)
	switch said, is := mendable(err); {
	case is && said.Status == http.StatusConflict:
		return &impact{Unknown: true}, nil
	case is:
		return nil, nil
	}
	done.Changes = done.Changes[:min(len(done.Changes), foreseenTurns)]
	return &impact{ReplayResult: done, Days: foreseenDays}, err
}

// undoing returns the rule change that would undo change seq, given the history of its prefix, newest first; found is false if seq
// is not in the history.
func undoing(history []client.RuleChange, seq int64) (plan client.PlannedRule, found bool) {
	i := slices.IndexFunc(history, func(c client.RuleChange) bool { return c.Seq == seq })
	if i < 0 {
		return plan, false
	}
	gone := func(c client.RuleChange) bool { return c.Action == "delete" || c.Action == "force_delete" }
	currentRule := history[i].Rule
	if i+1 == len(history) || gone(history[i+1]) { // no rule existed before the change
		return client.PlannedRule{Action: "delete", Owner: currentRule.Owner, Prefix: currentRule.Prefix}, true
	}
	oldRule := history[i+1].Rule
	plan = client.PlannedRule{Action: "edit", Owner: oldRule.Owner, Prefix: oldRule.Prefix, Path: oldRule.Path, Occupy: oldRule.Occupy,
		OpenVersion: oldRule.OpenVersion, Published: &oldRule.Published}
	if gone(history[i]) {
		plan.Action = "add"
	}
	if oldRule.Target != oldRule.Owner {
		plan.AppID = oldRule.Target
	}
	return plan, true
}

// released returns the deletions that a release of a prefix causes. If isBelow is true, the result includes the deletions of the first
// rules below the prefix.
func (pages rulePages) released(v *request, owner, prefix string, isBelow bool) ([]client.PlannedRule, error) {
	plan := []client.PlannedRule{{Action: "delete", Owner: owner, Prefix: prefix}}
	if !isBelow {
		return plan, nil
	}
	list, err := v.api.Rules.ListPage(v.ctx(), client.StoredRuleQuery{Text: prefix, Limit: pageRows})
	for _, r := range list.Rules {
		if r.Prefix != prefix && strings.HasPrefix(r.Prefix, prefix) {
			plan = append(plan, client.PlannedRule{Action: "delete", Owner: r.Owner, Prefix: r.Prefix})
		}
	}
	return plan, err
}

// change returns the form as a planned edit of the rule.
func (f ruleForm) change() client.PlannedRule {
	rule := f.ownRule()
	return client.PlannedRule{Action: "edit", Owner: f.Owner, Prefix: rule.Prefix, Path: rule.Path,
		AppID: rule.AppID, Occupy: rule.Occupy, OpenVersion: rule.OpenVersion}
}

// ruleCode is a size in which a rule's code can be printed.
type ruleCode struct {
	Module string
	Side   int // side length of the code with its white margin, in millimetres
}

// Sizes returns the sizes of a code as options of a select field.
func (v view) Sizes(codes []ruleCode) []choice {
	return mapped(codes, func(code ruleCode) choice {
		return choice{code.Module, v.say("rule.code.side", code.Side, code.Module)}
	})
}

// moduleSizes lists the module sizes on offer: for a label, a poster and a wall. Phone cameras read the smallest size from about 10 cm.
var moduleSizes = []string{"0.5mm", "2mm", "10mm"}

// codeDPI is the resolution in dots per inch for drawn codes; most office printers have this resolution or twice as much.
const codeDPI = 300

// ruleCodes returns the print sizes of a code.
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

// pictureKinds maps the picture formats of a code to their properties.
var pictureKinds = map[string]struct {
	kind  string
	write func(io.Writer, symbol.Drawing) error
}{"svg": {"image/svg+xml", symbol.SVG}, "png": {"image/png", symbol.PNG}, "pdf": {"application/pdf", symbol.PDF}}

// CanUndo reports whether the visitor may undo changes of rules.
func (v view) CanUndo() bool { return v.HasRole("rules-editor") && v.All() }

// ruleCode sends the QR code of a link below a rule's prefix as a file.
func (pages rulePages) ruleCode(v *request) error {
	q := v.r.URL.Query()
	owner, prefix, link := strings.TrimSpace(q.Get("owner")), strings.TrimSpace(q.Get("prefix")), strings.TrimSpace(q.Get("text"))
	found, err := v.api.Rules.List(v.ctx(), client.StoredRuleQuery{Owner: owner, Prefix: prefix, Limit: 1})
	if err != nil {
		return err
	}
	if len(found) == 0 || prefix == "" {
		return v.fail(http.StatusNotFound, v.say("rule.none", prefix))
	}
	data, file := ruleView{Owner: owner, Prefix: prefix, Link: link}, pictureKinds[q.Get("as")]
	if !strings.HasPrefix(link, prefix) {
		data.Wrong = v.say("rule.code.below", prefix)
		return pages.showRule(v, http.StatusUnprocessableEntity, data)
	}
	var d symbol.Drawing
	grid, err := symbol.Readable(link)
	if err == nil {
		d, err = drawCode(grid, q.Get("module"))
	}
	if err != nil || file.write == nil {
		data.Wrong = v.say("rule.code.none")
		return pages.showRule(v, http.StatusUnprocessableEntity, data)
	}
	_, name, _ := strings.Cut(strings.Trim(link, "/"), "://")
	v.attachment(file.kind, "qr "+strings.NewReplacer("/", "_", ":", "_", "?", "_").Replace(name[:min(len(name), 100)])+"."+q.Get("as"))
	_ = file.write(v.w, d)
	return nil
}
