package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var linkOf = regexp.MustCompile(`<code class="copy">https?://[^/]+(/console/shared/[^<]+)</code>`)

// Whoever has the link to a chart reads what the one who shared it may see at that time, without signing in: nothing else, not after its
// end, and not when that one is gone or may see less.
func TestSharedChart_AccessAndExpiry(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	limited := func(name, role, account string) *visitor {
		s.Admin("POST", "/people", fmt.Sprintf(`{"name":%q,"role":%q,"accounts":[%q],"password":%q}`, name, role, account, password))
		v := request(t, s)
		v.signIn(name, password, "")
		return v
	}
	anna, bob := limited("anna", "marketer", "shop"), limited("bob", "marketer", "press")
	share := func(v *visitor, query, title string) string {
		t.Helper()
		p := v.post("/console/statistics"+query, url.Values{"did": {"share"}, "title": {title}, "lasts": {"30"}})
		found := linkOf.FindStringSubmatch(p.Body)
		if p.Status != http.StatusOK || found == nil {
			t.Fatalf("%d without a link: %s", p.Status, p.Body)
		}
		return found[1]
	}
	stranger := request(t, s)
	reads := func(link, want string) page {
		t.Helper()
		p := stranger.get(link)
		if p.Status != http.StatusOK || !strings.Contains(p.Body, want) || !strings.Contains(p.Body, "noindex") ||
			p.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d without %q: %s", p.Status, want, p.Body)
		}
		return p
	}
	gone := func(link string) {
		t.Helper()
		if p := stranger.get(link); p.Status != http.StatusNotFound {
			t.Fatalf("%s: %d", link, p.Status)
		}
	}
	link := share(anna, "?by=day&days=30", "<b>Spring</b>")
	p := reads(link, "&lt;b&gt;Spring")
	for _, never := range []string{"<nav", "/console/statistics", "/console/logout", "anna"} {
		if strings.Contains(p.Body, never) {
			t.Errorf("a stranger reads %q", never)
		}
	}
	if len(charts(p)) == 0 {
		t.Errorf("no chart: %s", p.Body)
	}
	small := share(anna, "?by=day&days=7&group=app", "")
	reads(small, "Scan chart")
	if p := stranger.get("/console/statistics"); p.Status != http.StatusSeeOther {
		t.Errorf("the link opens more: %d", p.Status)
	}

	// A link is whole, and its own.
	gone(link[:len(link)-1])
	gone(link + "A")
	gone(strings.Replace(link, ".", "", 1))
	gone(link[:strings.Index(link, ".")] + small[strings.Index(small, "."):])
	gone("/console/shared/" + strings.Repeat("a", 3000))

	// Others neither see it nor end it; an admin does both.
	id := strings.TrimPrefix(link[:strings.Index(link, ".")], "/console/shared/")
	if p := bob.get("/console/statistics"); strings.Contains(p.Body, id) {
		t.Error("bob sees what anna shares")
	}
	if p := bob.post("/console/statistics", url.Values{"did": {"end"}, "id": {id}}); p.Status != http.StatusNotFound {
		t.Errorf("bob ends it: %d", p.Status)
	}
	if a := s.Admin("GET", "/statistics/shared", ""); !strings.Contains(a.Body, id) || strings.Contains(a.Body, link) {
		t.Errorf("the admin reads %s", a.Body)
	}
	if p := anna.post("/console/statistics", url.Values{"did": {"end"}, "id": {id}}); p.Status != http.StatusSeeOther {
		t.Errorf("anna ends it: %d", p.Status)
	}
	gone(link)

	// What cannot be asked is not shared.
	var key struct{ Key string }
	s.Admin("POST", "/admin-keys", `{"name":"ci","role":"marketer","accounts":["shop"]}`).JSON(t, &key)
	s.Hide(key.Key)
	asked := func(question string, days int) servertest.Answer {
		return s.Do("POST", "/admin/v1/statistics/shared", fmt.Sprintf(`{"question":%q,"days":%d}`, question, days),
			"Authorization: Bearer "+key.Key, "Content-Type: application/json")
	}
	for _, wrong := range []string{"by=year", "days=0", "owner=press", "who=anna", "by=day&by=hour", "%zz"} {
		if a := asked(wrong, 7); a.Status != http.StatusUnprocessableEntity && a.Status != http.StatusForbidden {
			t.Errorf("%s: %d %s", wrong, a.Status, a.Body)
		}
	}
	if a := asked("by=day", 91); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("91 days: %d", a.Status)
	}

	// It goes with whoever shared it, and a namesake does not bring it back.
	s.Admin("PATCH", "/people/anna", `{"role":"viewer"}`)
	gone(small)
	s.Admin("PATCH", "/people/anna", `{"role":"marketer","accounts":["press"]}`)
	gone(small)
	s.Admin("PATCH", "/people/anna", `{"accounts":[]}`)
	reads(small, "Scan chart")
	s.Admin("DELETE", "/people/anna", "")
	gone(small)
	s.Clock.Step(time.Hour)
	limited("anna", "marketer", "shop")
	gone(small)

	for _, title := range []string{"first", "second", "third", "fourth", "fifth", "sixth"} {
		share(bob, "?by=day&days=7", title)
		s.Clock.Step(time.Minute)
	}
	list := s.Admin("GET", "/statistics/shared", "").Body
	titles := regexp.MustCompile(`"title":"(\w+)"`).FindAllStringSubmatch(list, -1)
	require.Equal(t, len(titles), 6, "shared charts in %s", list)
	for i, want := range []string{"sixth", "fifth", "fourth", "third", "second", "first"} {
		assert.Equal(t, titles[i][1], want, "the charts from the newest on")
	}

	soon := share(bob, "?by=hour&days=1", "")
	reads(soon, "UTC")
	s.Clock.Step(31 * 24 * time.Hour)
	gone(soon)
}
