package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// What ends soon, and what waits too long.
const (
	endsSoon     = 14 * 24 * time.Hour
	fetchedIn    = 3 * 24 * time.Hour // packages, after they were made
	activeInDays = 14                 // codes, after their application
	mostOrders   = 50
	mostAccounts = 5
	fewPublishes = 5
)

// homePackages lists packages that were not fetched in time, of codes that were ordered here or by the wire.
func (v *request) homePackages(data *homeView) error {
	owners := []string{v.account()}
	if owners[0] == "" && len(v.caller.Accounts) > 0 {
		owners = v.caller.Accounts[:min(len(v.caller.Accounts), mostAccounts)]
	}
	var unfetched []string
	for _, appid := range owners {
		list, err := v.api.Packages.List(v.ctx(), client.PackageQuery{Account: appid, Waiting: true, Limit: mostOrders})
		if err != nil {
			return err
		}
		for _, p := range list {
			if data.now.Sub(p.CreatedAt) > fetchedIn {
				unfetched = append(unfetched, fmt.Sprintf("%d %s", p.ID, p.Printer))
			}
		}
	}
	data.due(v, "home.packages.unfetched", unfetched, "/packages?waiting=1")
	return nil
}

// homeOrders lists orders that wait for a decision.
func (v *request) homeOrders(data *homeView) error {
	list, err := v.api.Orders.List(v.ctx(), v.account(), 0, mostOrders)
	var waiting []string
	for _, o := range list.Orders {
		if o.State == "waits" {
			waiting = append(waiting, o.Account+" "+o.ISV)
		}
	}
	data.due(v, "home.orders.wait", waiting, "/orders")
	return err
}

// homeIdle lists applications, of the wire as of the console, without an activated code in time.
func (v *request) homeIdle(data *homeView) error {
	list, err := v.api.Batches.List(v.ctx(), client.BatchQuery{Account: v.account(), Idle: activeInDays, Limit: mostOrders})
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

// due is a task about things by their names, where there are any.
func (data *homeView) due(v *request, kind string, names []string, to string) {
	if len(names) > 0 {
		data.Tasks = append(data.Tasks, task{"warn", v.say(kind, len(names)), strings.Join(names[:min(len(names), 3)], ", "), Root + to})
	}
}

// homeKeys lists keys of people's programs that end soon, or just ended, for those who may see them.
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

// homeQuota tells a person who is limited to accounts that few publishes of the month are left.
func (v *request) homeQuota(data *homeView) error {
	for _, appid := range v.caller.Accounts[:min(len(v.caller.Accounts), mostAccounts)] {
		left, err := v.api.Accounts.GetQuota(v.ctx(), appid)
		if err != nil {
			return err
		}
		if left <= fewPublishes {
			data.Tasks = append(data.Tasks, task{"warn", v.say("home.quota", appid, left), v.say("home.quota.why"),
				Root + "/accounts/" + appid})
		}
	}
	return nil
}

// homeCertificate tells operators that the server's certificate expires soon.
func (v *request) homeCertificate(data *homeView) error {
	if v.c.CertificateEnds == nil || !(view{request: v}).May("operator") || !(view{request: v}).All() {
		return nil
	}
	if until, ok := v.c.CertificateEnds(); ok && until.Sub(data.now) < endsSoon {
		data.Tasks = append(data.Tasks, task{"bad", v.say("home.certificate", until.UTC().Format("2006-01-02 15:04 UTC")),
			v.say("home.certificate.why"), Root + "/operate"})
	}
	return nil
}

// clock asks what time it is at the server, in the zone of its days.
func (v *request) clock() (time.Time, error) {
	answer, err := v.api.Statistics.Get(v.ctx(), client.StatisticsQuery{Limit: 1})
	if _, kept := refused(err, http.StatusForbidden); kept { // who may see no scan
		return time.Now(), nil
	}
	return answer.Now, err
}
