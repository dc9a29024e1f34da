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

var sharedLink = regexp.MustCompile(`<code class="copy">https?://[^/]+(/console/shared/[^<]+)</code>`)

// TestSharedChart_AccessAndExpiry verifies that the link to a shared chart shows, without a sign-in, what its author may see at that time,
// and nothing else. It must stop working after its expiry, and when its author is deleted or loses access.
func TestSharedChart_AccessAndExpiry(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	newMarketer := func(name string, role adminroute.Role, account string) *visitor {
		v := newUser(t, s, name, role, account)
		return v
	}
	anna, bob := newMarketer("anna", "marketer", "shop"), newMarketer("bob", "marketer", "press")
	shareChart := func(v *visitor, query, title string) string {
		t.Helper()
		p := v.post("/console/statistics"+query, url.Values{"did": {"share"}, "title": {title}, "lasts": {"30"}})
		link := sharedLink.FindStringSubmatch(p.Body)
		require.True(t, p.Status == http.StatusOK && link != nil, "shared chart: status %d without a link: %s", p.Status, p.Body)
		return link[1]
	}
	stranger := newVisitor(t, s)
	checkOpen := func(link, want string) page {
		t.Helper()
		p := stranger.get(link)
		require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, want) && strings.Contains(p.Body, "noindex") &&
			p.Header.Get("Cache-Control") == "no-store", "shared chart: status %d, want 200 with %q: %s", p.Status, want, p.Body)
		return p
	}
	checkNotFound := func(link string) {
		t.Helper()
		require.Equal(t, stranger.get(link).Status, http.StatusNotFound, "status of %s", link)
	}
	link := shareChart(anna, "?by=day&days=30", "<b>Spring</b>")
	p := checkOpen(link, "&lt;b&gt;Spring")
	for _, hidden := range []string{"<nav", "/console/statistics", "/console/logout", "anna"} {
		p.wantNoText(t, hidden)
	}
	assert.True(t, len(parseCharts(p)) != 0, "the page has no chart: %s", p.Body)
	weekLink := shareChart(anna, "?by=day&days=7&group=app", "")
	checkOpen(weekLink, "Scan chart")
	assert.Equal(t, stranger.get("/console/statistics").Status, http.StatusSeeOther, "statistics with the link only")

	// A shortened, extended or mixed link is invalid.
	checkNotFound(link[:len(link)-1])
	checkNotFound(link + "A")
	checkNotFound(strings.Replace(link, ".", "", 1))
	checkNotFound(link[:strings.Index(link, ".")] + weekLink[strings.Index(weekLink, "."):])
	checkNotFound("/console/shared/" + strings.Repeat("a", 3000))

	// Other people neither see nor end the share; an admin sees it.
	id := strings.TrimPrefix(link[:strings.Index(link, ".")], "/console/shared/")
	bob.get("/console/statistics").wantNoText(t, id)
	assert.Equal(t, bob.post("/console/statistics", url.Values{"did": {"end"}, "id": {id}}).Status, http.StatusNotFound, "end by bob")
	a := s.Admin("GET", "/statistics/shared", "")
	assert.True(t, strings.Contains(a.Body, id) && !strings.Contains(a.Body, link),
		"shared charts of an admin = %s, want the id without the secret", a.Body)
	assert.Equal(t, anna.post("/console/statistics", url.Values{"did": {"end"}, "id": {id}}).Status, http.StatusSeeOther, "end by anna")
	checkNotFound(link)

	// An invalid question cannot be shared.
	key := s.NewKey("/admin-keys", `{"name":"ci","role":"marketer","accounts":["shop"]}`)
	shareByAPI := func(question string, days int) servertest.Answer {
		return s.Do("POST", "/admin/v1/statistics/shared", fmt.Sprintf(`{"question":%q,"days":%d}`, question, days),
			"Authorization: Bearer "+key, "Content-Type: application/json")
	}
	for _, invalid := range []string{"by=year", "days=0", "owner=press", "who=anna", "by=day&by=hour", "%zz"} {
		a := shareByAPI(invalid, 7)
		assert.True(t, a.Status == http.StatusUnprocessableEntity || a.Status == http.StatusForbidden,
			"question %s: status %d, want 422 or 403: %s", invalid, a.Status, a.Body)
	}
	assert.Equal(t, shareByAPI("by=day", 91).Status, http.StatusUnprocessableEntity, "share of 91 days")

	// The share ends when its author loses access or is deleted; a new person of the same name does not restore it.
	s.Admin("PATCH", "/people/anna", `{"role":"viewer"}`)
	checkNotFound(weekLink)
	s.Admin("PATCH", "/people/anna", `{"role":"marketer","accounts":["press"]}`)
	checkNotFound(weekLink)
	s.Admin("PATCH", "/people/anna", `{"accounts":[]}`)
	checkOpen(weekLink, "Scan chart")
	s.Admin("DELETE", "/people/anna", "")
	checkNotFound(weekLink)
	s.Clock.Step(time.Hour)
	newMarketer("anna", "marketer", "shop")
	checkNotFound(weekLink)

	carl := newUser(t, s, "carl", "marketer")
	shopLink := shareChart(carl, "?by=day&days=7&owner=shop", "")
	checkOpen(shopLink, "Scan chart")
	s.Admin("PATCH", "/people/carl", `{"accounts":["press"]}`)
	checkNotFound(shopLink)

	for _, title := range []string{"first", "second", "third", "fourth", "fifth", "sixth"} {
		shareChart(bob, "?by=day&days=7", title)
		s.Clock.Step(time.Minute)
	}
	list := s.Admin("GET", "/statistics/shared", "").Body
	titles := regexp.MustCompile(`"title":"(\w+)"`).FindAllStringSubmatch(list, -1)
	require.Equal(t, len(titles), 6, "shared charts in %s", list)
	for i, want := range []string{"sixth", "fifth", "fourth", "third", "second", "first"} {
		assert.Equal(t, titles[i][1], want, "title of chart %d, the newest first", i)
	}

	hourLink := shareChart(bob, "?by=hour&days=1", "")
	checkOpen(hourLink, "UTC")
	s.Clock.Step(31 * 24 * time.Hour)
	checkNotFound(hourLink)
}
