package console

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// casesView contains the data of the list of cases.
type casesView struct {
	client.CaseQuery
	Cases []client.Case
	New   client.CasePut
}

// caseView contains the data of the page of a case.
type caseView struct {
	client.Case
	Put    client.CasePut
	Alarms []alarmView
}

// Sheet returns the address of the report in a file format.
func (d caseView) Sheet(format string) string {
	return fmt.Sprintf("%s/cases/%d/sheet.%s", Root, d.ID, format)
}

func (pages alarmPages) cases(v *request) error {
	data := casesView{CaseQuery: client.CaseQuery{Owner: v.Account(), Limit: pageRows}}
	err := v.query(&data.CaseQuery, "before state assignee")
	if err == nil {
		data.Cases, err = v.api.Alarms.ListCases(v.ctx(), data.CaseQuery)
	}
	return v.page("cases", data, err)
}

func (pages alarmPages) makeCase(v *request) error {
	var put client.CasePut
	if err := v.showInvalid(v.decode(&put, "title assignee note")); err != nil {
		return err
	}
	made, err := v.api.Alarms.CreateCase(v.ctx(), client.NewCase{CasePut: put, Account: v.Account()})
	return v.done(fmt.Sprintf("%s/cases/%d?done=alarm", Root, made.ID), err)
}

func (pages alarmPages) oneCase(v *request, id int64) error {
	c, err := v.api.Alarms.GetCase(v.ctx(), id)
	data := caseView{Case: c, Put: client.CasePut{Title: c.Title, State: c.State, Assignee: c.Assignee, Note: c.Note},
		Alarms: v.withReasons(c.Alarms)}
	return v.page("case", data, err)
}

// changeCase saves the fields of a case, or removes the selected alarms from the case.
func (pages alarmPages) changeCase(v *request, id int64) error {
	var put client.CasePut
	if err := v.showInvalid(v.decode(&put, "title state assignee note")); err != nil {
		return err
	}
	return v.perform(fmt.Sprintf("%s/cases/%d?done=alarm", Root, id), map[string]action{
		"save": {call: func() error { return onlyError(v.api.Alarms.UpdateCase(v.ctx(), id, put)) }},
		"remove": {call: func() error {
			selected := v.r.PostForm["id"]
			if len(selected) == 0 {
				return v.reject("selected.none")
			}
			c, err := v.api.Alarms.GetCase(v.ctx(), id)
			if err != nil {
				return err
			}
			v.saw = cmp.Or(v.r.PostForm.Get(revisionField), c.Revision)
			put = client.CasePut{Title: c.Title, State: c.State, Assignee: c.Assignee, Note: c.Note, Alarms: []int64{}}
			for _, alarm := range c.Alarms {
				if !slices.Contains(selected, strconv.FormatInt(alarm.ID, 10)) {
					put.Alarms = append(put.Alarms, alarm.ID)
				}
			}
			return onlyError(v.api.Alarms.UpdateCase(v.ctx(), id, put))
		}},
	})
}

// caseSheet sends the report of a case as a file, in the language of the page.
func (pages alarmPages) caseSheet(v *request) error {
	format, known := strings.CutPrefix(v.r.PathValue("sheet"), "sheet.")
	if !known || !slices.Contains([]string{"pdf", "html"}, format) {
		return v.nowhere()
	}
	language := cmp.Or(wordIf(v.Chinese(), "zh"), "en")
	path := "/cases/" + url.PathEscape(v.r.PathValue("case")) + "/sheet?"
	return v.forward("GET", path+url.Values{"format": {format}, "language": {language}}.Encode(), "", nil)
}

// openCases returns the open cases as choices, newest first.
func (v *request) openCases() ([]choice, error) {
	list, err := v.api.Alarms.ListCases(v.ctx(), client.CaseQuery{State: "open", Owner: v.Account(), Limit: alarmRows})
	choices := []choice{{"", v.say("cases.new")}}
	for _, c := range list {
		choices = append(choices, choice{strconv.FormatInt(c.ID, 10), c.Title})
	}
	return choices, err
}
