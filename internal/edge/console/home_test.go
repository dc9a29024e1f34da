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

// TestHome_NextTask verifies that the home page counts the scans of the day and links to the next task.
func TestHome_NextTask(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	mia := newUser(t, s, "mia", adminroute.Marketer)
	if p := mia.get("/console/"); p.Status != http.StatusSeeOther || p.Header.Get("Location") != "/console/home" {
		t.Errorf("redirect of /console/ = %s, want /console/home", p.Header.Get("Location"))
	}
	mia.get("/console/home").wantText(t, "No scans yet", `<dt>Scans today</dt><dd>0</dd>`)
	key := newScanKey(s)
	for i := range 1003 {
		text := "https://shop.example/7"
		if i < 3 {
			text = "https://gone.example/old/7"
		} else if i < 5 {
			text = "4006381333931"
		} else if i < 109 { // more locations than a page of the API lists
			text = fmt.Sprintf("https://gone%d.example/", i)
		}
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d"}`, text, i), "Authorization: Bearer "+key)
	}
	s.Admin("GET", "/statistics?wait=true", "")
	mia.get("/console/home").wantText(t, `<dt>Scans today</dt><dd>1,003</dd><dd>same day last week up to this hour: 0</dd>`,
		`<dt>Scans in seven days</dt><dd>1,003</dd><dd>previous period: 0</dd>`, `<svg class="chart wide"`,
		"<summary>Show as table</summary>", `<div class="warn"><dt>Unmatched scans, 7 days</dt><dd>109</dd>`,
		"Most of them at gone.example/old", `href="/console/statistics#misses"`)
	// A text that is not a link has no page that explains the result.
	for path, want := range map[string]string{"home?lang=en": "the text is not a link",
		"statistics/unmatched?lang=en": "the text is not a link",
		"home?lang=zh":                 "文本不是链接", "statistics/unmatched?lang=zh": "文本不是链接"} {
		p := mia.get("/console/" + path)
		p.wantText(t, want, `text=https%3a%2f%2fgone.example%2fold`)
		assert.True(t, !strings.Contains(p.Body, "(no link)") && !strings.Contains(p.Body, "no%20link"),
			"/console/%s shows the internal group of texts that are not links", path)
	}
	mia.get("/console/rules?lang=en").wantText(t, "Total: 1<")
	mia.get("/console/rules").wantText(t, `894`)
}

// TestHome_ExpiringAndOverdueTasks verifies that expiring and overdue items appear as tasks of the roles that handle them.
func TestHome_ExpiringAndOverdueTasks(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"publish_quota":3}`)
	createPerson(s, "bo", "rules-editor", "shop")
	createPerson(s, "root", adminroute.Admin)
	root, bo := newVisitor(t, s), newVisitor(t, s)
	order := s.Admin("POST", "/accounts/press/orders", `{"code_count":10000,"isv_application_id":"spring"}`).Number(t, "application_id")
	s.Admin("POST", fmt.Sprintf("/batches/%d/packages", order), `{"code_start":0,"code_end":99,"printer":"Press"}`)
	s.NewKey("/admin-keys", `{"name":"nightly","role":"viewer","expires_at":"2026-02-01T00:00:00Z"}`)
	root.signIn("root", password, "")
	bo.signIn("bo", password, "")
	orderPath := fmt.Sprintf("/console/codes/%d", order)
	p := root.get("/console/home")
	for _, task := range []string{"nightly", "not downloaded", orderPath} { // not due yet
		p.wantNoText(t, task)
	}
	scanLinks(t, s, "https://shop.example/7")
	s.Admin("GET", "/statistics?wait=true", "")
	s.Admin("PUT", "/emulator/clock", `{"now":"2026-01-30T02:00:00Z"}`)
	root.signIn("root", password, "") // the former session expired
	p = root.get("/console/emulator")
	p.wantText(t, ">2026-01-30 ")
	p.wantNoText(t, "just now")
	setDays := func(name, days string) page { return root.post("/console/operate/settings", url.Values{name: {days}}) }
	for _, name := range []string{"scan_retention_days", "hourly_stats_retention_days", "daily_stats_retention_days"} {
		setDays(name, "3").wantText(t, "about 1 ", `id="sure"`)
		p := setDays(name, "30")
		p.wantStatus(t, http.StatusSeeOther, "%s of 30 days, before which nothing was scanned", name)
	}
	root.get("/console/home").wantText(t, "Packages not downloaded for three days: 1", "1 Press",
		"expire within two weeks or expired recently: 1", "nightly", "no active code after two weeks: 1", "press spring", orderPath)
	s.Admin("POST", fmt.Sprintf("/batches/%d/activations", order), `{"code_start":5,"code_end":5,"binding":{"activity_name":"a",
		"product_brand":"b","product_title":"t","product_code":"4006381333931","wxa_appid":"shop","wxa_path":"p"}}`)
	p = root.get("/console/home")
	p.wantNoText(t, orderPath)
	bo.signIn("bo", password, "")
	p = bo.get("/console/home")
	p.wantText(t, "Publishes of shop left this month: 3", `href="/console/accounts/shop"`)
	assert.True(t, !strings.Contains(p.Body, "nightly") && !strings.Contains(p.Body, "not downloaded"),
		"tasks of bo = %s, want none of other roles", p.Body)
	s.Admin("PUT", "/emulator/clock", `{"now":"2026-01-30T16:00:00Z"}`) // midnight
	root.signIn("root", password, "")
	root.get("/console/home").wantText(t, "<dt>Scans today</dt><dd>0</dd><dd>same day last week up to this hour: 0</dd>")
}
