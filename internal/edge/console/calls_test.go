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

// TestCallsPage_Production verifies that a production server lists the calls of seven days from its log: by page, account, endpoint, error
// number and request id, with errors grouped over a stated window. No page may contain a credential or a call of another account.
func TestCallsPage_Production(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "op", adminroute.Operator)
	createPerson(s, "eve", adminroute.Viewer)
	createPerson(s, "one", "operator", "press")
	createPerson(s, "two", "operator", "press", "shop")
	v := newVisitor(t, s)
	v.signIn("op", password, "")
	v.get("/console/calls").wantText(t, "No calls yet", "No older calls are stored")

	const text = `{"errcode":40097}` // an error number in the request, not in the response
	var rids []string
	for n := range 60 {
		a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+s.Token("shop"),
			fmt.Sprintf(`{"prefix":"https://none-%d.example/"}`, n))
		rids = append(rids, a.RID(t))
	}
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("press"), text)
	s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "")

	p := v.get("/console/calls")
	p.wantText(t, "Calls of the last seven days", rids[59], "/cgi-bin/token", "Older calls")
	newer, older := strings.Index(p.Body, rids[59]), strings.Index(p.Body, rids[58])
	assert.True(t, newer <= older && !strings.Contains(p.Body, rids[0]),
		"first page: rids at %d and %d, want the newest first and a second page", newer, older)
	next := regexp.MustCompile(`/console/calls\?before=\d+`).FindString(p.Body)
	q := v.get(next)
	q.wantText(t, rids[0], "Newest calls", "No older calls are stored")
	for _, rid := range rids {
		assert.True(t, strings.Count(p.Body+q.Body, `href="/console/calls/`+rid+`"`) == 1, "%s is not on exactly one of the two pages", rid)
	}
	v.get("/console/calls/"+rids[0]+"?lang=zh").wantText(t, "https://none-0.example/", rids[0])
	for query, texts := range map[string][]string{
		"account=press":            {"/cgi-bin/wxopen/qrcodejumpget"},
		"path=/cgi-bin/token":      {"/cgi-bin/token"},
		"failed=true&account=shop": {rids[59]},
		"rid=" + rids[7]:           {rids[7]},
		"errcode=40001":            {"没有结果"},
		"account=nobody":           {"没有结果", "没有更早的调用记录"},
	} {
		p := v.get("/console/calls?" + query)
		p.wantText(t, texts...)
		for _, rid := range rids[:7] {
			p.wantNoText(t, rid)
		}
	}
	assert.Equal(t, v.get("/console/calls?errcode=many&lang=en").Status, http.StatusUnprocessableEntity, "filter by an invalid number")
	v.get("/console/calls?view=errors").wantText(t, `<td class="num">60</td>`, "/cgi-bin/wxopen/qrcodejumppublish", "calls searched, from")
	for _, p := range []page{p, q, v.get("/console/calls?path=/cgi-bin/token"), v.get("/console/calls/" + rids[0])} {
		assert.True(t, !strings.Contains(p.Body, "the-secret-of") && !strings.Contains(p.Body, s.Token("shop")),
			"a page of calls shows a credential")
	}
	// Other roles see the calls of their accounts.
	eve, limited, both := newVisitor(t, s), newVisitor(t, s), newVisitor(t, s)
	eve.signIn("eve", password, "")
	p = eve.get("/console/calls")
	assert.True(t, !strings.Contains(p.Body, rids[59]) && strings.Contains(p.Body, "role operator"),
		"calls as a viewer: status %d, want the required role", p.Status)
	limited.signIn("one", password, "")
	p = limited.get("/console/calls")
	if strings.Contains(p.Body, rids[59]) || !strings.Contains(p.Body, "/cgi-bin/wxopen/qrcodejumpget") {
		t.Errorf("calls limited to press: %d", p.Status)
	}
	assert.Equal(t, limited.get("/console/calls?account=shop").Status, http.StatusForbidden, "calls of shop, limited to press")
	both.signIn("two", password, "")
	both.get("/console/calls").wantText(t, "/console/calls?account=press", "/console/calls?account=shop")
	both.get("/console/calls?"+url.Values{"account": {"shop"}}.Encode()).wantText(t, rids[59])
}
