package console

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// homeView holds the data of the home page: next steps, today's numbers, and unmatched scans.
type homeView struct {
	Health  healthView
	Tasks   []task
	Numbers []number
	Misses  []client.Miss
	now     time.Time // the server's current time in the time zone of the statistics
}

// task is a suggested next step; Kind is bad, warn or info.
type task struct{ Kind, What, Why, To string }

// number is a prominent count with a comparison value and its recent history.
type number struct {
	Kind, Name, Value, Beside string
	Trend                     []int64
}

const (
	mostMissesHome = 5
	mostAlarmsHome = 100
	backupDue      = 7 * 24 * time.Hour
	week           = 7 * 24 * time.Hour
)

func (pages homePages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/{$}":  pages.landing,
		"GET /console/home": pages.home,
	}
}

// landing redirects to the first page: the list of calls for a developer with an emulator, else the home page.
func (pages homePages) landing(v *request) {
	if v.c.Emulates && len(v.caller.Accounts) == 0 {
		v.redirect(Root + "/calls")
		return
	}
	v.redirect(Root + "/home")
}

// home shows each reader only the data that the admin API allows this reader to see.
func (pages homePages) home(v *request) {
	data := homeView{Health: v.health(), now: time.Now()}
	// While the node is not ready, the page shows the reason and omits data that the database cannot deliver.
	skipped := func(err error) bool { return data.Health.Fault != "" && unavailable(err) }
	if now, err := v.clock(); err == nil {
		data.now = now
	} else if !skipped(err) && v.failed(err) {
		return
	}
	for _, part := range []func(*homeView) error{v.homeAlarms, v.homeScans, v.homeOrders, v.homeIdle, v.homePackages,
		v.homeKeys, v.homeCertificate, v.homeQuota, v.homeCalls, v.homeBackup} {
		err := part(&data)
		if _, kept := refused(err, http.StatusForbidden); !kept && !skipped(err) && v.failed(err) {
			return
		}
	}
	v.show(http.StatusOK, "home", data)
}

func (v *request) homeAlarms(data *homeView) error {
	list, err := v.api.Alarms.List(v.ctx(), client.AlarmQuery{Open: true, Owner: v.account(), Limit: mostAlarmsHome})
	if err != nil {
		return err
	}
	open := number{Name: "home.alarms", Value: separated(int64(len(list)))}
	if len(list) == mostAlarmsHome {
		open.Value += "+"
	}
	if len(list) > 0 {
		open.Kind = "bad"
		data.Tasks = append(data.Tasks, task{"bad", v.say("home.alarms.wait", open.Value), v.say("home.alarms.why"), Root + "/alarms"})
	}
	data.Numbers = append(data.Numbers, open)
	return nil
}

// homeScans counts today's scans in the time zone of the statistics, up to the current hour, and the scans in the same hours of the
// day a week ago.
func (v *request) homeScans(data *homeView) error {
	days, err := v.api.Statistics.Get(v.ctx(), client.StatisticsQuery{By: "day", Filter: v.owned()})
	if err != nil {
		return err
	}
	if days.Counted.Scans == 0 && data.Health.Fault == "" {
		first := task{"info", v.say("home.first"), v.say("home.first.why"), Root + "/scan"}
		if (view{request: v}).May("rules-editor") {
			first.To = Root + "/rules/new"
		}
		data.Tasks = append(data.Tasks, first)
	}
	var today, seven, prev int64
	for _, row := range days.Rows {
		now := data.now.In(row.At.Location())
		if row.At.After(now.Add(-week)) {
			seven += row.Scans
		}
		if y, m, d := now.Date(); row.At.Equal(time.Date(y, m, d, 0, 0, 0, 0, now.Location())) {
			today = row.Scans
		}
	}
	if n := len(days.Rows); n > 0 {
		end := data.now.In(days.Rows[n-1].At.Location()).AddDate(0, 0, -7)
		y, m, d := end.Date()
		begin := time.Date(y, m, d, 0, 0, 0, 0, end.Location())
		pastStatistics, err := v.api.Statistics.Get(v.ctx(), client.StatisticsQuery{From: begin.Format(time.RFC3339),
			To:     end.Format(time.RFC3339),
			Filter: v.owned()})
		if err != nil {
			return err
		}
		for _, row := range pastStatistics.Rows {
			prev += row.Scans
		}
	}
	data.Numbers = append(data.Numbers, number{Name: "home.today", Value: separated(today), Beside: v.say("home.week", separated(prev))},
		number{Name: "home.seven", Value: separated(seven)})
	return v.homeMisses(data, days.To.Add(-week))
}

// owned returns a filter that limits statistics to the account filter of the pages.
func (v *request) owned() map[string]string {
	if account := v.account(); account != "" {
		return map[string]string{"owner": account}
	}
	return nil
}

func (v *request) homeMisses(data *homeView, since time.Time) error {
	list, err := v.api.Statistics.ListUnmatched(v.ctx(), client.MissQuery{From: since.Format(time.RFC3339), Owner: v.account()})
	if err != nil {
		return err
	}
	var sum int64
	for _, miss := range list {
		sum += miss.Scans
	}
	missed := number{Name: "home.misses", Value: separated(sum)}
	if sum > 0 {
		missed.Kind = "warn"
		data.Tasks = append(data.Tasks, task{"warn", v.say("home.misses.are", separated(sum)), v.say("home.misses.why",
			view{request: v}.Place(list[0].Place)),
			Root + "/statistics#misses"})
	}
	data.Numbers = append(data.Numbers, missed)
	data.Misses = list[:min(len(list), mostMissesHome)]
	return nil
}

// homeCalls adds a task about calls that failed since yesterday. On an emulator, homeCalls adds nothing, because failures there are
// intentional.
func (v *request) homeCalls(data *homeView) error {
	if v.c.Emulates {
		return nil
	}
	list, err := v.api.Calls.ListErrors(v.ctx(), v.account(), "", 0, 0)
	if err != nil {
		return err
	}
	var failing []string
	for _, callError := range list.Errors {
		if time.Since(callError.LastAt) < 24*time.Hour {
			failing = append(failing, fmt.Sprint(callError.ErrCode, " ", callError.Endpoint))
		}
	}
	if len(failing) > 0 {
		data.Tasks = append(data.Tasks, task{"warn", v.say("home.calls", len(failing)),
			strings.Join(failing[:min(len(failing), 3)], ", "), Root + "/calls?view=errors"})
	}
	return nil
}

func (v *request) homeBackup(data *homeView) error {
	if v.c.Emulates {
		return nil
	}
	last, err := v.api.AuditLog.List(v.ctx(), client.ChangesQuery{Newest: true, Limit: 1, Kind: "export"})
	if err == nil && (len(last) == 0 || time.Since(last[0].OccurredAt) > backupDue) {
		data.Tasks = append(data.Tasks, task{"warn", v.say("home.backup"), v.say("home.backup.why"), Root + "/operate#backup"})
	}
	return err
}
