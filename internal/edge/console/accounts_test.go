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
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// did posts a form and follows it to the page that it leads to.
func (v *visitor) did(path string, form url.Values) page {
	v.t.Helper()
	p := v.post(path, form)
	require.True(v.t, p.Status == http.StatusSeeOther, "%s %v: %d %s", path, form.Get("did"), p.Status, p.Body)
	return v.get(p.Header.Get("Location"))
}

// wants fails where a page lacks a text.
func (p page) wants(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		assert.Contains(t, p.Body, text, "the page lacks %q", text)
	}
}

// An account is made, filled in and linked by forms alone; each change is in the audit log under the one who made it.
func TestAccountForms_CreateAndEdit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "olga", adminroute.Operator)
	v := request(t, s)
	v.signIn("olga", password, "")
	v.get("/console/accounts?make=service_account").wants(t, `value="service_account" selected`)
	made := url.Values{"appid": {"svc"}, "kind": {"service_account"}, "name": {"Tea & <i>more</i>"}, "subject": {"company"},
		"certified": {"yes"}, "secret": {"short"}, "ip_allowlist": {"192.0.2.0/24，198.51.100.7/32"}}
	p := v.post("/console/accounts", made)
	assert.True(t, p.Status == http.StatusUnprocessableEntity && !strings.Contains(p.Body, `value="short"`),
		"a secret that is too short: %d", p.Status)
	p.wants(t, "Tea &amp; &lt;i&gt;more&lt;/i&gt;", `value="svc"`, "192.0.2.0/24，198.51.100.7/32", `role="alert"`,
		`aria-describedby="secret-hint secret-wrong"`)
	made.Set("secret", "0123456789abcdef0123456789abcdef")
	s.Hide(made.Get("secret"))
	v.did("/console/accounts", made).wants(t, "Tea &amp; &lt;i&gt;more", "198.51.100.7/32")
	assert.Equal(t, v.post("/console/accounts", made).Status, http.StatusConflict, "an account that is there")
	made.Set("features", "marketcode")
	made.Set("kind", "mini_program") // stays what it is
	v.did("/console/accounts/svc/edit", made)
	v.did("/console/accounts/svc", url.Values{"did": {"link"}, "mini_program": {"shop"}}).wants(t, "/console/accounts/shop")
	v.did("/console/accounts/shop", url.Values{"did": {"versions"}, "versions": {"release", "trial"}}).
		wants(t, `value="trial" checked`, `value="release" checked`)
	v.did("/console/accounts/shop", url.Values{"did": {"member"}, "user": {"bob/1"}, "role": {"trial"}}).wants(t, "bob/1")
	for _, c := range []struct{ path, did, field, name string }{{"svc", "unlink", "mini_program", "shop"}, {"svc", "tokens", "", "svc"},
		{"shop", "member-off", "user", "bob/1"}, {"shop", "jump-off", "", "shop"}} {
		form := url.Values{"did": {c.did}, c.field: {c.name}}
		for _, wrong := range []string{"", "yes"} {
			form.Set("sure", wrong)
			if p := v.post("/console/accounts/"+c.path, form); p.Status == http.StatusSeeOther || !strings.Contains(p.Body, `id="sure"`) {
				t.Errorf("%s without its name: %d", c.did, p.Status)
			}
		}
		form.Set("sure", c.name)
		v.did("/console/accounts/"+c.path, form)
	}
	var a struct {
		Kind     string
		Features []string
		Linked   []string
		JumpOpen bool `json:"jump_open"`
	}
	s.Admin("GET", "/accounts/svc", "").JSON(t, &a)
	assert.True(t, a.Kind == "service_account" && len(a.Features) == 1 && len(a.Linked) == 0, "%+v", a)
	s.Admin("GET", "/accounts/shop", "").JSON(t, &a)
	assert.True(t, !a.JumpOpen, "its rules are on")
	v.did("/console/accounts/shop", url.Values{"did": {"jump-on"}})
	var log struct {
		Changes []struct{ Kind, Key, Actor string }
	}
	s.Admin("GET", "/changes?newest=true&limit=3&kind=account", "").JSON(t, &log)
	for _, one := range log.Changes {
		assert.True(t, one.Actor == "person:olga", "the audit log: %+v", one)
	}
	assert.True(t, len(log.Changes) == 3, "the audit log: %+v", log)
	// A viewer sees no form, and may not send one.
	person(s, "vera", adminroute.Viewer)
	v = request(t, s)
	v.signIn("vera", password, "")
	assert.True(t, !strings.Contains(v.get("/console/accounts/shop").Body, `name="did"`), "a viewer sees forms")
	made.Set("appid", "other")
	for path, form := range map[string]url.Values{"/console/accounts": made, "/console/accounts/svc/edit": made,
		"/console/accounts/shop": {"did": {"jump-off"}, "sure": {"shop"}}} {
		assert.Equal(t, v.post(path, form).Status, http.StatusForbidden, "%s by a viewer", path)
	}
}

// A platform is made, changed and given an authorisation by forms; the account's page shows it, and takes it back.
func TestPlatformForms_CreateAndAuthorise(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	form := url.Values{"appid": {"plat2"}, "secret": {"the-secret-of-plat2"}, "did": {"put"},
		"redirect_hosts": {"one.example, two.example"},
		"message_token":  {"tok"}, "encoding_aes_key": {"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}}
	s.Hide("the-secret-of-plat2")
	v.did("/console/platforms", form).wants(t, "one.example, two.example")
	assert.Equal(t, v.post("/console/platforms", form).Status, http.StatusConflict, "a platform that is there")
	form.Set("event_url", "no address")
	p := v.post("/console/platforms/plat2", form)
	assert.Equal(t, p.Status, http.StatusUnprocessableEntity, "an address that is none")
	p.wants(t, `value="no address"`)
	form.Set("event_url", "")
	v.did("/console/platforms/plat2", form)
	assert.Equal(t, v.post("/console/platforms/none", form).Status, http.StatusNotFound, "no such platform")
	ticket := v.post("/console/platforms/plat2", url.Values{"did": {"ticket"}})
	text := regexp.MustCompile(`<code class="copy">([^<]+)</code>`).FindStringSubmatch(ticket.Body)
	require.True(t, text != nil, "a ticket: %d", ticket.Status)
	s.Hide(text[1])
	var token struct {
		Token string `json:"component_access_token"`
	}
	s.Do("POST", "/cgi-bin/component/api_component_token", `{"component_appid":"plat2","component_appsecret":"the-secret-of-plat2",`+
		`"component_verify_ticket":"`+text[1]+`"}`).JSON(t, &token)
	s.Hide(token.Token)
	asked := s.Do("POST", "/cgi-bin/component/api_create_preauthcode?component_access_token="+token.Token,
		`{"component_appid":"plat2"}`).Text(t, "pre_auth_code")
	s.Hide(asked)
	p = v.post("/console/platforms/plat2", url.Values{"did": {"authorize"}, "appid": {"shop"}, "pre_auth_code": {asked},
		"permission_sets": {"18", "33"}})
	require.Equal(t, p.Status, http.StatusOK, "authorise")
	p.wants(t, "18 Mini Program development")
	v.get("/console/accounts/shop").wants(t, "/console/platforms/plat2", "33 linking")
	v.did("/console/accounts/shop", url.Values{"did": {"withdraw"}, "component": {"plat2"}, "sure": {"plat2"}})
	assert.True(t, !strings.Contains(v.get("/console/platforms/plat2").Body, "/console/accounts/shop"), "the authorisation stands")
}

// The page of an account says what it may do, what is missing, and leads to where that is mended.
func TestAccountPage_MissingSetup(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	s.Admin("PUT", "/accounts/svc", `{"kind":"service_account","certified":true}`)
	person(s, "vera", adminroute.Viewer)
	v := request(t, s)
	v.signIn("vera", password, "")
	p := v.get("/console/accounts/svc")
	p.wants(t, "/console/accounts/svc/edit#secret", "/console/accounts/svc/edit#features", "/console/accounts/svc/edit#marketcode_key",
		"/console/accounts/svc#links", "--code-prefix")
	assert.True(t, !strings.Contains(p.Body, "/edit#certified"), "what is met is to be mended")
	v.get("/console/accounts/svc?lang=zh").wants(t, "申请码", "已认证", "去处理")
}

var accountOf = regexp.MustCompile(`<td><a href="/console/accounts/([^"?]+)`)

// Accounts are sorted by a number across all pages, not on the visible page, and two of them are compared in one chart with its table.
func TestAccounts_SortAndCompare(t *testing.T) {
	t.Parallel()
	var seed strings.Builder
	seed.WriteString("accounts:\n")
	for i := range 60 {
		fmt.Fprintf(&seed, "  - {appid: wx%02d, kind: mini_program, name: Tea %[1]d, secret: the-secret-of-wx%[1]d, certified: true, "+
			"versions: [release]}\n", i)
	}
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: seed.String() + "settings: {verification: trust}\n"})
	for account, host := range map[string]string{"wx57": "never", "wx58": "old", "wx59": "tea"} {
		s.Admin("POST", "/accounts/"+account+"/rules", fmt.Sprintf(`{"prefix":"https://%s.example/t/","path":"p"}`, host))
	}
	for account, host := range map[string]string{"wx58": "old", "wx59": "tea"} {
		s.Admin("POST", "/accounts/"+account+"/rules/publish", fmt.Sprintf(`{"prefix":"https://%s.example/t/"}`, host))
	}
	key := scanKey(t, s)
	for text, n := range map[string]int{"https://tea.example/t/1": 4, "https://old.example/t/1": 2, "https://old.example/gone/1": 7} {
		for range n {
			s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, text), "Authorization: Bearer "+key)
		}
	}
	s.Admin("GET", "/statistics?wait=true", "")
	person(s, "mia", "marketer", "wx57", "wx58", "wx59")
	person(s, "olga", adminroute.Operator)
	v, mia := request(t, s), request(t, s)
	v.signIn("olga", password, "")
	mia.signIn("mia", password, "")
	for query, want := range map[string]string{"": "wx00", "order=scans": "wx59", "order=unmatched": "wx58", "order=published": "wx58",
		"order=name&reverse=yes": "wx09", "order=scans&reverse=yes&offset=50": "wx07", "order=scans&offset=50": "wx48"} {
		found := accountOf.FindStringSubmatch(v.get("/console/accounts?" + query).Body)
		assert.True(t, found != nil && found[1] == want, "the first account of %q is %q, want %s", query, found, want)
	}
	p := v.get("/console/accounts?order=unmatched&text=tea")
	p.wants(t, `aria-sort="descending"><a class="sorts" href="/console/accounts?order=unmatched&amp;reverse=yes&amp;text=tea"`,
		`<a class="sorts" href="/console/accounts?order=published&amp;text=tea"`, `owner=wx58#misses">7</a>`)
	v.get("/console/accounts?order=unmatched&reverse=yes").wants(t, `aria-sort="ascending"`)
	p = mia.get("/console/accounts?order=scans")
	assert.True(t, len(accountOf.FindAllString(p.Body, -1)) == 3, "an account that mia may not see: %s", p.Body)
	p = v.get("/console/statistics?selected=wx58")
	assert.True(t, p.Status == http.StatusUnprocessableEntity, "comparing one account: status %d, want 422", p.Status)
	p = mia.get("/console/statistics?selected=wx58&selected=wx59")
	require.True(t, p.Status == http.StatusSeeOther, "comparing two accounts: status %d, want 303", p.Status)
	compared := p.Header.Get("Location")
	for path, texts := range map[string][]string{compared + "&lang=en": {"Compared with", `<bdi>Tea 59 wx59</bdi>`,
		`name="compare" value="wx59"`},
		compared + "&lang=zh": {"对比"}} {
		p := mia.get(path)
		p.wants(t, append(texts, `<th scope="col" class="num">Tea 58 wx58</th><th scope="col" class="num">Tea 59 wx59</th>`,
			`<td class="num">2</td><td class="num">4</td></tr>`, `<dt>`, `class="before"`)...)
	}
	p = mia.get("/console/statistics?owner=wx58&compare=wx00")
	assert.True(t, p.Status == http.StatusForbidden, "comparing with an account that mia may not see: status %d, want 403", p.Status)
	p = mia.post(compared, url.Values{"did": {"share"}, "lasts": {"7"}})
	found := linkOf.FindStringSubmatch(p.Body)
	require.True(t, found != nil, "%d without a link: %s", p.Status, p.Body)
	request(t, s).get(found[1]).wants(t, `<td class="num">2</td><td class="num">4</td></tr>`, "Tea 59 wx59")
}
