package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Issue 17: in production calls are listed as with an emulator, from the log of seven days: by page, by account, endpoint, number and
// request id; failed ones grouped over a window that is said. Nothing in it lets anybody in.
func TestCallsPage_Production(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "op", adminroute.Operator)
	person(s, "eve", adminroute.Viewer)
	person(s, "one", "operator", "press")
	person(s, "two", "operator", "press", "shop")
	v := request(t, s)
	v.signIn("op", password, "")
	v.get("/console/calls").wants(t, "No calls yet", "No older calls are stored")

	const text = `{"errcode":40097}` // in what was sent; it is no answer
	var rids []string
	for n := range 60 {
		a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"),
			fmt.Sprintf(`{"prefix":"https://none-%d.example/"}`, n))
		rids = append(rids, a.RID(t))
	}
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("press"), text)
	s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "")

	p := v.get("/console/calls")
	p.wants(t, "Calls of the last seven days", rids[59], "/cgi-bin/token", "Older calls")
	newer, older := strings.Index(p.Body, rids[59]), strings.Index(p.Body, rids[58])
	assert.True(t, newer <= older && !strings.Contains(p.Body, rids[0]), "the newest do not come first, or all come at once")
	next := regexp.MustCompile(`/console/calls\?before=\d+`).FindString(p.Body)
	q := v.get(next)
	q.wants(t, rids[0], "Newest calls", "No older calls are stored")
	for _, rid := range rids {
		assert.True(t, strings.Count(p.Body+q.Body, `href="/console/calls/`+rid+`"`) == 1, "%s is not on one of two pages", rid)
	}
	// The same page of one call, in both languages.
	v.get("/console/calls/"+rids[0]+"?lang=zh").wants(t, "https://none-0.example/", rids[0])
	for query, has := range map[string][]string{
		"account=press":            {"/cgi-bin/wxopen/qrcodejumpget"},
		"path=/cgi-bin/token":      {"/cgi-bin/token"},
		"failed=true&account=shop": {rids[59]},
		"rid=" + rids[7]:           {rids[7]},
		"errcode=40001":            {"没有结果"},
		"account=nobody":           {"没有结果", "没有更早的调用记录"},
	} {
		p := v.get("/console/calls?" + query)
		p.wants(t, has...)
		for _, rid := range rids[:7] {
			assert.True(t, !strings.Contains(p.Body, rid), "%s: has %s", query, rid)
		}
	}
	assert.Equal(t, v.get("/console/calls?errcode=many&lang=en").Status, http.StatusUnprocessableEntity, "no number")
	v.get("/console/calls?view=errors").wants(t, `<td class="num">60</td>`, "/cgi-bin/wxopen/qrcodejumppublish", "calls searched, from")
	for _, p := range []page{p, q, v.get("/console/calls?path=/cgi-bin/token"), v.get("/console/calls/" + rids[0])} {
		assert.True(t, !strings.Contains(p.Body, "the-secret-of") && !strings.Contains(p.Body, s.Token("shop")),
			"a secret is on a page of calls")
	}
	// Others see what is theirs.
	eve, one, two := request(t, s), request(t, s), request(t, s)
	eve.signIn("eve", password, "")
	p = eve.get("/console/calls")
	assert.True(t, !strings.Contains(p.Body, rids[59]) && strings.Contains(p.Body, "role operator"), "a viewer: %d", p.Status)
	one.signIn("one", password, "")
	if p := one.get("/console/calls"); strings.Contains(p.Body, rids[59]) || !strings.Contains(p.Body, "/cgi-bin/wxopen/qrcodejumpget") {
		t.Errorf("whoever sees press alone: %d", p.Status)
	}
	assert.Equal(t, one.get("/console/calls?account=shop").Status, http.StatusForbidden, "whoever sees press alone asks for shop")
	two.signIn("two", password, "")
	two.get("/console/calls").wants(t, "/console/calls?account=press", "/console/calls?account=shop")
	two.get("/console/calls?"+url.Values{"account": {"shop"}}.Encode()).wants(t, rids[59])
}
