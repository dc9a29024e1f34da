package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var linkOf = regexp.MustCompile(`<code class="copy">https?://[^/]+(/console/shared/[^<]+)</code>`)

// Whoever has the link to a chart reads what the one who shared it may see at that time, without signing in: nothing else, not after its
// end, and not when that one is gone or may see less.
func TestSharedChart_AccessAndExpiry(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	limited := func(name string, role adminroute.Role, account string) *visitor {
		person(s, name, role, account)
		v := request(t, s)
		v.signIn(name, password, "")
		return v
	}
	anna, bob := limited("anna", "marketer", "shop"), limited("bob", "marketer", "press")
	share := func(v *visitor, query, title string) string {
		t.Helper()
		p := v.post("/console/statistics"+query, url.Values{"did": {"share"}, "title": {title}, "lasts": {"30"}})
		found := linkOf.FindStringSubmatch(p.Body)
		require.True(t, p.Status == http.StatusOK && found != nil, "%d without a link: %s", p.Status, p.Body)
		return found[1]
	}
	stranger := request(t, s)
	reads := func(link, want string) page {
		t.Helper()
		p := stranger.get(link)
		require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, want) && strings.Contains(p.Body, "noindex") &&
			p.Header.Get("Cache-Control") == "no-store", "%d without %q: %s", p.Status, want, p.Body)
		return p
	}
	gone := func(link string) {
		t.Helper()
		require.Equal(t, stranger.get(link).Status, http.StatusNotFound, "%s", link)
	}
	link := share(anna, "?by=day&days=30", "<b>Spring</b>")
	p := reads(link, "&lt;b&gt;Spring")
	for _, never := range []string{"<nav", "/console/statistics", "/console/logout", "anna"} {
		assert.True(t, !strings.Contains(p.Body, never), "a stranger reads %q", never)
	}
	assert.True(t, len(charts(p)) != 0, "no chart: %s", p.Body)
	small := share(anna, "?by=day&days=7&group=app", "")
	reads(small, "Scan chart")
	assert.Equal(t, stranger.get("/console/statistics").Status, http.StatusSeeOther, "the link opens more")

	// A link is whole, and its own.
	gone(link[:len(link)-1])
	gone(link + "A")
	gone(strings.Replace(link, ".", "", 1))
	gone(link[:strings.Index(link, ".")] + small[strings.Index(small, "."):])
	gone("/console/shared/" + strings.Repeat("a", 3000))

	// Others neither see it nor end it; an admin does both.
	id := strings.TrimPrefix(link[:strings.Index(link, ".")], "/console/shared/")
	assert.True(t, !strings.Contains(bob.get("/console/statistics").Body, id), "bob sees what anna shares")
	assert.Equal(t, bob.post("/console/statistics", url.Values{"did": {"end"}, "id": {id}}).Status, http.StatusNotFound, "bob ends it")
	a := s.Admin("GET", "/statistics/shared", "")
	assert.True(t, strings.Contains(a.Body, id) && !strings.Contains(a.Body, link), "the admin reads %s", a.Body)
	assert.Equal(t, anna.post("/console/statistics", url.Values{"did": {"end"}, "id": {id}}).Status, http.StatusSeeOther, "anna ends it")
	gone(link)

	// What cannot be asked is not shared.
	key := s.NewKey("/admin-keys", `{"name":"ci","role":"marketer","accounts":["shop"]}`)
	asked := func(question string, days int) servertest.Answer {
		return s.Do("POST", "/admin/v1/statistics/shared", fmt.Sprintf(`{"question":%q,"days":%d}`, question, days),
			"Authorization: Bearer "+key, "Content-Type: application/json")
	}
	for _, wrong := range []string{"by=year", "days=0", "owner=press", "who=anna", "by=day&by=hour", "%zz"} {
		a := asked(wrong, 7)
		assert.True(t, a.Status == http.StatusUnprocessableEntity || a.Status == http.StatusForbidden, "%s: %d %s", wrong, a.Status, a.Body)
	}
	assert.Equal(t, asked("by=day", 91).Status, http.StatusUnprocessableEntity, "91 days")

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
