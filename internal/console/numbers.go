package console

import (
	"encoding/csv"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// groups are what statistics can be told apart by.
var groups = []string{"activity", "brand", "product", "batch", "rule", "app", "source", "result", "region"}

type statisticsView struct {
	By, Group, Count, From, To string
	Groups                     []string
	Numbers                    client.Statistics
	Chart                      template.HTML
	Misses                     []client.Miss
	Alarms                     []client.Alarm
	CSV                        string
}

// Number is what was counted of a row.
func (s statisticsView) Number(r client.StatisticsRow) int64 { return counted(s.Count, r) }

func counted(count string, r client.StatisticsRow) int64 {
	switch count {
	case "first":
		return r.First
	case "users":
		return r.Users
	}
	return r.Scans
}

// question is what the address asks for.
func (v *visit) question() (view statisticsView, asked url.Values) {
	q := v.r.URL.Query()
	view = statisticsView{By: q.Get("by"), Group: q.Get("group"), Count: q.Get("count"), From: q.Get("from"), To: q.Get("to"),
		Groups: groups}
	if !q.Has("by") {
		view.By = "day"
	}
	asked = url.Values{}
	for name, value := range map[string]string{"by": view.By, "group": view.Group, "count": view.Count, "from": view.From, "to": view.To} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	return view, asked
}

func (c *Console) statistics(v *visit) {
	data, asked := v.question()
	data.CSV = Root + "/statistics.csv?" + asked.Encode()
	var misses client.MissList
	var alarms struct {
		Alarms []client.Alarm `json:"alarms"`
	}
	span := url.Values{}
	for _, name := range []string{"from", "to"} {
		if asked.Has(name) {
			span.Set(name, asked.Get(name))
		}
	}
	span.Set("limit", "20")
	if v.failed(v.ask("GET", "/statistics?limit=500&"+asked.Encode(), nil, &data.Numbers)) ||
		v.failed(v.ask("GET", "/statistics/misses?"+span.Encode(), nil, &misses)) ||
		v.failed(v.ask("GET", "/alarms?open=true&limit=50", nil, &alarms)) {
		return
	}
	data.Misses, data.Alarms = misses.Places, alarms.Alarms
	data.Chart = bars(data)
	v.show(http.StatusOK, "statistics", data)
}

// bars are the numbers as a picture, each with its text; the table below says the same.
func bars(s statisticsView) template.HTML {
	if s.By == "" || s.Group != "" || len(s.Numbers.Rows) == 0 {
		return ""
	}
	rows := slices.Clone(s.Numbers.Rows)
	most := int64(1)
	for _, r := range rows {
		most = max(most, s.Number(r))
	}
	const wide, high, left = 900, 200, 60
	step := float64(wide-left) / float64(len(rows))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-labelledby="chart-title">`, wide, high+30)
	fmt.Fprintf(&b, `<text x="0" y="14">%d</text><text x="0" y="%d">0</text><path class="axis" d="M%d 4V%dH%d"/>`, most, high, left, high, wide)
	for i, r := range rows {
		if r.At == nil {
			continue
		}
		tall := float64(high-8) * float64(s.Number(r)) / float64(most)
		x := left + float64(i)*step
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s: %d</title></rect>`, x+step*.1, high-tall, step*.8, tall,
			r.At.Format("2006-01-02 15:04"), s.Number(r))
		if i == 0 || i == len(rows)-1 {
			anchor := "start"
			if i > 0 {
				anchor = "end"
				x += step
			}
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="%s">%s</text>`, x, high+20, anchor, r.At.Format("2006-01-02"))
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// statisticsCSV is exactly what the table shows.
func (c *Console) statisticsCSV(v *visit) {
	data, asked := v.question()
	if v.failed(v.ask("GET", "/statistics?limit=500&"+asked.Encode(), nil, &data.Numbers)) {
		return
	}
	v.w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	v.w.Header().Set("Content-Disposition", `attachment; filename="qrjump-statistics.csv"`)
	out := csv.NewWriter(v.w)
	_ = out.Write([]string{"at", "value", "number"})
	for _, r := range data.Numbers.Rows {
		at := ""
		if r.At != nil {
			at = r.At.Format("2006-01-02T15:04:05Z07:00")
		}
		value := r.Value
		if value != "" && strings.ContainsRune("=+-@\t\r", rune(value[0])) {
			value = "'" + value // a spreadsheet would take it for a formula
		}
		_ = out.Write([]string{at, value, strconv.FormatInt(data.Number(r), 10)})
	}
	out.Flush()
}

type codesView struct {
	Account string
	Batches []client.Batch
	More    int64
	Asked   string
	Found   string // JSON
	Sure    *sure
}

// sure is a change of codes that is asked back before it is done.
type sure struct {
	Batch, Did, From, To string
	Count                int64
}

func (c *Console) codes(v *visit) {
	q := v.r.URL.Query()
	data := codesView{Account: v.narrowed("account"), Asked: strings.TrimSpace(q.Get("code"))}
	if data.Asked != "" {
		body := map[string]any{"code_url": data.Asked}
		if batch, index, ok := strings.Cut(data.Asked, ":"); ok {
			b, err1 := strconv.ParseInt(batch, 10, 64)
			i, err2 := strconv.ParseInt(index, 10, 64)
			if err1 == nil && err2 == nil {
				body = map[string]any{"application_id": b, "code_index": i}
			}
		} else if len(data.Asked) == 9 {
			body = map[string]any{"code": data.Asked}
		}
		a, err := v.through(v.c.API, "POST", "/admin/v1/codes/lookup", body)
		if v.failed(err) {
			return
		}
		data.Found = nice(a.body.String())
	}
	asked := url.Values{"limit": {strconv.Itoa(pageRows)}}
	for name, value := range map[string]string{"account": data.Account, "after": q.Get("after")} {
		if value != "" {
			asked.Set(name, value)
		}
	}
	var list client.BatchList
	if v.failed(v.ask("GET", "/batches?"+asked.Encode(), nil, &list)) {
		return
	}
	if data.Batches = list.Batches; len(list.Batches) == pageRows {
		data.More = list.Batches[pageRows-1].ID
	}
	v.show(http.StatusOK, "codes", data)
}

// changeCodes asks back how many codes it is, then does it.
func (c *Console) changeCodes(v *visit) {
	s := &sure{Batch: v.r.FormValue("batch"), Did: v.r.FormValue("did"), From: v.r.FormValue("from"), To: v.r.FormValue("to")}
	batch, err := strconv.ParseInt(s.Batch, 10, 64)
	from, err1 := strconv.ParseInt(s.From, 10, 64)
	to, err2 := strconv.ParseInt(s.To, 10, 64)
	known := slices.Contains([]string{"freeze", "unfreeze", "void", "redeem"}, s.Did)
	if err != nil || err1 != nil || err2 != nil || from < 0 || to < from || !known {
		v.fault(http.StatusUnprocessableEntity, v.say("codes.fault"))
		return
	}
	s.Count = to - from + 1
	if v.r.FormValue("sure") != strconv.FormatInt(s.Count, 10) {
		v.show(http.StatusOK, "codes", codesView{Sure: s})
		return
	}
	body := map[string]any{"did": s.Did, "ranges": []map[string]int64{{"from": from, "to": to}}}
	if !v.failed(v.ask("POST", fmt.Sprintf("/batches/%d/states", batch), body, nil)) {
		v.redirect(Root + "/codes?done=codes")
	}
}
