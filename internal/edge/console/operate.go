package console

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
)

// maxFailedCredentials is the maximum number of rejected credentials that are shown.
const maxFailedCredentials = 50

// operateView contains the data of the server page.
type operateView struct {
	NotReady string // the error that GET /readyz reports; "" = ready
	Nodes    []client.ScanNode
	Refused  []client.FailedAuthentication
	Counted  client.Statistics
	Backup   *client.Change
	Drill    *client.Change
	Found    client.Drill // the result of the restore drill
}

func (pages operatePages) operate(v *request) error {
	data := operateView{NotReady: v.notReady()}
	// While the node is not ready, the page shows the data that the database can still deliver.
	var refused []client.FailedAuthentication
	var backups, drills []client.Change
	ctx := v.ctx()
	for _, err := range []error{storeResult(&data.Nodes)(v.api.ScanNodes.List(ctx)),
		storeResult(&refused)(v.api.AdminKeys.ListFailed(ctx)),
		storeResult(&data.Counted)(v.api.Statistics.Get(ctx, client.StatisticsQuery{Limit: 1})),
		storeResult(&backups)(v.api.AuditLog.List(ctx, client.ChangesQuery{Newest: true, Limit: 1, Kind: "export"})),
		storeResult(&drills)(v.api.AuditLog.List(ctx, client.ChangesQuery{Newest: true, Limit: 1, Kind: "drill"}))} {
		if err != nil && !(data.NotReady != "" && unavailable(err)) {
			return err
		}
	}
	if len(drills) > 0 {
		data.Drill = &drills[0]
		if err := json.Unmarshal(data.Drill.Detail, &data.Found); err != nil {
			return err
		}
	}
	// A credential that was mistyped only once is omitted.
	for _, credential := range refused {
		if credential.Count >= 3 && len(data.Refused) < maxFailedCredentials {
			data.Refused = append(data.Refused, credential)
		}
	}
	if len(backups) > 0 {
		data.Backup = &backups[0]
	}
	return v.show(http.StatusOK, "operate", data)
}

// changeNodes removes a node that is permanently gone, so that other nodes stop waiting for the removed node.
func (pages operatePages) changeNodes(v *request) error {
	node := v.r.FormValue("node")
	err := v.confirmed(v.say("sure.node", node), node, nil)
	return v.done(Root+"/operate?done=operate", afterwards(err, func() error { return onlyError(v.api.ScanNodes.Delete(v.ctx(), node)) }))
}

type auditView struct {
	Changes  []client.Change
	Verified *client.Verified
	Query    client.ChangesQuery
}

func (pages operatePages) showAudit(v *request, verified *client.Verified) error {
	data := auditView{Verified: verified, Query: client.ChangesQuery{Newest: true, Limit: pageRows}}
	var wrong, err error
	if verified == nil {
		wrong = v.query(&data.Query, "kind actor key before")
	}
	data.Changes, err = v.api.AuditLog.List(v.ctx(), data.Query)
	return v.page("audit", data, cmp.Or(wrong, err))
}

// verifyAudit verifies the whole audit log and shows inconsistencies. The verification changes nothing but uses POST, because it
// takes long.
func (pages operatePages) verifyAudit(v *request) error {
	done, err := v.api.AuditLog.Verify(v.ctx())
	return afterwards(err, func() error { return pages.showAudit(v, &done) })
}

// markup matches a code span or the target of a link in the Markdown of a meaning; the page shows only the text.
var markup = regexp.MustCompile("`|\\[([^\\]]*)\\]\\([^)]*\\)")

// settingView contains a setting and its input.
type settingView struct {
	client.Setting
	Chinese        string
	AllowedChinese string
	Words          []string // the values to choose from; nil = free text
}

// settingGroup is a form that saves the changed settings of a group together.
type settingGroup struct {
	Name, Title string
	Revision    string // revisions of the settings
	Settings    []settingView
}

// settingsView contains the settings that match a search, by group.
type settingsView struct {
	Asked  string
	Groups []settingGroup
}

// Text returns a value as typed in the form: a string without its quotes.
func (settingView) Text(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return settings.Shown(value)
}

func (pages operatePages) settings(v *request) error {
	list, err := v.api.Settings.List(v.ctx())
	if err != nil {
		return err
	}
	data, group := settingsView{Asked: strings.TrimSpace(v.r.URL.Query().Get("q"))}, settingGroup{}
	for _, item := range list {
		setting := settingView{Setting: item}
		if slices.Contains([]string{"true", "false"}, string(item.Value)) {
			setting.Words = []string{"true", "false"}
		}
		if i := slices.IndexFunc(settings.Table, func(f settings.Field) bool { return f.Name == item.Name }); i >= 0 {
			f := settings.Table[i]
			setting.Words = append(setting.Words, f.Words...)
			setting.Meaning = markup.ReplaceAllString(item.Meaning, "$1")
			setting.Chinese, setting.AllowedChinese = markup.ReplaceAllString(f.Meaning().Chinese(), "$1"), f.Allowed().Chinese()
			if f.Group != "" {
				group = settingGroup{Name: f.Group, Title: f.Heading().In(v.Language)}
			}
		}
		if !strings.Contains(strings.ToLower(item.Name+" "+item.Meaning+" "+setting.Chinese), strings.ToLower(data.Asked)) {
			continue
		}
		if n := len(data.Groups); n == 0 || data.Groups[n-1].Name != group.Name {
			data.Groups = append(data.Groups, group)
		}
		g := &data.Groups[len(data.Groups)-1]
		g.Settings, g.Revision = append(g.Settings, setting), strings.TrimPrefix(g.Revision+"."+item.Revision, ".")
	}
	return v.show(http.StatusOK, "settings", data)
}

// changeSettings saves the changed settings of a group together, or resets one setting to its default.
func (pages operatePages) changeSettings(v *request) error {
	reset := v.word("reset")
	texts, values := map[string]string{}, map[string]any{}
	for _, name := range settings.Names() {
		// the field "was.NAME" contains the value that the page showed
		if text := v.word(name); v.r.Form.Has(name) && (!v.r.Form.Has("was."+name) || text != v.word("was."+name)) {
			texts[name], values[name] = text, settings.Typed(text, nil) // a value that is not valid JSON counts as a string
		}
	}
	if reset != "" {
		texts = map[string]string{reset: ""}
	}
	if len(texts) == 0 {
		return v.redirect(Root + "/operate/settings")
	}
	err := pages.confirmLoss(v, texts)
	switch {
	case err != nil:
	case reset != "":
		err = v.api.Settings.Reset(v.ctx(), reset)
	default:
		err = v.api.Settings.Update(v.ctx(), values)
	}
	return v.done(Root+"/operate/settings?done=operate#"+url.PathEscape(slices.Min(slices.Collect(maps.Keys(texts)))), err)
}

// retentions lists the settings whose change can delete scans or their statistics.
var retentions = []string{"scan_retention_days", "hourly_stats_retention_days", "daily_stats_retention_days"}

// confirmLoss asks for confirmation before scans or their hourly or daily statistics are deleted, and shows the number of affected scans;
// texts contains the new values by setting, "" = the default. confirmLoss returns nil if no data is lost or the visitor confirmed.
func (pages operatePages) confirmLoss(v *request, texts map[string]string) error {
	if !slices.ContainsFunc(retentions, func(name string) bool { _, changed := texts[name]; return changed }) {
		return nil
	}
	list, err := v.api.Settings.List(v.ctx())
	now, failed := v.clock()
	if err := cmp.Or(err, failed); err != nil {
		return err
	}
	var names, questions []string
	for _, setting := range list {
		text, changed := texts[setting.Name]
		if !changed || !slices.Contains(retentions, setting.Name) {
			continue
		}
		from := "1970-01-02"
		if days, _ := strconv.Atoi(string(setting.Value)); days > 0 { // the current setting has already deleted older data
			from = now.AddDate(0, 0, -days).Format(time.RFC3339)
		}
		days, wrong := strconv.Atoi(cmp.Or(text, string(setting.Default)))
		to := now.AddDate(0, 0, -days).Format(time.RFC3339)
		if wrong != nil || days <= 0 || from != "1970-01-02" && to <= from {
			continue
		}
		lost, err := v.api.Statistics.Get(v.ctx(), client.StatisticsQuery{Limit: 1, From: from, To: to})
		if err != nil {
			return err
		}
		if scans := (timeline{rows: lost.Rows}).sum(numberOf); scans > 0 {
			names, questions = append(names, setting.Name), append(questions, v.say("sure."+setting.Name, days, separated(scans)))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return v.confirmed(strings.Join(questions, " "), strings.Join(names, " "), nil)
}

type webhooksView struct {
	Webhooks   []client.Webhook
	Deliveries []client.Delivery
	Secret     string // the secret of a new webhook, shown only once
	New        client.WebhookPut
}

func (pages operatePages) showWebhooks(v *request, data webhooksView) error {
	wanted := client.DeliveryQuery{Limit: pageRows}
	wrong := v.query(&wanted, "webhook state before")
	err := cmp.Or(wrong, storeResult(&data.Webhooks)(v.api.Webhooks.List(v.ctx())),
		storeResult(&data.Deliveries)(v.api.Webhooks.ListDeliveries(v.ctx(), wanted)))
	data.New.Alarms = true
	return v.page("webhooks", data, err)
}

// webhookCodes parses codes given as BATCH, BATCH:INDEX or BATCH:FROM-TO.
func webhookCodes(words []string) (list []client.WebhookCodes, ok bool) {
	for _, word := range words {
		batch, span, one := strings.Cut(word, ":")
		first, last, several := strings.Cut(span, "-")
		if !several {
			last = first
		}
		numbers := make([]int64, 3)
		if json.Unmarshal([]byte("["+strings.Join([]string{batch, cmp.Or(first, "0"), cmp.Or(last, "0")}, ",")+"]"), &numbers) != nil ||
			one && last == "" {
			return nil, false
		}
		codes := client.WebhookCodes{ApplicationID: numbers[0], From: numbers[1]}
		if one {
			codes.To = &numbers[2]
		}
		list = append(list, codes)
	}
	return list, true
}

func (pages operatePages) changeWebhooks(v *request) error {
	id, err := strconv.ParseInt(cmp.Or(v.r.FormValue("id"), v.r.FormValue("delivery"), "0"), 10, 64)
	if err != nil { // no form of the console contains a webhook or delivery id that is not a number
		return v.reject("fault.form")
	}
	ctx := v.ctx()
	enable := func() error {
		list, err := v.api.Webhooks.List(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(w client.Webhook) bool { return w.ID == id })
		if i < 0 {
			return v.fail(http.StatusNotFound, v.say("hooks.gone"))
		}
		return onlyError(v.api.Webhooks.Update(ctx, id, list[i].Put(), new(v.r.FormValue("did") == "on")))
	}
	return v.perform(Root+"/operate/webhooks?done=operate", map[string]action{
		"add": {call: func() error {
			var w client.WebhookPut
			faults, ok := v.decode(&w, "url alarms rules"), false
			if w.Codes, ok = webhookCodes(listed(v.r.FormValue("codes"))); !ok || len(faults) > 0 {
				return v.reject("hooks.fault")
			}
			added, err := v.api.Webhooks.Create(ctx, w)
			return afterwards(err, func() error { return pages.showWebhooks(v, webhooksView{Secret: added.Secret}) })
		}},
		"on":     {call: enable},
		"off":    {call: enable},
		"test":   {call: func() error { return onlyError(v.api.Webhooks.Test(ctx, id)) }},
		"delete": {"sure.hook", v.r.FormValue("id"), func() error { return onlyError(v.api.Webhooks.Delete(ctx, id)) }},
		"again":  {call: func() error { return onlyError(v.api.Webhooks.RetryDelivery(ctx, id)) }},
	})
}

type checksView struct {
	Owner           string
	Verifications   []client.DomainVerification
	Reverifications []client.Reverification
	Domains         []client.Domain
	New             client.Domain
}

func (pages operatePages) checks(v *request) error {
	data := checksView{Owner: v.narrowed("owner")}
	ctx := v.ctx()
	// There may be a million verification files, so the page shows only failing files.
	looked := client.ReverificationQuery{Owner: data.Owner, Failing: data.Owner == "", Limit: pageRows}
	err := cmp.Or(storeResult(&data.Verifications)(v.api.Verifications.ListChecks(ctx, client.VerificationQuery{Owner: data.Owner,
		Limit: pageRows})), storeResult(&data.Reverifications)(v.api.Verifications.List(ctx, looked)),
		storeResult(&data.Domains)(v.api.Domains.ListPage(ctx, v.r.URL.Query().Get("after"), pageRows)))
	return v.page("checks", data, err)
}

func (pages operatePages) changeChecks(v *request) error {
	host, ctx := strings.TrimSpace(v.r.FormValue("host")), v.ctx()
	return v.perform(Root+"/operate/checks?done=operate", map[string]action{
		"recheck": {call: func() error { return onlyError(v.api.Verifications.Run(ctx)) }},
		"domain":  {call: func() error { return v.api.Domains.Set(ctx, host, v.r.FormValue("status")) }},
		"forget":  {"sure.domain", host, func() error { return v.api.Domains.Delete(ctx, host) }},
	})
}

// maxBulk is the maximum size in bytes of an uploaded file of accounts or rules. Larger files are imported with the command line.
const maxBulk = 16 << 20

type bulkView struct {
	Content string
	Done    *client.Imported
}

// bulkFile sends a file with all accounts or all rules, one JSON object per line.
func (pages operatePages) bulkFile(v *request) error {
	table, isFile := strings.CutSuffix(v.r.PathValue("file"), ".ndjson")
	if !isFile || !slices.Contains([]string{"accounts", "rules", "gs1"}, table) {
		return v.nowhere()
	}
	return v.forward("GET", "/export/"+table, "", nil)
}

func (pages operatePages) bulk(v *request) error {
	return v.show(http.StatusOK, "bulk", bulkView{Content: "accounts"})
}

// loadBulk validates an uploaded file, or imports all of its lines.
func (pages operatePages) loadBulk(v *request) error {
	text, err := v.upload("file", "text", maxBulk, v.say("bulk.large"))
	if err != nil {
		return err
	}
	data, dry := bulkView{Content: v.r.FormValue("what")}, v.r.FormValue("did") != "store"
	load, known := map[string]func(context.Context, io.Reader, bool) (client.Imported, error){"accounts": v.api.Accounts.Import,
		"rules": v.api.Rules.Import, "gs1": v.api.GS1.Import}[data.Content]
	if !known {
		return v.reject("fault.form")
	}
	done, err := load(v.ctx(), strings.NewReader(text), dry)
	data.Done = &done
	if err == nil && dry { // a validated file can then be imported
		v.rejected = newRejectedForm(v.r, nil)
	}
	return v.page("bulk", data, err)
}
