package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// alarmsView is the page of alarms.
type alarmsView struct {
	Which  string // "" = those that nobody acknowledged or dismissed; standing = those that nobody dismissed; all
	Batch  string // only of codes of this application; "" = of any
	Alarms []alarmView
	More   int64 // the number after which others follow; 0 = none do
	Fault  string
	Wrong  string // the alarm whose form was refused
	Note   string // as it was typed there
}

// alarmView is an alarm with its reasons in the reader's language.
type alarmView struct {
	client.Alarm
	Reasons []string
}

// Code is the code's name, as people type it.
func (a alarmView) Code() string { return fmt.Sprintf("%d:%d", a.ApplicationID, a.CodeIndex) }

// Number is the alarm's, as forms send it.
func (a alarmView) Number() string { return strconv.FormatInt(a.ID, 10) }

// File is where the alarms of the page are as a file.
func (d alarmsView) File(format string) string {
	return Root + "/statistics/alarms." + format + "?" + url.Values{"which": {d.Which}, "batch": {d.Batch}}.Encode()
}

// alarmsAsked is what the address asks for.
func (v *visit) alarmsAsked() alarmsView {
	q := v.r.URL.Query()
	return alarmsView{Which: q.Get("which"), Batch: strings.TrimSpace(q.Get("batch"))}
}

// alarmList reads alarms after a number.
func (v *visit) alarmList(d alarmsView, after string, limit int) ([]alarmView, error) {
	asked := url.Values{"limit": {strconv.Itoa(limit)}}
	if d.Which != "all" && d.Which != "standing" {
		asked.Set("open", "true")
	} else if d.Which == "standing" {
		asked.Set("standing", "true")
	}
	for name, value := range map[string]string{"after": after, "application_id": d.Batch} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	var list struct{ Alarms []client.Alarm }
	err := v.ask("GET", "/alarms?"+asked.Encode(), nil, &list)
	return v.withReasons(list.Alarms), err
}

func (v *visit) withReasons(list []client.Alarm) []alarmView {
	shown := make([]alarmView, 0, len(list))
	for _, one := range list {
		a := alarmView{Alarm: one}
		for _, reason := range one.Reasons {
			a.Reasons = append(a.Reasons, view{visit: v}.In(reason.English, reason.Chinese))
		}
		if len(a.Reasons) == 0 { // of a server that says none
			a.Reasons = []string{string(one.Why)}
		}
		shown = append(shown, a)
	}
	return shown
}

func (c *Console) alarms(v *visit) { v.showAlarms(http.StatusOK, v.alarmsAsked()) }

func (v *visit) showAlarms(status int, data alarmsView) {
	var err error
	if data.Alarms, err = v.alarmList(data, v.r.URL.Query().Get("after"), pageRows); v.failed(err) {
		return
	}
	if n := len(data.Alarms); n == pageRows {
		data.More = data.Alarms[n-1].ID
	}
	v.show(status, "alarms", data)
}

// actOnAlarm notes that an alarm was seen, takes it back with a note, or freezes its code.
func (c *Console) actOnAlarm(v *visit) {
	form := v.r.FormValue
	id, wrong := strconv.ParseInt(form("id"), 10, 64)
	if wrong != nil {
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	who := v.caller.Name
	if who == "" {
		who = "admin"
	}
	var err error
	switch form("did") {
	case "acknowledge":
		err = v.ask("POST", fmt.Sprintf("/alarms/%d/acknowledge", id), map[string]string{"actor": who}, nil)
	case "dismiss":
		note := strings.TrimSpace(form("note"))
		err = v.ask("POST", fmt.Sprintf("/alarms/%d/dismiss", id), map[string]string{"note": note, "actor": who}, nil)
		if said, ok := errors.AsType[refusal](err); ok && said.Status == http.StatusUnprocessableEntity {
			data := v.alarmsAsked()
			if data.Fault, data.Wrong, data.Note = v.say("alarms.note.wrong"), form("id"), note; data.Which == "" {
				data.Which = "standing" // it may have been acknowledged
			}
			v.showAlarms(said.Status, data)
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
		body := map[string]any{"did": "freeze", "ranges": []map[string]int64{{"from": index, "to": index}}}
		err = v.ask("POST", fmt.Sprintf("/batches/%d/states", batch), body, nil)
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
	Fault  string
}

// setBatchAlarm chooses from which score on codes of an application are alarmed, or says what a threshold would have given.
func (c *Console) setBatchAlarm(v *visit) {
	batch, err := strconv.ParseInt(v.r.PathValue("batch"), 10, 64)
	if err != nil {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	data := batchView{Alarm: &batchAlarmView{Asked: strings.TrimSpace(v.r.FormValue("threshold"))}}
	threshold, wrong := strconv.ParseInt(data.Alarm.Asked, 10, 64)
	body := map[string]any{}
	switch did := v.r.FormValue("did"); {
	case did == "off":
		body["off"] = true
	case did == "default":
	case (did == "set" || did == "replay") && (wrong != nil || threshold < 1 || threshold > 100_000):
		data.Alarm.Fault = v.say("batch.alarm.wrong")
		v.showBatch(http.StatusUnprocessableEntity, batch, data)
		return
	case did == "set":
		body["threshold"] = threshold
	case did == "replay":
		if !v.failed(v.ask("GET", fmt.Sprintf("/batches/%d/alarm/replay?threshold=%d", batch, threshold), nil, &data.Alarm.Replay)) {
			v.showBatch(http.StatusOK, batch, data)
		}
		return
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(v.ask("PUT", fmt.Sprintf("/batches/%d/alarm", batch), body, nil)) {
		v.redirect(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch))
	}
}
