package console

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/client"
)

// timeline is a statistics result over time with one row for each hour, day, week or month, including periods without scans.
type timeline struct {
	by     string
	now    time.Time   // the server's current time
	starts []time.Time // the start times of the periods, plus the end of the last period
	rows   []client.StatisticsRow
	// every contains the rows of the result, which has several rows for a period if it is grouped, and rows of zeros for other periods.
	every []client.StatisticsRow
}

// maxPeriods is the maximum number of periods in one chart: the hours of 13 months.
const maxPeriods = 9600

// timelineOf assigns the rows of a result, sorted by time, to their periods; the timeline ends at the current time, or earlier if the
// result was truncated. The timeline is empty if the period of time is too long to draw.
func timelineOf(found client.Statistics, interval string) (t timeline) {
	_, offset := found.From.Zone()
	zone := time.FixedZone("", offset)
	to, rest := found.To, found.Rows
	if n := len(found.Rows); found.More && n > 0 {
		to = following(found.Rows[n-1].StartsAt.In(zone), interval)
	}
	instant, next := found.From.In(zone), time.Time{}
	for ; instant.Before(to) && !instant.After(found.Now); instant = next {
		if len(t.rows) == maxPeriods {
			return timeline{by: interval}
		}
		n := 0
		for next = following(instant, interval); n < len(rest) && rest[n].StartsAt.Before(next); {
			n++
		}
		counted := rest[:n]
		if rest = rest[n:]; n == 0 {
			counted = []client.StatisticsRow{{StartsAt: new(instant)}}
		}
		t.starts, t.rows, t.every = append(t.starts, instant), append(t.rows, counted[len(counted)-1]), append(t.every, counted...)
	}
	return timeline{by: interval, now: found.Now, starts: append(t.starts, instant), rows: t.rows, every: t.every}
}

// following returns the start of the next period.
func following(t time.Time, interval string) time.Time {
	switch interval {
	case "hour":
		return t.Add(time.Hour)
	case "week":
		return t.AddDate(0, 0, 7)
	case "month":
		return t.AddDate(0, 1, 0)
	}
	return t.AddDate(0, 0, 1)
}

func numberOf(r client.StatisticsRow) int64 { return max(r.Scans, r.Users) }
func firstOf(r client.StatisticsRow) int64  { return r.FirstScans }

// highest returns the largest count in the timeline and the index of its period.
func (t timeline) highest() (limit int64, best int) {
	for i, r := range t.rows {
		if n := numberOf(r); n > limit {
			limit, best = n, i
		}
	}
	return limit, best
}

// maximum returns the largest count in the timeline.
func (t timeline) maximum() int64 {
	limit, _ := t.highest()
	return limit
}

// period returns the index of the period that contains instant, or -1.
func (t timeline) period(instant time.Time) int {
	if len(t.rows) == 0 || !instant.Before(t.starts[len(t.rows)]) {
		return -1
	}
	return sort.Search(len(t.rows), func(i int) bool { return t.starts[i].After(instant) }) - 1
}

// strides lists the possible distances between labels, in periods.
var strides = map[string][]int{"hour": {1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 120, 168, 336, 672, 1344},
	"day": {1, 2, 3, 4, 5, 7, 10, 14, 21, 28, 56, 91, 182, 364, 728}, "week": {1, 2, 4, 8, 13, 26, 52, 104},
	"month": {1, 2, 3, 4, 6, 12, 24, 60}}

// labelled returns the indexes of the periods that get a label, at most limit of them. Labels are placed at round hours, Mondays
// and similar boundaries.
func (t timeline) labelled(limit int) (list []int) {
	const monday = 4 // the first Monday in January 1970, as an offset in days
	hours, numbers := map[string]int64{"hour": 1, "day": 24, "week": 168}[t.by], make([]int64, len(t.rows))
	for i, instant := range t.starts[:len(t.rows)] {
		if t.by == "month" {
			numbers[i] = int64(12*instant.Year() + int(instant.Month()) - 1)
			continue
		}
		_, offset := instant.Zone()
		numbers[i] = ((instant.Unix()+int64(offset))/3600 - 24*monday) / hours
	}
	for _, stride := range strides[t.by] {
		list = list[:0]
		for i, n := range numbers {
			if n%int64(stride) == 0 {
				list = append(list, i)
			}
		}
		if len(list) <= limit {
			return list
		}
	}
	return list[:0]
}

// label returns the text below a period of the chart.
func (v *request) label(t time.Time, interval string) string {
	switch {
	case interval == "hour" && t.Hour() != 0:
		return t.Format("15:04")
	case interval == "month":
		return t.Format("2006-01")
	}
	return t.Format(v.say("chart.day"))
}

// gridLines returns the spacing of the grid lines and their number, at most five. The spacing is 1, 2 or 5 times a power of ten, and no
// grid line except the highest is at or above limit.
func gridLines(limit int64) (step, lines int64) {
	for unit := int64(1); ; unit *= 10 {
		for _, n := range [...]int64{1, 2, 5} {
			if step = n * unit; limit <= 5*step || unit > math.MaxInt64/300 {
				return step, max(1, (limit-1)/step+1)
			}
		}
	}
}

// drawing is a timeline rendered at one size.
type drawing struct {
	Class                        string
	Wide, High, Left, Top, Floor float64
	Lines, Labels                []written
	Bars                         []bar
	All, First, Before           string // SVG paths of all scans, first scans and preceding periods; if Bars is set, only Before is
	Signs                        []sign
	About                        string // a sentence that describes the drawing
}

// written is a text at a position in a drawing.
type written struct {
	X, Y   float64
	Text   string
	Anchor string
}

// bar is a period drawn as a bar.
type bar struct {
	X, Y, Wide, High float64
	First            float64 // the height of the part that represents first scans
	Label, Text      string
	Now              bool // the period has not ended yet
}

// FirstY returns the vertical position of the part that represents first scans.
func (b bar) FirstY() float64 { return tenth(b.Y + b.High - b.First) }

// sign is an event marker in the chart.
type sign struct {
	Kind, Text string
	X, Y       float64
}

// tenth rounds a length to a tenth of a pixel.
func tenth(x float64) float64 { return math.Round(10*x) / 10 }

// size contains the dimensions of a drawing and the spacing of its labels.
type size struct {
	class      string
	wide, high float64
	left       float64
	labels     int
	bars       bool // if there is enough space, each period is drawn as a bar
}

var (
	wideChart  = size{"wide", 1100, 280, 64, 7, true}
	phoneChart = size{"phone", 340, 230, 44, 5, false}
	alarmChart = size{"wide", 1100, 110, 44, 7, false}
	smallChart = size{"small", 320, 120, 44, 3, false}
)

// maxBars is the maximum number of periods that are drawn as separate bars.
const maxBars = 100

// maxPlotted is the maximum number of periods of a chart that the browser's script redraws; longer charts stay as the server drew them.
const maxPlotted = 400

// draw renders a timeline with the preceding periods as an outline. The vertical axis shows at least the counts up to scale.
func (v *request) draw(s size, t, oldTimeline timeline, scale int64, signs []happened) drawing {
	d := drawing{Class: s.class, Wide: s.wide, High: s.high, Left: s.left, Top: 10, Floor: s.high - 26}
	if len(signs) > 0 {
		d.Top = 46
	}
	step, lines := gridLines(scale)
	y := func(n int64) float64 { return tenth(d.Floor - (d.Floor-d.Top)*float64(n)/float64(lines*step)) }
	x := func(i int) float64 { return tenth(d.Left + (d.Wide-d.Left)*float64(i)/float64(len(t.rows))) }
	mid := func(i int) float64 { return tenth((x(i) + x(i+1)) / 2) }
	for i := range lines {
		d.Lines = append(d.Lines, written{Y: y((i + 1) * step), Text: separated((i + 1) * step)})
	}
	for _, i := range t.labelled(s.labels) {
		w := written{X: mid(i), Y: d.Floor + 17, Text: v.label(t.starts[i], t.by), Anchor: "middle"}
		switch {
		case w.X > d.Wide-24:
			w.X, w.Anchor = d.Wide, "end"
		case w.X < 24:
			w.X, w.Anchor = 0, "start"
		}
		d.Labels = append(d.Labels, w)
	}
	path := func(rows []client.StatisticsRow, number func(client.StatisticsRow) int64) string {
		var b []byte
		for i, r := range rows[:min(len(rows), len(t.rows))] {
			b = strconv.AppendFloat(append(b, "LM"[b2i(i == 0)]), x(i), 'f', -1, 64)
			b = strconv.AppendFloat(append(b, ' '), y(number(r)), 'f', -1, 64)
			b = strconv.AppendFloat(append(b, 'H'), x(i+1), 'f', -1, 64)
		}
		return string(b)
	}
	closed := func(line string) string { return fmt.Sprintf("M%v %vL%sV%vZ", d.Left, d.Floor, line[1:], d.Floor) }
	d.Before = path(oldTimeline.rows, numberOf)
	if s.bars && len(t.rows) <= maxBars {
		d.Bars = v.bars(t, x, y)
	} else {
		d.All = closed(path(t.rows, numberOf))
		if t.sum(firstOf) > 0 {
			d.First = closed(path(t.rows, firstOf))
		}
	}
	for _, h := range signs {
		row := slices.Index(signKinds, h.Kind)
		// several events in one period share one marker
		if n := len(d.Signs); n > 0 && d.Signs[n-1].Kind == h.Kind && d.Signs[n-1].X == mid(h.period) {
			continue
		}
		d.Signs = append(d.Signs, sign{Kind: h.Kind, Text: h.Text, X: mid(h.period), Y: float64(10 + 12*row)})
	}
	d.About = v.describeTimeline(t)
	return d
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bars returns the periods as bars.
func (v *request) bars(t timeline, x func(int) float64, y func(int64) float64) (list []bar) {
	for i, r := range t.rows {
		instant, end, n := t.starts[i], t.starts[i+1], numberOf(r)
		room := (x(i+1) - x(i)) * .12
		b := bar{X: tenth(x(i) + room), Wide: tenth(x(i+1) - x(i) - 2*room), Y: y(n), High: tenth(y(0) - y(n)),
			First: tenth(y(0) - y(r.FirstScans)), Label: day(instant, t.by),
			Text: v.countText(r), Now: !t.now.Before(instant) && t.now.Before(end)}
		if b.Now {
			b.Text += v.say("chart.running")
		}
		list = append(list, b)
	}
	return list
}

// countText returns a sentence with the counts of a row.
func (v *request) countText(r client.StatisticsRow) string {
	if r.Users > 0 {
		return separated(r.Users)
	}
	return v.say("stats.bar", r.Scans, r.FirstScans)
}

// describeTimeline returns a sentence that describes a timeline.
func (v *request) describeTimeline(t timeline) string {
	limit, best := t.highest()
	last := t.starts[len(t.rows)].Add(-time.Minute)
	if limit == 0 {
		return v.say("chart.about.nothing", day(t.starts[0], ""), day(last, ""))
	}
	return v.say("chart.about", day(t.starts[0], ""), day(last, ""), separated(limit), day(t.starts[best], t.by))
}

// chart is a rendered statistics result.
type chart struct {
	Totals []number // the sum of the rows, and its change from the preceding periods
	Zone   string
	Plot   *plot     // the numbers for the script that redraws the chart; nil if there are more than maxPlotted periods
	Drawn  []drawing // the timeline of the total in two sizes: wide, and small for phones
	// Before is the name of the series that is drawn as an outline: the preceding periods, or the compared account; "" = none.
	Before string
	Second []int64 // the counts of the compared account; nil = none
	First  string  // name of the account that is compared; "" = none
	Small  []multiple
	Lying  []boxRow // horizontal bars of a result without a time dimension
	Signs  []happened
	Since  *time.Time // some event markers before this time are missing
}

// multiple is the timeline of one value of a dimension as a separate drawing. The drawings of all values have the same scale.
type multiple struct {
	Name, To string
	Sum      int64
	Drawing  drawing
}

// happened is an event marker of a chart, described in words.
type happened struct {
	client.ScanPosition
	Text, To string
	period   int
}

// signKinds lists the kinds of event markers, from top to bottom of a chart.
var signKinds = []string{client.MarkPublished, client.MarkFrozen, client.MarkAlarm}

// happenings returns the marks of the statistics (events such as a publish) whose time is in the period that a chart shows.
func (v *request) happenings(marks []client.ScanPosition, t timeline) (list []happened) {
	for _, m := range marks {
		h := happened{ScanPosition: m, period: t.period(m.OccurredAt), Text: v.say("chart.mark."+m.Kind, m.Target)}
		switch {
		case v.shared:
		case m.Kind == client.MarkAlarm:
			h.To = Root + "/codes?code=" + m.Target
		case m.Kind == client.MarkFrozen:
			h.To = Root + "/codes/" + m.Target
		}
		if h.period >= 0 && slices.Contains(signKinds, m.Kind) {
			h.OccurredAt = m.OccurredAt.In(t.starts[0].Location())
			list = append(list, h)
		}
	}
	return list
}

// charted renders the statistics result of a page.
func (v *request) charted(s statisticsView) (ch chart, err error) {
	rows := s.Numbers.Rows
	if s.By == "" {
		total := s.Numbers
		if asked := s.query(); total.More { // the rows are not all values
			asked.Group = ""
			total, err = v.api.Statistics.Get(v.ctx(), asked)
		}
		return chart{Lying: v.frequent(s.Group, rows[:min(len(rows), maxBarGroups)], timeline{rows: total.Rows}.sum(numberOf))}, err
	}
	if s.Group != "" {
		return v.multiples(s)
	}
	t := timelineOf(s.Numbers, s.By)
	if len(t.rows) == 0 {
		return chart{}, nil
	}
	ch = chart{Zone: zoneOf(t), Signs: v.happenings(s.Numbers.Marks, t), Since: s.Numbers.MarksSince}
	oldTimeline, err := v.outline(s, t)
	if err != nil {
		return chart{}, err
	}
	switch {
	case s.Compare != "":
		owner := s.query().Filter["owner"]
		v.know("owner", owner, s.Compare)
		ch.First, ch.Before = v.Value("owner", owner), v.Value("owner", s.Compare)
		ch.Second = oldTimeline.counts(numberOf)
		for i := range t.rows {
			t.rows[i].FirstScans = 0
		}
	case len(oldTimeline.rows) > 0:
		ch.Before = v.say("chart.before")
	}
	if len(t.rows) <= maxPlotted {
		ch.Plot = v.plot(t, oldTimeline, s.Users(), ch)
	}
	if !s.Users() { // a sum over periods would count a user several times
		ch.Totals = v.totals(t, oldTimeline, ch)
	}
	for _, item := range []size{wideChart, phoneChart} {
		ch.Drawn = append(ch.Drawn, v.draw(item, t, oldTimeline, max(t.maximum(), oldTimeline.maximum()), ch.Signs))
	}
	return ch, nil
}

// totals returns the sums of t, with their changes from the preceding periods, and the average and the highest period of t.
func (v *request) totals(t, oldTimeline timeline, ch chart) []number {
	scans, first := number{Name: "stats.scans", Trend: t.counts(numberOf)}, number{Name: "stats.first"}
	scans.compare(v, "total.before", t.sum(numberOf), oldTimeline.sum(numberOf))
	first.compare(v, "total.before", t.sum(firstOf), oldTimeline.sum(firstOf))
	if ch.Second != nil {
		compared := number{Name: "stats.scans", Value: separated(oldTimeline.sum(numberOf)), Beside: ch.Before}
		return []number{{Name: "stats.scans", Value: scans.Value, Beside: ch.First, Trend: scans.Trend}, compared}
	}
	limit, best := t.highest()
	return []number{scans, first, {Name: "total.average." + t.by, Value: separated(t.sum(numberOf) / int64(len(t.rows)))},
		{Name: "total.most", Value: separated(limit), Beside: day(t.starts[best], t.by)}}
}

// counts returns a count of each row, and sum their sum.
func (t timeline) counts(count func(client.StatisticsRow) int64) (list []int64) {
	for _, r := range t.rows {
		list = append(list, count(r))
	}
	return list
}

func (t timeline) sum(count func(client.StatisticsRow) int64) int64 { return sum(t.counts(count)) }

// compare stores value in n with its change from the earlier value "before"; beside is the key of the text that shows the earlier value.
func (n *number) compare(v *request, beside string, value, before int64) {
	n.Value, n.Beside = separated(value), v.say(beside, separated(before))
	if before > 0 {
		n.Change = fmt.Sprintf("%+.0f%%", 100*float64(value-before)/float64(before))
	}
}

// plot contains the numbers of a chart for static/chart.js.
type plot struct {
	Period string       `json:"period"`
	Labels []string     `json:"labels"`
	Ticks  []string     `json:"ticks"`
	Marks  []int        `json:"marks"` // the periods with event markers
	Series []plotSeries `json:"series"`
}

type plotSeries struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"` // "all" (scans or users), "first" (first scans), or "before" ("all" of the preceding periods)
	Values []int64 `json:"values"`
}

func (v *request) plot(t, oldTimeline timeline, users bool, ch chart) *plot {
	data := &plot{Period: v.say("calls.at")}
	add := func(name, kind string, t timeline, count func(client.StatisticsRow) int64) {
		if t.sum(count) > 0 || kind == "all" {
			data.Series = append(data.Series, plotSeries{name, kind, t.counts(count)})
		}
	}
	add(cmp.Or(ch.First, v.say(map[bool]string{true: "stats.users", false: "stats.scans"}[users])), "all", t, numberOf)
	add(v.say("stats.first"), "first", t, firstOf)
	oldTimeline.rows = oldTimeline.rows[:min(len(oldTimeline.rows), len(t.rows))]
	add(ch.Before, "before", oldTimeline, numberOf)
	for _, start := range t.starts[:len(t.rows)] {
		data.Labels, data.Ticks = append(data.Labels, day(start, t.by)), append(data.Ticks, v.label(start, t.by))
	}
	for _, s := range ch.Signs {
		if !slices.Contains(data.Marks, s.period) {
			data.Marks = append(data.Marks, s.period)
		}
	}
	return data
}

func zoneOf(t timeline) string { return "UTC" + t.starts[0].Format("-07:00") }

// outline returns the timeline that a chart shows as an outline: as many periods as t has, of the compared account, or from before the
// start of t. outline returns no periods if the counts of the periods before t were deleted.
func (v *request) outline(s statisticsView, t timeline) (timeline, error) {
	asked, begin := s.query(), t.starts[0]
	from := begin.Add(-t.starts[len(t.rows)].Sub(begin))
	if s.By == "month" {
		from = begin.AddDate(0, -len(t.rows), 0)
	}
	if s.Compare != "" {
		asked.Filter["owner"] = s.Compare
	} else {
		asked.From, asked.To = from.Format(time.RFC3339), begin.Format(time.RFC3339)
	}
	asked.Limit = drawnRows
	found, err := v.api.Statistics.Get(v.ctx(), asked)
	if s.Compare != "" {
		compared := timelineOf(found, s.By)
		compared.rows = append(compared.rows, make([]client.StatisticsRow, len(t.rows))...)[:len(t.rows)]
		return compared, err
	}
	if _, gone := mendable(err); gone {
		return timeline{}, nil
	}
	if err != nil || len(found.Rows) == 0 {
		return timeline{}, err
	}
	return timelineOf(found, s.By), nil
}

const (
	// maxBarGroups is the maximum number of values of a dimension in a chart without a time axis; maxTimeGroups is the maximum in a chart
	// with a time axis. The table lists all values.
	maxBarGroups  = 20
	maxTimeGroups = 9
)

// frequent returns the values of a dimension with their counts and their shares of total, the most frequent first.
func (v *request) frequent(group string, rows []client.StatisticsRow, total int64) (list []boxRow) {
	v.knowRows(group, rows)
	for _, r := range rows {
		row := boxRow{Name: v.Value(group, r.Value), Scans: numberOf(r), Part: tenth(100 * float64(numberOf(r)) / float64(max(1, total)))}
		if group != "" {
			row.To = v.Narrow(group, r.Value)
		}
		list = append(list, row)
	}
	return list
}

// multiples renders one timeline for each of the most frequent values of a dimension.
func (v *request) multiples(s statisticsView) (ch chart, err error) {
	asked := s.query()
	asked.By, asked.Limit = "", maxTimeGroups
	found, err := v.api.Statistics.Get(v.ctx(), asked)
	if err != nil {
		return ch, err
	}
	var lines []timeline
	scale := int64(0)
	for _, r := range found.Rows {
		query := s.query()
		query.Group, query.Limit = "", drawnRows
		query.Filter[s.Group] = cmp.Or(r.Value, "-")
		overStatistics, err := v.api.Statistics.Get(v.ctx(), query)
		if err != nil {
			return ch, err
		}
		t := timelineOf(overStatistics, s.By)
		if len(t.rows) == 0 {
			return chart{}, nil
		}
		lines, scale = append(lines, t), max(scale, t.maximum())
		ch.Zone = zoneOf(t)
	}
	v.knowRows(s.Group, found.Rows)
	for i, r := range found.Rows {
		ch.Small = append(ch.Small, multiple{Name: v.Value(s.Group, r.Value), To: v.Narrow(s.Group, r.Value), Sum: numberOf(r),
			Drawing: v.draw(smallChart, lines[i], timeline{}, scale, nil)})
	}
	return ch, nil
}
