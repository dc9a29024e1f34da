package console_test

import (
	_ "embed"
	"fmt"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// host is a stranger's web server, on which a verification file may be put.
type host struct {
	*httptest.Server
	file atomic.Pointer[string]
}

func newHost(t testing.TB) *host {
	h := &host{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		content := h.file.Load()
		if content == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, *content)
	}))
	t.Cleanup(h.Close)
	return h
}

//go:embed testdata/seeds/fetching.yaml
var fetching string

// A rule from its form to its undo, by somebody whose role is rules, without script: what is wrong comes back with what was
// typed, and every change is theirs in the audit log.
func TestRuleForm_CreateToUndo(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: fetching})
	web := newHost(t)
	person(s, "rita", adminroute.RulesEditor)
	v := request(t, s)
	v.signIn("rita", password, "")
	prefix := web.URL + "/t/"
	form := url.Values{"owner": {"shop"}, "prefix": {prefix}, "path": {"pages/<script>/x"}, "open_version": {"2"}, "links": {prefix + "7"}}
	shows := func(p page, status int, texts ...string) {
		t.Helper()
		require.True(t, p.Status == status, "%d, want %d: %s", p.Status, status, p.Body)
		for _, text := range texts {
			assert.Contains(t, p.Body, text, "want %q in", text)
		}
		assert.True(t, !strings.Contains(p.Body, "<script>/x"), "a page of a rule is HTML in ours")
	}
	tried := v.get("/console/rules/new?" + form.Encode())
	shows(tried, 200, "This rule can be added.", web.URL+"/t/", "Opens the Mini Program.", "pages/&lt;script&gt;/x")
	part := v.get("/console/rules/new?part=tried&" + form.Encode())
	shows(part, 200, "This rule can be added.")
	assert.True(t, !strings.Contains(part.Body, "<html"), "a part is a whole page: %s", part.Body)
	refused := v.post("/console/rules/new", form)
	shows(refused, 422, "The file was not found.", "404, want 200", "Put the file into the directory", `value="pages/&lt;script&gt;/x"`)
	file := v.get("/console/rules/file?owner=shop")
	assert.True(t, strings.Contains(file.Header.Get("Content-Disposition"), ".txt"), "the file: %v", file.Header)
	web.file.Store(&file.Body)
	p := v.post("/console/rules/new", form)
	require.True(t, p.Status == http.StatusSeeOther, "with the file in place: %d %s", p.Status, p.Body)
	rule := "/console/rules?owner=shop&prefix=" + url.QueryEscape(prefix)
	do := func(did string) page {
		t.Helper()
		return v.post("/console/rules/do", url.Values{"owner": {"shop"}, "prefix": {prefix}, "did": {did}})
	}
	shows(v.get(rule), 200, "not published", "left this month: 100", prefix+"7")
	shows(do("check"), 200, "The file was found.")
	shows(do("publish"), 200, "Publish the rule ", "0 would have opened something else")
	p = do("publish-sure")
	require.True(t, p.Status == http.StatusSeeOther, "publish: %d %s", p.Status, p.Body)
	shows(v.get(rule), 200, `<span class="tag good">published`, "left this month: 99")
	form.Set("path", "pages/other")
	shows(v.get("/console/rules/edit?owner=shop&prefix="+url.QueryEscape(prefix)), 200, `value="pages/&lt;script&gt;/x"`, "readonly")
	shows(v.post("/console/rules/edit", form), 422, "pages/other") // that of a published rule is fixed
	shows(do("delete"), 200, "Delete the rule ")
	shows(v.get(rule), 200, `<span class="tag good">published`)
	p = do("delete-sure")
	require.True(t, p.Status == http.StatusSeeOther, "delete: %d %s", p.Status, p.Body)
	shows(v.get(rule), 200, "No rule has the prefix")
	var log struct {
		Changes []struct {
			Seq           int64
			Actor, Action string
		}
	}
	s.Admin("GET", "/changes?newest=true&kind=rule&limit=3", "").JSON(t, &log)
	assert.Equal(t, fmt.Sprint(log.Changes[0].Action, log.Changes[1].Action, log.Changes[2].Action), "deletepublishadd", "the audit log")
	for _, one := range log.Changes {
		assert.Equal(t, one.Actor, "person:rita", "%s was by", one.Action)
	}
	v.post("/console/rules/undo", url.Values{"seq": {fmt.Sprint(log.Changes[0].Seq)}, "prefix": {prefix}, "sure": {"1"}})
	shows(v.get(rule), 200, `<span class="tag good">published`)
	shows(v.post("/console/rules/new", form), 422, "is a rule of shop already")
	form.Set("prefix", "https://other.example/7")
	shows(v.post("/console/rules/new", form), 422, "other.example")
}

// Somebody who sees one account only sets its rules, and sees nothing of the others'.
func TestRulesPage_LimitedToAccount(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop + "\n"})
	s.Admin("PUT", "/accounts/other", `{"kind":"mini_program","certified":true,"versions":["release"],"secret":"the-secret-of-other"}`)
	s.Admin("POST", "/accounts/other/rules", `{"prefix":"https://other.example/","path":"p"}`)
	person(s, "olga", "rules-editor", "shop")
	v := request(t, s)
	v.signIn("olga", password, "")
	mine := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/own/"}, "path": {"p"}}
	p := v.post("/console/rules/new", mine)
	assert.True(t, p.Status == http.StatusSeeOther, "their own: %d %s", p.Status, p.Body)
	p = v.get("/console/rules?prefix=https://shop.example/own/")
	assert.True(t, p.Status == 200 && strings.Contains(p.Body, "not published") && strings.Contains(p.Body, "<td>added</td>") &&
		!strings.Contains(p.Body, ">Undo<"), "their own, shown: %d %s", p.Status, p.Body)
	p = v.get("/console/rules?prefix=https://other.example/")
	assert.True(t, !strings.Contains(p.Body, "other</a>") && !strings.Contains(p.Body, "<td>added</td>") &&
		!strings.Contains(p.Body, "</a> other"), "another's, shown: %s", p.Body)
	theirs := url.Values{"owner": {"other"}, "prefix": {"https://other.example/"}, "path": {"p"}}
	for _, path := range []string{"/console/rules/new", "/console/rules/edit"} {
		assert.Equal(t, v.post(path, theirs).Status, http.StatusForbidden, "%s for another", path)
	}
	for _, did := range []string{"publish", "publish-sure", "check", "delete", "delete-sure"} {
		theirs.Set("did", did)
		assert.Equal(t, v.post("/console/rules/do", theirs).Status, http.StatusForbidden, "%s for another", did)
	}
}

// What is exported plans to nothing; what a file would change is shown before it is done, and only what was shown is done.
func TestRuleImportForm_AppliesShownPlan(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "rita", adminroute.RulesEditor)
	v := request(t, s)
	v.signIn("rita", password, "")
	file := v.get("/console/rules/export?owner=shop")
	require.Contains(t, file.Body, "prefix: https://shop.example/\n", "%d", file.Status)
	send := func(text, sure string) page {
		t.Helper()
		return v.post("/console/rules/import", url.Values{"owner": {"shop"}, "text": {text}, "sure": {sure}, "prune": {"1"}})
	}
	p := send(file.Body, "")
	assert.True(t, p.Status == 200 && strings.Contains(p.Body, "the rules match the file"), "what was exported: %d %s", p.Status, p.Body)
	for text, want := range map[string]string{"rules: [{pathh: x}]": "did you mean path?", "a: *b": "aliases", "": "choose a file",
		"rules:\n- {prefix: nonsense, path: p}": "file:2"} {
		p := send(text, "")
		assert.True(t, p.Status == 422 && strings.Contains(p.Body, want), "%q: %d, want %q in %s", text, p.Status, want, p.Body)
	}
	other := "rules:\n- {prefix: 'https://shop.example/t/', path: '<script>/p', published: true}\n"
	shown := send(other, "")
	sum := regexp.MustCompile(`name="sure" value="([0-9a-f]{64})"`).FindStringSubmatch(shown.Body)
	require.True(t, sum != nil && strings.Contains(shown.Body, "Publishes needed: 1, left this month: 100") &&
		!strings.Contains(shown.Body, "<script>/p"), "%d %s", shown.Status, shown.Body)
	p = send(other+"- {prefix: 'https://shop.example/more/', path: p}\n", sum[1])
	assert.Equal(t, p.Status, 200, "another file than the one that was seen")
	p = v.get("/console/rules?prefix=https://shop.example/")
	assert.True(t, strings.Contains(p.Body, `<span class="tag good">published`), "something was done before it was seen")
	p = send(other, sum[1])
	require.True(t, p.Status == http.StatusSeeOther, "%d %s", p.Status, p.Body)
	file = v.get("/console/rules/export?owner=shop")
	assert.True(t, strings.Count(file.Body, "prefix:") == 1 && strings.Contains(file.Body, "published: true"), "afterwards: %s", file.Body)
}

// scans has an app scan some links.
func scans(t *testing.T, s *servertest.Server, links ...string) {
	t.Helper()
	key := s.NewKey("/scan-keys", `{"name":"app"}`)
	for _, link := range links {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link), "Authorization: Bearer "+key)
	}
}

// The page of a rule has its code as files to print, its scans by day, what opened nothing near it, and its past; for somebody who
// sees its account only, too.
func TestRulePage_CodeScansAndHistory(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	scans(t, s, "https://shop.example/", "https://shop.example/7", "http://shop.example/t/1", "http://else.example/t/1")
	s.Admin("GET", "/statistics?wait=true", "")
	person(s, "olga", "operator", "shop")
	person(s, "vera", adminroute.Viewer)
	for _, name := range []string{"olga", "vera"} {
		v := request(t, s)
		v.signIn(name, password, "")
		p := v.get("/console/rules?prefix=https://shop.example/")
		for _, text := range []string{`<dt>Scans</dt><dd>2</dd>`, `class="chart phone"`, "Unmatched scans near this rule"} {
			assert.True(t, strings.Contains(p.Body, text), "%s: the page lacks %q", name, text)
		}
		near := v.later(p)
		near.wants(t, `<code>shop.example/t</code></td><td class="num">1<`)
		assert.True(t, !strings.Contains(near.Body, "else.example"), "%s: unmatched scans of another host: %s", name, near.Body)
		p.wants(t, "17 mm wide (module 0.5mm)", "<h2>History", "added")
		assert.True(t, !strings.Contains(p.Body, "else.example") && p.Status == http.StatusOK,
			"%s: %d, unmatched scans of another host: %s", name, p.Status, p.Body)
		file := func(as, text string) page {
			return v.get("/console/rules/code?" + url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/"}, "text": {text},
				"module": {"0.5mm"}, "as": {as}}.Encode())
		}
		for as, begins := range map[string]string{"svg": "<svg ", "png": "\x89PNG", "pdf": "%PDF"} {
			got := file(as, "https://shop.example/table/7")
			name := got.Header.Get("Content-Disposition")
			assert.True(t, strings.HasPrefix(got.Body, begins) && strings.Contains(name, "shop.example_table_7."+as),
				"%s: %d %v %.40q", as, got.Status, got.Header, got.Body)
		}
		picture, err := png.Decode(strings.NewReader(file("png", "https://shop.example/table/7").Body))
		require.NoError(t, err)
		says, err := symbol.FindQR(picture)
		assert.True(t, says == "https://shop.example/table/7" && err == nil, "the code says %q, %v", says, err)
		for _, wrong := range []page{file("svg", "https://else.example/"), file("gif", "https://shop.example/"),
			file("svg", "https://shop.example/"+strings.Repeat("x", 4000))} {
			assert.True(t, wrong.Status == http.StatusUnprocessableEntity && strings.Contains(wrong.Body, `id="text-wrong"`),
				"a code that cannot be: %d %s", wrong.Status, wrong.Body)
		}
	}
}

// Before a rule is published, changed or deleted, its page says what would have become of the scans of the last week; to somebody who
// sees one account, of its scans alone.
func TestRulePage_ChangePreview(t *testing.T) {
	t.Parallel()
	two := `  - {appid: other, kind: mini_program, secret: the-secret-of-other, certified: true, versions: [release]}
rules:
  - {owner: other, prefix: "https://other.example/", path: pages/hidden, published: true}`
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: strings.Replace(shop, "rules:", two, 1)})
	s.OK("shop", "add", `{"prefix":"https://shop.example/new/","path":"pages/new","open_version":"3","permit_sub_rule":"1","is_edit":0}`)
	scans(t, s, "https://shop.example/1", "https://shop.example/new/2", "https://shop.example/new/2", "https://other.example/hidden")
	person(s, "olga", "rules-editor", "shop")
	person(s, "rita", adminroute.RulesEditor)
	theirs := url.Values{"owner": {"other"}, "prefix": {"https://other.example/"}, "did": {"delete"}}
	for name, known := range map[string]int{"olga": 2, "rita": 4} {
		v := request(t, s)
		v.signIn(name, password, "")
		for did, asks := range map[string]string{"publish": "Publish the rule https://shop.example/new/?",
			"delete": "Delete the rule https://shop.example/new/?"} {
			p := v.post("/console/rules/do", url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/new/"}, "did": {did}})
			p.wants(t, asks, fmt.Sprintf("%d links were scanned in 7 days; 2 of these scans match a rule that changes", known),
				"2 would have opened something else", "<code>https://shop.example/new/2</code>")
			assert.True(t, p.Status == http.StatusOK && !strings.Contains(p.Body, "pages/hidden"),
				"%s, %s: %d %s", name, did, p.Status, p.Body)
		}
		v.post("/console/rules", url.Values{"did": {"publish"}, "selected": {"shop https://shop.example/new/"}}).wants(t,
			"Publish the selected rules", "2 would have opened something else")
		p := v.post("/console/rules/do", theirs)
		assert.True(t, strings.Contains(p.Body, "pages/hidden") == (name == "rita"), "%s deletes another's: %d %s", name, p.Status, p.Body)
	}
	// So it is before an undo, which leaves things as they are until it is agreed to, and before a prefix is taken away.
	person(s, "ola", adminroute.Operator)
	v := request(t, s)
	v.signIn("ola", password, "")
	rule := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/new/"}}
	do := func(path, did string, more ...string) page {
		form := maps.Clone(rule)
		form.Set("did", did)
		for i := 0; i < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		return v.post(path, form)
	}
	do("/console/rules/do", "publish-sure")
	seq := regexp.MustCompile(`name="seq" value="(\d+)"`).FindStringSubmatch(v.get("/console/rules?" + rule.Encode()).Body)
	do("/console/rules/undo", "", "seq", seq[1]).wants(t, "Undo the last change of", "2 would have opened something else")
	do("/console/rules/do", "force_delete", "reason", "sold").wants(t, "are force-deleted: printed codes",
		"2 would have opened something else", `id="sure"`)
	p := do("/console/rules/undo", "undo-sure", "seq", seq[1], "sure", "1")
	assert.True(t, p.Status == http.StatusSeeOther, "%d %s", p.Status, p.Body)
	v.get("/console/rules?"+rule.Encode()).wants(t, `<span class="tag">not published`)
}
