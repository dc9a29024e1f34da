package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// Limits for tasks about things that expire soon or wait too long.
const (
	endsSoon     = 14 * 24 * time.Hour
	fetchedIn    = 3 * 24 * time.Hour // a package not downloaded within this time is a task
	activeInDays = 14                 // an application without active codes after this number of days is a task
	maxOrders    = 50
	maxAccounts  = 5
	fewPublishes = 5
)

// homePackages adds a task about packages that were not downloaded in time.
func (v *request) homePackages(data *homeView) error {
	owners := []string{v.Account()}
	if owners[0] == "" && len(v.caller.Accounts) > 0 {
		owners = v.caller.Accounts[:min(len(v.caller.Accounts), maxAccounts)]
	}
	var unfetched []string
	for _, appid := range owners {
		list, err := v.api.Packages.List(v.ctx(), client.PackageQuery{Account: appid, Pending: true, Limit: maxOrders})
		if err != nil {
			return err
		}
		for _, p := range list {
			if data.now.Sub(p.CreatedAt) > fetchedIn {
				unfetched = append(unfetched, fmt.Sprintf("%d %s", p.ID, p.Printer))
			}
		}
	}
	data.due(v, "home.packages.unfetched", unfetched, "/packages?pending=1")
	return nil
}

// homeOrders adds a task about orders that wait for a decision.
func (v *request) homeOrders(data *homeView) error {
	list, err := v.api.Orders.List(v.ctx(), v.Account(), 0, maxOrders)
	var waiting []string
	for _, o := range list.Orders {
		if o.State == "pending_approval" {
			waiting = append(waiting, o.Account+" "+o.ISV)
		}
	}
	data.due(v, "home.orders.wait", waiting, "/orders")
	return err
}

// homeIdle adds a task about applications, from the wire API or the console, that have had no activated code for too long.
func (v *request) homeIdle(data *homeView) error {
	list, err := v.api.Batches.List(v.ctx(), client.BatchQuery{Account: v.Account(), Idle: activeInDays, Limit: maxOrders})
	var idle []string
	for _, b := range list {
		idle = append(idle, b.Account+" "+b.ISV)
	}
	to := "/codes"
	if len(list) == 1 {
		to += "/" + strconv.FormatInt(list[0].ID, 10)
	}
	data.due(v, "home.codes.idle", idle, to)
	return err
}

// due adds a task that lists up to three names, if there are any.
func (data *homeView) due(v *request, kind string, names []string, to string) {
	if len(names) > 0 {
		data.Tasks = append(data.Tasks, task{"warn", v.say(kind, len(names)), strings.Join(names[:min(len(names), 3)], ", "), Root + to})
	}
}

// homeKeys adds a task about API keys that expire soon or expired recently, for readers who may see keys.
func (v *request) homeKeys(data *homeView) error {
	list, err := v.api.AdminKeys.List(v.ctx())
	var names []string
	for _, k := range list {
		if k.ExpiresAt != nil && k.ExpiresAt.Sub(data.now).Abs() < endsSoon {
			names = append(names, k.Name)
		}
	}
	data.due(v, "home.keys", names, "/people")
	return err
}

// homeQuota warns a person who is limited to some accounts if few publishes of the month remain.
func (v *request) homeQuota(data *homeView) error {
	for _, appid := range v.caller.Accounts[:min(len(v.caller.Accounts), maxAccounts)] {
		quota, err := v.api.Accounts.GetQuota(v.ctx(), appid)
		if err != nil {
			return err
		}
		if left := quota.PublishesLeft; left <= fewPublishes {
			data.Tasks = append(data.Tasks, task{"warn", v.say("home.quota", appid, left), v.say("home.quota.why"),
				Root + "/accounts/" + appid})
		}
	}
	return nil
}

// clock returns the server's time at the request, in the time zone of the statistics.
func (v *request) clock() (time.Time, error) {
	if !v.now.IsZero() {
		return v.now, nil
	}
	answer, err := v.api.Statistics.Get(v.ctx(), client.StatisticsQuery{Limit: 1})
	v.now = answer.Now
	if _, kept := refused(err, http.StatusForbidden); kept { // the visitor may not see scans
		v.now, err = time.Now(), nil
	}
	return v.now, err
}
