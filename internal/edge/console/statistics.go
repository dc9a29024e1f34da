package console

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// groups lists the dimensions by which statistics can be grouped.
var groups = []string{"activity", "brand", "product", "batch", "rule", "app", "source", "result", "region", "owner"}

// maxNumbers is the maximum number of rows of numbers on a page.
const maxNumbers = 500

// drawnRows is the number of rows that are requested for a chart.
const drawnRows = 1000

type statisticsView struct {
	By, Group, Count, From, To string
	Compare                    string // AppID of the account to which the account of the filter is compared; "" = none
	Days                       int    // number of days up to today; 0 = the period between From and To
	Groups                     []string
	Only                       []onlyField
	Numbers                    client.Statistics
	Chart                      chart
	Shared                     []client.SharedChart
	All                        string // the address of the full statistics page, with the filters of this page
	Link                       string // the link of a chart that was just shared
	params                     url.Values
}

// spans lists the periods that one click selects: the last Days days, with one row for each interval By.
var spans = []struct {
	Days int
	By   string
}{{1, "hour"}, {7, "day"}, {30, "day"}, {90, "day"}}

// box contains the most frequent values of a dimension.
type box struct {
	Group string
	Rows  []boxRow
}

type boxRow struct {
	Name, To string
	Scans    int64
	Part     float64 // share of the total, in percent
}

// boxed lists the dimensions whose most frequent values the page shows, at most maxBoxed values for each.
var boxed = []string{"rule", "app", "batch", "activity", "region", "result"}

const maxBoxed = 5

// query converts the page's parameters to a statistics query of the admin API.
func (s statisticsView) query() client.StatisticsQuery {
	names := map[string]string{}
	for _, o := range s.Only {
		names[o.Name] = o.Value
	}
	if owner := s.params.Get("owner"); owner != "" {
		names["owner"] = owner
	}
	return client.StatisticsQuery{From: s.From, To: s.To, By: s.By, Group: s.Group, Count: s.Count, Filter: names}
}

// onlyField is a value to which the statistics are restricted.
type onlyField struct{ Name, Value string }

// Users reports whether users are counted instead of scans.
func (s statisticsView) Users() bool { return s.Count == "users" }

// File returns the download address of a table of the page in a file format.
func (s statisticsView) File(table, format string) string {
	return Root + "/statistics/" + table + "." + format + "?" + s.params.Encode()
}

// question parses the query parameters of the URL.
func (v *request) question() (view statisticsView) {
	q := v.r.URL.Query()
	view = statisticsView{By: q.Get("by"), Group: q.Get("group"), Count: q.Get("count"), From: q.Get("from"), To: q.Get("to"),
		Groups: groups, params: url.Values{}}
	if !q.Has("by") {
		view.By = "day"
	}
	if n, err := strconv.Atoi(q.Get("days")); err == nil && n >= 1 && n <= 366 && view.From == "" && view.To == "" {
		view.Days = n
	}
	if view.Compare = q.Get("compare"); view.Compare != "" { // the two series of a chart are over time
		view.By, view.Group = cmp.Or(view.By, "day"), ""
	}
	for name, value := range map[string]string{"by": view.By, "group": view.Group, "count": view.Count, "from": view.From, "to": view.To,
		"compare": view.Compare} {
		if value != "" || name == "by" {
			view.params.Set(name, value)
		}
	}
	for _, name := range groups {
		if value := q.Get(name); value != "" {
			view.params.Set(name, value)
			view.Only = append(view.Only, onlyField{name, value})
		}
	}
	if account := v.Account(); account != "" && !view.params.Has("owner") {
		view.params.Set("owner", account)
	}
	return view
}

// fields returns those of the page's query parameters that have one of the given names and a value.
func (s statisticsView) fields(names ...string) url.Values {
	kept := url.Values{}
	for _, name := range names {
		if value := s.params.Get(name); value != "" {
			kept.Set(name, value)
		}
	}
	return kept
}

// showStatistics shows the statistics page with the result of the last action.
func (pages numberPages) showStatistics(v *request, done statisticsView) error {
	if selected := v.r.URL.Query()["selected"]; len(selected) == 2 {
		return v.redirect(Root + "/statistics?" + url.Values{"owner": selected[:1], "compare": selected[1:], "days": {"30"}}.Encode())
	} else if len(selected) > 0 {
		return v.reject("accounts.compare.two")
	}
	data, err := v.dated()
	data.Link = done.Link
	if err == nil {
		err = v.numbers(&data)
	}
	if err == nil && (view{request: v}).HasRole("marketer") {
		data.Shared, err = v.api.Charts.List(v.ctx())
	}
	if rows := data.Numbers.Rows; len(rows) > maxNumbers {
		data.Numbers.Rows, data.Numbers.More = rows[:maxNumbers], true
	}
	v.knowRows(data.Group, data.Numbers.Rows)
	for _, field := range data.Only {
		v.know(field.Name, field.Value)
	}
	if data.Days == 0 && data.From == "" && data.To == "" {
		data.Days = 30
	}
	return v.page("statistics", data, err)
}

// numbers runs the statistics query of a page and draws the result.
func (v *request) numbers(data *statisticsView) (err error) {
	asked := data.query()
	asked.Limit, asked.Marks = drawnRows, data.By != "" && data.Group == ""
	if data.Numbers, err = v.api.Statistics.Get(v.ctx(), asked); err == nil {
		data.Chart, err = v.charted(*data)
	}
	if err != nil || data.By == "" {
		return err
	}
	if t := timelineOf(data.Numbers, data.By); len(t.rows) > 0 { // empty: too many periods for a list
		data.Numbers.Rows = t.every
	}
	return nil
}

// dated returns the parameters of the page; if Days is set, From is the first of the last Days days, by the server's clock and time zone.
func (v *request) dated() (statisticsView, error) {
	data := v.question()
	if data.Days == 0 {
		return data, nil
	}
	now, err := v.clock()
	data.From = now.AddDate(0, 0, 1-data.Days).Format(time.DateOnly)
	data.params.Set("from", data.From)
	return data, err
}

// scansOf returns the daily scans of the last days: of one value of a dimension or, if value is "", all scans that the reader may see.
func (v *request) scansOf(days int, group, value string) (*statisticsView, error) {
	address := url.Values{"days": {strconv.Itoa(days)}, "by": {"day"}}
	if value != "" {
		address.Set(group, value)
	}
	copied := *v
	copied.r = v.r.Clone(v.r.Context())
	copied.r.URL.RawQuery = address.Encode()
	shown, err := copied.dated()
	if err == nil {
		err = copied.numbers(&shown)
	}
	shown.All = Root + "/statistics?" + address.Encode()
	return &shown, err
}

// recent shows the scans of the last days of one account or application. Pages load the chart after the rest of the page is shown.
func (pages numberPages) recent(v *request) error {
	q := v.r.URL.Query()
	group := map[bool]string{true: "batch", false: "owner"}[q.Has("batch")]
	shown, err := v.scansOf(ruleDays, group, q.Get(group))
	shown.Chart.Plot = nil // a page fragment loads no scripts that could draw the chart again
	return v.page("recent-scans", shown, err)
}

// topValues shows the most frequent values of several dimensions. The statistics page loads the most frequent values after the page is
// shown, because their computation reads all rows of the period.
func (pages numberPages) topValues(v *request) error {
	data, err := v.dated()
	if err != nil {
		return err
	}
	list, err := pages.boxes(v, data)
	return v.page("top-values", list, err)
}

// TopValuesURL returns the address from which the page loads the most frequent values for the same scans.
func (s statisticsView) TopValuesURL() string { return Root + "/statistics/most?" + s.params.Encode() }

const maxMissRows = 20

// unmatched shows the link prefixes of unmatched scans. Pages load the list of unmatched scans after the rest of the page is shown.
func (pages numberPages) unmatched(v *request) error {
	q := v.r.URL.Query()
	list, err := v.api.Statistics.ListUnmatched(v.ctx(), client.UnmatchedQuery{From: q.Get("from"), To: q.Get("to"),
		Owner: cmp.Or(q.Get("owner"), v.Account()), Below: q.Get("below"), Limit: maxMissRows})
	return v.page("unmatched", list.Locations, err)
}

// Link reports whether the location of m is a link prefix; otherwise the location is a reason in parentheses.
func (view) Link(m client.UnmatchedPrefix) bool { return !strings.HasPrefix(m.Location, "(") }

// Place returns the label of a location of unmatched scans: host and path, or the reason in the reader's language.
func (v view) Place(place string) string {
	if text, err := v.Say("result." + strings.Trim(place, "()")); err == nil && strings.HasPrefix(place, "(") {
		return text
	}
	return place
}

// UnmatchedURL returns the address of the unmatched scans of the same period.
func (s statisticsView) UnmatchedURL() string { return unmatchedURL(s.fields("from", "to", "owner")) }

func unmatchedURL(query url.Values) string {
	return strings.TrimSuffix(Root+"/statistics/unmatched?"+query.Encode(), "?")
}

// boxes returns the most frequent values of the period for several dimensions.
func (pages numberPages) boxes(v *request, s statisticsView) (list []box, err error) {
	all := s.query()
	all.By, all.Group, all.Count = "", "", ""
	total, err := v.api.Statistics.Get(v.ctx(), all)
	if err != nil {
		return nil, err
	}
	for _, group := range boxed {
		if s.params.Has(group) || group == s.Group {
			continue
		}
		asked := s.query()
		asked.By, asked.Group, asked.Count, asked.Limit = "", group, "", maxBoxed
		found, err := v.api.Statistics.Get(v.ctx(), asked)
		if err != nil {
			return nil, err
		}
		rows := slices.DeleteFunc(found.Rows, func(r client.StatisticsRow) bool { return r.Value == "" })
		if b := (box{group, v.frequent(group, rows, timeline{rows: total.Rows}.sum(numberOf))}); len(b.Rows) > 0 {
			list = append(list, b)
		}
	}
	return list, nil
}

// actOnStatistics shares a chart, or ends the sharing of a chart.
func (pages numberPages) actOnStatistics(v *request) error {
	return v.perform(Root+"/statistics?done=chart.ended#shared", map[string]action{
		"share": {call: func() error { return pages.share(v) }},
		"end":   {call: func() error { return onlyError(v.api.Charts.Revoke(v.ctx(), v.r.FormValue("id"))) }},
	})
}

// Value returns the display name of a value of a dimension, such as a rule's prefix or an account's name, if the reader may see it.
func (v *request) Value(group, value string) string {
	if value == "-" { // the URL uses "-" for scans without a value
		value = ""
	}
	if name := v.known[group+" "+value]; name != "" {
		return name
	}
	if group == "rule" && value != "" {
		return v.say("chart.rule", value)
	}
	if group == "result" && value != "" {
		return v.resultName(value)
	}
	return v.valueName(value)
}

// resultName describes a scan result, such as open_mini_program/code, in words. An unknown result is shown unchanged.
func (v *request) resultName(value string) string {
	parts := strings.Split(value, "/")
	for i, part := range parts {
		if text, err := v.Say("result." + part); err == nil {
			parts[i] = text
		}
	}
	return strings.Join(parts, " · ")
}

// know loads the display names of values with one API call. A value whose name cannot be loaded is shown as its number.
func (v *request) know(group string, values ...string) {
	if v.known == nil {
		v.known = map[string]string{}
	}
	var ids []int64
	var appids []string
	for _, value := range values {
		id, err := strconv.ParseInt(value, 10, 64)
		switch {
		case v.known[group+" "+value] != "" || value == "":
		case group == "rule" && err == nil:
			ids = append(ids, id)
		case group == "owner" || group == "app":
			appids = append(appids, value)
		}
	}
	if len(ids) > 0 {
		list, _ := v.api.Rules.ListNames(v.ctx(), ids[:min(len(ids), drawnRows)])
		for _, ruleName := range list {
			v.known[fmt.Sprint(group, " ", ruleName.ID)] = ruleName.Prefix
		}
	}
	if len(appids) > 0 {
		names, _ := v.api.Accounts.ListNames(v.ctx(), appids[:min(len(appids), drawnRows)])
		for appid, name := range names {
			v.known[group+" "+appid] = name + " " + appid
		}
	}
}

// knowRows loads the display names of the values in rows.
func (v *request) knowRows(group string, rows []client.StatisticsRow) {
	v.know(group, mapped(rows, func(r client.StatisticsRow) string { return r.Value })...)
}

func (v *request) valueName(value string) string {
	if value == "" {
		return v.say("stats.valueless")
	}
	return value
}

// day formats the time of a row as briefly as its interval allows.
func day(t time.Time, interval string) string {
	if interval == "hour" {
		return t.Format("2006-01-02 15:04")
	}
	return t.Format("2006-01-02")
}

// Narrow returns the address of this page restricted to one value of a dimension.
func (v *request) Narrow(group, value string) string {
	if v.shared {
		return ""
	}
	return v.address(Root+"/statistics", "group", "", group, cmp.Or(value, "-"), "by", cmp.Or(v.params().Get("by"), "day"))
}

// narrowBy returns a function that returns the address of this page for the day (by hour), week or month (by day) that starts at a time;
// for an hour, the function returns "". The function is fast, because a table has many rows.
func (v *request) narrowBy(interval string) func(*time.Time) string {
	by := map[string]string{"day": "hour", "week": "day", "month": "day"}[interval]
	if v.shared || by == "" {
		return func(*time.Time) string { return "" }
	}
	before, rest, _ := strings.Cut(v.address(Root+"/statistics", "days", "", "by", by, "from", "!", "to", "!"), "&from=%21")
	between, after, _ := strings.Cut(rest, "&to=%21")
	return func(t *time.Time) string {
		last := *t
		switch interval {
		case "week":
			last = t.AddDate(0, 0, 6)
		case "month":
			last = t.AddDate(0, 1, -1)
		}
		return before + "&from=" + t.Format(time.DateOnly) + between + "&to=" + last.Format(time.DateOnly) + after
	}
}

// NumberRows renders the rows of the table of a chart.
func (s statisticsView) NumberRows(v view) template.HTML {
	if len(s.Numbers.Rows) == 0 {
		return v.EmptyRow(5, "stats.nothing")
	}
	var b strings.Builder
	cell := func(text string) { b.WriteString("<td>" + text + "</td>") }
	number := func(n int64) { b.WriteString(`<td class="num">` + separated(n) + "</td>") }
	narrow := v.narrowBy(s.By)
	for i, row := range s.Numbers.Rows {
		b.WriteString("\n<tr>")
		if s.By != "" {
			cell(linked(narrow(row.StartsAt), string(v.Period(row.StartsAt, s.By))))
		}
		if nothing := row.Value == "" && numberOf(row) == 0; s.Group != "" && nothing {
			cell("–")
		} else if s.Group != "" {
			cell(linked(v.Narrow(s.Group, row.Value), "<bdi>"+template.HTMLEscapeString(v.Value(s.Group, row.Value))+"</bdi>"))
		}
		number(numberOf(row))
		if s.Chart.Second != nil {
			number(s.Chart.Second[i])
		}
		if !s.Users() && s.Compare == "" {
			number(row.FirstScans)
			b.WriteString(`<td class="num">` + v.Percent(row.FirstScans, row.Scans) + "</td>")
		}
		b.WriteString("</tr>")
	}
	return template.HTML(b.String())
}

// RuleName returns the display name of the rule with a number.
func (v view) RuleName(id int64) string {
	value := strconv.FormatInt(id, 10)
	v.know("rule", value)
	return v.Value("rule", value)
}

// Last returns the address of this page for the period of the last days days.
func (v view) Last(days int, interval string) string {
	return v.address(Root+"/statistics", "from", "", "to", "", "days", strconv.Itoa(days), "by", interval)
}

// Spans returns the periods that the visitor can select with one click.
func (s statisticsView) Spans() any { return spans }

// Percent formats part as a percentage of total.
func (v view) Percent(part, total int64) string {
	if total == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*float64(part)/float64(total), 'f', 1, 64)
}
