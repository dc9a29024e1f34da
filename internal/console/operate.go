package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/docs"
)

// operatePages are the pages of those who keep the server running.
func (c *Console) operatePages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/operate":             c.operate,
		"POST /console/operate":            c.changeNodes,
		"GET /console/operate/audit":       c.audit,
		"POST /console/operate/audit":      c.verifyAudit,
		"GET /console/operate/settings":    c.settings,
		"POST /console/operate/settings":   c.changeSettings,
		"GET /console/operate/webhooks":    c.webhooks,
		"POST /console/operate/webhooks":   c.changeWebhooks,
		"GET /console/operate/checks":      c.checks,
		"POST /console/operate/checks":     c.changeChecks,
		"GET /console/operate/apps":        c.apps,
		"POST /console/operate/apps":       c.changeApps,
		"GET /console/operate/bulk":        c.bulk,
		"POST /console/operate/bulk":       c.loadBulk,
		"GET /console/operate/bulk/{file}": c.bulkFile,
	}
}

// Parts are the pages of this kind, by their names.
func (v view) Parts() []place {
	list := []place{{"nodes", Root + "/operate", false}}
	for _, name := range []string{"settings", "webhooks", "checks", "apps", "bulk", "audit"} {
		list = append(list, place{name, Root + "/operate/" + name, false})
	}
	for i := range list {
		list[i].Here = list[i].Path == v.r.URL.Path
	}
	return list
}

// mostRefused is how many wrong credentials are shown.
const mostRefused = 50

// operateView is how the server is.
type operateView struct {
	Nodes   []client.ScanNode
	Refused []client.RefusedCredential
	Counted client.Statistics
	Backup  *changed
	Drill   *changed
	Found   client.Drill // by the drill
}

func (c *Console) operate(v *visit) {
	var data operateView
	var nodes client.ScanNodeList
	var refused client.RefusedCredentialList
	var backups, drills struct{ Changes []changed }
	if v.failed(v.ask("GET", "/scan-nodes", nil, &nodes)) || v.failed(v.ask("GET", "/refused-credentials", nil, &refused)) ||
		v.failed(v.ask("GET", "/statistics?limit=1", nil, &data.Counted)) ||
		v.failed(v.ask("GET", "/changes?newest=true&limit=1&kind=export", nil, &backups)) ||
		v.failed(v.ask("GET", "/changes?newest=true&limit=1&kind=drill", nil, &drills)) {
		return
	}
	if len(drills.Changes) > 0 {
		data.Drill = &drills.Changes[0]
		if v.failed(json.Unmarshal(data.Drill.Detail, &data.Found)) {
			return
		}
	}
	// One that was mistyped once is nobody's trouble.
	for _, one := range refused.Credentials {
		if one.Times >= 3 && len(data.Refused) < mostRefused {
			data.Refused = append(data.Refused, one)
		}
	}
	if data.Nodes = nodes.Nodes; len(backups.Changes) > 0 {
		data.Backup = &backups.Changes[0]
	}
	v.show(http.StatusOK, "operate", data)
}

// changeNodes waits no more for a node.
func (c *Console) changeNodes(v *visit) {
	node := v.r.FormValue("node")
	if v.sure("sure.node", node) && !v.failed(v.ask("DELETE", "/scan-nodes/"+url.PathEscape(node), nil, nil)) {
		v.redirect(Root + "/operate?done=operate")
	}
}

// changed is an entry of the log of changes.
type changed struct {
	Seq                             int64
	At                              time.Time
	Kind, Key, Actor, Via, RID, Did string
	Detail                          json.RawMessage
}

type auditView struct {
	Changes  []changed
	More     int64
	Verified *client.Verified
}

func (c *Console) audit(v *visit) { v.showAudit(nil) }

func (v *visit) showAudit(verified *client.Verified) {
	data, q := auditView{Verified: verified}, v.r.URL.Query()
	asked := url.Values{"newest": {"true"}, "limit": {strconv.Itoa(pageRows)}}
	for _, name := range []string{"kind", "actor", "key", "before"} {
		if text := strings.TrimSpace(q.Get(name)); text != "" {
			asked.Set(name, text)
		}
	}
	var log struct{ Changes []changed }
	if v.failed(v.ask("GET", "/changes?"+asked.Encode(), nil, &log)) {
		return
	}
	if data.Changes = log.Changes; len(log.Changes) == pageRows {
		data.More = log.Changes[pageRows-1].Seq
	}
	v.show(http.StatusOK, "audit", data)
}

// verifyAudit reads the whole log and says what does not fit. It changes nothing, and is
// work: so it is no GET.
func (c *Console) verifyAudit(v *visit) {
	var done client.Verified
	if !v.failed(v.ask("POST", "/audit/verify", nil, &done)) {
		v.showAudit(&done)
	}
}

// words are what settings mean, and which values they can have, in Chinese; English comes with each setting.
var words = sync.OnceValue(func() (words struct{ Settings, Limits map[string]string }) {
	if err := yaml.Unmarshal(docs.Words, &words); err != nil {
		panic(err)
	}
	return words
})

// AllowedInChinese says in Chinese which values a setting can have.
func AllowedInChinese(allowed string) string {
	span, limits, both := strings.Cut(allowed, ", ")
	switch known := words().Limits; {
	case known[allowed] != "":
		return known[allowed]
	case both && known[limits] != "":
		allowed = span + "，" + known[limits]
	}
	return strings.NewReplacer(" to ", " 至 ", " or ", " 或 ").Replace(allowed)
}

// settingView is a setting as somebody may change it.
type settingView struct {
	client.Setting
	Chinese        string
	AllowedChinese string
}

// Text is a value as it is typed: a text without its quotes.
func (settingView) Text(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(value)
}

// Switch reports whether the setting is on or off.
func (s settingView) Switch() bool {
	return slices.Contains([]string{"true", "false"}, string(s.Value))
}

func (c *Console) settings(v *visit) {
	var list client.SettingList
	if v.failed(v.ask("GET", "/settings/described", nil, &list)) {
		return
	}
	var shown []settingView
	for _, one := range list.Settings {
		shown = append(shown, settingView{one, strings.ReplaceAll(words().Settings[one.Name], "`", ""), AllowedInChinese(one.Allowed)})
	}
	v.show(http.StatusOK, "settings", shown)
}

// changeSettings puts one setting in force, or takes back what was chosen.
func (c *Console) changeSettings(v *visit) {
	name, text := v.r.FormValue("name"), strings.TrimSpace(v.r.FormValue("value"))
	var err error
	switch v.r.FormValue("did") {
	case "set":
		// What is no JSON is a text.
		value := json.RawMessage(text)
		if !json.Valid(value) {
			value, _ = json.Marshal(text)
		}
		err = v.ask("PUT", "/settings", map[string]json.RawMessage{name: value}, nil)
	case "reset":
		err = v.ask("DELETE", "/settings/"+url.PathEscape(name), nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/operate/settings?done=operate#" + url.PathEscape(name))
	}
}

type webhooksView struct {
	Webhooks   []client.Webhook
	Deliveries []client.Delivery
	More       int64
	Secret     string // of a new one, shown this once
	MoreHooks  string // where the webhooks go on
}

func (webhooksView) States() []string { return []string{"waiting", "delivered", "dead"} }

func (c *Console) webhooks(v *visit) { v.showWebhooks(webhooksView{}) }

func (v *visit) showWebhooks(data webhooksView) {
	asked := url.Values{"limit": {strconv.Itoa(pageRows)}}
	for _, name := range []string{"webhook", "state", "before"} {
		if text := v.r.URL.Query().Get(name); text != "" {
			asked.Set(name, text)
		}
	}
	var hooks client.WebhookList
	var sent client.DeliveryList
	if v.failed(v.ask("GET", "/webhooks", nil, &hooks)) || v.failed(v.ask("GET", "/deliveries?"+asked.Encode(), nil, &sent)) {
		return
	}
	data.Webhooks, data.MoreHooks = shown(v, "hooks", hooks.Webhooks)
	data.Deliveries = sent.Deliveries
	if len(sent.Deliveries) == pageRows {
		data.More = sent.Deliveries[pageRows-1].ID
	}
	v.show(http.StatusOK, "webhooks", data)
}

// webhookForm is what a form says that a webhook is told. It is a rule's number or
// codes, as BATCH, BATCH:INDEX or BATCH:FROM-TO.
func webhookForm(r *http.Request) (w client.WebhookPut, ok bool) {
	w = client.WebhookPut{URL: strings.TrimSpace(r.FormValue("url")), Alarms: r.FormValue("alarms") != ""}
	for _, word := range listed(r.FormValue("rules")) {
		id, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return w, false
		}
		w.Rules = append(w.Rules, id)
	}
	for _, word := range listed(r.FormValue("codes")) {
		batch, span, some := strings.Cut(word, ":")
		id, err := strconv.ParseInt(batch, 10, 64)
		if err != nil {
			return w, false
		}
		one := client.WebhookCodes{ApplicationID: id}
		if some {
			first, last, isRange := strings.Cut(span, "-")
			if !isRange {
				last = first
			}
			from, err1 := strconv.ParseInt(first, 10, 64)
			to, err2 := strconv.ParseInt(last, 10, 64)
			if err1 != nil || err2 != nil {
				return w, false
			}
			one.From, one.To = from, &to
		}
		w.Codes = append(w.Codes, one)
	}
	return w, true
}

func (c *Console) changeWebhooks(v *visit) {
	id := v.r.FormValue("id")
	below := "/webhooks/" + url.PathEscape(id)
	var err error
	switch v.r.FormValue("did") {
	case "add":
		w, ok := webhookForm(v.r)
		if !ok {
			v.fault(http.StatusUnprocessableEntity, v.say("hooks.fault"))
			return
		}
		var added client.WebhookAdded
		if !v.failed(v.ask("POST", "/webhooks", w, &added)) {
			v.showWebhooks(webhooksView{Secret: added.Secret})
		}
		return
	case "on", "off":
		var list client.WebhookList
		if v.failed(v.ask("GET", "/webhooks", nil, &list)) {
			return
		}
		i := slices.IndexFunc(list.Webhooks, func(w client.Webhook) bool { return fmt.Sprint(w.ID) == id })
		if i < 0 {
			v.fault(http.StatusNotFound, v.say("hooks.gone"))
			return
		}
		err = v.ask("PUT", below, struct {
			client.WebhookPut
			Enabled bool `json:"enabled"`
		}{list.Webhooks[i].Put(), v.r.FormValue("did") == "on"}, nil)
	case "test":
		err = v.ask("POST", below+"/test", nil, nil)
	case "delete":
		if !v.sure("sure.hook", id) {
			return
		}
		err = v.ask("DELETE", below, nil, nil)
	case "again":
		err = v.ask("POST", "/deliveries/"+url.PathEscape(v.r.FormValue("delivery"))+"/replay", nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/operate/webhooks?done=operate")
	}
}

type checksView struct {
	Owner         string
	Confirmations []client.Confirmation
	Rechecks      []client.Recheck
	Domains       []client.Domain
	More          string // the host after which the domains go on; "" = these are all
}

func (checksView) Words() []string { return []string{"trusted", "denied", "no_icp"} }

func (c *Console) checks(v *visit) {
	data := checksView{Owner: v.narrowed("owner")}
	asked := url.Values{"limit": {strconv.Itoa(pageRows)}}
	if data.Owner != "" {
		asked.Set("owner", data.Owner)
	}
	looked := url.Values{"limit": {strconv.Itoa(pageRows)}, "failing": {"true"}} // of a million files those that want somebody
	if data.Owner != "" {
		looked = asked
	}
	var confirmations struct{ Confirmations []client.Confirmation }
	var rechecks client.RecheckList
	var domains client.DomainList
	if v.failed(v.ask("GET", "/confirmations?"+asked.Encode(), nil, &confirmations)) ||
		v.failed(v.ask("GET", "/rechecks?"+looked.Encode(), nil, &rechecks)) ||
		v.failed(v.ask("GET", fmt.Sprintf("/domains?limit=%d&after=%s", pageRows, url.QueryEscape(v.r.URL.Query().Get("after"))), nil,
			&domains)) {
		return
	}
	data.Confirmations, data.Rechecks, data.Domains = confirmations.Confirmations, rechecks.Rechecks, domains.Domains
	if len(data.Domains) == pageRows {
		data.More = data.Domains[pageRows-1].Host
	}
	v.show(http.StatusOK, "checks", data)
}

func (c *Console) changeChecks(v *visit) {
	host := strings.TrimSpace(v.r.FormValue("host"))
	var err error
	switch v.r.FormValue("did") {
	case "recheck":
		err = v.ask("POST", "/rechecks", nil, nil)
	case "domain":
		err = v.ask("PUT", "/domains/"+url.PathEscape(host), map[string]string{"status": v.r.FormValue("status")}, nil)
	case "forget":
		if !v.sure("sure.domain", host) {
			return
		}
		err = v.ask("DELETE", "/domains/"+url.PathEscape(host), nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/operate/checks?done=operate")
	}
}
