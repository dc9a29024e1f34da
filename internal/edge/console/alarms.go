package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// alarmsView contains the data of the page of alarms.
type alarmsView struct {
	State    string // filter: "" = neither acknowledged nor dismissed; "all" = all alarms; else the state of the admin API
	Batch    string // only alarms of codes of this application; "" = all applications
	Group    string // grouping of the list: "" = by application and day; "application", "network", "account" or "day"
	Order    string // "" = newest first, "score" = highest score first
	Assignee string // only alarms of cases of this person; "" = any
	batch    int64  // number of the application Batch
	owner    string // only alarms of codes of this account; "" = all accounts that the visitor may see
	Timeline *drawing
	Groups   []alarmGroup
	Cases    []choice // open cases, into which alarms can be put
	More     int64    // the next page lists alarms with numbers below More; 0 = last page
}

// alarmGroup contains the alarms of one application, network, account or day.
type alarmGroup struct {
	Title   string
	Account string // AppID shown next to the title; "" = alarms of several accounts
	Alarms  []alarmView
}

// alarmView is an alarm with its reasons translated to the reader's language.
type alarmView struct {
	client.Alarm
	Reasons []string
	Brief   string // the reasons in one line
}

// File returns the download address of the alarms on the page in a file format.
func (d alarmsView) File(format string) string {
	q := url.Values{"state": {d.State}, "batch": {d.Batch}, "assignee": {d.Assignee}}
	return Root + "/statistics/alarms." + format + "?" + q.Encode()
}

// query returns the admin API's query for the alarms on the page.
func (d alarmsView) query() client.AlarmQuery {
	q := client.AlarmQuery{ApplicationID: d.batch, Owner: d.owner, State: d.State, Assignee: d.Assignee}
	switch d.State {
	case "all":
		q.State = ""
	case "":
		q.State, q.Acknowledged = "open", wordIf(d.Assignee == "", "false") // the alarms of a case are acknowledged
	}
	return q
}

// alarmsAsked parses the query of the URL.
func (v *request) alarmsAsked() (d alarmsView, err error) {
	q := v.r.URL.Query()
	d = alarmsView{State: q.Get("state"), Batch: strings.TrimSpace(q.Get("batch")), Group: q.Get("group"), Order: q.Get("order"),
		Assignee: strings.TrimSpace(q.Get("assignee")), owner: v.Account()}
	d.batch, err = v.number("batch")
	return d, err
}

func (v *request) withReasons(list []client.Alarm) []alarmView {
	shown := make([]alarmView, 0, len(list))
	for _, alarm := range list {
		a := alarmView{Alarm: alarm, Reasons: mapped(alarm.Reasons, func(reason client.AlarmReason) string {
			return view{request: v}.In(reason.English, reason.Chinese)
		})}
		var facts []string
		for _, f := range factsOf(alarm.Details) {
			if f.Name != "scans" && f.Name != "days" {
				facts = append(facts, v.say("alarm.known."+f.Name)+" "+separated(f.Value))
			}
		}
		if a.Brief = strings.Join(facts, " · "); alarm.Kind != client.CopiedCode || a.Brief == "" {
			a.Brief = i18n.Sentences(v.Language, a.Reasons)
		}
		shown = append(shown, a)
	}
	return shown
}

func (pages alarmPages) alarms(v *request) error {
	data, err := v.alarmsAsked()
	query := data.query()
	query.Newest, query.Limit = true, alarmRows
	if err := cmp.Or(err, v.query(&query, "before")); err != nil {
		return err
	}
	list, err := v.api.Alarms.List(v.ctx(), query)
	if err != nil {
		return err
	}
	if n := len(list); n == alarmRows {
		data.More = list[n-1].ID
	}
	data.Timeline = v.alarmTimeline(list)
	if data.Order == "score" {
		slices.SortStableFunc(list, func(a, b client.Alarm) int { return cmp.Compare(b.Score, a.Score) })
	}
	indexes := map[string]int{} // of groups
	for _, a := range v.withReasons(list) {
		g, err := v.alarmGroup(data.Group, a.Alarm)
		if err != nil {
			return err
		}
		i, known := indexes[g.Title+" "+g.Account]
		if !known {
			i, indexes[g.Title+" "+g.Account] = len(data.Groups), len(data.Groups)
			data.Groups = append(data.Groups, g)
		}
		data.Groups[i].Alarms = append(data.Groups[i].Alarms, a)
	}
	if len(list) > 0 && (view{request: v}).HasRole("marketer") {
		data.Cases, err = v.openCases()
	}
	return v.page("alarms", data, err)
}

// alarmRows is the maximum number of alarms on a page.
const alarmRows = 200

// alarmGroup returns the group to which an alarm belongs; the group's list of alarms is still empty.
func (v *request) alarmGroup(group string, a client.Alarm) (alarmGroup, error) {
	_, zone := view{request: v}.pageTime()
	application, day := v.say("batch", a.ApplicationID), a.OccurredAt.In(zone).Format(time.DateOnly)
	if a.ApplicationID == 0 {
		application = a.Prefix
	}
	switch group {
	case "application":
		return alarmGroup{Title: application, Account: a.Account}, nil
	case "account":
		return alarmGroup{Account: a.Account}, nil
	case "day":
		return alarmGroup{Title: day}, nil
	case "network": // of the scan that raised the alarm; it is not stored in the alarm, so that the erasure of a user deletes it
		var scan client.RecordedScan
		var err error
		if a.ScanID != "" {
			scan, err = v.api.Scans.Get(v.ctx(), a.ScanID)
		}
		if _, gone := refused(err, http.StatusNotFound); gone {
			err = nil
		}
		return alarmGroup{Title: cmp.Or(scan.Network, v.say("alarms.network.none"))}, err
	}
	return alarmGroup{Title: application + " · " + day, Account: a.Account}, nil
}

// alarmTimeline draws the number of alarms of each day, from the first alarm of the page on.
func (v *request) alarmTimeline(list []client.Alarm) *drawing {
	if len(list) == 0 || list[0].ID == 0 { // codes to watch, which have no alarm
		return nil
	}
	now, zone := view{request: v}.pageTime()
	midnight := func(t time.Time) time.Time {
		y, m, d := t.In(zone).Date()
		return time.Date(y, m, d, 0, 0, 0, 0, zone)
	}
	counted := client.Statistics{From: midnight(list[len(list)-1].OccurredAt), To: now.Add(time.Minute), Now: now}
	if least := midnight(now).AddDate(0, 0, -13); counted.From.After(least) {
		counted.From = least
	}
	for _, a := range list {
		day := midnight(a.OccurredAt)
		if n := len(counted.Rows); n > 0 && counted.Rows[n-1].StartsAt.Equal(day) {
			counted.Rows[n-1].Scans++
		} else {
			counted.Rows = append(counted.Rows, client.StatisticsRow{StartsAt: &day, Scans: 1})
		}
	}
	slices.SortFunc(counted.Rows, func(a, b client.StatisticsRow) int { return a.StartsAt.Compare(*b.StartsAt) })
	t := timelineOf(counted, "day")
	if len(t.rows) == 0 {
		return nil
	}
	d := v.draw(alarmChart, t, timeline{}, t.maximum(), nil)
	return &d
}

// actOnAlarm acknowledges or confirms the selected alarms, dismisses the selected alarms with one note, or freezes the code of an alarm.
func (pages alarmPages) actOnAlarm(v *request) error {
	_ = v.r.ParseForm()
	form := v.r.FormValue
	var ids []int64
	for _, text := range v.r.PostForm["id"] {
		id, wrong := strconv.ParseInt(text, 10, 64)
		if wrong != nil || len(ids) == alarmRows {
			return v.reject("fault.form")
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return v.refuse(http.StatusUnprocessableEntity, "", v.say("selected.none"))
	}
	to := v.r.URL.Query()
	to.Set("done", "alarm")
	each := func(call func(context.Context, int64) (client.Alarm, error)) action {
		return action{call: func() (err error) {
			for i := 0; i < len(ids) && err == nil; i++ {
				_, err = call(v.ctx(), ids[i])
			}
			if _, is := refused(err, http.StatusUnprocessableEntity); is {
				return v.refuse(http.StatusUnprocessableEntity, "note", v.say("alarms.note.wrong"))
			}
			return err
		}}
	}
	change := func(c client.Acknowledgement) action {
		return each(func(ctx context.Context, id int64) (client.Alarm, error) { return v.api.Alarms.Acknowledge(ctx, id, c) })
	}
	note, title := v.word("note"), v.word("case_title")
	group, _ := strconv.ParseInt(form("to_case"), 10, 64)
	assign := change(client.Acknowledgement{Case: &group, Note: given(note)})
	if form("did") == "assign" && group == 0 {
		assign.call = func() error {
			put := client.CasePut{Title: title, Note: note, Alarms: ids}
			return onlyError(v.api.Alarms.CreateCase(v.ctx(), client.NewCase{CasePut: put, Account: v.Account()}))
		}
		if title == "" {
			return v.refuse(http.StatusUnprocessableEntity, "case_title", v.say("cases.title.missing"))
		}
	}
	return v.perform(Root+"/alarms?"+to.Encode(), map[string]action{
		"acknowledge": change(client.Acknowledgement{Note: given(note)}),
		"confirm":     change(client.Acknowledgement{Confirm: true, Note: given(note)}),
		"assign":      assign,
		"dismiss": each(func(ctx context.Context, id int64) (client.Alarm, error) {
			return v.api.Alarms.Dismiss(ctx, id, v.word("note"))
		}),
		"freeze": {"sure.freeze", form("code"), func() error {
			name := client.ParseCodeName(form("code"))
			if name.ID == 0 {
				return v.reject("fault.form")
			}
			return onlyError(v.api.Codes.Update(v.ctx(), name.ID, client.Freeze, codesOf(name.Index, name.Index)))
		}},
	})
}

// given returns nil for an empty text.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// batchAlarmView contains the alarm settings of an application on its page.
type batchAlarmView struct {
	client.BatchAlarm
	Asked  string // the threshold that the visitor typed
	Replay *client.AlarmReplay
}

// setBatchAlarm sets the score from which codes of an application raise alarms, or shows which alarms a threshold would have raised.
func (pages alarmPages) setBatchAlarm(v *request, batch int64) error {
	data := batchView{Alarm: &batchAlarmView{Asked: v.word("threshold")}}
	threshold, wrong := strconv.ParseInt(data.Alarm.Asked, 10, 64)
	var put client.BatchAlarmPut
	switch did := v.r.FormValue("did"); {
	case did == "off":
		put.Off = true
	case did == "default":
	case (did == "set" || did == "replay" || did == "propose") && (wrong != nil || threshold < 1 || threshold > 100_000):
		return v.refuse(http.StatusUnprocessableEntity, "threshold", v.say("batch.alarm.wrong"))
	case did == "propose" && v.r.FormValue("sure") == "":
		return v.confirm(http.StatusOK, sureView{Text: v.say("batch.alarm.proposed.sure", threshold), Token: "1", Harmless: true})
	case did == "set" || did == "propose":
		put.Threshold = threshold
	case did == "replay":
		replayed, err := v.api.Batches.ReplayAlarms(v.ctx(), batch, threshold)
		data.Alarm.Replay = &replayed
		return afterwards(err, func() error { return codePages{}.showBatch(v, batch, data) })
	default:
		return v.reject("fault.form")
	}
	_, err := v.api.Batches.SetAlarmThreshold(v.ctx(), batch, put)
	return v.done(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch), err)
}
