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

// submit posts a form and returns the page that it redirects to.
func (v *visitor) submit(path string, form url.Values) page {
	v.t.Helper()
	p := v.post(path, form)
	p.wantStatus(v.t, http.StatusSeeOther, "%s %s", path, form.Get("did"))
	return v.get(p.Header.Get("Location"))
}

// wantStatus ends the test if the page has another status; the format names the request.
func (p page) wantStatus(t *testing.T, want int, format string, args ...any) {
	t.Helper()
	require.True(t, p.Status == want, "%s: status %d, want %d: %s", fmt.Sprintf(format, args...), p.Status, want, p.Body)
}

// wantText fails the test for each text that the page lacks.
func (p page) wantText(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		assert.Contains(t, p.Body, text, "the page lacks %q", text)
	}
}

// wantNoText fails the test if the page has a text.
func (p page) wantNoText(t *testing.T, text string) {
	t.Helper()
	assert.True(t, !strings.Contains(p.Body, text), "the page has %q, want it without: %s", text, p.Body)
}

// TestAccountForms_CreateAndEdit creates, edits and links an account with forms alone. The audit log must name the person for each change,
// and a viewer must have no form.
func TestAccountForms_CreateAndEdit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newUser(t, s, "olga", adminroute.Operator)
	v.get("/console/accounts?make=service_account").wantText(t, `value="service_account" selected`)
	form := url.Values{"appid": {"svc"}, "kind": {"service_account"}, "name": {"Tea & <i>more</i>"}, "subject": {"company"},
		"certified": {"yes"}, "secret": {"short"}, "ip_allowlist": {"192.0.2.0/24，198.51.100.7/32"}}
	p := v.post("/console/accounts", form)
	assert.True(t, p.Status == http.StatusUnprocessableEntity && !strings.Contains(p.Body, `value="short"`),
		"too short a secret: status %d, want 422", p.Status)
	p.wantText(t, "Tea &amp; &lt;i&gt;more&lt;/i&gt;", `value="svc"`, "192.0.2.0/24，198.51.100.7/32", `role="alert"`,
		`aria-describedby="secret-hint secret-wrong"`)
	form.Set("secret", "0123456789abcdef0123456789abcdef")
	s.RegisterSecret(form.Get("secret"))
	v.submit("/console/accounts", form).wantText(t, "Tea &amp; &lt;i&gt;more", "198.51.100.7/32")
	assert.Equal(t, v.post("/console/accounts", form).Status, http.StatusConflict, "creation of an existing account")
	form.Set("features", "marketcode")
	form.Set("kind", "mini_program") // the kind cannot change
	v.submit("/console/accounts/svc/edit", form)
	v.submit("/console/accounts/svc", url.Values{"did": {"link"}, "mini_program": {"shop"}}).wantText(t, "/console/accounts/shop")
	v.submit("/console/accounts/shop", url.Values{"did": {"versions"}, "versions": {"release", "trial"}}).
		wantText(t, `value="trial" checked`, `value="release" checked`)
	v.submit("/console/accounts/shop", url.Values{"did": {"member"}, "user": {"bob/1"}, "role": {"trial"}}).wantText(t, "bob/1")
	for _, c := range []struct{ path, did, field, name string }{{"svc", "unlink", "mini_program", "shop"}, {"svc", "tokens", "", "svc"},
		{"shop", "member-off", "user", "bob/1"}, {"shop", "jump-off", "", "shop"}} {
		fields := url.Values{"did": {c.did}, c.field: {c.name}}
		for _, value := range []string{"", "yes"} {
			fields.Set("sure", value)
			if p := v.post("/console/accounts/"+c.path, fields); p.Status == http.StatusSeeOther || !strings.Contains(p.Body, `id="sure"`) {
				t.Errorf("%s without a confirmation: %d", c.did, p.Status)
			}
		}
		fields.Set("sure", c.name)
		v.submit("/console/accounts/"+c.path, fields)
	}
	var a struct {
		Kind     string
		Features []string
		Linked   []string
		JumpOpen bool `json:"jump_open"`
	}
	s.Admin("GET", "/accounts/svc", "").JSON(t, &a)
	assert.True(t, a.Kind == "service_account" && len(a.Features) == 1 && len(a.Linked) == 0,
		"account = %+v, want a service account with one feature and no link", a)
	s.Admin("GET", "/accounts/shop", "").JSON(t, &a)
	assert.True(t, !a.JumpOpen, "jump_open = true after jump-off, want false")
	v.submit("/console/accounts/shop", url.Values{"did": {"jump-on"}})
	var log struct {
		Changes []struct{ Kind, Key, Actor string }
	}
	s.Admin("GET", "/changes?newest=true&limit=3&kind=account", "").JSON(t, &log)
	for _, change := range log.Changes {
		assert.True(t, change.Actor == "person:olga", "audit entry %+v, want the actor person:olga", change)
	}
	assert.True(t, len(log.Changes) == 3, "audit log = %+v, want 3 entries", log)
	// A viewer gets no form and may not send one.
	createPerson(s, "vera", adminroute.Viewer)
	v = newVisitor(t, s)
	v.signIn("vera", password, "")
	v.get("/console/accounts/shop").wantNoText(t, `name="did"`)
	form.Set("appid", "other")
	for path, fields := range map[string]url.Values{"/console/accounts": form, "/console/accounts/svc/edit": form,
		"/console/accounts/shop": {"did": {"jump-off"}, "sure": {"shop"}}} {
		assert.Equal(t, v.post(path, fields).Status, http.StatusForbidden, "POST %s as a viewer", path)
	}
}

// TestPlatformForms_CreateAndAuthorise creates and edits a platform and gives it an authorization with forms. The page of the account must
// show the authorization and withdraw it.
func TestPlatformForms_CreateAndAuthorise(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	form := url.Values{"appid": {"plat2"}, "secret": {"the-secret-of-plat2"}, "did": {"put"},
		"redirect_hosts": {"one.example, two.example"},
		"message_token":  {"tok"}, "encoding_aes_key": {"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}}
	s.RegisterSecret("the-secret-of-plat2")
	v.submit("/console/platforms", form).wantText(t, "one.example, two.example")
	assert.Equal(t, v.post("/console/platforms", form).Status, http.StatusConflict, "creation of an existing platform")
	form.Set("event_url", "no address")
	p := v.post("/console/platforms/plat2", form)
	assert.Equal(t, p.Status, http.StatusUnprocessableEntity, "invalid event_url")
	p.wantText(t, `value="no address"`)
	form.Set("event_url", "")
	v.submit("/console/platforms/plat2", form)
	assert.Equal(t, v.post("/console/platforms/none", form).Status, http.StatusNotFound, "change of an unknown platform")
	ticket := v.post("/console/platforms/plat2", url.Values{"did": {"ticket"}})
	text := regexp.MustCompile(`<code class="copy">([^<]+)</code>`).FindStringSubmatch(ticket.Body)
	require.True(t, text != nil, "page of a new ticket: status %d without a text", ticket.Status)
	s.RegisterSecret(text[1])
	var token struct {
		Token string `json:"component_access_token"`
	}
	s.Do("POST", "/cgi-bin/component/api_component_token", `{"component_appid":"plat2","component_appsecret":"the-secret-of-plat2",`+
		`"component_verify_ticket":"`+text[1]+`"}`).JSON(t, &token)
	s.RegisterSecret(token.Token)
	preAuthCode := s.Do("POST", "/cgi-bin/component/api_create_preauthcode?component_access_token="+token.Token,
		`{"component_appid":"plat2"}`).Text(t, "pre_auth_code")
	s.RegisterSecret(preAuthCode)
	consent := url.Values{"did": {"authorize"}, "appid": {"shop"}, "pre_auth_code": {preAuthCode}}
	for _, invalid := range []string{"three", "null", ","} {
		consent.Set("permission_sets", invalid)
		assert.Equal(t, v.post("/console/platforms/plat2", consent).Status, http.StatusUnprocessableEntity, "permission sets %s", invalid)
	}
	consent["permission_sets"] = []string{"18", "33"}
	p = v.post("/console/platforms/plat2", consent)
	require.Equal(t, p.Status, http.StatusOK, "authorise")
	p.wantText(t, "18 Mini Program development")
	v.get("/console/accounts/shop").wantText(t, "/console/platforms/plat2", "33 linking")
	v.submit("/console/accounts/shop", url.Values{"did": {"withdraw"}, "component": {"plat2"}, "sure": {"plat2"}})
	v.get("/console/platforms/plat2").wantNoText(t, "/console/accounts/shop")
}

// TestAccountPage_MissingSetup verifies that the page of an account lists the missing setup steps with links to the forms that complete
// them.
func TestAccountPage_MissingSetup(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	s.Admin("PUT", "/accounts/svc", `{"kind":"service_account","certified":true}`)
	v := newUser(t, s, "vera", adminroute.Viewer)
	p := v.get("/console/accounts/svc")
	p.wantText(t, "/console/accounts/svc/edit#secret", "/console/accounts/svc/edit#features", "/console/accounts/svc/edit#marketcode_key",
		"/console/accounts/svc#links", "--code-prefix")
	p.wantNoText(t, "/edit#certified")
	v.get("/console/accounts/svc?lang=zh").wantText(t, "申请码", "已认证", "去处理")
}

var accountLink = regexp.MustCompile(`<td><a href="/console/accounts/([^"?]+)`)

// TestAccounts_SortAndCompare verifies that accounts are sorted by a figure across all pages, and that two of them can be compared in one
// chart with its table.
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
	key := newScanKey(s)
	for text, n := range map[string]int{"https://tea.example/t/1": 4, "https://old.example/t/1": 2, "https://old.example/gone/1": 7} {
		for range n {
			s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, text), "Authorization: Bearer "+key)
		}
	}
	s.Admin("GET", "/statistics?wait=true", "")
	createPerson(s, "mia", "marketer", "wx57", "wx58", "wx59")
	createPerson(s, "olga", adminroute.Operator)
	v, mia := newVisitor(t, s), newVisitor(t, s)
	v.signIn("olga", password, "")
	mia.signIn("mia", password, "")
	for query, want := range map[string]string{"": "wx00", "order=scans": "wx59", "order=unmatched": "wx58", "order=published": "wx58",
		"order=name&reverse=yes": "wx09", "order=scans&reverse=yes&offset=50": "wx07", "order=scans&offset=50": "wx48"} {
		link := accountLink.FindStringSubmatch(v.get("/console/accounts?" + query).Body)
		assert.True(t, link != nil && link[1] == want, "the first account of %q is %q, want %s", query, link, want)
	}
	p := v.get("/console/accounts?order=unmatched&text=tea")
	p.wantText(t, `aria-sort="descending"><a class="sorts" href="/console/accounts?order=unmatched&amp;reverse=yes&amp;text=tea"`,
		`<a class="sorts" href="/console/accounts?order=published&amp;text=tea"`, `owner=wx58#misses">7</a>`)
	v.get("/console/accounts?order=unmatched&reverse=yes").wantText(t, `aria-sort="ascending"`)
	p = mia.get("/console/accounts?order=scans")
	assert.True(t, len(accountLink.FindAllString(p.Body, -1)) == 3, "accounts of mia = %s, want 3", p.Body)
	p = v.get("/console/statistics?selected=wx58")
	assert.True(t, p.Status == http.StatusUnprocessableEntity, "comparing one account: status %d, want 422", p.Status)
	p = mia.get("/console/statistics?selected=wx58&selected=wx59")
	require.True(t, p.Status == http.StatusSeeOther, "comparing two accounts: status %d, want 303", p.Status)
	compared := p.Header.Get("Location")
	for path, texts := range map[string][]string{compared + "&lang=en": {"Compared with", `<bdi>Tea 59 wx59</bdi>`,
		`name="compare" value="wx59"`},
		compared + "&lang=zh": {"对比"}} {
		p := mia.get(path)
		p.wantText(t, append(texts, `<th scope="col" class="num">Tea 58 wx58</th><th scope="col" class="num">Tea 59 wx59</th>`,
			`<td class="num">2</td><td class="num">4</td></tr>`, `<dt>`, `class="before"`)...)
	}
	p = mia.get("/console/statistics?owner=wx58&compare=wx00")
	assert.True(t, p.Status == http.StatusForbidden, "comparing with an account that mia may not see: status %d, want 403", p.Status)
	p = mia.post(compared, url.Values{"did": {"share"}, "lasts": {"7"}})
	link := sharedLink.FindStringSubmatch(p.Body)
	require.True(t, link != nil, "%d without a link: %s", p.Status, p.Body)
	newVisitor(t, s).get(link[1]).wantText(t, `<td class="num">2</td><td class="num">4</td></tr>`, "Tea 59 wx59")
}
