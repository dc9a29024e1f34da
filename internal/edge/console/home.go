package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// homeView contains the data of the home page: next steps, today's numbers, and unmatched scans.
type homeView struct {
	NotReady string // the error that GET /readyz reports; "" = ready
	Tasks    []task // most severe first
	Numbers  []number
	Week     *statisticsView // the scans of seven days; nil = the reader may not see scans
	Misses   []client.UnmatchedPrefix
	now      time.Time // the server's current time in the time zone of the statistics
}

// task is a suggested next step; Kind is bad, warn or info.
type task struct{ Kind, Title, Explanation, To string }

// number is a prominent count with a comparison value and its recent history.
type number struct {
	Kind, Name, Value, Beside string
	Change                    string // change from the previous value, in percent; "" = unknown
	Trend                     []int64
}

const (
	maxMissesHome = 5
	maxAlarmsHome = 3
	backupDue     = 7 * 24 * time.Hour
	week          = 7 * 24 * time.Hour
)

// landing redirects to the first page: the list of calls for a developer with an emulator, else the home page.
func (pages homePages) landing(v *request) error {
	if v.c.Emulates && len(v.caller.Accounts) == 0 {
		return v.redirect(Root + "/calls")
	}
	return v.redirect(Root + "/home")
}

// home shows each reader only the data that the admin API allows this reader to see.
func (pages homePages) home(v *request) error {
	data := homeView{NotReady: v.notReady(), now: time.Now()}
	// While the node is not ready, the page shows the reason and omits data that the database cannot deliver.
	skipped := func(err error) bool { return data.NotReady != "" && unavailable(err) }
	if now, err := v.clock(); err == nil {
		data.now = now
	} else if !skipped(err) {
		return err
	}
	for _, part := range []func(*homeView) error{v.homeScans, v.homeAlarms, v.homeOrders, v.homeIdle, v.homePackages,
		v.homeKeys, v.homeHealth, v.homeQuota, v.homeCalls} {
		err := part(&data)
		if _, kept := refused(err, http.StatusForbidden); err != nil && !kept && !skipped(err) {
			return err
		}
	}
	slices.SortStableFunc(data.Tasks, func(a, b task) int { return severity(a.Kind) - severity(b.Kind) })
	return v.show(http.StatusOK, "home", data)
}

func (v *request) homeAlarms(data *homeView) error {
	list, err := v.api.Alarms.List(v.ctx(), client.AlarmQuery{State: "open", Acknowledged: "false", Owner: v.Account(), Newest: true,
		Limit: maxAlarmsHome})
	if err != nil {
		return err
	}
	open := number{Name: "home.alarms", Value: "0"}
	if len(list) > 0 {
		names := mapped(list, func(alarm client.Alarm) string { return alarm.Account + " " + alarmView{Alarm: alarm}.Name() })
		open.Kind, open.Value = "bad", view{request: v}.waiting("alarms")
		data.Tasks = append(data.Tasks, task{"bad", v.say("home.alarms.wait", open.Value),
			v.say("home.alarms.why", strings.Join(names, ", ")), Root + "/alarms"})
	}
	data.Numbers = append(data.Numbers, open)
	return nil
}

// homeScans compares the scans of the last seven days with the seven days before. homeScans also compares today's scans up to now with the
// same hours of the day a week ago, in the time zone of the statistics.
func (v *request) homeScans(data *homeView) error {
	shown, err := v.scansOf(7, "owner", v.Account())
	if err != nil {
		return err
	}
	if shown.Numbers.Counted.OccurredAt == nil && data.NotReady == "" {
		first := task{"info", v.say("home.first"), v.say("home.first.why"), Root + "/scan"}
		if (view{request: v}).HasRole("rules-editor") {
			first.To = Root + "/rules/new"
		}
		data.Tasks = append(data.Tasks, first)
	}
	y, m, d := data.now.Date()
	past, err := v.api.Statistics.Get(v.ctx(), client.StatisticsQuery{To: data.now.AddDate(0, 0, -7).Add(time.Second).Format(time.RFC3339),
		From: time.Date(y, m, d-7, 0, 0, 0, 0, data.now.Location()).Format(time.RFC3339), Filter: map[string]string{"owner": v.Account()}})
	if err != nil {
		return err
	}
	today, scans := number{Name: "home.today"}, int64(0)
	if n := len(shown.Numbers.Rows); n > 0 {
		scans = shown.Numbers.Rows[n-1].Scans
	}
	today.compare(v, "home.week", scans, timeline{rows: past.Rows}.sum(numberOf))
	data.Numbers = append(data.Numbers, today)
	if len(shown.Chart.Totals) > 0 {
		seven := shown.Chart.Totals[0]
		seven.Name = "home.seven"
		data.Numbers = append(data.Numbers, seven)
	}
	data.Week = shown
	return v.homeMisses(data, time.Date(y, m, d-6, 0, 0, 0, 0, data.now.Location()))
}

func (v *request) homeMisses(data *homeView, since time.Time) error {
	asked := client.UnmatchedQuery{From: since.Format(time.RFC3339), Owner: v.Account(), Limit: maxMissesHome}
	unmatched, err := v.api.Statistics.ListUnmatched(v.ctx(), asked)
	asked.From, asked.To = since.Add(-week).Format(time.RFC3339), asked.From
	before, failed := v.api.Statistics.ListUnmatched(v.ctx(), asked)
	if err := cmp.Or(err, failed); err != nil {
		return err
	}
	missed := number{Name: "home.misses"}
	missed.compare(v, "total.before", unmatched.Scans, before.Scans)
	if unmatched.Scans > 0 {
		missed.Kind = "warn"
		data.Tasks = append(data.Tasks, task{"warn", v.say("home.misses.are", separated(unmatched.Scans)), v.say("home.misses.why",
			view{request: v}.Place(unmatched.Locations[0].Location)), Root + "/statistics#misses"})
	}
	data.Numbers = append(data.Numbers, missed)
	data.Misses = unmatched.Locations
	return nil
}

// homeCalls adds a task about calls that failed since yesterday. On an emulator failures are intentional, so homeCalls adds nothing.
func (v *request) homeCalls(data *homeView) error {
	if v.c.Emulates {
		return nil
	}
	list, err := v.api.Calls.ListErrors(v.ctx(), v.Account(), "", 0, 0)
	data.due(v, "home.calls", mapped(list.Errors, func(e client.CallError) string {
		return wordIf(time.Since(e.LastAt) < 24*time.Hour, fmt.Sprint(e.ErrCode, " ", e.Endpoint))
	}), "/calls?view=errors")
	return err
}

// homeHealth adds the failed health checks as tasks, for operators of all accounts.
func (v *request) homeHealth(data *homeView) error {
	if (view{request: v}).HasRole("operator") && (view{request: v}).All() {
		for _, c := range v.checks() {
			if c.Kind != "good" && c.Name != "ready" { // the top of the page already shows why a node is not ready
				data.Tasks = append(data.Tasks, c.task)
			}
		}
	}
	return nil
}
