package console_test

import (
	"bytes"
	"errors"
	"fmt"
	"mime/multipart"
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

// Settings, webhooks, hosts and the audit log by forms, in both languages; what is wrong is said, and nothing is done then.
func TestOperateForms_SettingsWebhooksHosts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "ada", adminroute.Admin)
	v := request(t, s)
	v.signIn("ada", password, "")
	set := func(name, value string) page { return v.post("/console/operate/settings", url.Values{name: {value}}) }
	for name, value := range map[string]string{"publish_quota": "7", "strict": "false", "scan_commit": "async",
		"verification": `["a.example"]`} {
		p := set(name, value)
		assert.True(t, p.Status == http.StatusSeeOther, "%s: %d %s", name, p.Status, p.Body)
	}
	assert.Equal(t, set("publish_quota", "many").Status, http.StatusUnprocessableEntity, "publish_quota")
	// A group is saved with one button: two of its settings change, and another person's change of a third one stays.
	group := v.get("/console/operate/settings").filledIn(t, "/console/operate/settings", `name="rule_limit"`)
	s.Admin("PUT", "/settings", `{"service_publish_quota":123}`)
	group.Set("rule_limit", "77")
	group.Set("service_rule_limit", "78")
	v.did("/console/operate/settings", group)
	for _, want := range []string{`"rule_limit":77`, `"service_rule_limit":78`, `"service_publish_quota":123`} {
		now := s.Admin("GET", "/settings", "").Body
		assert.True(t, strings.Contains(now, want), "the settings are %s, want %s", now, want)
	}
	v.get("/console/operate/settings?lang=zh").wants(t, `value="7"`, "每个小程序每个自然月的发布次数", `value="async"`, "至多 1000 个接口路径", "0 至 1000000")
	v.did("/console/operate/settings", url.Values{"reset": {"publish_quota"}})
	assert.True(t, !strings.Contains(v.get("/console/operate/settings?lang=en").Body, `value="7"`), "the setting was not taken back")
	there := servertest.Decode[client.StoredRuleList](t, s.Admin("GET", "/rules", ""))
	p := v.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"}, "alarms": {"yes"},
		"rules": {fmt.Sprint(there.Rules[0].ID)}})
	require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, "whsec_"), "a webhook: %d", p.Status)
	if at := strings.Index(p.Body, "whsec_"); at > 0 {
		s.Hide(p.Body[at : at+strings.IndexByte(p.Body[at:], '<')])
	}
	assert.Equal(t, v.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"},
		"codes": {"one"}}).Status, http.StatusUnprocessableEntity, "codes that are none")
	v.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"}, "alarms": {"yes"},
		"rules": {"777777"}}).wants(t, "there is no rule 777777")
	v.did("/console/operate/webhooks", url.Values{"did": {"test"}, "id": {"1"}}).wants(t, `name="delivery"`)
	v.did("/console/operate/webhooks", url.Values{"did": {"again"}, "delivery": {"1"}})
	v.did("/console/operate/webhooks", url.Values{"did": {"off"}, "id": {"1"}}).wants(t, `value="on"`)
	p = v.post("/console/operate/webhooks", url.Values{"did": {"delete"}, "id": {"1"}})
	assert.True(t, p.Status == http.StatusOK, "without its number: %d", p.Status)
	v.did("/console/operate/webhooks", url.Values{"did": {"delete"}, "id": {"1"}, "sure": {"1"}})
	v.did("/console/operate/checks", url.Values{"did": {"domain"}, "host": {"bad.example"}, "status": {"denied"}}).wants(t, "bad.example")
	v.did("/console/operate/checks", url.Values{"did": {"forget"}, "host": {"bad.example"}, "sure": {"bad.example"}})
	s.Admin("POST", "/export", `{"passphrase":"a passphrase of the test"}`)
	v.get("/console/operate").wants(t, "Last backup created by admin", "No restore drill has been recorded")
	s.Admin("POST", "/drills", `{"ok":false,"problem":"the table <rules> was restored as other rows"}`)
	v.get("/console/operate").wants(t, "Last restore drill recorded by admin", "the table &lt;rules&gt; was", "failed")
	s.Admin("POST", "/drills", `{"ok":true,"rows":12,"rules":3,"codes":4,"archive":"2026-01-15T01:00:00Z"}`)
	v.get("/console/operate?lang=zh").wants(t, "最近一次恢复演练由 admin", "12 行，3 条规则，检验 4 个码", "2026-01-15 01:00:00")
	v.get("/console/operate?lang=en")
	p = v.post("/console/operate/audit", nil)
	require.Equal(t, p.Status, http.StatusOK, "verify")
	p.wants(t, "changes are valid", "person:ada")
}

// The numbers of a page are those of its files; a formula stays a text; no page of another site makes the server write one.
func TestStatisticsFiles_EqualPage(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	for _, text := range []string{"shop.example/7", "shop.example/7", "shop.example/7", "nobody.example/=1+1"} {
		s.Do("POST", "/scan/v1/resolve", `{"text":"https://`+text+`","user":"ann"}`)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	v.get("/console/statistics?by=day").wants(t, "<pattern", `class="all"`, "/console/statistics?")
	v.get("/console/statistics/unmatched").wants(t, "nobody.example")
	v.get("/console/statistics?by=&group=result&lang=zh").wants(t, `<figure class="boxes one">`, "首次")
	numbers := v.get("/console/statistics/numbers.csv?by=&group=app").Body
	assert.True(t, strings.Contains(numbers, ",shop,3,") && strings.HasPrefix(numbers, "\ufeffstarts_at,value,scans,first_scans,users\n"),
		"%v", numbers)
	for table, rows := range map[string]int64{"numbers": 1, "unmatched": 1, "alarms": 0, "scans": 4} {
		p := v.get("/console/statistics/" + table + ".parquet?by=")
		file, err := parquet.OpenFile(strings.NewReader(p.Body), int64(len(p.Body)))
		assert.True(t, err == nil && file.NumRows() == rows, "%s: %d, %v", table, p.Status, err)
		p = v.get("/console/statistics/"+table+".csv?by=", "Sec-Fetch-Site: cross-site")
		assert.Equal(t, p.Status, http.StatusForbidden, "%s for another site", table)
	}
	p := v.get("/console/statistics/scans.csv?from=never")
	assert.True(t, p.Status == http.StatusUnprocessableEntity && strings.Contains(p.Body, `role="alert"`),
		"no time: %d %s", p.Status, p.Body)
	assert.Equal(t, v.get("/console/statistics/people.csv").Status, http.StatusNotFound, "no such table")
}

// The clock, faults, chance and the reset of an emulator by forms.
func TestEmulatorForms_ClockFaultsReset(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	do := func(form url.Values) page { return v.did("/console/emulator", form) }
	do(url.Values{"did": {"freeze"}}).wants(t, `value="run"`)
	do(url.Values{"did": {"set"}, "now": {"2031-02-03T04:05"}}).wants(t, "2031-02-03")
	do(url.Values{"did": {"fault"}, "path": {"/cgi-bin/token"}, "how": {"answer"}, "errcode": {"-1"}, "remaining": {"2"},
		"percent": {"100"}, "delay": {""}}).wants(t, `name="id" value="1"`)
	p := v.post("/console/emulator", url.Values{"did": {"fault"}, "path": {"/cgi-bin/token"}, "how": {"answer"}, "errcode": {"x"}})
	assert.Equal(t, p.Status, http.StatusUnprocessableEntity, "no number")
	assert.True(t, !strings.Contains(do(url.Values{"did": {"remove"}, "id": {"1"}}).Body, `name="id" value="1"`), "the fault stays")
	do(url.Values{"did": {"chance"}, "seed": {"42"}})
	do(url.Values{"did": {"fault"}, "path": {"/cgi-bin/menu/get"}, "how": {"response"}, "status": {"503"}, "body": {"busy <now>"}}).
		wants(t, "503 &#34;busy \\u003cnow\\u003e&#34;")
	p = v.post("/console/emulator", url.Values{"did": {"reset"}})
	assert.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, `id="sure"`), "a reset that nobody confirmed: %d", p.Status)
	assert.True(t, !strings.Contains(do(url.Values{"did": {"reset"}, "sure": {"reset"}}).Body, "2031-02-03"), "the clock did not go back")
	v.get("/console/rules").wants(t, `class="emulates"`)
}

// A seed is applied from a file or a text, all of it or nothing; what is wrong is said with its line, and the text stays to be mended.
func TestSeedForm_AllOrNothing(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	plant := func(text string) page {
		return v.post("/console/emulator", url.Values{"did": {"plant"}, "text": {text}})
	}
	const added = `accounts:
  - {appid: planted, kind: mini_program, name: Grown, certified: true, versions: [release]}
rules:
  - {owner: planted, prefix: "https://planted.example/", path: pages/a/a, published: true}
settings: {publish_quota: 7}
`
	for text, why := range map[string]string{
		strings.Replace(added, "path: pages/a/a", "pat: pages/a/a", 1): "line 4: ",
		strings.Replace(added, "mini_program", "mini", 1):              "line 2: ",
		strings.Replace(added, "owner: planted", "owner: nobody", 1):   "line 4: ",
		strings.Replace(added, ": 7", ": many", 1):                     "line 5: ",
		" ": "Choose a seed file",
	} {
		p := plant(text)
		assert.True(t, p.Status == http.StatusUnprocessableEntity && strings.Contains(p.Body, why),
			"%s: %d, want %q in %s", text, p.Status, why, p.Body)
		assert.True(t, text == " " || strings.Contains(p.Body, "planted.example/"), "the text is gone: %s", p.Body)
	}
	assert.Equal(t, plant("# "+strings.Repeat("x", 1<<20)).Status, http.StatusRequestEntityTooLarge, "too long")
	assert.True(t, !strings.Contains(v.get("/console/rules?owner=planted").Body, "planted.example"), "a wrong seed was applied in part")
	plant(added).wants(t, "accounts 1, platforms 0, rules 1")
	v.get("/console/rules?owner=planted").wants(t, "https://planted.example/")
	v.get("/console/operate/settings").wants(t, `value="7"`)
	body := s.Do("POST", "/scan/v1/resolve", `{"text":"https://planted.example/1"}`).Body
	assert.Contains(t, body, "open_mini_program", "the rule opens nothing")
	plant(added).wants(t, "already applied")
	v.did("/console/emulator", url.Values{"did": {"reset"}, "sure": {"reset"}})
	assert.True(t, !strings.Contains(v.get("/console/rules?owner=planted").Body, "planted.example"), "a reset brought it back")
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	_ = form.WriteField("did", "plant")
	part, err := form.CreateFormFile("file", "seed.yaml")
	if err == nil {
		_, err = part.Write([]byte(added))
	}
	err = errors.Join(err, form.Close())
	require.NoError(t, err)
	v.send("POST", "/console/emulator?lang=zh", form.FormDataContentType(), &b).wants(t, "账号 1 个，平台 0 个，规则 1 条")
}
