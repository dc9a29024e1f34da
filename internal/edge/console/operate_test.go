package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestOperateForms_SettingsWebhooksHosts changes settings, webhooks, hosts and reads the audit log with forms in both languages. A rejected
// form must give a reason and change nothing.
func TestOperateForms_SettingsWebhooksHosts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newUser(t, s, "ada", adminroute.Admin)
	set := func(name, value string) page { return v.post("/console/operate/settings", url.Values{name: {value}}) }
	for name, value := range map[string]string{"publish_quota": "7", "strict": "false", "scan_commit": "async",
		"verification": `["a.example"]`} {
		p := set(name, value)
		p.wantStatus(t, http.StatusSeeOther, "%s", name)
	}
	assert.Equal(t, set("publish_quota", "many").Status, http.StatusUnprocessableEntity, "publish_quota = many")
	// One button saves a group of settings: two change, and a concurrent change of a third one is kept.
	group := v.get("/console/operate/settings").formValues(t, "/console/operate/settings", `name="rule_limit"`)
	s.Admin("PUT", "/settings", `{"service_publish_quota":123}`)
	group.Set("rule_limit", "77")
	group.Set("service_rule_limit", "78")
	v.submit("/console/operate/settings", group)
	for _, want := range []string{`"rule_limit":77`, `"service_rule_limit":78`, `"service_publish_quota":123`} {
		now := s.Admin("GET", "/settings", "").Body
		assert.True(t, strings.Contains(now, want), "the settings are %s, want %s", now, want)
	}
	v.get("/console/operate/settings?lang=zh").wantText(t, `value="7"`, "每个小程序每个自然月的发布次数", `value="async"`, "至多 1000 个接口路径", "0 至 1000000")
	v.submit("/console/operate/settings", url.Values{"reset": {"publish_quota"}})
	v.get("/console/operate/settings?lang=en").wantNoText(t, `value="7"`)
	rules := servertest.Decode[client.StoredRuleList](t, s.Admin("GET", "/rules", ""))
	p := v.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"}, "alarms": {"yes"},
		"rules": {fmt.Sprint(rules.Rules[0].ID)}})
	require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, "whsec_"),
		"new webhook: status %d, want 200 with a secret", p.Status)
	hideWebhookSecret(s, p)
	assert.Equal(t, v.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"},
		"codes": {"one"}}).Status, http.StatusUnprocessableEntity, "webhook with invalid codes")
	v.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"}, "alarms": {"yes"},
		"rules": {"777777"}}).wantText(t, "there is no rule 777777")
	v.submit("/console/operate/webhooks", url.Values{"did": {"test"}, "id": {"1"}}).wantText(t, `name="delivery"`)
	v.submit("/console/operate/webhooks", url.Values{"did": {"again"}, "delivery": {"1"}})
	v.submit("/console/operate/webhooks", url.Values{"did": {"off"}, "id": {"1"}}).wantText(t, `value="on"`)
	p = v.post("/console/operate/webhooks", url.Values{"did": {"delete"}, "id": {"1"}})
	assert.Equal(t, p.Status, http.StatusOK, "deletion without a confirmation")
	v.submit("/console/operate/webhooks", url.Values{"did": {"delete"}, "id": {"1"}, "sure": {"1"}})
	v.submit("/console/operate/checks", url.Values{"did": {"domain"}, "host": {"bad.example"}, "status": {"denied"}}).
		wantText(t, "bad.example")
	v.submit("/console/operate/checks", url.Values{"did": {"forget"}, "host": {"bad.example"}, "sure": {"bad.example"}})
	s.Admin("POST", "/export", `{"passphrase":"a passphrase of the test"}`)
	v.get("/console/operate").wantText(t, "Last backup created by admin", "No restore drill has been recorded")
	s.Admin("POST", "/drills", `{"ok":false,"problem":"the table <rules> was restored as other rows"}`)
	v.get("/console/operate").wantText(t, "Last restore drill recorded by admin", "the table &lt;rules&gt; was", "failed")
	s.Admin("POST", "/drills", `{"ok":true,"rows":12,"rules":3,"codes":4,"archive":"2026-01-15T01:00:00Z"}`)
	v.get("/console/operate?lang=zh").wantText(t, "最近一次恢复演练由 admin", "12 行，3 条规则，检验 4 个码", "2026-01-15 01:00:00")
	v.get("/console/operate?lang=en")
	p = v.post("/console/operate/audit", nil)
	p.wantStatus(t, http.StatusOK, "verification of the audit log")
	p.wantText(t, "changes are valid", "person:ada")
}

// hideWebhookSecret adds the secret on the page of a new webhook to the texts that must not occur in the log.
func hideWebhookSecret(s *servertest.Server, p page) {
	_, secret, _ := strings.Cut(p.Body, "whsec_")
	secret, _, _ = strings.Cut(secret, "<")
	s.RegisterSecret("whsec_" + secret)
}

// TestStatisticsFiles_EqualPage verifies that the files of the statistics have the figures of the page, keep formulas as text, and are
// refused to pages of another site.
func TestStatisticsFiles_EqualPage(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	for _, text := range []string{"shop.example/7", "shop.example/7", "shop.example/7", "nobody.example/=1+1"} {
		s.Do("POST", "/scan/v1/resolve", `{"text":"https://`+text+`","user":"ann"}`)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	v.get("/console/statistics?by=day").wantText(t, "<pattern", `class="all"`, "/console/statistics?")
	v.get("/console/statistics/unmatched").wantText(t, "nobody.example")
	v.get("/console/statistics?by=&group=result&lang=zh").wantText(t, `<figure class="boxes one">`, "首次")
	numbers := v.get("/console/statistics/numbers.csv?by=&group=app").Body
	assert.True(t, strings.Contains(numbers, ",shop,3,") && strings.HasPrefix(numbers, "\ufeffstarts_at,value,scans,first_scans,users\n"),
		"numbers.csv = %v, want 3 scans of shop", numbers)
	numbers = v.get("/console/statistics/numbers.csv?by=&group=app&count=users").Body
	assert.True(t, strings.Contains(numbers, "\n,shop,,,1\n"), "numbers.csv = %v, want users of shop, and no numbers of scans", numbers)
	for table, rows := range map[string]int64{"numbers": 1, "unmatched": 1, "alarms": 0, "scans": 4} {
		p := v.get("/console/statistics/" + table + ".parquet?by=")
		file, err := parquet.OpenFile(strings.NewReader(p.Body), int64(len(p.Body)))
		assert.True(t, err == nil && file.NumRows() == rows, "%s.parquet: status %d, %v, want %d rows", table, p.Status, err, rows)
		p = v.get("/console/statistics/"+table+".csv?by=", "Sec-Fetch-Site: cross-site")
		assert.Equal(t, p.Status, http.StatusForbidden, "%s.csv for another site", table)
	}
	p := v.get("/console/statistics/scans.csv?from=never")
	assert.True(t, p.Status == http.StatusUnprocessableEntity && strings.Contains(p.Body, `role="alert"`),
		"no time: status %d, want 422: %s", p.Status, p.Body)
	assert.Equal(t, v.get("/console/statistics/people.csv").Status, http.StatusNotFound, "unknown table")
}

// TestEmulatorForms_ClockFaultsReset controls the clock, faults, the random seed and the reset of an emulator with forms.
func TestEmulatorForms_ClockFaultsReset(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	submit := func(form url.Values) page { return v.submit("/console/emulator", form) }
	submit(url.Values{"did": {"freeze"}}).wantText(t, `value="run"`)
	submit(url.Values{"did": {"set"}, "now": {"2031-02-03T04:05"}}).wantText(t, "2031-02-03")
	submit(url.Values{"did": {"fault"}, "path": {"/cgi-bin/token"}, "how": {"answer"}, "errcode": {"-1"}, "remaining": {"2"},
		"percent": {"100"}, "delay": {""}}).wantText(t, `name="id" value="1"`)
	p := v.post("/console/emulator", url.Values{"did": {"fault"}, "path": {"/cgi-bin/token"}, "how": {"answer"}, "errcode": {"x"}})
	assert.Equal(t, p.Status, http.StatusUnprocessableEntity, "errcode that is not a number")
	submit(url.Values{"did": {"remove"}, "id": {"1"}}).wantNoText(t, `name="id" value="1"`)
	submit(url.Values{"did": {"chance"}, "seed": {"42"}})
	submit(url.Values{"did": {"fault"}, "path": {"/cgi-bin/menu/get"}, "how": {"response"}, "status": {"503"}, "body": {"busy <now>"}}).
		wantText(t, "503 &#34;busy \\u003cnow\\u003e&#34;")
	p = v.post("/console/emulator", url.Values{"did": {"reset"}})
	assert.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, `id="sure"`),
		"a reset that nobody confirmed: status %d, want 200", p.Status)
	submit(url.Values{"did": {"reset"}, "sure": {"reset"}}).wantNoText(t, "2031-02-03")
	v.get("/console/rules").wantText(t, `class="emulates"`)
}

// TestSeedForm_AllOrNothing verifies that a seed from a file or a text is applied completely or not at all, that an error names its line,
// and that the form keeps the text.
func TestSeedForm_AllOrNothing(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	apply := func(text string) page {
		return v.post("/console/emulator", url.Values{"did": {"plant"}, "text": {text}})
	}
	const seed = `accounts:
  - {appid: planted, kind: mini_program, name: Grown, certified: true, versions: [release]}
rules:
  - {owner: planted, prefix: "https://planted.example/", path: pages/a/a, published: true}
settings: {publish_quota: 7}
`
	for text, want := range map[string]string{
		strings.Replace(seed, "path: pages/a/a", "pat: pages/a/a", 1): "line 4: ",
		strings.Replace(seed, "mini_program", "mini", 1):              "line 2: ",
		strings.Replace(seed, "owner: planted", "owner: nobody", 1):   "line 4: ",
		strings.Replace(seed, ": 7", ": many", 1):                     "line 5: ",
		" ": "Choose a seed file",
	} {
		p := apply(text)
		assert.True(t, p.Status == http.StatusUnprocessableEntity && strings.Contains(p.Body, want),
			"%s: %d, want %q in %s", text, p.Status, want, p.Body)
		assert.True(t, text == " " || strings.Contains(p.Body, "planted.example/"), "the form lost its text: %s", p.Body)
	}
	assert.Equal(t, apply("# "+strings.Repeat("x", 1<<20)).Status, http.StatusRequestEntityTooLarge, "seed above the size limit")
	v.get("/console/rules?owner=planted").wantNoText(t, "planted.example")
	apply(seed).wantText(t, "accounts 1, platforms 0, rules 1")
	v.get("/console/rules?owner=planted").wantText(t, "https://planted.example/")
	v.get("/console/operate/settings").wantText(t, `value="7"`)
	body := s.Do("POST", "/scan/v1/resolve", `{"text":"https://planted.example/1"}`).Body
	assert.Contains(t, body, "open_mini_program", "scan of the seeded rule")
	apply(seed).wantText(t, "already applied")
	v.submit("/console/emulator", url.Values{"did": {"reset"}, "sure": {"reset"}})
	v.get("/console/rules?owner=planted").wantNoText(t, "planted.example")
	v.upload("/console/emulator?lang=zh", url.Values{"did": {"plant"}}, "file", []byte(seed)).
		wantText(t, "账号 1 个，平台 0 个，规则 1 条")
}
