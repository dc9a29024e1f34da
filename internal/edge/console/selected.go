package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// selectedView asks for confirmation of an action on several rows, or shows the result for each row.
type selectedView struct {
	Text   string // the action and the number of rows
	Did    string
	Action string
	Keys   []string // the keys of the rows as the form submits them
	Shown  [][2]string
	Done   int
	Faults [][3]string // failed rows with the reasons
	Asked  bool        // true while the page asks for confirmation
	// Foreseen is the effect that the action would have had on scans of the last days; nil = the action changes no rules.
	Foreseen *impact
	Back     string
}

// act is an action on a selected row: on a rule of an account, or on an account.
type act func(ctx context.Context, appid, prefix string) error

// actOnSelected asks for confirmation of an action on the selected rows, then executes the action for each row separately, so that
// an error for one row does not stop the action for other rows. A selected row is given as "owner prefix" or as an AppID.
func (pages rulePages) actOnSelected(v *request, acts map[string]act, back string) error {
	_ = v.r.ParseForm()
	did := v.r.FormValue("did")
	a, known := acts[did]
	keys := slices.Compact(slices.Sorted(slices.Values(v.r.PostForm["selected"])))
	switch {
	case !known, len(keys) > pageRows:
		return v.reject("fault.form")
	case len(keys) == 0:
		return v.reject("selected.none")
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
			if reason, status = v.problemText(said), said.Status; status == http.StatusForbidden {
				return err // no other row can succeed: the same permission is needed for every row
			}
		} else {
			v.c.Log.ErrorContext(v.r.Context(), "one of several could not be changed", "did", did, "error", err)
		}
		data.Faults = append(data.Faults, [3]string{subject, name, reason})
	}
	if data.Asked && (did == "publish" || did == "delete") {
		plan := make([]client.PlannedRule, len(data.Shown))
		for i, values := range data.Shown {
			plan[i] = client.PlannedRule{Action: did, Owner: values[0], Prefix: values[1]}
		}
		if err := storeResult(&data.Foreseen)(v.foresee(plan...)); err != nil {
			return err
		}
	}
	if len(data.Faults) > 0 && (data.Done > 0 || status == http.StatusOK) {
		status = http.StatusConflict
	}
	return v.show(status, "selected", data)
}

// Dangerous reports whether the action cannot be undone with a click.
func (d selectedView) Dangerous() bool { return d.Did == "delete" || d.Did == "jump-off" }

func (pages rulePages) selectedRules(v *request) error {
	return pages.actOnSelected(v, map[string]act{
		"publish": func(ctx context.Context, appid, prefix string) error {
			return onlyError(v.api.Rules.Publish(ctx, appid, prefix))
		},
		"delete": func(ctx context.Context, appid, prefix string) error {
			return onlyError(v.api.Rules.Delete(ctx, appid, prefix))
		},
	}, Root+"/rules")
}

func (pages rulePages) selectedAccounts(v *request) error {
	open := func(is bool) act {
		return func(ctx context.Context, appid, _ string) error {
			return v.api.Accounts.SetRulesEnabled(ctx, appid, is)
		}
	}
	return pages.actOnSelected(v, map[string]act{"jump-on": open(true), "jump-off": open(false)}, Root+"/accounts")
}
