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

// alarmsView is the page of alarms.
type alarmsView struct {
	Which  string // "" = neither acknowledged nor dismissed; "standing" = not dismissed; "all"
	Batch  string // only of codes of this application; "" = of any
	batch  int64  // its number
	owner  string // only of codes of this account; "" = of all that the visitor may see
	Alarms []alarmView
	More   int64 // the number before which further alarms come; 0 = none do
}

// alarmView is an alarm with its reasons in the reader's language.
type alarmView struct {
	client.Alarm
	Reasons []string
	Query   template.URL // of the list to which its forms lead back, with its question mark
}

// Name returns the code's, as people type it.
func (a alarmView) Name() string { return fmt.Sprintf("%d:%d", a.ApplicationID, a.CodeIndex) }

// File returns the address of the alarms of the page as a file.
func (d alarmsView) File(format string) string {
	return Root + "/statistics/alarms." + format + "?" + url.Values{"which": {d.Which}, "batch": {d.Batch}}.Encode()
}

// query returns the admin API's query for these alarms.
func (d alarmsView) query() client.AlarmQuery {
	return client.AlarmQuery{Open: d.Which != "all" && d.Which != "standing", Standing: d.Which == "standing", ApplicationID: d.batch,
		Owner: d.owner}
}

// alarmsAsked parses the query of the address; false if it is wrong, and a page said why.
func (v *request) alarmsAsked() (d alarmsView, ok bool) {
	q := v.r.URL.Query()
	d = alarmsView{Which: q.Get("which"), Batch: strings.TrimSpace(q.Get("batch")), owner: v.account()}
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
		if len(a.Reasons) == 0 { // from a server that gives no reasons
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

// actOnAlarm notes that an alarm was seen, takes it back with a note, or freezes its code.
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
			if data.Which == "" {
				data.Which = "standing" // it may have been acknowledged
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

// batchAlarmView is the alarm of an application on its page.
type batchAlarmView struct {
	client.BatchAlarm
	Asked  string // the threshold that was typed
	Replay *client.AlarmReplay
}

// setBatchAlarm sets the score from which on codes of an application raise alarms, or says which
// alarms a threshold would have raised.
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
