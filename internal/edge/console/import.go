package console

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
)

const (
	// maxImportSize is the maximum size in bytes of a file of rules; maxSteps is the maximum number of steps applied at once, because
	// each add may download a verification file. Larger imports are done with the command line.
	maxImportSize = 1 << 20
	maxSteps      = 200
	// maxStored is the maximum number of rules of an account that the console compares and writes.
	maxStored = 20_000
)

// importView contains an uploaded file of rules and the changes that the file would make.
type importView struct {
	Owner, Text   string
	Prune         bool
	Error         string
	Wrong         []string // errors with their line numbers
	Planned       bool
	Steps         []ruleplan.Step
	Publishes     int
	PublishesLeft string
	Sum           string // a checksum of the steps, so that exactly the confirmed steps are applied
	Many          bool
	Stopped       string // the error that stopped the steps
	Days          int    // number of days of scans to replay
	Replayed      *impact
}

// storedRules returns all rules of an account.
func (pages rulePages) storedRules(v *request, owner string) (all []client.StoredRule, err error) {
	const size = 1000
	for start := int64(0); ; {
		page, err := v.api.Rules.List(v.ctx(), client.StoredRuleQuery{Owner: owner, Limit: size, After: start})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		switch {
		case len(page) < size:
			return all, nil
		case len(all) >= maxStored:
			return nil, &client.Problem{Status: http.StatusUnprocessableEntity, Detail: v.say("import.stored", maxStored)}
		}
		start = all[len(all)-1].ID
	}
}

// importRules shows the changes that a file would make, and applies them after the visitor confirms.
func (pages rulePages) importRules(v *request) error {
	text, err := v.upload("file", "text", maxImportSize, v.say("import.large"))
	if err != nil {
		return err
	}
	data := importView{Owner: strings.TrimSpace(v.r.FormValue("owner")), Text: text, Prune: v.r.FormValue("prune") != ""}
	refuse := func(fault string) error {
		data.Error = fault
		return v.show(http.StatusUnprocessableEntity, "import", data)
	}
	if data.Owner == "" || strings.TrimSpace(data.Text) == "" {
		return refuse(v.say("import.none"))
	}
	if _, err := v.api.Accounts.Get(v.ctx(), data.Owner); err != nil {
		return err
	}
	stored, err := pages.storedRules(v, data.Owner)
	if err == nil {
		err = pages.plan(v, &data, stored)
	}
	if said, is := refused(err, http.StatusUnprocessableEntity); is {
		return refuse(v.problemText(said))
	}
	if err != nil {
		return err
	}
	if len(data.Wrong) > 0 {
		return refuse(v.say("import.wrong"))
	}
	if v.r.FormValue("did") == "replay" {
		return pages.replay(v, &data)
	}
	// Only the plan that the visitor saw is applied. If the plan has changed since the visitor saw it, the new plan is shown first.
	if sure := v.r.FormValue("sure"); sure != "" && sure == data.Sum && !data.Many {
		pages.apply(v, &data, stored)
		if data.Stopped == "" {
			return v.redirect(Root + "/rules?" + url.Values{"done": {"imported"}, "owner": {data.Owner}}.Encode())
		}
		return v.show(http.StatusUnprocessableEntity, "import", data)
	}
	return v.show(http.StatusOK, "import", data)
}

// replay shows the effect that a plan would have had on the scans of the last days.
func (pages rulePages) replay(v *request, data *importView) error {
	changes := ruleplan.Changes(data.Owner, data.Steps)
	data.Days, _ = strconv.Atoi(v.r.FormValue("days"))
	if len(changes) == 0 || data.Many {
		return v.show(http.StatusOK, "import", *data)
	}
	done, err := v.api.Rules.ReplayPlan(v.ctx(), changes, data.Days)
	if said, is := mendable(err); is {
		data.Error = v.problemText(said)
		return v.show(said.Status, "import", *data)
	}
	data.Replayed = &impact{ReplayResult: done, Days: data.Days}
	return v.page("import", *data, err)
}

// plan computes the changes that a file would make.
func (pages rulePages) plan(v *request, data *importView, stored []client.StoredRule) error {
	wanted, wrong, err := ruleplan.ReadToApply("file", []byte(data.Text), data.Owner, "")
	if err != nil {
		return &client.Problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	}
	data.Wrong = wrong
	if len(wrong) > 0 {
		return nil
	}
	have := make([]ruleplan.Stored, len(stored))
	for i, r := range stored {
		if have[i], err = ruleplan.FromAPI(r); err != nil {
			return err
		}
	}
	data.Steps, data.Planned, data.PublishesLeft = ruleplan.Decide(wanted, have, data.Prune), true, v.publishesLeft(data.Owner)
	data.Many = len(data.Steps) > maxSteps
	text, err := json.Marshal(data.Steps)
	if err != nil {
		return err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n%s", data.Owner, text, data.Text)
	data.Sum = hex.EncodeToString(hash.Sum(nil))
	for _, step := range data.Steps {
		if step.Action == "publish" {
			data.Publishes++
		}
	}
	return nil
}

// apply executes the steps in order until the first failure.
func (pages rulePages) apply(v *request, data *importView, stored []client.StoredRule) {
	revisions := map[string]string{} // revisions of the rules on which the plan is based
	for _, r := range stored {
		revisions[r.Prefix] = r.Revision
	}
	for i := range data.Steps {
		step := &data.Steps[i]
		rule := ruleplan.RuleInput(step.Draft)
		var err error
		var currentRule client.StoredRule
		v.saw = revisions[step.Prefix]
		switch ctx := v.ctx(); step.Action {
		case "add":
			currentRule, err = v.api.Rules.Create(ctx, data.Owner, rule)
		case "edit":
			currentRule, err = v.api.Rules.Update(ctx, data.Owner, rule)
		case "publish":
			currentRule, err = v.api.Rules.Publish(ctx, data.Owner, step.Prefix)
		case "delete":
			_, err = v.api.Rules.Delete(ctx, data.Owner, step.Prefix) // if a later step adds the rule again, no revision is checked
		}
		if err != nil {
			reason := err.Error()
			if said, is := errors.AsType[*client.Problem](err); is {
				reason = v.problemText(said)
			}
			data.Stopped = v.say("import.stopped", i+1, len(data.Steps), step.Prefix, reason)
			return
		}
		step.Done, revisions[step.Prefix] = true, currentRule.Revision
	}
}

// exportRules sends the rules of an account as a file that importRules and the command "qrjump rule apply" can read.
func (pages rulePages) exportRules(v *request) error {
	owner := v.narrowed("owner")
	if owner == "" {
		return v.reject("export.owner")
	}
	stored, err := pages.storedRules(v, owner)
	if err != nil {
		return err
	}
	file := ruleplan.File{Rules: []ruleplan.Written{}}
	for _, r := range stored {
		have, err := ruleplan.FromAPI(r)
		if err != nil {
			return err
		}
		file.Rules = append(file.Rules, ruleplan.Write(have.Rule, have.Target))
	}
	text, err := file.Text()
	return v.attach("application/yaml", "rules-"+owner+".yaml", text, err)
}
