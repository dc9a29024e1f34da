package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// statsTime holds the flags that select scans by time. A day is in the server's time zone, or in UTC with --utc.
type statsTime struct {
	From string `placeholder:"TIME"`
	To   string `placeholder:"TIME"`
}

// bounds returns the values of --from and --to in the format of the server.
func (t statsTime) bounds(utc bool) (from, to string, err error) {
	if from, err = parseDay("--from", t.From); err != nil {
		return "", "", err
	}
	if to, err = parseDay("--to", t.To); err != nil || !utc {
		return from, to, err
	}
	begin := func(text string, lasts int) string {
		day, err := parseTime("", text, false)
		if len(text) > len(time.DateOnly) || err != nil {
			return text // The text is no day: it is empty or a point in time.
		}
		return day.AddDate(0, 0, lasts).Format(time.RFC3339)
	}
	return begin(from, 0), begin(to, 1), nil
}

// tableFlags holds the flags for a table that the server exports as a file: Parquet if the file name ends in .parquet, else CSV.
type tableFlags struct {
	Out string `placeholder:"FILE" file:"out"`
}

// format returns the format to request from the server.
func (f tableFlags) format() string {
	if strings.HasSuffix(strings.ToLower(f.Out), ".parquet") {
		return "parquet"
	}
	return "csv"
}

// write writes the file of --out; fill requests the table from the server. wanted reports whether --out is set. fallback = true means that
// a flag is set that cannot be combined with --out; if --out is set too, write returns an error.
func (f tableFlags) write(s *session, fallback bool, fill func(io.Writer) error) (wanted bool, err error) {
	switch {
	case f.Out == "":
		return false, nil
	case fallback:
		return true, misused("stats.out_writes_all_that_matches", plain(f.Out))
	}
	size, err := replaceFile(f.Out, fill)
	if _, dash := s.out.(renaming); err == nil && !dash {
		printMsg(s.out, "stats.wrote_to", counted(int(size), "byte"), plain(f.Out))
	}
	return true, err
}

type statsShow struct {
	operator
	statsTime
	tableFlags
	By     string            `enum:",hour,day,week,month" default:"" placeholder:"hour|day|week|month"`
	Group  string            `enum:",activity,brand,product,batch,rule,app,source,result,region,owner" default:"" placeholder:"NAME"`
	Count  string            `enum:"scans,first,users" default:"scans" placeholder:"scans|first|users"`
	Filter map[string]string `name:"only" placeholder:"NAME=VALUE"`
	Owner  string            `placeholder:"APPID"`
	Limit  int               `default:"100" placeholder:"N"`
}

// Run queries the statistics; the server first counts all scans that were recorded so far.
func (c *statsShow) Run(s *session, operator *client.Client) error {
	names := []string{"activity", "brand", "product", "batch", "rule", "app", "source", "result", "region", "owner"}
	for _, name := range slices.Sorted(maps.Keys(c.Filter)) {
		if !slices.Contains(names, name) {
			return misused("stats.only_want_one_of", name, strings.Join(names, ", "))
		}
	}
	if c.Owner != "" {
		if c.Filter == nil {
			c.Filter = map[string]string{}
		}
		c.Filter["owner"] = c.Owner
	}
	from, to, err := c.bounds(c.UTC)
	if err != nil {
		return err
	}
	asked := client.StatisticsQuery{From: from, To: to, By: c.By, Group: c.Group, Count: c.Count, Filter: c.Filter, Limit: c.Limit,
		Wait: true}
	if wanted, err := c.write(s, !c.isTable(), func(w io.Writer) error {
		return operator.Statistics.Export(s.ctx, c.format(), asked, w)
	}); wanted {
		return err
	}
	found, err := operator.Statistics.Get(s.ctx, asked)
	if err != nil {
		return fault("stats.stats", err)
	}
	if c.Output == "csv" {
		return printCSV(s.out, true, c.header(), mapped(found.Rows, func(r client.StatisticsRow) []string {
			return append(mapped(c.cells(r), adminroute.EscapeCSVFormula), number(c.number(r)))
		}))
	}
	return c.print(s, found, nil, func(w io.Writer) { c.table(w, found) })
}

// The method "in" converts a time to the zone of the output: UTC with --utc, else the server's zone, in which the server counts days.
func (c *statsShow) in(t time.Time) time.Time {
	if c.UTC {
		return t.UTC()
	}
	return t
}

// cells returns the first cells of a row: the time and the group, without the number.
func (c *statsShow) cells(r client.StatisticsRow) (cells []string) {
	if r.StartsAt != nil {
		t := c.in(*r.StartsAt)
		form := "2006-01-02"
		switch {
		case c.By == "hour" || t.Hour() != 0: // With --utc, a day of the server may begin at another hour than 0.
			form = "2006-01-02 15:04"
		case c.By == "month":
			form = "2006-01"
		}
		cells = append(cells, t.Format(form))
	}
	if c.Group != "" {
		cells = append(cells, r.Value)
	}
	return cells
}

func (c *statsShow) header() []string {
	return slices.DeleteFunc([]string{c.By, c.Group, c.Count}, func(name string) bool { return name == "" })
}

func (c *statsShow) number(r client.StatisticsRow) int64 {
	switch c.Count {
	case "users":
		return r.Users
	case "first":
		return r.FirstScans
	}
	return r.Scans
}

// table prints the rows with one bar per row.
func (c *statsShow) table(w io.Writer, found client.Statistics) {
	from, to := c.in(found.From), c.in(found.To)
	printMsg(w, "stats.to", from.Format("2006-01-02 15:04"), to.Format("2006-01-02 15:04"), from.Format("-07:00"))
	if _, off := found.From.Zone(); c.UTC && off != 0 && c.By != "" && c.By != "hour" {
		printMsg(w, "stats.each_is_one_of_the", c.By, found.From.Format("-07:00"))
	}
	fmt.Fprintln(w)
	if len(found.Rows) == 0 {
		printMsg(w, "stats.no_scans")
	} else {
		largest := slices.Max(mapped(found.Rows, c.number))
		rows := [][]string{}
		for _, r := range found.Rows {
			cells := c.cells(r)
			if c.Group != "" && cells[len(cells)-1] == "" {
				cells[len(cells)-1] = tr("stats.none")
			}
			rows = append(rows, append(cells, i18n.Grouped(c.number(r)), barOf(c.number(r), largest)))
		}
		header := mapped(c.header(), strings.ToUpper)
		printTable(w, header, rightAligned(rows, len(header)-1))
	}
	if found.More {
		printMsg(w, "stats.and_more_limit", min(1000, 10*c.Limit))
	}
	if t := found.Counted.OccurredAt; t != nil {
		printMsg(w, "stats.counted_up_to", t.In(from.Location()).Format("2006-01-02 15:04:05"))
	}
}

// rightAligned right-aligns a column.
func rightAligned(rows [][]string, column int) [][]string {
	width := 0
	for _, row := range rows {
		width = max(width, utf8.RuneCountInString(row[column]))
	}
	for _, row := range rows {
		row[column] = strings.Repeat(" ", width-utf8.RuneCountInString(row[column])) + row[column]
	}
	return rows
}

// barWidth is the width in characters of the longest bar.
const barWidth = 32

// barOf draws a number as a bar of block characters; every number above zero has a visible bar.
func barOf(n, largest int64) string {
	if n <= 0 || largest <= 0 {
		return ""
	}
	eighths := max(1, int(float64(n)/float64(largest)*barWidth*8+0.5))
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

type statsUnmatched struct {
	operator
	statsTime
	tableFlags
	Owner string `placeholder:"APPID"`
	Limit int    `default:"20" placeholder:"N"`
}

// Run shows scanned texts that matched nothing.
func (c *statsUnmatched) Run(s *session, operator *client.Client) error {
	from, to, err := c.bounds(c.UTC)
	if err != nil {
		return err
	}
	asked := client.UnmatchedQuery{From: from, To: to, Owner: c.Owner, Limit: c.Limit, Wait: true}
	if wanted, err := c.write(s, !c.isTable(), func(w io.Writer) error {
		return operator.Statistics.ExportUnmatched(s.ctx, c.format(), asked, w)
	}); wanted {
		return err
	}
	list, err := operator.Statistics.ListUnmatched(s.ctx, asked)
	return c.print(s, list.Locations, wrapped("stats.stats_unmatched", err), func(w io.Writer) {
		if len(list.Locations) == 0 {
			printMsg(s.err, "stats.no_unmatched")
			return
		}
		rows := mapped(list.Locations, func(m client.UnmatchedPrefix) []string {
			return []string{m.Location, i18n.Grouped(m.Scans), barOf(m.Scans, list.Locations[0].Scans)}
		})
		printTable(w, []string{"LOCATION", "SCANS"}, rightAligned(rows, 1))
	})
}

type statsAlarms struct {
	operator
	tableFlags
	State        string  `enum:"open,suspicious,confirmed,dismissed,watch,all" default:"open" placeholder:"STATE"`
	Acknowledged string  `enum:",true,false" default:"" placeholder:"true|false"`
	Batch        int64   `placeholder:"ID"`
	Owner        string  `placeholder:"APPID"`
	Acknowledge  int64   `xor:"what" placeholder:"ID"`
	Confirm      int64   `xor:"what" placeholder:"ID"`
	Dismiss      int64   `xor:"what" placeholder:"ID"`
	Case         *string `placeholder:"ID"`
	Assignee     string  `placeholder:"NAME"`
	Note         string  `placeholder:"TEXT"`
}

// Run lists alarms, or acknowledges, confirms or dismisses an alarm.
func (c *statsAlarms) Run(s *session, operator *client.Client) error {
	caseID := int64(0)
	if c.Case != nil && *c.Case != "" {
		var err error
		if caseID, err = strconv.ParseInt(*c.Case, 10, 64); err != nil || caseID < 1 {
			return misused("stats.case_is_a_number", *c.Case)
		}
	}
	switch changed := c.Acknowledge + c.Confirm + c.Dismiss; {
	case c.Dismiss != 0 && c.Note == "":
		return misused("stats.dismiss_needs_note")
	case c.Dismiss != 0 && c.Case != nil:
		return misused("stats.dismiss_without_case")
	case c.Assignee != "" && changed != 0:
		return misused("stats.assignee_selects_alarms")
	case c.Note != "" && changed == 0:
		return misused("stats.note_needs_action")
	}
	change := client.Acknowledgement{Confirm: c.Confirm != 0}
	if c.Case != nil {
		change.Case = &caseID // 0 removes the alarm from its case
	}
	if c.Note != "" {
		change.Note = &c.Note
	}
	asked := client.AlarmQuery{State: textIf(c.State != "all", c.State), Acknowledged: c.Acknowledged, Case: caseID, Assignee: c.Assignee,
		ApplicationID: c.Batch, Owner: c.Owner, Limit: 1000}
	if wanted, err := c.write(s, !c.isTable() || c.Dismiss+c.Acknowledge+c.Confirm != 0, func(w io.Writer) error {
		return operator.Alarms.Export(s.ctx, c.format(), s.inLanguage("en", "zh"), asked, w)
	}); wanted {
		return err
	}
	if c.Dismiss != 0 {
		a, err := operator.Alarms.Dismiss(s.ctx, c.Dismiss, c.Note)
		return c.outcome(s, a, failed("dismiss", fmt.Sprint("alarm ", c.Dismiss), err), "stats.alarm_of_code_is_dismissed",
			a.ID, a.Name(), plain(a.DismissedBy), plain(a.Note))
	}
	if c.Confirm != 0 {
		a, err := operator.Alarms.Acknowledge(s.ctx, c.Confirm, change)
		return c.outcome(s, a, failed("confirm", fmt.Sprint("alarm ", c.Confirm), err), "stats.alarm_is_confirmed_by",
			a.ID, plain(a.ConfirmedBy))
	}
	if c.Acknowledge != 0 {
		a, err := operator.Alarms.Acknowledge(s.ctx, c.Acknowledge, change)
		return c.outcome(s, a, failed("acknowledge", fmt.Sprint("alarm ", c.Acknowledge), err), "stats.alarm_is_acknowledged_by",
			a.ID, plain(a.AcknowledgedBy))
	}
	list, err := operator.Alarms.List(s.ctx, asked)
	return c.print(s, list, wrapped("stats.stats_alarms", err), func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(s.err, s.msg(msg("alarms.none")))
			return
		}
		heads := []string{"ID", "TIME", "CODE", "SCORE", "STATE", "REASON", "ACKNOWLEDGED BY", "CASE", "ASSIGNEE", "DISMISSED"}
		printRows(w, heads, list, func(a client.Alarm) []string {
			return []string{orDash(textIf(a.ID != 0, number(a.ID))), formatTime(a.OccurredAt),
				a.Name(), number(a.Score), orDash(a.State), reason(s.reader, a), orDash(a.AcknowledgedBy), orDash(a.CaseTitle),
				orDash(a.Assignee), orDash(textIf(a.DismissedAt != nil, a.DismissedBy+": "+a.Note))}
		})
	})
}

// reason describes in words why an alarm was raised.
func reason(r reader, a client.Alarm) string {
	words := mapped(a.Reasons, func(reason client.AlarmReason) string { return r.inLanguage(reason.English, reason.Chinese) })
	return i18n.Sentences(r.language(), words)
}
