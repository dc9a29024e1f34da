package console

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// routes returns the handlers of the pages about codes.
func (pages codePages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/codes":                  pages.codes,
		"POST /console/codes":                 pages.changeCodes,
		"POST /console/codes/picture":         pages.codePicture,
		"GET /console/codes/{batch}":          pages.batch,
		"GET /console/codes/{batch}/list.csv": pages.codeList,
		"POST /console/codes/{batch}/serials": pages.bindSerials,
	}
}

type codesView struct {
	Account string
	Batches []client.Batch
	More    int64
	Asked   string
	Found   *client.StoredCode
	Scans   *client.CodeScans // nil if the code has no scans, or the visitor may not see scans
	Alarms  []alarmView       // undismissed alarms of the code
	Fault   string
	Sure    *sure
}

// nameOf parses a code name typed by a person: APPLICATION:INDEX, nine characters, or the code text.
func nameOf(asked string) client.CodeName {
	if batch, index, ok := strings.Cut(asked, ":"); ok {
		b, err1 := strconv.ParseInt(batch, 10, 64)
		i, err2 := strconv.ParseInt(index, 10, 64)
		if err1 == nil && err2 == nil {
			return client.CodeName{ID: b, Index: i}
		}
	}
	if len(asked) == 9 {
		return client.CodeName{Code: asked}
	}
	return client.CodeName{URL: asked}
}

// codes lists applications and shows the state of a code.
func (pages codePages) codes(v *request) {
	q := v.r.URL.Query()
	data := codesView{Account: v.account(), Asked: strings.TrimSpace(q.Get("code"))}
	status := http.StatusOK
	if key := q.Get("fault"); v.Has("scan.fault." + key) {
		data.Fault = v.say("scan.fault." + key)
	}
	if data.Asked != "" {
		found, err := v.api.Codes.Get(v.ctx(), nameOf(data.Asked))
		if said, is := refused(err, http.StatusNotFound, http.StatusUnprocessableEntity); is {
			data.Fault, status = v.say("codes.unknown"), said.Status
		} else if v.failed(err) {
			return
		} else {
			data.Found = &found
			var standing []client.Alarm
			for _, a := range data.Found.Alarms {
				standing = append(standing, client.Alarm{ID: a.ID, Kind: a.Kind, ApplicationID: data.Found.ApplicationID,
					OccurredAt: a.OccurredAt,
					Score:      a.Score, Reasons: a.Reasons, AcknowledgedAt: a.AcknowledgedAt, AcknowledgedBy: a.AcknowledgedBy})
			}
			data.Alarms = v.withReasons(standing)
			if scans, err := v.api.Codes.GetScans(v.ctx(), found.ApplicationID,
				found.CodeIndex); err == nil { // the page is shown without scans on an error, because the visitor searched for the code
				data.Scans = &scans
			}
		}
	}
	start, ok := v.number("after")
	wanted := client.BatchQuery{Account: data.Account, After: start, Limit: pageRows}
	if !ok || v.failed(storeResult(&data.Batches)(v.api.Batches.List(v.ctx(), wanted))) {
		return
	}
	if len(data.Batches) == pageRows {
		data.More = data.Batches[pageRows-1].ID
	}
	v.show(status, "codes", data)
}

// codePicture looks up the code in an uploaded picture.
func (pages codePages) codePicture(v *request) {
	text, fault, ok := v.readPicture()
	switch {
	case fault != "":
		v.redirect(Root + "/codes?fault=" + fault)
	case ok:
		v.redirect(Root + "/codes?code=" + url.QueryEscape(text))
	}
}

// batchView holds the data of the page of one application.
type batchView struct {
	Batch    client.Batch
	From     int64 // the first code of the map
	Runs     []runView
	Next     int64 // the first code of the next part of the map; 0 = this part is the last
	Map      template.HTML
	Events   []client.CodeEvent
	Whole    bool // whether all events are shown
	Sure     *sure
	Segments []client.CodeRange
	Alarm    *batchAlarmView // nil if the visitor may not see the alarm settings
}

// runView is a run of codes in the map.
type runView struct {
	client.CodeRun
	State string // the strongest state that applies: void, frozen, redeemed, active or free
	Count int64
}

// FirstOf returns the first ten indexes, which fit in a row.
func (v view) FirstOf(indexes []int64) []int64 { return indexes[:min(len(indexes), 10)] }

// stateOf returns the name of the strongest state of the codes in a run.
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
	// mostRuns is the maximum number of runs in a map, mostEvents the maximum number of events on a page.
	mostRuns   = 200
	mostEvents = 100
	// mostSegments is the maximum number of downloads that a page offers, enough for 2,500,000 codes.
	mostSegments = 50
)

func (pages codePages) batch(v *request) {
	if id, ok := v.pathNumber("batch"); ok {
		pages.showBatch(v, http.StatusOK, id, batchView{})
	}
}

func (pages codePages) showBatch(v *request, status int, id int64, data batchView) {
	ctx := v.ctx()
	if v.failed(storeResult(&data.Batch)(v.api.Batches.Get(ctx, id))) {
		return
	}
	if from, err := strconv.ParseInt(v.r.URL.Query().Get("from"), 10, 64); err == nil && from > 0 && from < data.Batch.Count {
		data.From = from
	}
	var runs client.CodeRuns
	if v.failed(storeResult(&runs)(v.api.Codes.ListRuns(ctx, id, client.CodeRange{From: data.From}, mostRuns))) ||
		v.failed(storeResult(&data.Events)(v.api.Codes.ListEvents(ctx, id, 0, mostEvents))) {
		return
	}
	for _, run := range runs.Runs {
		data.Runs = append(data.Runs, runView{run, stateOf(run), run.Len()})
	}
	if runs.More {
		data.Next = runs.Runs[len(runs.Runs)-1].To + 1
	}
	data.Map = drawRuns(data.Runs)
	data.Whole = len(data.Events) < mostEvents
	for from := int64(0); from < data.Batch.Count && len(data.Segments) < mostSegments; from += int64(data.Batch.Segment) {
		data.Segments = append(data.Segments, client.CodeRange{From: from, To: min(from+int64(data.Batch.Segment), data.Batch.Count) - 1})
	}
	if data.Alarm == nil {
		data.Alarm = &batchAlarmView{}
	}
	if v.failed(storeResult(&data.Alarm.BatchAlarm)(v.api.Batches.GetAlarmThreshold(ctx, id))) {
		return
	}
	v.show(status, "batch", data)
}

// States returns the states of codes in the order of the legend of the map.
func (batchView) States() []string { return []string{"free", "active", "redeemed", "frozen", "void"} }

// drawRuns returns the map as an SVG picture. Each state has its own height, so that the picture is readable without colours. The
// table below the picture shows the same data as the picture.
func drawRuns(runs []runView) template.HTML {
	if len(runs) == 0 {
		return ""
	}
	const wide, high = 900.0, 60.0
	tall := map[string]float64{"free": 12, "active": 60, "redeemed": 48, "frozen": 36, "void": 24}
	from, all := runs[0].From, runs[len(runs)-1].To+1-runs[0].From
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart runs" viewBox="0 0 %.0f %.0f" preserveAspectRatio="none" role="img" aria-labelledby="map-title">`,
		wide, high)
	for _, r := range runs {
		x := wide * float64(r.From-from) / float64(all)
		w := max(1, wide*float64(r.Count)/float64(all))
		fmt.Fprintf(&b, `<rect class="is-%s" x="%.2f" y="%.0f" width="%.2f" height="%.0f"><title>%d–%d</title></rect>`, r.State, x,
			high-tall[r.State], w, tall[r.State], r.From, r.To)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// codeList sends the codes of a range as a file.
func (pages codePages) codeList(v *request) {
	q := v.r.URL.Query()
	asked := url.Values{"from": {q.Get("from")}, "to": {q.Get("to")}}
	v.forward("GET", "/batches/"+url.PathEscape(v.r.PathValue("batch"))+"/codes?"+asked.Encode(), "", nil)
}

// sure is a change of codes that the visitor must confirm.
type sure struct {
	Batch, Did, From, To string
	Binding              client.CodeBinding // of an activation
	At                   string
	Count                int64
	Recalled             int64 // for an unfreeze: number of a recalled package that contains some of the codes; 0 = none
}

// changeCodes shows how many codes a change affects, and applies the change after the visitor confirms.
func (pages codePages) changeCodes(v *request) {
	text := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	s := &sure{Batch: text("batch"), Did: text("did"), From: text("from"), To: text("to"), At: text("at")}
	batch, err := strconv.ParseInt(s.Batch, 10, 64)
	from, err1 := strconv.ParseInt(s.From, 10, 64)
	to, err2 := strconv.ParseInt(s.To, 10, 64)
	known := slices.Contains([]string{"freeze", "unfreeze", "void", "redeem", "activate", "withdraw", "retarget"}, s.Did)
	if err != nil || err1 != nil || err2 != nil || from < 0 || to < from || !known {
		v.fault(http.StatusUnprocessableEntity, v.say("codes.fault"))
		return
	}
	s.Count = to - from + 1
	kind, _ := strconv.Atoi(text("type"))
	s.Binding = client.CodeBinding{ActivityName: text("activity"), ProductBrand: text("brand"), ProductTitle: text("title"),
		ProductCode: text("product"), WxaAppID: text("target"), WxaPath: text("path"), WxaType: kind}
	if v.r.FormValue("sure") != strconv.FormatInt(s.Count, 10) {
		item, err := v.api.Batches.Get(v.ctx(), batch)
		if v.failed(err) {
			return
		}
		if to >= item.Count {
			v.refuse(http.StatusUnprocessableEntity, "to", v.say("codes.end", item.Count-1))
			return
		}
		if s.Did == client.Unfreeze {
			list, err := v.api.Packages.List(v.ctx(), client.PackageQuery{ApplicationID: batch, Limit: 1000})
			if v.failed(err) {
				return
			}
			for _, p := range list {
				if p.RecalledAt != nil && p.From <= to && p.To >= from {
					s.Recalled = p.ID
				}
			}
		}
		v.rejected = newRejectedForm(v.r, nil) // the typed values stay in the form below the confirmation
		pages.showBatch(v, http.StatusOK, batch, batchView{Sure: s})
		return
	}
	span := client.CodeRange{From: from, To: to}
	var t time.Time // zero: at once
	if s.At != "" {
		if t, err = moment(s.At); err != nil {
			v.refuse(http.StatusUnprocessableEntity, "at", v.say("scan.fault.at"))
			return
		}
	}
	switch ctx := v.ctx(); s.Did {
	case "activate":
		_, err = v.api.Codes.Schedule(ctx, batch, span, s.Binding, t, "", "")
	case "withdraw":
		_, err = v.api.Codes.Deactivate(ctx, batch, t, codesOf(from, to))
	case "retarget":
		_, err = v.api.Codes.Retarget(ctx, batch, span, s.Binding.WxaAppID, s.Binding.WxaPath, s.Binding.WxaType, "")
	default:
		_, err = v.api.Codes.Update(ctx, batch, s.Did, codesOf(from, to))
	}
	if !v.failed(err) {
		v.redirect(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch))
	}
}

// codesOf returns a code change by the visitor for the codes of a range.
func codesOf(from, to int64) client.CodeChange {
	return client.CodeChange{CodeSelection: client.CodeSelection{Ranges: []client.CodeRange{{From: from, To: to}}}}
}

// mostSerials is the maximum size in bytes of a list of serial numbers, enough for 10,000 codes with the longest names.
const mostSerials = 4 << 20

// bindSerials assigns the brand's serial numbers to codes from lines of INDEX,SERIAL; either all lines are stored or none.
func (pages codePages) bindSerials(v *request) {
	batch, ok := v.pathNumber("batch")
	if !ok {
		return
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, mostSerials)
	var list []client.SerialBinding
	for line := range strings.Lines(v.r.FormValue("serials")) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		index, serial, _ := strings.Cut(line, ",")
		n, wrong := strconv.ParseInt(strings.TrimSpace(index), 10, 64)
		if serial = strings.TrimSpace(serial); wrong != nil || n < 0 || serial == "" {
			v.refuse(http.StatusUnprocessableEntity, "serials", v.say("serials.form", len(list)+1))
			return
		}
		list = append(list, client.SerialBinding{Index: &n, Serial: serial})
	}
	if len(list) == 0 || len(list) > client.MaxSerials {
		v.refuse(http.StatusUnprocessableEntity, "serials", v.say("serials.count", client.MaxSerials))
		return
	}
	_, err := v.api.Codes.BindSerials(v.ctx(), batch, list, v.r.FormValue("replace") != "", "")
	if !v.failed(err) {
		v.redirect(fmt.Sprintf("%s/codes/%d?done=codes", Root, batch))
	}
}
