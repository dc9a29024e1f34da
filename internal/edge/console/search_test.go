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

// Issue 31, 3: the account that is chosen in the header stays in every address, form and redirect of every page, and filters them.
func TestPages_KeepSelectedAccount(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/accounts/tea", `{"kind":"mini_program","name":"Tea House","versions":["release"]}`)
	s.Admin("PUT", "/settings", `{"verification":"trust"}`)
	s.Admin("POST", "/accounts/tea/rules", `{"prefix":"https://tea.example/","path":"pages/tea"}`)
	v := request(t, s)
	to := func(p page) string { return p.Header.Get("Location") }
	for typed, want := range map[string]string{
		"tea":       "/console/statistics?account=tea&by=month",
		"Tea House": "/console/statistics?account=tea&by=month",
		"":          "/console/statistics?by=month",
		"nobody":    "/console/search?q=nobody",
		"e":         "/console/search?q=e", // several have it
	} {
		q := url.Values{"account": {typed}, "to": {"/console/statistics?account=shop&by=month&after=7"}}
		p := v.get("/console/switch?" + q.Encode())
		assert.True(t, p.Status == http.StatusSeeOther && to(p) == want, "%q leads to %q, want %q", typed, to(p), want)
	}
	p := v.get("/console/switch?account=tea&to=https://elsewhere.example/")
	assert.Equal(t, to(p), "/console/?account=tea", "somebody is sent to")
	if p := v.get("/console/rules?account=tea"); strings.Contains(p.Body, "shop.example") ||
		!strings.Contains(p.Body, "<bdi>Tea House</bdi> <code>tea</code>") {
		t.Error("the rules of one account are not alone, or it is not named")
	}
	publish := url.Values{"did": {"publish-sure"}, "owner": {"tea"}, "prefix": {"https://tea.example/"}}
	p = v.post("/console/rules/do?account=tea", publish)
	assert.Contains(t, to(p), "account=tea", "after a publish")
	p = v.get("/console/search?q=TEA")
	assert.True(t, to(p) == "/console/accounts/tea" || strings.Contains(p.Body, "https://tea.example/"), "%d %s", p.Status, p.Body)
}

// Issue 31, 3: a list goes on in both directions, and what was selected is asked about before it is done to each.
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
	v := request(t, s)
	rows := regexp.MustCompile(`many\.example/r(\d+)/</code>`)
	listed := func(path string) (numbers []string, earlier, later string) {
		p := v.get(path)
		for _, found := range rows.FindAllStringSubmatch(p.Body, -1) {
			numbers = append(numbers, found[1])
		}
		link := func(rel string) string {
			found := regexp.MustCompile(`rel="` + rel + `" href="([^"]*)"`).FindStringSubmatch(p.Body)
			if found == nil {
				return ""
			}
			return strings.ReplaceAll(found[1], "&amp;", "&")
		}
		return numbers, link("prev"), link("next")
	}
	for path, want := range map[string]int{"/console/rules?text=many": 120, "/console/rules?text=MANY.example&order=oldest": 120,
		"/console/rules?state=draft": 60, "/console/rules?text=r01&state=published": 5} {
		var forth, back []string
		first, _, next := listed(path)
		forth = append(forth, first...)
		prev := ""
		for next != "" {
			var some []string
			some, prev, next = listed(next)
			forth = append(forth, some...)
		}
		assert.True(t, len(forth) == want, "%s: %d rules, want %d: %q", path, len(forth), want, forth)
		for prev != "" {
			var some []string
			some, prev, _ = listed(prev)
			back = append(some, back...)
		}
		all := append(back, forth[len(back):]...)
		assert.True(t, strings.Join(all, " ") == strings.Join(forth, " "), "%s: forth %q and back %q", path, forth, back)
	}
	chosen := url.Values{"did": {"publish"}}
	for _, i := range []int{1, 3, 5, 7} {
		chosen.Add("selected", fmt.Sprintf("shop https://many.example/r%03d/", i))
	}
	asked := v.post("/console/rules?lang=en", chosen)
	require.True(t, asked.Status == http.StatusOK && strings.Contains(asked.Body, "Publish the selected rules (4)?"),
		"%d %s", asked.Status, asked.Body)
	chosen.Set("sure", "1")
	done := v.post("/console/rules?lang=en", chosen)
	assert.True(t, done.Status == http.StatusConflict && strings.Contains(done.Body, "Done: 3 of 4.") &&
		strings.Contains(done.Body, "Failed: 1."), "%d %s", done.Status, done.Body)
	assert.Contains(t, v.post("/console/rules?lang=zh", chosen).Body, "本月已发布 3 次", "a Chinese reader is told why")
	drafts, _, _ := listed("/console/rules?state=draft")
	assert.True(t, len(drafts) != 0, "nothing is left")
	assert.Equal(t, v.post("/console/rules", url.Values{"did": {"delete"}}).Status, http.StatusUnprocessableEntity, "nothing was selected")
}
