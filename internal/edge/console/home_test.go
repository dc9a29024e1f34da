package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// The console begins at home: it counts the scans of today, says what to do next and leads there.
func TestHome_NextTask(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "mia", adminroute.Marketer)
	mia := request(t, s)
	mia.signIn("mia", password, "")
	if p := mia.get("/console/"); p.Status != http.StatusSeeOther || p.Header.Get("Location") != "/console/home" {
		t.Errorf("the console begins at %s", p.Header.Get("Location"))
	}
	mia.get("/console/home").wants(t, "No scans yet", `<dt>Scans today</dt><dd>0</dd>`)
	key := scanKey(t, s)
	for i := range 1003 {
		text := "https://shop.example/7"
		if i < 3 {
			text = "https://gone.example/old/7"
		} else if i < 5 {
			text = "4006381333931"
		} else if i < 109 { // more places than a page of the API lists
			text = fmt.Sprintf("https://gone%d.example/", i)
		}
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d"}`, text, i), "Authorization: Bearer "+key)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	mia.get("/console/home").wants(t, `<dt>Scans today</dt><dd>1,003</dd><dd>same day last week up to this hour: 0</dd>`,
		`<dt>Scans in seven days</dt><dd>1,003</dd><dd>previous period: 0</dd>`, `<svg class="chart wide"`,
		"<summary>Show as table</summary>", `<div class="warn"><dt>Unmatched scans, 7 days</dt><dd>109</dd>`,
		"Most of them at gone.example/old", `href="/console/statistics#misses"`)
	// A text that is not a link has no page that explains why the link opened nothing.
	for path, says := range map[string]string{"home?lang=en": "the text is not a link",
		"statistics/unmatched?lang=en": "the text is not a link",
		"home?lang=zh":                 "文本不是链接", "statistics/unmatched?lang=zh": "文本不是链接"} {
		p := mia.get("/console/" + path)
		p.wants(t, says, `text=https%3a%2f%2fgone.example%2fold`)
		assert.True(t, !strings.Contains(p.Body, "(no link)") && !strings.Contains(p.Body, "no%20link"),
			"/console/%s has the raw group of texts that are not links", path)
	}
	mia.get("/console/rules?lang=en").wants(t, "Total: 1<")
	mia.get("/console/rules").wants(t, `894`)
}

// What ends soon and what waits too long is a task of those whom it concerns.
func TestHome_ExpiringAndOverdueTasks(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"publish_quota":3}`)
	person(s, "bo", "rules-editor", "shop")
	person(s, "root", adminroute.Admin)
	root, bo := request(t, s), request(t, s)
	order := s.Admin("POST", "/accounts/press/orders", `{"code_count":10000,"isv_application_id":"spring"}`).Number(t, "application_id")
	s.Admin("POST", fmt.Sprintf("/batches/%d/packages", order), `{"code_start":0,"code_end":99,"printer":"Press"}`)
	s.NewKey("/admin-keys", `{"name":"nightly","role":"viewer","expires_at":"2026-02-01T00:00:00Z"}`)
	root.signIn("root", password, "")
	bo.signIn("bo", password, "")
	wire := fmt.Sprintf("/console/codes/%d", order)
	p := root.get("/console/home")
	assert.True(t, !strings.Contains(p.Body, "nightly") && !strings.Contains(p.Body, "not downloaded") && !strings.Contains(p.Body, wire),
		"told too early: %s", p.Body)
	scans(t, s, "https://shop.example/7")
	s.Admin("GET", "/statistics?wait=true", "")
	s.Admin("PUT", "/emulator/clock", `{"now":"2026-01-30T02:00:00Z"}`)
	root.signIn("root", password, "") // the session ended meanwhile
	cut := func(name, days string) page { return root.post("/console/operate/settings", url.Values{name: {days}}) }
	for _, name := range []string{"scan_retention_days", "hourly_stats_retention_days", "daily_stats_retention_days"} {
		cut(name, "3").wants(t, "about 1 ", `id="sure"`)
		p := cut(name, "30")
		assert.True(t, p.Status == http.StatusSeeOther, "%s of 30 days, before which nothing was scanned: %d %s", name, p.Status, p.Body)
	}
	root.get("/console/home").wants(t, "Packages not downloaded for three days: 1", "1 Press",
		"expire within two weeks or expired recently: 1", "nightly", "no active code after two weeks: 1", "press spring", wire)
	s.Admin("POST", fmt.Sprintf("/batches/%d/activations", order), `{"code_start":5,"code_end":5,"binding":{"activity_name":"a",
		"product_brand":"b","product_title":"t","product_code":"4006381333931","wxa_appid":"shop","wxa_path":"p"}}`)
	p = root.get("/console/home")
	assert.True(t, !strings.Contains(p.Body, wire), "told of codes of which one is active: %s", p.Body)
	bo.signIn("bo", password, "")
	p = bo.get("/console/home")
	p.wants(t, "Publishes of shop left this month: 3", `href="/console/accounts/shop"`)
	assert.True(t, !strings.Contains(p.Body, "nightly") && !strings.Contains(p.Body, "not downloaded"),
		"told of what is not theirs: %s", p.Body)
}
