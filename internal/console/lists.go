package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

func jsonOf(a *answered, out any) error { return json.Unmarshal(a.body.Bytes(), out) }

// narrowed is an AppID that a list is limited to: what the address says, or the only
// one that the visitor may see.
func (v *visit) narrowed(name string) string {
	if asked := strings.TrimSpace(v.r.URL.Query().Get(name)); asked != "" || len(v.caller.Accounts) == 0 {
		return asked
	}
	return v.caller.Accounts[0]
}

const pageRows = 50

type rulesView struct {
	Owner, Prefix string
	Rules         []client.StoredRule
	History       []client.RuleChange
	Occupiers     []client.StoredRule
	Left          string // publishes of this month
	More          int64  // the last id, where there are more
}

func (c *Console) rules(v *visit) {
	q := v.r.URL.Query()
	data := rulesView{Owner: v.narrowed("owner"), Prefix: strings.TrimSpace(q.Get("prefix"))}
	if data.Prefix != "" {
		var history client.RuleChanges
		var occupiers client.StoredRuleList
		asked := "?prefix=" + url.QueryEscape(data.Prefix)
		if v.failed(v.ask("GET", "/rules/history"+asked, nil, &history)) ||
			v.failed(v.ask("GET", "/rules/occupiers"+asked, nil, &occupiers)) {
			return
		}
		data.History, data.Occupiers = history.Changes, occupiers.Rules
		v.show(http.StatusOK, "rules", data)
		return
	}
	asked := url.Values{"limit": {strconv.Itoa(pageRows)}}
	for name, value := range map[string]string{"owner": data.Owner, "after": q.Get("after")} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	var list client.StoredRuleList
	if v.failed(v.ask("GET", "/rules?"+asked.Encode(), nil, &list)) {
		return
	}
	data.Rules = list.Rules
	if len(list.Rules) == pageRows {
		data.More = list.Rules[pageRows-1].ID
	}
	if data.Owner != "" {
		var left client.Quota
		if v.ask("GET", "/accounts/"+url.PathEscape(data.Owner)+"/quota", nil, &left) == nil { // else it is no Mini Program
			data.Left = strconv.Itoa(left.PublishesLeft)
		}
	}
	v.show(http.StatusOK, "rules", data)
}

// undo restores what was before a change.
func (c *Console) undo(v *visit) {
	seq, err := strconv.ParseInt(v.r.FormValue("seq"), 10, 64)
	if err != nil {
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(v.ask("POST", fmt.Sprintf("/rules/changes/%d/undo", seq), nil, nil)) {
		v.redirect(Root + "/rules?done=undone&prefix=" + url.QueryEscape(v.r.FormValue("prefix")))
	}
}
