package console

import (
	"fmt"
	"net/http"
	"slices"
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
		unfetched = append(unfetched, mapped(list, func(p client.Package) string {
			return wordIf(data.now.Sub(p.CreatedAt) > fetchedIn, fmt.Sprintf("%d %s", p.ID, p.Printer))
		})...)
	}
	data.due(v, "home.packages.unfetched", unfetched, "/packages?pending=1")
	return nil
}

// homeOrders adds a task about orders that wait for a decision.
func (v *request) homeOrders(data *homeView) error {
	list, err := v.api.Orders.List(v.ctx(), v.Account(), 0, maxOrders)
	data.due(v, "home.orders.wait", mapped(list.Orders, func(o client.Order) string {
		return wordIf(o.State == "pending_approval", o.Account+" "+o.ISV)
	}), "/orders")
	return err
}

// homeIdle adds a task about applications, from the wire API or the console, that have had no activated code for too long.
func (v *request) homeIdle(data *homeView) error {
	list, err := v.api.Batches.List(v.ctx(), client.BatchQuery{Account: v.Account(), Idle: activeInDays, Limit: maxOrders})
	idle := mapped(list, func(b client.Batch) string { return b.Account + " " + b.ISV })
	to := "/codes"
	if len(list) == 1 {
		to += "/" + strconv.FormatInt(list[0].ID, 10)
	}
	data.due(v, "home.codes.idle", idle, to)
	return err
}

// due adds a task that lists up to three names, if there are any; empty names do not count.
func (data *homeView) due(v *request, kind string, names []string, to string) {
	if names = slices.DeleteFunc(names, func(name string) bool { return name == "" }); len(names) > 0 {
		data.Tasks = append(data.Tasks, task{"warn", v.say(kind, len(names)), strings.Join(names[:min(len(names), 3)], ", "), Root + to})
	}
}

// homeKeys adds a task about API keys that expire soon or expired recently, for readers who may see keys.
func (v *request) homeKeys(data *homeView) error {
	list, err := v.api.AdminKeys.List(v.ctx())
	data.due(v, "home.keys", mapped(list, func(k client.AdminKey) string {
		return wordIf(k.ExpiresAt != nil && k.ExpiresAt.Sub(data.now).Abs() < endsSoon, k.Name)
	}), "/people")
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
