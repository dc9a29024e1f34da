package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// mostSelected is the maximum number of rows of one form: those of a page.
const mostSelected = pageRows

func (pages selectedPages) routes() map[string]func(*request) {
	return map[string]func(*request){"POST /console/rules": pages.selectedRules, "POST /console/accounts/selected": pages.selectedAccounts}
}

// selectedView asks before something is done to several, or says what became of each.
type selectedView struct {
	Text   string // what will be done, to how many
	Did    string
	Action string
	Keys   []string // as the form sends them
	Shown  [][2]string
	Done   int
	Faults [][3]string // which were not done, and why
	Asked  bool        // nothing is done yet
	// Foreseen is its effect on scans of the last days; nil = it is no change of rules.
	Foreseen *impact
	Back     string
}

// act is the action of a form on a selected row: on a rule of an account, or on an account.
type act func(ctx context.Context, appid, prefix string) error

// actOnSelected asks whether a form is to do something to what was selected, and how many these are, and does it to each by itself: what
// one refuses, the others get. Selected rows are "owner prefix", or an AppID alone.
func (pages selectedPages) actOnSelected(v *request, acts map[string]act, back string) {
	_ = v.r.ParseForm()
	did := v.r.FormValue("did")
	a, known := acts[did]
	keys := slices.Compact(slices.Sorted(slices.Values(v.r.PostForm["selected"])))
	switch {
	case !known, len(keys) > mostSelected:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	case len(keys) == 0:
		v.fault(http.StatusUnprocessableEntity, v.say("selected.none"))
		return
	}
	status := http.StatusOK
	data := selectedView{Did: did, Action: v.r.URL.Path, Keys: keys, Back: back, Asked: v.r.FormValue("sure") == "",
		Text: v.say("selected."+did, len(keys))}
	for _, key := range keys {
		subject, name, _ := strings.Cut(key, " ")
		data.Shown = append(data.Shown, [2]string{subject, name})
		if data.Asked {
			continue
		}
		err := a(v.ctx(), subject, name)
		if err == nil {
			data.Done++
			continue
		}
		reason := v.say("fault.inside")
		if said, is := errors.AsType[*client.Problem](err); is {
			if reason, status = v.said(said), said.Status; status == http.StatusForbidden {
				v.failed(err) // a person who may not do it to one may not do it at all
				return
			}
		} else {
			v.c.Log.ErrorContext(v.r.Context(), "one of several could not be changed", "did", did, "error", err)
		}
		data.Faults = append(data.Faults, [3]string{subject, name, reason})
	}
	if data.Asked && (did == "publish" || did == "delete") {
		plan := make([]client.PlannedRule, len(data.Shown))
		for i, values := range data.Shown {
			plan[i] = client.PlannedRule{Do: did, Owner: values[0], Prefix: values[1]}
		}
		if v.failed(storeResult(&data.Foreseen)(v.foresee(plan...))) {
			return
		}
	}
	if len(data.Faults) > 0 && (data.Done > 0 || status == http.StatusOK) {
		status = http.StatusConflict
	}
	v.show(status, "selected", data)
}

// Dangerous reports whether what is done cannot be taken back with a click.
func (d selectedView) Dangerous() bool { return d.Did == "delete" || d.Did == "jump-off" }

func (pages selectedPages) selectedRules(v *request) {
	pages.actOnSelected(v, map[string]act{
		"publish": func(ctx context.Context, appid, prefix string) error {
			_, err := v.api.Rules.Publish(ctx, appid, prefix)
			return err
		},
		"delete": func(ctx context.Context, appid, prefix string) error {
			_, err := v.api.Rules.Delete(ctx, appid, prefix)
			return err
		},
	}, Root+"/rules")
}

func (pages selectedPages) selectedAccounts(v *request) {
	open := func(is bool) act {
		return func(ctx context.Context, appid, _ string) error {
			return v.api.Accounts.SetRulesEnabled(ctx, appid, is)
		}
	}
	pages.actOnSelected(v, map[string]act{"jump-on": open(true), "jump-off": open(false)}, Root+"/accounts")
}
