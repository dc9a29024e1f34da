package console

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

func (pages alarmPages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"POST /console/codes/{batch}/alarm": pages.setBatchAlarm,
		"GET /console/alarms":               pages.alarms,
		"POST /console/alarms":              pages.actOnAlarm,
		"GET /console/alarms/{alarm}":       pages.alarm,
	}
}

// alarmsView holds the data of the page of alarms.
type alarmsView struct {
	State  string // filter: "" = neither acknowledged nor dismissed; "open" = not dismissed; "all" = all alarms
	Batch  string // only alarms of codes of this application; "" = all applications
	batch  int64  // its number
	owner  string // only alarms of codes of this account; "" = all accounts that the visitor may see
	Alarms []alarmView
	More   int64 // the alarm number before which the next page starts; 0 = last page
}

// alarmView is an alarm with its reasons translated to the reader's language.
type alarmView struct {
	client.Alarm
	Reasons []string
	Query   template.URL // the query string of the list to which the forms return, including "?"
}

// Name returns the name of the alarm's code as people type it.
func (a alarmView) Name() string { return fmt.Sprintf("%d:%d", a.ApplicationID, a.CodeIndex) }

// File returns the download address of the alarms on the page in a file format.
func (d alarmsView) File(format string) string {
	return Root + "/statistics/alarms." + format + "?" + url.Values{"state": {d.State}, "batch": {d.Batch}}.Encode()
}

// query returns the admin API's query for the alarms on the page.
func (d alarmsView) query() client.AlarmQuery {
	q := client.AlarmQuery{ApplicationID: d.batch, Owner: d.owner}
	if d.State != "all" {
		q.State = "open"
	}
	if d.State == "" {
		q.Acknowledged = "false"
	}
	return q
}

// alarmsAsked parses the query of the URL, or returns false after writing an error page.
func (v *request) alarmsAsked() (d alarmsView, ok bool) {
	q := v.r.URL.Query()
	d = alarmsView{State: q.Get("state"), Batch: strings.TrimSpace(q.Get("batch")), owner: v.account()}
	d.batch, ok = v.number("batch")
	return d, ok
}

func (v *request) withReasons(list []client.Alarm) []alarmView {
	shown := make([]alarmView, 0, len(list))
	for _, alarm := range list {
		a := alarmView{Alarm: alarm}
		for _, reason := range alarm.Reasons {
			a.Reasons = append(a.Reasons, view{request: v}.In(reason.English, reason.Chinese))
		}
		if len(a.Reasons) == 0 { // an older server sends no reasons
			a.Reasons = []string{string(alarm.Details)}
		}
		shown = append(shown, a)
	}
	return shown
}

func (pages alarmPages) alarms(v *request) {
	if data, ok := v.alarmsAsked(); ok {
		pages.showAlarms(v, http.StatusOK, data)
	}
}

func (pages alarmPages) showAlarms(v *request, status int, data alarmsView) {
	query, ok := data.query(), true
	if query.Before, ok = v.number("before"); !ok {
		return
	}
	query.Newest, query.Limit = true, pageRows
	list, err := v.api.Alarms.List(v.ctx(), query)
	if v.failed(err) {
		return
	}
	data.Alarms = v.withReasons(list)
	if n := len(data.Alarms); n == pageRows {
		data.More = data.Alarms[n-1].ID
	}
	for i := range data.Alarms {
		data.Alarms[i].Query = template.URL("?" + v.r.URL.Query().Encode())
	}
	v.show(status, "alarms", data)
}

// actOnAlarm acknowledges an alarm, dismisses an alarm with a note, or freezes the code of an alarm.
func (pages alarmPages) actOnAlarm(v *request) {
	form := v.r.FormValue
	id, wrong := strconv.ParseInt(form("id"), 10, 64)
	if wrong != nil {
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	ctx, err := v.ctx(), error(nil)
	switch form("did") {
	case "acknowledge":
		_, err = v.api.Alarms.Acknowledge(ctx, id)
	case "dismiss":
		note := strings.TrimSpace(form("note"))
		_, err = v.api.Alarms.Dismiss(ctx, id, note)
		if said, is := refused(err, http.StatusUnprocessableEntity); is {
			data, ok := v.alarmsAsked()
			if !ok {
				return
			}
			v.rejected = newRejectedForm(v.r, map[string]string{"note": v.say("alarms.note.wrong")})
			if data.State == "" {
				data.State = "open" // the default list would hide the alarm if it was acknowledged
			}
			pages.showAlarms(v, said.Status, data)
			return
		}
	case "freeze":
		first, second, _ := strings.Cut(form("code"), ":")
		batch, wrong := strconv.ParseInt(first, 10, 64)
		index, bad := strconv.ParseInt(second, 10, 64)
		if wrong != nil || bad != nil {
			v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
			return
		}
		if !v.sure("sure.freeze", form("code")) {
			return
		}
		_, err = v.api.Codes.Update(ctx, batch, client.Freeze, codesOf(index, index))
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		to := v.r.URL.Query()
		to.Set("done", "alarm")
		v.redirect(Root + "/alarms?" + to.Encode())
	}
}

// batchAlarmView holds the alarm settings of an application on its page.
type batchAlarmView struct {
	client.BatchAlarm
	Asked  string // the threshold that the visitor typed
	Replay *client.AlarmReplay
}

// setBatchAlarm sets the score from which codes of an application raise alarms, or shows which alarms a threshold would have
// raised.
func (pages alarmPages) setBatchAlarm(v *request) {
	batch, err := strconv.ParseInt(v.r.PathValue("batch"), 10, 64)
	if err != nil {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	data := batchView{Alarm: &batchAlarmView{Asked: strings.TrimSpace(v.r.FormValue("threshold"))}}
	threshold, wrong := strconv.ParseInt(data.Alarm.Asked, 10, 64)
	var put client.BatchAlarmPut
	switch did := v.r.FormValue("did"); {
	case did == "off":
		put.Off = true
	case did == "default":
	case (did == "set" || did == "replay") && (wrong != nil || threshold < 1 || threshold > 100_000):
		v.refuse(http.StatusUnprocessableEntity, "threshold", v.say("batch.alarm.wrong"))
		return
	case did == "set":
		put.Threshold = threshold
	case did == "replay":
		data.Alarm.Replay = &client.AlarmReplay{}
		if !v.failed(storeResult(data.Alarm.Replay)(v.api.Batches.ReplayAlarms(v.ctx(), batch, threshold))) {
			(codePages{}).showBatch(v, http.StatusOK, batch, data)
		}
		return
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if _, err := v.api.Batches.SetAlarmThreshold(v.ctx(), batch, put); !v.failed(err) {
		v.redirect(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch))
	}
}
