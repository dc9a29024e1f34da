package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type codesView struct {
	Batches []client.Batch
	Asked   string
	Found   *client.StoredCode
	Scans   *client.CodeScans // nil if the code has no scans, or the visitor may not see scans
	Error   string
}

// codes lists applications and shows the state of a code.
func (pages codePages) codes(v *request) error {
	q := v.r.URL.Query()
	data := codesView{Asked: strings.TrimSpace(q.Get("code"))}
	status := http.StatusOK
	if key := q.Get("fault"); v.Has("scan.fault." + key) {
		data.Error = v.say("scan.fault." + key)
	}
	if data.Asked != "" {
		found, err := v.api.Codes.Get(v.ctx(), client.ParseCodeName(data.Asked))
		if said, is := refused(err, http.StatusNotFound, http.StatusUnprocessableEntity); is {
			data.Error, status = v.say("codes.unknown"), said.Status
		} else if err != nil {
			return err
		} else {
			data.Found = &found
			// the visitor searched for the code, so an error of GetScans only omits the scans from the page
			if scans, err := v.api.Codes.GetScans(v.ctx(), found.ApplicationID, found.CodeIndex); err == nil {
				data.Scans = &scans
			}
		}
	}
	wanted := client.BatchQuery{Account: v.Account(), Limit: pageRows}
	wrong := v.query(&wanted, "after")
	if err := cmp.Or(wrong, storeResult(&data.Batches)(v.api.Batches.List(v.ctx(), wanted))); err != nil {
		return err
	}
	return v.show(status, "codes", data)
}

// codePicture looks up the code in an uploaded picture.
func (pages codePages) codePicture(v *request) error {
	text, fault, err := v.readPicture()
	return v.done(pictureText("/codes", "code", text, fault), err)
}

// batchView contains the data of the page of one application.
type batchView struct {
	Batch    client.Batch
	From     int64 // index of the first code in the map of code states
	Runs     []runView
	Next     int64 // index of the first code in the next part of the map of code states; 0 = last part
	Numbers  []number
	Events   []client.CodeEvent
	Whole    bool // whether all events are shown
	Segments []client.CodeRange
	Alarm    *batchAlarmView // nil if the visitor may not see the alarm settings
}

// numbersOf returns the numbers of an application; active = -1 means that the number of active codes is unknown.
func (v *request) numbersOf(b client.Batch, active int64) (list []number) {
	for _, n := range []struct {
		kind, name string
		n          int64
		share      bool
	}{{"", "codes.count", b.Count, false}, {"", "orders.active", active, true}, {"", "codes.redeemed", b.Redeemed, true},
		{"warn", "codes.frozen", b.Frozen, false}, {"bad", "codes.void", b.Void, false}} {
		if n.n < 0 {
			continue
		}
		list = append(list, number{Kind: wordIf(n.n, n.kind), Name: n.name, Value: separated(n.n),
			Beside: wordIf(n.share, view{request: v}.Percent(n.n, b.Count)+"%")})
	}
	return list
}

// Ticks returns the code indexes that label the axis of the map of code states.
func (d batchView) Ticks() (list []int64) {
	for i := int64(0); i <= 4 && len(d.Runs) > 0; i++ {
		list = append(list, d.From+i*(d.Runs[len(d.Runs)-1].To-d.From)/4)
	}
	return list
}

// runView is a run, that is, a range of consecutive codes with the same state, in the map of code states.
type runView struct {
	client.CodeRun
	State string // the strongest state that applies: void, frozen, redeemed, active or free
	Count int64
}

// FirstOf returns the first ten indexes, which fit in a row.
func (v view) FirstOf(indexes []int64) []int64 { return indexes[:min(len(indexes), 10)] }

// stateOf returns the name of the strongest state of the codes in r, which all have the same states.
func stateOf(r client.CodeRun) string {
	switch {
	case r.Void:
		return "void"
	case r.Frozen:
		return "frozen"
	case r.Redeemed:
		return "redeemed"
	case r.Active:
		return "active"
	}
	return "free"
}

const (
	// maxRuns is the maximum number of runs (runView) in a map of code states; maxEventRows is the maximum number of events on a page.
	maxRuns      = 200
	maxEventRows = 100
	// maxSegments is the maximum number of downloads that a page offers, enough for 2,500,000 codes.
	maxSegments = 50
)

func (pages codePages) batch(v *request, id int64) error { return pages.showBatch(v, id, batchView{}) }

func (pages codePages) showBatch(v *request, id int64, data batchView) error {
	ctx := v.ctx()
	if err := storeResult(&data.Batch)(v.api.Batches.Get(ctx, id)); err != nil {
		return err
	}
	if from, err := strconv.ParseInt(v.r.URL.Query().Get("from"), 10, 64); err == nil && from > 0 && from < data.Batch.Count {
		data.From = from
	}
	var runs client.CodeRuns
	if err := cmp.Or(storeResult(&runs)(v.api.Codes.ListRuns(ctx, id, client.CodeRange{From: data.From}, maxRuns)),
		storeResult(&data.Events)(v.api.Codes.ListEvents(ctx, id, 0, maxEventRows))); err != nil {
		return err
	}
	active := int64(0)
	for _, run := range runs.Runs {
		data.Runs = append(data.Runs, runView{run, stateOf(run), run.Len()})
		active += run.Len() * int64(b2i(run.Active))
	}
	if runs.More {
		data.Next = runs.Runs[len(runs.Runs)-1].To + 1
	}
	if runs.More || data.From > 0 {
		active = -1
	}
	data.Numbers = v.numbersOf(data.Batch, active)
	data.Whole = len(data.Events) < maxEventRows
	for from := int64(0); from < data.Batch.Count && len(data.Segments) < maxSegments; from += int64(data.Batch.Segment) {
		data.Segments = append(data.Segments, client.CodeRange{From: from, To: min(from+int64(data.Batch.Segment), data.Batch.Count) - 1})
	}
	data.Alarm = cmp.Or(data.Alarm, &batchAlarmView{})
	err := storeResult(&data.Alarm.BatchAlarm)(v.api.Batches.GetAlarmThreshold(ctx, id))
	return v.page("batch", data, err)
}

// Bars returns a bar for each run of codes with the same state, for the map of code states, which measures 900 by 60 SVG units. Each state
// has a different bar height, so that the picture is readable without colours.
func (d batchView) Bars() (list []bar) {
	high := map[string]float64{"free": 12, "active": 60, "redeemed": 48, "frozen": 36, "void": 24}
	for _, r := range d.Runs {
		scale := 900 / float64(d.Runs[len(d.Runs)-1].To+1-d.From)
		list = append(list, bar{X: tenth(scale * float64(r.From-d.From)), Wide: max(1, tenth(scale*float64(r.Count))),
			Y: 60 - high[r.State], High: high[r.State], Label: r.State, Text: fmt.Sprintf("%d–%d", r.From, r.To)})
	}
	return list
}

// codeList sends the codes of a range as a file.
func (pages codePages) codeList(v *request) error {
	q := v.r.URL.Query()
	asked := url.Values{"from": {q.Get("from")}, "to": {q.Get("to")}}
	return v.forward("GET", "/batches/"+url.PathEscape(v.r.PathValue("batch"))+"/codes?"+asked.Encode(), "", nil)
}

// changeCodes shows how many codes a change affects, and applies the change after the visitor confirms.
func (pages codePages) changeCodes(v *request) error {
	did := v.word("did")
	batch, err := strconv.ParseInt(v.word("batch"), 10, 64)
	from, err1 := strconv.ParseInt(v.word("from"), 10, 64)
	to, err2 := strconv.ParseInt(v.word("to"), 10, 64)
	known := slices.Contains([]string{"freeze", "unfreeze", "void", "redeem", "activate", "withdraw", "retarget"}, did)
	if err != nil || err1 != nil || err2 != nil || from < 0 || to < from || !known {
		return v.reject("codes.fault")
	}
	kind, _ := strconv.Atoi(v.word("type"))
	binding := client.CodeBinding{ActivityName: v.word("activity"), ProductBrand: v.word("brand"), ProductTitle: v.word("title"),
		ProductCode: v.word("product"), WxaAppID: v.word("target"), WxaPath: v.word("path"), WxaType: kind}
	if count := to - from + 1; v.r.FormValue("sure") != strconv.FormatInt(count, 10) {
		item, err := v.api.Batches.Get(v.ctx(), batch)
		if err != nil {
			return err
		}
		if to >= item.Count {
			return v.refuse(http.StatusUnprocessableEntity, "to", v.say("codes.end", item.Count-1))
		}
		asked := sureView{Token: strconv.FormatInt(count, 10),
			Text: v.say("codes.sure."+did, count, v.word("batch"), v.word("from"), v.word("to"))}
		switch did {
		case "activate", "retarget":
			asked.Warning = v.say("codes.sure.opens", binding.WxaAppID, binding.WxaPath, cmp.Or(binding.ActivityName, "–"))
		case client.Unfreeze:
			list, err := v.api.Packages.List(v.ctx(), client.PackageQuery{ApplicationID: batch, Limit: 1000})
			if err != nil {
				return err
			}
			for _, p := range list {
				if p.RecalledAt != nil && p.From <= to && p.To >= from {
					asked.Warning = v.say("codes.sure.recalled", p.ID)
				}
			}
		}
		return v.confirm(http.StatusOK, asked)
	}
	span := client.CodeRange{From: from, To: to}
	var t time.Time // zero: at once
	if at := v.word("at"); at != "" {
		if t, err = moment(at); err != nil {
			return v.refuse(http.StatusUnprocessableEntity, "at", v.say("scan.fault.at"))
		}
	}
	switch ctx := v.ctx(); did {
	case "activate":
		_, err = v.api.Codes.Schedule(ctx, batch, client.Activation{From: from, To: to, Binding: binding, EffectiveAt: t})
	case "withdraw":
		_, err = v.api.Codes.Deactivate(ctx, batch, t, codesOf(from, to))
	case "retarget":
		_, err = v.api.Codes.Retarget(ctx, batch, span, binding, "")
	default:
		_, err = v.api.Codes.Update(ctx, batch, did, codesOf(from, to))
	}
	return v.done(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch), err)
}

// codesOf returns a code change by the visitor for the codes of a range.
func codesOf(from, to int64) client.CodeChange {
	return client.CodeChange{CodeSelection: client.CodeSelection{Ranges: []client.CodeRange{{From: from, To: to}}}}
}

// maxSerials is the maximum size in bytes of a list of serial numbers, enough for 10,000 codes with the longest names.
const maxSerials = 4 << 20

// bindSerials assigns the brand's serial numbers to codes from lines of INDEX,SERIAL; either all lines are stored or none.
func (pages codePages) bindSerials(v *request, batch int64) error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxSerials)
	var list []client.SerialBinding
	for line := range strings.Lines(v.r.FormValue("serials")) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		index, serial, _ := strings.Cut(line, ",")
		n, wrong := strconv.ParseInt(strings.TrimSpace(index), 10, 64)
		if serial = strings.TrimSpace(serial); wrong != nil || n < 0 || serial == "" {
			return v.refuse(http.StatusUnprocessableEntity, "serials", v.say("serials.form", len(list)+1))
		}
		list = append(list, client.SerialBinding{Index: &n, Serial: serial})
	}
	if len(list) == 0 || len(list) > client.MaxSerials {
		return v.refuse(http.StatusUnprocessableEntity, "serials", v.say("serials.count", client.MaxSerials))
	}
	_, err := v.api.Codes.BindSerials(v.ctx(), batch, list, v.r.FormValue("replace") != "", "")
	return v.done(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch), err)
}
