package console

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type rulesView struct {
	Owner, Prefix, Text, State, Order string
	client.StoredRuleList
	PublishesLeft string // remaining publishes of this month
	Pager         pager
}

// rules lists rules, or shows the page of one prefix.
func (pages rulePages) rules(v *request) error {
	q := v.r.URL.Query()
	data := rulesView{Owner: cmp.Or(strings.TrimSpace(q.Get("owner")), v.Account()), Prefix: strings.TrimSpace(q.Get("prefix")),
		Text: strings.TrimSpace(q.Get("text")), State: q.Get("state"), Order: q.Get("order")}
	if data.Prefix != "" {
		return pages.showRule(v, http.StatusOK, ruleView{Owner: data.Owner, Prefix: data.Prefix})
	}
	wanted := client.StoredRuleQuery{Owner: data.Owner, Newest: data.Order != "oldest", Limit: pageRows, Scans: true}
	if err := v.query(&wanted, "text state after before"); err != nil {
		return err
	}
	if wanted.After > 0 {
		wanted.Newest, wanted.Before = false, 0
	}
	list, err := v.api.Rules.ListPage(v.ctx(), wanted)
	data.StoredRuleList = list
	data.Pager = v.rulePages(wanted, &data)
	data.PublishesLeft = v.publishesLeft(data.Owner)
	return v.page("rules", data, err)
}

// rulePages sorts the rules for display and returns the links to the previous and next page.
func (v *request) rulePages(asked client.StoredRuleQuery, data *rulesView) (p pager) {
	on, back, step := "before", "after", int64(-1)
	if data.Order == "oldest" {
		on, back, step = "after", "before", 1
	}
	from := map[string]int64{"after": asked.After, "before": asked.Before}
	to := func(name string, id int64) string {
		return v.address(v.r.URL.Path, "after", "", "before", "", name, strconv.FormatInt(id, 10))
	}
	first, last := from[on]+step, from[back]-step // where the neighbouring pages start if this page is empty
	if from[back] > 0 {
		slices.Reverse(data.Rules)
	}
	if n := len(data.Rules); n > 0 {
		first, last = data.Rules[0].ID, data.Rules[n-1].ID
	}
	if from[back] > 0 {
		p.Later, first = to(on, last), data.Next
	} else if data.Next != 0 {
		p.Later = to(on, data.Next)
	}
	if from[on] > 0 || from[back] > 0 && data.Next != 0 {
		p.Earlier = to(back, first)
	}
	return p
}

// publishesLeft returns the number of publishes that an account has left this month; "" if the number is unavailable.
func (v *request) publishesLeft(appid string) string {
	if appid == "" {
		return ""
	}
	quota, err := v.api.Accounts.GetQuota(v.ctx(), appid)
	if err != nil {
		return ""
	}
	return strconv.Itoa(quota.PublishesLeft)
}

// ofRule returns the address of the page of a prefix.
func ofRule(done, owner, prefix string) string {
	return Root + "/rules?" + url.Values{"done": {done}, "owner": {owner}, "prefix": {prefix}}.Encode()
}

// changeRule publishes a rule, deletes a rule after confirmation, removes a rule from a former owner of the domain, or checks the
// verification file of a rule.
func (pages rulePages) changeRule(v *request) error {
	data := ruleView{Owner: v.r.FormValue("owner"), Prefix: v.r.FormValue("prefix")}
	if data.Owner == "" || data.Prefix == "" {
		return v.reject("fault.form")
	}
	ctx, err, done := v.ctx(), error(nil), ""
	switch did := v.r.FormValue("did"); did {
	case "publish", "delete":
		return pages.confirmChange(v, did, client.PlannedRule{Action: did, Owner: data.Owner, Prefix: data.Prefix})
	case "publish-sure":
		done = "rule.published"
		_, err = v.api.Rules.Publish(ctx, data.Owner, data.Prefix)
	case "delete-sure":
		done = "rule.deleted"
		_, err = v.api.Rules.Delete(ctx, data.Owner, data.Prefix)
	case "force_delete":
		isBelow := v.r.FormValue("below") != ""
		if err := pages.confirmRelease(v, data.Owner, data.Prefix, isBelow); err != nil {
			return err
		}
		data.Deleted = &client.ForceDeleteResult{}
		data.Deleted.Deleted, data.Deleted.More, err = v.api.Rules.ForceDelete(ctx, client.ForceDeleteRequest{Prefix: data.Prefix,
			Below: isBelow, Reason: strings.TrimSpace(v.r.FormValue("reason"))})
	case "check":
		data.Check = &client.RuleCheck{}
		*data.Check, err = v.api.Rules.Check(v.asking(), data.Owner, client.RuleInput{Prefix: data.Prefix, Path: "-"}, true)
		data.Check.ErrCode = 0 // the rule already exists, so only the result for its verification file matters
	default:
		return v.reject("fault.form")
	}
	if done == "" && err == nil {
		return pages.showRule(v, http.StatusOK, data)
	}
	return v.done(ofRule(done, data.Owner, data.Prefix), err)
}

// confirmChange asks for confirmation of a change of a rule, and shows the effect that the change would have had on last week's scans.
func (pages rulePages) confirmChange(v *request, did string, plan client.PlannedRule) error {
	_, err := v.api.Rules.List(v.asking(), client.StoredRuleQuery{Owner: plan.Owner, Prefix: plan.Prefix, Limit: 1})
	if err != nil { // the call fails if the visitor may not see the rule's owner
		return err
	}
	f, err := v.foresee(plan)
	if err != nil {
		return err
	}
	return v.confirm(http.StatusOK, sureView{Text: v.say("rule.sure."+did, plan.Prefix), Token: "1", Did: did + "-sure",
		Button: "rule." + did, Harmless: did != "delete", Foreseen: f})
}

// confirmRelease asks the visitor to type a prefix that is to be removed from its owners, and shows the effect that the removal would
// have had on last week's scans.
func (pages rulePages) confirmRelease(v *request, owner, prefix string, isBelow bool) error {
	var f *impact
	if v.r.FormValue("sure") == "" {
		plan, err := pages.released(v, owner, prefix, isBelow)
		if err == nil {
			f, err = v.foresee(plan...)
		}
		if err != nil {
			return err
		}
	}
	return v.confirmed(v.say("sure.force_delete", prefix), prefix, f)
}

// undo reverts a change of a rule.
func (pages rulePages) undo(v *request) error {
	seq, err := strconv.ParseInt(v.r.FormValue("seq"), 10, 64)
	if err != nil {
		return v.reject("fault.form")
	}
	prefix := v.r.FormValue("prefix")
	if v.r.FormValue("sure") == "" && prefix != "" { // the effect of the undo on last week's scans is shown first, as for a publish
		history, err := v.api.Rules.ListChanges(v.ctx(), prefix)
		if err != nil {
			return err
		}
		if plan, found := undoing(history, seq); found {
			return pages.confirmChange(v, "undo", plan)
		}
	}
	_, err = v.api.Rules.UndoChange(v.ctx(), seq)
	return v.done(ofRule("undone", "", prefix), err)
}

// confirmFile serves the verification file of an account for download.
func (pages rulePages) confirmFile(v *request) error {
	a, err := v.api.Accounts.Get(v.ctx(), v.r.URL.Query().Get("owner"))
	return v.attach("text/plain; charset=utf-8", a.VerificationFile.Name, []byte(a.VerificationFile.Content), err)
}

// attach sends a file as a download, or returns the error of the call for its content.
func (v *request) attach(kind, name string, content []byte, err error) error {
	if err == nil {
		v.attachment(kind, name)
		_, _ = v.w.Write(content)
	}
	return err
}

// attachment sets the headers that make the response a download with this file name.
func (v *request) attachment(kind, name string) {
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\/`, r) {
			return '_'
		}
		return r
	}, name)
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+plain+`"`)
}

// ruleForm contains the form for adding or changing a rule.
type ruleForm struct {
	Owner, Prefix, Path, Target string
	TestLinks                   string // one a line
	Link                        string // a link to test against the rule
	OpenVersion                 int
	Occupy, Edit, Published     bool
	PublishesLeft               string
	Foreseen                    *impact // effect of an edit on past scans; nil = not requested
	NeedsConfirmation           bool    // the edit waits for confirmation
	Revision                    string  // revision of the rule that is changed
	Check                       *client.RuleCheck
	Tried                       *client.Explanation
}

// ownRule converts the form to the admin API's rule type.
func (f ruleForm) ownRule() client.RuleInput {
	links := append([]string{}, linesOf(f.TestLinks)...)
	r := client.RuleInput{Prefix: f.Prefix, Path: f.Path, AppID: f.Target}
	if f.Target == "" { // only rules without a target have these fields
		r.Occupy, r.OpenVersion, r.TestLinks = f.Occupy, f.OpenVersion, &links
	}
	return r
}

// readRuleForm returns the submitted form, or a form prefilled from the URL.
func (pages rulePages) readRuleForm(v *request) ruleForm {
	f := ruleForm{Owner: v.word("owner"), Prefix: v.word("prefix"), Path: v.word("path"), Target: v.word("target"),
		TestLinks: v.word("links"), Link: v.word("link"), Revision: v.word(revisionField), Occupy: v.word("occupy") != ""}
	f.Owner, f.Edit = cmp.Or(f.Owner, v.narrowed("owner")), strings.HasSuffix(v.r.URL.Path, "/edit")
	f.OpenVersion, _ = strconv.Atoi(cmp.Or(v.word("open_version"), "3"))
	return f
}

// ruleForm shows the form of a rule with a preview of the rule's effect, or only the preview if the query parameter "part" is "tried".
func (pages rulePages) ruleForm(v *request) error {
	f := pages.readRuleForm(v)
	if f.Edit && !v.r.URL.Query().Has("path") {
		list, err := v.api.Rules.List(v.ctx(), client.StoredRuleQuery{Owner: f.Owner, Prefix: f.Prefix, Limit: 1})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return v.fail(http.StatusNotFound, v.say("rule.none", f.Prefix))
		}
		r := list[0]
		f.Path, f.Occupy, f.OpenVersion, f.TestLinks = r.Path, r.Occupy, cmp.Or(r.OpenVersion, 3), strings.Join(r.TestLinks, "\n")
		f.Revision = r.Revision
		f.Published = r.Published
		if r.Target != r.Owner {
			f.Target = r.Target
		}
	}
	part := v.r.URL.Query().Get("part") == "tried"
	if err := pages.preview(v, &f, false); err != nil {
		return err
	}
	if f.Edit && v.r.URL.Query().Has("path") && !part {
		if err := storeResult(&f.Foreseen)(v.foresee(f.change())); err != nil {
			return err
		}
	}
	if part {
		var b bytes.Buffer
		shown := &view{request: v, Name: "rule_form", Data: f, Page: f}
		if err := templates()["rule_form"].ExecuteTemplate(&b, "tried", shown); err != nil {
			return err
		}
		v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = v.w.Write(b.Bytes())
		return nil
	}
	return pages.showRuleForm(v, http.StatusOK, f)
}

func (pages rulePages) showRuleForm(v *request, status int, f ruleForm) error {
	f.PublishesLeft = v.publishesLeft(f.Owner)
	return v.show(status, "rule_form", f)
}

// preview stores in the form the result that adding the rule would have, and how the rule would handle a test link.
func (pages rulePages) preview(v *request, f *ruleForm, look bool) error {
	if f.Owner == "" || f.Prefix == "" {
		return nil
	}
	rule := f.ownRule()
	rule.Path = cmp.Or(rule.Path, "-") // a field that is still empty is not reported as an error
	check, err := v.api.Rules.Check(v.asking(), f.Owner, rule, look)
	if err != nil {
		return err
	}
	f.Check = &check
	link := cmp.Or(f.Link, f.Prefix)
	if f.Link == "" && strings.HasSuffix(link, "/") {
		link += "1"
	}
	assumed := client.AssumedRule{Owner: f.Owner, Prefix: f.Prefix, Path: rule.Path, AppID: rule.AppID, Occupy: rule.Occupy,
		OpenVersion: rule.OpenVersion, Published: true}
	if rule.TestLinks != nil {
		assumed.TestLinks = *rule.TestLinks
	}
	f.Link = link
	tried, err := v.api.Scans.Explain(v.ctx(), client.ExplainRequest{ScanRequest: client.ScanRequest{Text: link},
		Assume: []client.AssumedRule{assumed}})
	if err == nil {
		f.Tried = &tried
	}
	if _, said := errors.AsType[*client.Problem](err); said {
		return nil // the check of the rule already reports the error
	}
	return err
}

// saveRule adds or changes a rule. If the API rejects the rule, the form is shown with the reason.
func (pages rulePages) saveRule(v *request) error {
	f := pages.readRuleForm(v)
	if f.Owner == "" || f.Prefix == "" {
		return v.refuse(http.StatusUnprocessableEntity, "", v.say("rule.incomplete"))
	}
	save, done := v.api.Rules.Create, "rule.added"
	if f.Edit {
		save, done = v.api.Rules.Update, "rule.edited"
		if v.r.FormValue("sure") == "" { // an edit that would have affected scans needs a confirmation that shows their number
			if err := storeResult(&f.Foreseen)(v.foresee(f.change())); err != nil {
				return err
			}
			if f.NeedsConfirmation = f.Foreseen != nil && (f.Foreseen.Changed > 0 || f.Foreseen.Truncated); f.NeedsConfirmation {
				return pages.showRuleForm(v, http.StatusOK, f)
			}
		}
	}
	_, err := save(v.ctx(), f.Owner, f.ownRule())
	said, is := refused(err, http.StatusUnprocessableEntity, http.StatusNotFound)
	if !is {
		return v.done(ofRule(done, f.Owner, f.Prefix), err)
	}
	v.rejected = newRejectedForm(v.r, v.faultsOf(said))
	if said.Status == http.StatusUnprocessableEntity && pages.preview(v, &f, false) == nil && f.Check != nil && !f.Edit &&
		f.Check.ErrCode == 0 && !f.Check.Trusted {
		// The only remaining cause of the rejection is the verification file, which is fetched once more to show each step.
		_ = pages.preview(v, &f, true)
	}
	return pages.showRuleForm(v, said.Status, f)
}
