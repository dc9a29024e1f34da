package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// selectedView shows the result of an action on several rows.
type selectedView struct {
	Count, Done int
	Faults      [][3]string // failed rows with the reasons
	Back        string
}

// act is an action on a selected row: on a rule of an account, or on an account.
type act func(appid, prefix string) error

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
	rows := make([][2]string, len(keys))
	for i, key := range keys {
		rows[i][0], rows[i][1], _ = strings.Cut(key, " ")
	}
	if v.r.FormValue("sure") == "" {
		return pages.confirmSelected(v, did, rows, back)
	}
	status, data := http.StatusOK, selectedView{Count: len(rows), Back: back}
	for _, row := range rows {
		err := a(row[0], row[1])
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
			v.c.Log.ErrorContext(v.r.Context(), "bulk action failed for one object", "action", did, "error", err)
		}
		data.Faults = append(data.Faults, [3]string{row[0], row[1], reason})
	}
	if len(data.Faults) > 0 && (data.Done > 0 || status == http.StatusOK) {
		status = http.StatusConflict
	}
	return v.show(status, "selected", data)
}

// confirmSelected asks for confirmation of an action on rows, and shows the effect that a change of rules would have had on past scans.
func (pages rulePages) confirmSelected(v *request, did string, rows [][2]string, back string) (err error) {
	asked := sureView{Text: v.say("selected."+did, len(rows)), Rows: rows, Token: "1", Back: back,
		Harmless: did != "delete" && did != "jump-off"}
	if did == "publish" || did == "delete" {
		asked.Foreseen, err = v.foresee(mapped(rows, func(row [2]string) client.PlannedRule {
			return client.PlannedRule{Action: did, Owner: row[0], Prefix: row[1]}
		})...)
	}
	return afterwards(err, func() error { return v.confirm(http.StatusOK, asked) })
}

func (pages rulePages) selectedRules(v *request) error {
	return pages.actOnSelected(v, map[string]act{
		"publish": func(appid, prefix string) error { return onlyError(v.api.Rules.Publish(v.ctx(), appid, prefix)) },
		"delete":  func(appid, prefix string) error { return onlyError(v.api.Rules.Delete(v.ctx(), appid, prefix)) },
	}, Root+"/rules")
}

func (pages rulePages) selectedAccounts(v *request) error {
	open := func(is bool) act {
		return func(appid, _ string) error { return v.api.Accounts.SetRulesEnabled(v.ctx(), appid, is) }
	}
	return pages.actOnSelected(v, map[string]act{"jump-on": open(true), "jump-off": open(false)}, Root+"/accounts")
}
