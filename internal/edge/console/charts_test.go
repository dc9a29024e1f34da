package console_test

import (
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// drawnChart is the visible content of a chart.
type drawnChart struct {
	labels, lines []string
	bars          []string // their titles
	flatBars      int      // bars without height
	marks         []string
	hasPrevious   bool
	label         string
}

var (
	chartTag  = regexp.MustCompile(`(?s)<svg class="chart (\w+)".*?</svg>`)
	labelTag  = regexp.MustCompile(`<text class="tick"[^>]*>([^<]*)<`)
	gridLine  = regexp.MustCompile(`<text x="0"[^>]*>([^<]*)</text><path class="grid"`)
	barTag    = regexp.MustCompile(`<title>([^<]*)</title><rect class="all[^"]*" [^>]* height="([^"]*)"`)
	markTag   = regexp.MustCompile(`aria-label="([^"]*)"><title>[^<]*</title><path class="since"`)
	ariaLabel = regexp.MustCompile(`<svg class="chart [^>]* aria-label="([^"]*)"`)
)

// parseCharts returns the charts of a page by size class.
func parseCharts(p page) map[string][]drawnChart {
	byClass := map[string][]drawnChart{}
	submatches := func(pattern *regexp.Regexp, text string) (list []string) {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			list = append(list, html.UnescapeString(m[1]))
		}
		return list
	}
	for _, m := range chartTag.FindAllStringSubmatch(p.Body, -1) {
		d := drawnChart{labels: submatches(labelTag, m[0]), lines: submatches(gridLine, m[0]), bars: submatches(barTag, m[0]),
			marks:       submatches(markTag, m[0]),
			hasPrevious: strings.Contains(m[0], `class="before"`), label: submatches(ariaLabel, m[0])[0]}
		for _, b := range barTag.FindAllStringSubmatch(m[0], -1) {
			if b[2] == "0" {
				d.flatBars++
			}
		}
		byClass[m[1]] = append(byClass[m[1]], d)
	}
	return byClass
}

// startWithJanuaryWeek starts a server with a week of January 2040: three scans on Sunday the 1st, none until Wednesday the 4th, when a
// rule is published, and on the 5th a suspected copy and frozen codes.
func startWithJanuaryWeek(t *testing.T) (s *servertest.Server, batch string) {
	t.Helper()
	s = servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	clock := func(at string) { s.Admin("PUT", "/emulator/clock", `{"now":"`+at+`"}`) }
	clock("2040-01-01T02:00:00Z")
	batch = applyAndActivate(t, s)
	scanByUsers(s, "https://shop.example/7", 3)
	clock("2040-01-04T02:00:00Z")
	s.OK("shop", "add", `{"prefix":"https://new.example/","path":"pages/a","open_version":"3","permit_sub_rule":"1","is_edit":0}`)
	s.OK("shop", "publish", `{"prefix":"https://new.example/"}`)
	scanByUsers(s, "https://new.example/7", 2)
	clock("2040-01-05T02:00:00Z")
	scanByUsers(s, codeText(t, s, batch, 7), 60)
	s.Admin("POST", "/batches/"+batch+"/states", `{"action":"freeze","ranges":[{"from":8,"to":9}]}`)
	clock("2040-01-07T02:30:00Z")
	s.Admin("GET", "/statistics?wait=true", "")
	return s, batch
}

// tableRow matches a row of the table of statistics by day.
var tableRow = regexp.MustCompile(`<tr><td>(?:<a [^>]*>)?<time [^>]*>([^<]*)</time>(?:</a>)?</td><td class="num">([^<]*)</td>`)

// TestChart_AxisZoneAndMarks verifies the contents of a chart: periods without scans, rounded axis labels, at most five grid lines, the
// time zone, the previous period, and marks for events.
func TestChart_AxisZoneAndMarks(t *testing.T) {
	t.Parallel()
	s, batch := startWithJanuaryWeek(t)
	v := newVisitor(t, s)
	p := v.get("/console/statistics?days=7&by=day")
	p.wantText(t, "Times are in UTC&#43;08:00.", `aria-current="true">7 days`, `value="2040-01-01"`)
	week := parseCharts(p)["wide"][0]
	want := []string{"2040-01-01: 3 scans, 0 of them first scans", "2040-01-02: 0 scans, 0 of them first scans",
		"2040-01-03: 0 scans, 0 of them first scans", "2040-01-04: 2 scans, 0 of them first scans",
		"2040-01-05: 60 scans, 1 of them first scans", "2040-01-06: 0 scans, 0 of them first scans",
		"2040-01-07: 0 scans, 0 of them first scans, not complete yet"}
	assert.True(t, slices.Equal(week.bars, want) && week.flatBars == 4, "%d flat bars of %q", week.flatBars, week.bars)
	var table []string
	for _, cells := range tableRow.FindAllStringSubmatch(p.Body, -1) {
		table = append(table, cells[1]+" "+cells[2])
	}
	wantTable := []string{"2040-01-01 3", "2040-01-02 0", "2040-01-03 0", "2040-01-04 2", "2040-01-05 60", "2040-01-06 0", "2040-01-07 0"}
	assert.True(t, slices.Equal(table, wantTable), "table of statistics = %q, want %q", table, wantTable)
	days := []string{"Jan 1", "Jan 2", "Jan 3", "Jan 4", "Jan 5", "Jan 6", "Jan 7"}
	assert.True(t, slices.Equal(week.labels, days), "labels = %q, want %q", week.labels, days)
	if lines := []string{"20", "40", "60"}; !slices.Equal(week.lines, lines) || week.hasPrevious {
		t.Errorf("grid lines = %q, want %q; the empty previous week is drawn = %v, want false", week.lines, lines, week.hasPrevious)
	}
	marks := []string{"Published: https://new.example/", "Alarm: code " + batch + ":7", "Codes frozen, application " + batch}
	slices.Sort(week.marks)
	slices.Sort(marks)
	assert.True(t, slices.Equal(week.marks, marks), "marks = %q, want %q", week.marks, marks)
	label := "From 2040-01-01 to 2040-01-07; the maximum was 60, 2040-01-05"
	assert.Equal(t, week.label, label, "label of the chart")
	for _, query := range []string{"days=1&by=hour", "days=30&by=day", "days=90&by=day", "", "days=7&by=hour",
		"from=2039-01-01&to=2040-01-07&by=week", "from=2039-01-01&to=2040-01-07&by=month"} {
		charts := parseCharts(v.get("/console/statistics?" + query))
		wide, phone := charts["wide"][0], charts["phone"][0]
		if n := len(wide.labels); n < 5 || n > 7 || len(wide.lines) < 1 || len(wide.lines) > 5 {
			t.Errorf("%s: %d labels %q, grid lines %q; want 5 to 7 labels and 1 to 5 lines", query, n, wide.labels, wide.lines)
		}
		n := len(phone.labels)
		assert.True(t, n >= 2 && n <= 5, "%s: %d labels on a phone, want 2 to 5: %q", query, n, phone.labels)
	}
	withoutPrevious := parseCharts(v.get("/console/statistics?by=day&from=2040-01-04&to=2040-01-05"))["wide"][0]
	assert.True(t, !withoutPrevious.hasPrevious, "the chart draws a previous period without scans")
	withPrevious := parseCharts(v.get("/console/statistics?by=day&from=2040-01-02&to=2040-01-02"))["wide"][0]
	assert.True(t, withPrevious.hasPrevious, "the chart does not draw the previous period, which has scans")
	zh := v.get("/console/statistics?days=7&by=day&lang=zh")
	zh.wantText(t, "时间均为 UTC&#43;08:00。", "同期事件：3 件", "发布规则：https://new.example/")
	got := parseCharts(zh)["wide"][0].labels[0]
	assert.True(t, got == "1月1日", "first label = %v, want 1月1日", got)
}

// TestChart_GroupsAndTopValues verifies that a group over time has one chart for each value, and that the link of a top value narrows the
// page to it.
func TestChart_GroupsAndTopValues(t *testing.T) {
	t.Parallel()
	s, batch := startWithJanuaryWeek(t)
	v := newVisitor(t, s)
	p := v.get("/console/statistics?days=7&by=day&group=activity")
	small := parseCharts(p)["small"]
	assert.True(t, len(small) == 2 && slices.Equal(small[0].lines, small[1].lines) && strings.Contains(small[0].label, "60, 2040-01-05"),
		"small charts = %+v, want two with equal grid lines", small)
	p = v.get("/console/statistics?days=7&by=day&lang=en")
	p = v.getDeferred(p)
	link := regexp.MustCompile(`<section><h2>application</h2><ol><li><a href="([^"]*)"><bdi>` + batch).FindStringSubmatch(p.Body)
	require.True(t, link != nil, "the page has no top value for the application")
	// A rule is named by its prefix.
	p.wantText(t, `"><bdi>https://shop.example/</bdi></a> <span class="num">3 <span class="muted">5%</span></span>`)
	chart := parseCharts(v.get(html.UnescapeString(link[1])))["wide"][0]
	assert.True(t, strings.HasPrefix(chart.bars[0], "2040-01-01: 0 scans") && strings.HasPrefix(chart.bars[4], "2040-01-05: 60 scans"),
		"bars of one application = %q", chart.bars)
	assert.True(t, !slices.ContainsFunc(chart.marks, func(text string) bool { return strings.HasPrefix(text, "Published") }) &&
		len(chart.marks) == 2, "marks of one application = %q, want 2 without a published rule", chart.marks)
	for path, prefix := range map[string]string{"/console/statistics/numbers.csv?by=day": "\ufeffstarts_at,value",
		"/console/statistics/unmatched.csv": "\ufefflocation", "/console/codes/" + batch + "/list.csv?from=0&to=1": "\ufeffindex,code"} {
		file := v.get(path)
		assert.True(t, file.Status == http.StatusOK && strings.HasPrefix(file.Body, prefix), "%s: %d %.40q", path, file.Status, file.Body)
	}
	s.Admin("DELETE", "/accounts/shop/rules?prefix="+url.QueryEscape("https://shop.example/"), "")
	v.get("/console/statistics?days=7&by=&group=rule").wantText(t, "<bdi>https://shop.example/</bdi>") // also when it is deleted
	s.Exec(`INSERT INTO statistics_sums (granularity, dimension, bucket, value, scans, first_scans)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
		SELECT 1, 7, (SELECT MIN(bucket) FROM statistics_sums WHERE granularity = 1), 'x' || i, 1, 0 FROM n`)
	v.get("/console/statistics?days=7&by=&group=source").wantText(t, "x10<", // more values than a result has rows
		`<span class="num">65 <span class="muted">100%</span>`)
	s.Exec(`INSERT INTO statistics_sums (granularity, dimension, bucket, value, scans, first_scans)
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 101999)
		SELECT 1, 7, b.bucket + i % 5, 'y' || i, 1, 0 FROM n,
			(SELECT MIN(bucket) AS bucket FROM statistics_sums WHERE granularity = 1) AS b`)
	file := v.get("/console/statistics/numbers.csv?from=2040-01-01&by=day&group=source")
	assert.Equal(t, strings.Count(file.Body, ",y"), 102_000, "rows of a large file, which begins with %.80q", file.Body)
}

// TestChartMarks_LimitedToAccount verifies that a caller limited to an account gets the marks of this account only.
func TestChartMarks_LimitedToAccount(t *testing.T) {
	t.Parallel()
	s, _ := startWithJanuaryWeek(t)
	for account, want := range map[string]string{"shop": "published", "press": "frozen alarm"} {
		key := s.NewKey("/admin-keys", `{"name":"of-`+account+`","role":"`+string(adminroute.Marketer)+`","accounts":["`+
			account+`"]}`)
		var got struct{ Marks []struct{ Kind string } }
		s.Do("GET", "/admin/v1/statistics?marks=true", "", "Authorization: Bearer "+key).JSON(t, &got)
		for _, m := range got.Marks {
			assert.True(t, strings.Contains(want, m.Kind), "%s gets a mark of kind %s", account, m.Kind)
		}
		assert.True(t, len(got.Marks) == len(strings.Fields(want)), "%s gets %d marks, want %s", account, len(got.Marks), want)
	}
}

// TestAlarmPage_ReasonsMapAndActions verifies the page of an alarm: reasons, scan counts, map, the page that the buyer gets, and actions.
// The navigation must count open alarms, and the page of the code must begin with the alarm.
func TestAlarmPage_ReasonsMapAndActions(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) {
		c.CodePrefix, c.Regions = "C.EXAMPLE/", regionsFile(t)
	}})
	batch := applyAndActivate(t, s)
	code := codeText(t, s, batch, 7)
	v := newVisitor(t, s)
	v.get("/console/home").wantNoText(t, `/console/alarms">Alarms <span`)
	for i := range 60 {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`, code, i, 1+i%3/2, i))
	}
	s.Admin("GET", "/statistics?wait=true", "")
	p := v.get("/console/alarms/1")
	p.wantText(t, "<h1>Alarm of code "+batch+":7</h1>", `<a href="/console/alarms" aria-current="page">Alarms <span class="tag bad">1<`,
		`<text class="name"`, ">CN-SH 40</text>", ">CN-BJ 20</text>", "at a score of 100 or higher",
		"The location is known for 60 of 60 scans", "CN-SH (networks: 40)",
		"The page warns that the code may have been copied.", `value="freeze"`, `value="dismiss"`, `name="note"`,
		`href="/console/statistics/scans?code=`+batch)
	spots := regexp.MustCompile(`<circle class="all" cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"`).FindAllStringSubmatch(p.Body, -1)
	assert.True(t, len(spots) == 2 && !(parseFloat(t, spots[0][1]) <= parseFloat(t, spots[1][1])) &&
		!(parseFloat(t, spots[0][2]) <= parseFloat(t, spots[1][2])) && !(parseFloat(t, spots[0][3]) <= parseFloat(t, spots[1][3])),
		"circles %q: Shanghai must be to the east and south of Beijing, and larger", spots)
	v.get("/console/alarms/1?lang=zh").wantText(t, "码 "+batch+":7 的告警", "扫码地点", "页面提示该码可能已被复制。")
	body := v.get("/console/codes?lang=en&code=" + batch + ":7").Body
	alarm, facts := strings.Index(body, `href="/console/alarms/1"`), strings.Index(body, `<dl class="facts">`)
	assert.True(t, alarm >= 0 && alarm <= facts, "alarm at %d, facts at %d of the page of the code; want the alarm first", alarm, facts)
	assert.True(t, !strings.Contains(body, ">Confirmed<") && strings.Contains(body, ">Suspicious<"),
		"page of a code with an alarm = %s, want Suspicious", body)
	v.submit("/console/alarms", url.Values{"did": {"confirm"}, "id": {"1"}})
	v.get("/console/alarms?state=confirmed").wantText(t, `href="/console/alarms/1"`, ">Confirmed</span>")
	v.get("/console/codes?code="+batch+":7").wantText(t, ">Confirmed<")
	v.get("/console/alarms?state=suspicious").wantNoText(t, `href="/console/alarms/1"`)
	v.submit("/console/alarms?state=open", url.Values{"did": {"dismiss"}, "id": {"1"}, "note": {"a fair"}})
	v.get("/console/alarms/1").wantText(t, "a fair", "The page says that the code is genuine.")
	assert.Equal(t, v.get("/console/alarms/2").Status, http.StatusNotFound, "unknown alarm")
	key := s.NewKey("/admin-keys", `{"name":"other","role":"marketer","accounts":["shop"]}`)
	a := s.Do("GET", "/admin/v1/alarms?newest=true", "", "Authorization: Bearer "+key)
	assert.True(t, !strings.Contains(string(a.Body), `"code_index"`), "alarms of shop = %s, want none of another account", a.Body)
}

// TestBatchAlarm_ProposedThreshold verifies that the page of an application proposes a threshold and applies it after a confirmation.
func TestBatchAlarm_ProposedThreshold(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch, v := fmt.Sprint(s.Apply("press", "<b>order", 10_000)), newVisitor(t, s)
	s.Exec(`INSERT INTO code_counts (batch, idx, scans, users, first_at, last_at, score, first_score, state)
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999)
		SELECT ` + batch + `, i, 1, 1, 1, 1, 150, 133, '{}' FROM n`)
	v.get("/console/codes/"+batch).wantText(t, "Proposed: 135 points.", "computed from 3,000 codes", `value="propose"`)
	form := url.Values{"did": {"propose"}, "threshold": {"135"}}
	v.post("/console/codes/"+batch+"/alarm", form).wantText(t, "at a score of 135 or higher. The threshold applies from the next scan")
	v.get("/console/codes/"+batch).wantText(t, "at a score of 100 or higher")
	form.Set("sure", "1")
	v.submit("/console/codes/"+batch+"/alarm", form)
	v.get("/console/codes/"+batch+"?lang=zh").wantText(t, "得分达到 135 即告警。")
}

// applyAndActivate applies for codes, activates the first hundred and returns the number of the application.
func applyAndActivate(t *testing.T, s *servertest.Server) (batch string) {
	t.Helper()
	id := s.Apply("press", "<b>order", 10_000)
	s.Activate(id, 0, 99, "shop")
	return fmt.Sprint(id)
}

// TestAlarms_GroupsAndOneNoteForMany verifies that alarms are listed in groups or by score, and that one form dismisses all selected alarms
// with one note.
func TestAlarms_GroupsAndOneNoteForMany(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch, v := applyAndActivate(t, s), newVisitor(t, s)
	for index, n := range map[int]int{7: 60, 8: 70, 9: 80} {
		code := codeText(t, s, batch, index)
		scanByUsers(s, code, n)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	v.get("/console/alarms?order=score").wantText(t, "Application "+batch, `<span class="tag">3</span>`,
		`name="id"`, "People ", `<svg class="chart wide"`)
	for _, group := range []string{"application", "network", "account", "day"} {
		p := v.get("/console/alarms?group=" + group)
		assert.True(t, strings.Contains(p.Body, "<summary>") && strings.Contains(p.Body, batch+":9</a>"),
			"alarms by %s: status %d, want a group with the alarm of code 9", group, p.Status)
	}
	v.submit("/console/alarms", url.Values{"did": {"assign"}, "id": {"1", "3"}, "case_title": {"a <stall>"}})
	v.submit("/console/alarms", url.Values{"did": {"assign"}, "id": {"2"}, "to_case": {"1"}, "note": {"two bought"}})
	v.submit("/console/cases/1", url.Values{"did": {"save"}, "title": {"a <stall>"}, "state": {"closed"}, "assignee": {"李娜"}})
	v.get("/console/cases/1").wantText(t, "Case a &lt;stall&gt;", "李娜", "two bought", "Closed", batch+":7", batch+":8", batch+":9")
	v.get("/console/statistics/alarms.csv?state=all&assignee=%E6%9D%8E%E5%A8%9C").wantText(t, "1,a <stall>,李娜")
	v.get("/console/cases/1/sheet.html").wantText(t, "a &lt;stall&gt;", batch+":9", "10.0.0.0/24", "Only the first 20 scans are listed")
	v.get("/console/cases/1/sheet.pdf").wantText(t, "%PDF-1.6", "/STSong-Light", "UniGB-UCS2-H")
	v.submit("/console/cases/1", url.Values{"did": {"remove"}, "id": {"2"}, "title": {"a <stall>"}})
	v.get("/console/cases?state=closed").wantText(t, "a &lt;stall&gt;")
	v.submit("/console/cases", url.Values{"did": {"add"}, "title": {"a second case"}})
	s.Admin("POST", "/alarms/2/acknowledge", `{"case":2}`)
	remove := url.Values{"did": {"remove"}}
	assert.Equal(t, v.post("/console/cases/1", remove).Status, http.StatusUnprocessableEntity, "removal of no alarm")
	remove.Set("id", "2")
	v.submit("/console/cases/1", remove)
	assert.Contains(t, s.Admin("GET", "/cases/2", "").Body, `"case":2`, "case 2 after its alarm was removed from case 1")
	p := v.post("/console/alarms", url.Values{"did": {"dismiss"}, "note": {"a fair"}})
	assert.True(t, p.Status == http.StatusUnprocessableEntity, "dismissing none: status %d, want 422", p.Status)
	v.submit("/console/alarms", url.Values{"did": {"dismiss"}, "id": {"1", "2"}, "note": {"a fair"}})
	n := strings.Count(v.get("/console/alarms?state=open").Body, `name="id"`)
	assert.True(t, n == 1, "%d alarms are open after two of three were dismissed, want 1", n)
	n = strings.Count(v.get("/console/alarms?state=all").Body, ">Dismissed</span>")
	assert.True(t, n == 2, "%d alarms have the note, want 2", n)
	v.get("/console/alarms/1").wantText(t, "a fair", "Times of its scans", "<time ")
}

// TestAlarms_OfTwoScreensInChromium verifies that 49 alarms of three days take one line each and at most two screens of a phone and of a
// tablet.
func TestAlarms_OfTwoScreensInChromium(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := applyAndActivate(t, s)
	for day := range 3 {
		s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":"2040-01-0%dT02:00:00Z"}`, day+1))
		var lines strings.Builder
		for index := 17 * day; index < min(49, 17*day+17); index++ {
			code := codeText(t, s, batch, index)
			for i := range 40 {
				fmt.Fprintf(&lines, `{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`+"\n", code, i, i, i)
			}
		}
		s.Do("POST", "/scan/v1/resolve", lines.String(), "Content-Type: application/x-ndjson")
		s.Admin("GET", "/statistics?wait=true", "")
	}
	ctx := browsertest.Start(t, "")
	for _, size := range [][2]int64{{390, 844}, {1024, 768}} {
		browsertest.Run(t, ctx, chromedp.EmulateViewport(size[0], size[1]))
		require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+"/console/alarms")))
		browsertest.Await(t, ctx, `[...document.querySelectorAll('.lines li')].filter(li => li.checkVisibility()).length === 49`)
		height := browsertest.Run(t, ctx, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`))
		assert.True(t, height <= 2*size[1], "49 alarms at %d pixels wide are %d pixels high, want at most %d", size[0], height, 2*size[1])
		wide := browsertest.Run(t, ctx, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
		assert.True(t, wide <= size[0], "the alarms are %d pixels wide, want %d", wide, size[0])
	}
}

// TestChart_InChromium verifies that the cross-hair of a chart shows the values of a day, and that a click on the day opens its hours.
func TestChart_InChromium(t *testing.T) {
	s, _ := startWithJanuaryWeek(t)
	ctx := browsertest.Start(t, "")
	browsertest.Run(t, ctx, chromedp.EmulateViewport(1024, 900))
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+"/console/statistics?days=7&by=day")))
	browsertest.Await(t, ctx, `!!document.querySelector('.plotted .u-over') && !document.querySelector('svg.wide').checkVisibility()`)
	const dispatch = `(...kinds) => { const over = document.querySelector('.u-over'), box = over.getBoundingClientRect();
		const at = { bubbles: true, detail: 1, movementX: 1, clientX: box.left + box.width * 4.5 / 7, clientY: box.top + 50 };
		kinds.forEach(kind => over.dispatchEvent(new MouseEvent(kind, at))); }`
	browsertest.Await(t, ctx, `(`+dispatch+`)('mouseenter', 'mousemove'),
		/2040-01-05\s*Scans\s*60\D/.test(document.querySelector('.u-legend').innerText)`)
	browsertest.Run(t, ctx, chromedp.Evaluate[chromedp.Void](`(`+dispatch+`)('mousedown', 'mouseup', 'click')`))
	browsertest.Await(t, ctx, `location.search.includes('by=hour') && location.search.includes('from=2040-01-05')`)
}

func parseFloat(t *testing.T, text string) float64 {
	t.Helper()
	return require.Value(strconv.ParseFloat(text, 64))(t)
}

// regionsFile writes a GeoLite2 database with 10.1.0.0/16 in Shanghai and 10.2.0.0/16 in Beijing.
func regionsFile(t *testing.T) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", IncludeReservedNetworks: true, RecordSize: 24})
	require.NoError(t, err)
	iso := func(code string) mmdbtype.Map { return mmdbtype.Map{"iso_code": mmdbtype.String(code)} }
	for network, location := range map[string]struct {
		region   string
		lat, lon mmdbtype.Float64
	}{"10.1.0.0/16": {"SH", 31.2, 121.5}, "10.2.0.0/16": {"BJ", 39.9, 116.4}} {
		_, ip, err := net.ParseCIDR(network)
		require.NoError(t, err)
		require.NoError(t, tree.Insert(ip, mmdbtype.Map{"country": iso("CN"), "subdivisions": mmdbtype.Slice{iso(location.region)},
			"location": mmdbtype.Map{"latitude": location.lat, "longitude": location.lon}}))
	}
	path := filepath.Join(t.TempDir(), "regions.mmdb")
	file := require.Value(os.Create(path))(t)
	_, err = tree.WriteTo(file)
	require.True(t, err == nil && file.Close() == nil, "%v", err)
	return path
}
