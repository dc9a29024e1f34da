package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPages_KeepSelectedAccount verifies that the account selected in the header stays in every address, form and redirect, and filters the
// pages.
func TestPages_KeepSelectedAccount(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/accounts/tea", `{"kind":"mini_program","name":"Tea House","versions":["release"]}`)
	s.Admin("PUT", "/settings", `{"verification":"trust"}`)
	s.Admin("POST", "/accounts/tea/rules", `{"prefix":"https://tea.example/","path":"pages/tea"}`)
	v := newVisitor(t, s)
	location := func(p page) string { return p.Header.Get("Location") }
	for input, want := range map[string]string{
		"tea":       "/console/statistics?account=tea&by=month",
		"Tea House": "/console/statistics?account=tea&by=month",
		"":          "/console/statistics?by=month",
		"nobody":    "/console/search?q=nobody",
		"e":         "/console/search?q=e", // matches several accounts
	} {
		q := url.Values{"account": {input}, "to": {"/console/statistics?account=shop&by=month&after=7"}}
		p := v.get("/console/switch?" + q.Encode())
		assert.True(t, p.Status == http.StatusSeeOther && location(p) == want, "%q leads to %q, want %q", input, location(p), want)
	}
	p := v.get("/console/switch?account=tea&to=https://elsewhere.example/")
	assert.Equal(t, location(p), "/console/?account=tea", "redirect to another site")
	if p := v.get("/console/rules?account=tea"); strings.Contains(p.Body, "shop.example") ||
		!strings.Contains(p.Body, "<bdi>Tea House</bdi> <code>tea</code>") {
		t.Error("rules of tea: the page lists other rules or does not name the account")
	}
	publish := url.Values{"did": {"publish-sure"}, "owner": {"tea"}, "prefix": {"https://tea.example/"}}
	p = v.post("/console/rules/do?account=tea", publish)
	assert.Contains(t, location(p), "account=tea", "redirect after a publish")
	p = v.get("/console/search?q=TEA")
	assert.True(t, location(p) == "/console/accounts/tea" || strings.Contains(p.Body, "https://tea.example/"), "%d %s", p.Status, p.Body)
}

// TestLists_PagingAndBulkConfirm verifies that a list is paged in both directions, and that a bulk action asks for a confirmation first.
func TestLists_PagingAndBulkConfirm(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Admin("PUT", "/settings", `{"rule_limit":1000,"publish_quota":3}`)
	var lines strings.Builder
	for i := range 120 {
		fmt.Fprintf(&lines, `{"owner":"shop","prefix":"https://many.example/r%03d/","path":"p","published":%v}`+"\n", i, i%2 == 0)
	}
	a := s.Do("POST", "/admin/v1/import/rules", lines.String(), "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/x-ndjson")
	require.True(t, a.Status == http.StatusOK, "%v %v", a.Status, a.Body)
	v := newVisitor(t, s)
	rows := regexp.MustCompile(`many\.example/r(\d+)/</code>`)
	listed := func(path string) (numbers []string, earlier, later string) {
		p := v.get(path)
		for _, match := range rows.FindAllStringSubmatch(p.Body, -1) {
			numbers = append(numbers, match[1])
		}
		link := func(rel string) string {
			match := regexp.MustCompile(`rel="` + rel + `" href="([^"]*)"`).FindStringSubmatch(p.Body)
			if match == nil {
				return ""
			}
			return strings.ReplaceAll(match[1], "&amp;", "&")
		}
		return numbers, link("prev"), link("next")
	}
	for path, want := range map[string]int{"/console/rules?text=many": 120, "/console/rules?text=MANY.example&order=oldest": 120,
		"/console/rules?state=draft": 60, "/console/rules?text=r01&state=published": 5} {
		var forward, backward []string
		first, _, next := listed(path)
		forward = append(forward, first...)
		prev := ""
		for next != "" {
			var part []string
			part, prev, next = listed(next)
			forward = append(forward, part...)
		}
		assert.True(t, len(forward) == want, "%s: %d rules, want %d: %q", path, len(forward), want, forward)
		for prev != "" {
			var part []string
			part, prev, _ = listed(prev)
			backward = append(part, backward...)
		}
		joined := append(backward, forward[len(backward):]...)
		assert.True(t, strings.Join(joined, " ") == strings.Join(forward, " "),
			"%s: forward %q, backward %q, want the same rules", path, forward, backward)
	}
	form := url.Values{"did": {"publish"}}
	for _, i := range []int{1, 3, 5, 7} {
		form.Add("selected", fmt.Sprintf("shop https://many.example/r%03d/", i))
	}
	confirm := v.post("/console/rules?lang=en", form)
	require.True(t, confirm.Status == http.StatusOK && strings.Contains(confirm.Body, "Publish the selected rules (4)?"),
		"status %d, want 200: %s", confirm.Status, confirm.Body)
	form.Set("sure", "1")
	done := v.post("/console/rules?lang=en", form)
	assert.True(t, done.Status == http.StatusConflict && strings.Contains(done.Body, "Done: 3 of 4.") &&
		strings.Contains(done.Body, "Failed: 1."), "status %d, want 409: %s", done.Status, done.Body)
	assert.Contains(t, v.post("/console/rules?lang=zh", form).Body, "本月已发布 3 次", "reason in Chinese")
	drafts, _, _ := listed("/console/rules?state=draft")
	assert.True(t, len(drafts) != 0, "the bulk action published every draft, want one to fail")
	assert.Equal(t, v.post("/console/rules", url.Values{"did": {"delete"}}).Status, http.StatusUnprocessableEntity,
		"bulk action without a selection")
}
