package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/client"
)

// numberPages are the pages of statistics.
func (c *Console) numberPages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/statistics":         c.statistics,
		"POST /console/statistics":        c.recount,
		"GET /console/statistics/{table}": c.download,
		"GET /console/alarms":             c.alarms,
		"POST /console/alarms":            c.actOnAlarm,
	}
}

// groups are the values by which statistics can be grouped.
var groups = []string{"activity", "brand", "product", "batch", "rule", "app", "source", "result", "region", "owner"}

// mostNumbers is how many rows of numbers a page has.
const mostNumbers = 500

type statisticsView struct {
	By, Group, Count, From, To string
	Groups                     []string
	Only                       []only
	Numbers                    client.Statistics
	Chart                      chart
	Misses                     []client.Miss
	Recount                    *client.Recount
	asked                      url.Values
}

// only is a value that limits which scans count.
type only struct{ Name, Value string }

// Users reports whether people are counted, not scans.
func (s statisticsView) Users() bool { return s.Count == "users" }

// File is the address of a table of the page as a file.
func (s statisticsView) File(table, format string) string {
	return Root + "/statistics/" + table + "." + format + "?" + s.asked.Encode()
}

// question is what the address asks for.
func (v *visit) question() (view statisticsView) {
	q := v.r.URL.Query()
	view = statisticsView{By: q.Get("by"), Group: q.Get("group"), Count: q.Get("count"), From: q.Get("from"), To: q.Get("to"),
		Groups: groups, asked: url.Values{}}
	if !q.Has("by") {
		view.By = "day"
	}
	for name, value := range map[string]string{"by": view.By, "group": view.Group, "count": view.Count, "from": view.From, "to": view.To} {
		if value != "" || name == "by" {
			view.asked.Set(name, value)
		}
	}
	for _, name := range groups {
		if value := q.Get(name); value != "" {
			view.asked.Set(name, value)
			view.Only = append(view.Only, only{name, value})
		}
	}
	return view
}

// fields are those fields of the question that an operation takes.
func (s statisticsView) fields(names ...string) url.Values {
	kept := url.Values{}
	for _, name := range names {
		if value := s.asked.Get(name); value != "" {
			kept.Set(name, value)
		}
	}
	return kept
}

func (c *Console) statistics(v *visit) { v.showStatistics(nil) }

func (v *visit) showStatistics(again *client.Recount) {
	data := v.question()
	data.Recount = again
	only := map[string]string{}
	for _, o := range data.Only {
		only[o.Name] = o.Value
	}
	if v.failed(into(&data.Numbers)(v.api.Statistics(v.ctx(), client.StatisticsQuery{From: data.From, To: data.To, By: data.By,
		Group: data.Group, Count: data.Count, Filter: only, Limit: mostNumbers}))) ||
		v.failed(into(&data.Misses)(v.api.Misses(v.ctx(), client.MissQuery{From: data.From, To: data.To, Owner: only["owner"],
			Limit: 20}))) {
		return
	}
	data.Chart = v.draw(data)
	v.show(http.StatusOK, "statistics", data)
}

// recount counts all scans again.
func (c *Console) recount(v *visit) {
	if v.r.FormValue("did") != "recount" {
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if again, err := v.api.Recount(v.ctx()); !v.failed(err) {
		v.showStatistics(&again)
	}
}

// chart is the numbers as bars. Their values are drawn and written, so that nobody needs colours.
type chart struct {
	Wide, High int
	Most       int64
	Bars       []bar
	Lines      bool // the bars lie: there is one for each value, not for each time
}

type bar struct {
	X, Y, Wide, High float64
	First            float64 // the part of its length that stands for first scans
	Label, Text      string
	Number           int64
	To               string // where a click leads; "" = nowhere
	Written          bool   // there is room for its number
}

// FirstY is where the part of the first scans begins.
func (b bar) FirstY() float64 { return b.Y + b.High - b.First }

// Mid is the middle of the bar.
func (b bar) Mid() float64 { return b.X + b.Wide/2 }

// Below is where the number of a lying bar stands.
func (b bar) Below() float64 { return b.Y + b.High - 4 }

// End is where a lying bar ends.
func (b bar) End() float64 { return b.X + b.Wide + 6 }

const (
	chartWide = 900
	chartTall = 220
	// mostWritten is how many bars have room for their number.
	mostWritten = 31
	// mostLying is how many values are drawn; the table has all of them.
	mostLying = 20
)

// draw makes the bars of an answer: by time where its rows have times, else by value.
func (v *visit) draw(s statisticsView) chart {
	rows := s.Numbers.Rows
	if len(rows) == 0 || s.By != "" && s.Group != "" {
		return chart{}
	}
	ch := chart{Wide: chartWide, High: chartTall + 30, Lines: s.By == ""}
	if ch.Lines {
		rows = rows[:min(len(rows), mostLying)]
		ch.High = 26*len(rows) + 8
	}
	for _, r := range rows {
		ch.Most = max(ch.Most, r.Scans, r.Users)
	}
	scale := 1 / float64(max(ch.Most, 1))
	for i, r := range rows {
		n := max(r.Scans, r.Users)
		part, first := float64(n)*scale, float64(r.First)*scale
		b := bar{Number: n, Text: fmt.Sprint(n), Written: len(rows) <= mostWritten}
		if !s.Users() {
			b.Text = v.say("stats.bar", r.Scans, r.First)
		}
		if ch.Lines {
			const left, long = 240, chartWide - 240 - 90
			b.X, b.Y, b.Wide, b.High, b.First = left, float64(26*i+4), part*long, 18, first*long
			b.Label = short(v.valueName(r.Value))
			if s.Group != "" {
				b.To = v.narrowTo(s.Group, r.Value)
			}
		} else {
			const left = 60
			step := float64(chartWide-left) / float64(len(rows))
			tall := float64(chartTall - 24)
			b.X, b.Wide, b.High, b.First = left+(float64(i)+.1)*step, step*.8, part*tall, first*tall
			b.Y = chartTall - b.High
			if r.At != nil {
				b.Label = day(*r.At, s.By)
				b.To = v.narrowBy(*r.At, s.By)
			}
		}
		ch.Bars = append(ch.Bars, b)
	}
	return ch
}

// Ends are the bars whose times are written below the chart.
func (ch chart) Ends() []bar {
	if len(ch.Bars) < 2 {
		return ch.Bars
	}
	return []bar{ch.Bars[0], ch.Bars[len(ch.Bars)-1]}
}

func short(text string) string {
	const most = 30
	if letters := []rune(text); len(letters) > most {
		return string(letters[:most-1]) + "…"
	}
	return text
}

func (v *visit) valueName(value string) string {
	if value == "" {
		return v.say("stats.valueless")
	}
	return value
}

// day is a time of a row, as short as its kind allows.
func day(at time.Time, by string) string {
	if by == "hour" {
		return at.Format("2006-01-02 15:04")
	}
	return at.Format("2006-01-02")
}

// narrowTo is the address of this page with only one value of a group.
func (v *visit) narrowTo(group, value string) string {
	q := v.r.URL.Query()
	q.Del("group")
	q.Del("done")
	if q.Set(group, value); value == "" {
		q.Set(group, "-")
	}
	q.Set("by", "day")
	return Root + "/statistics?" + q.Encode()
}

// narrowBy is the address of this page for one day, week or month, counted by the next shorter
// span; "" for an hour.
func (v *visit) narrowBy(at time.Time, by string) string {
	last := at
	within := map[string]string{"day": "hour", "week": "day", "month": "day"}[by]
	switch by {
	case "week":
		last = at.AddDate(0, 0, 6)
	case "month":
		last = at.AddDate(0, 1, -1)
	case "hour":
		return ""
	}
	q := v.r.URL.Query()
	q.Del("done")
	q.Set("by", within)
	q.Set("from", at.Format(time.DateOnly))
	q.Set("to", last.Format(time.DateOnly))
	return Root + "/statistics?" + q.Encode()
}

// Value is the name of a value of the group.
func (v view) Value(value string) string { return v.valueName(value) }

// Narrow is the address of this page with only one value of a group.
func (v view) Narrow(group, value string) string { return v.narrowTo(group, value) }

// Day is a time of a row.
func (v view) Day(at time.Time, by string) string { return day(at, by) }

// Percent is a part of a whole.
func (v view) Percent(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64)
}
