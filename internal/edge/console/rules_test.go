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

// fileHost is a web server of a rule's host, on which a test places a verification file.
type fileHost struct {
	*httptest.Server
	file atomic.Pointer[string]
}

func newFileHost(t testing.TB) *fileHost {
	h := &fileHost{}
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

// TestRuleForm_CreateToUndo takes a rule from its form to the undo of its deletion, as an editor of rules and without scripts. A rejected
// form must keep its input, and the audit log must name the editor for every change.
func TestRuleForm_CreateToUndo(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: fetching})
	web := newFileHost(t)
	v := newUser(t, s, "rita", adminroute.RulesEditor)
	prefix := web.URL + "/t/"
	form := url.Values{"owner": {"shop"}, "prefix": {prefix}, "path": {"pages/<script>/x"}, "open_version": {"2"}, "links": {prefix + "7"}}
	checkPage := func(p page, status int, texts ...string) {
		t.Helper()
		require.True(t, p.Status == status, "%d, want %d: %s", p.Status, status, p.Body)
		for _, text := range texts {
			assert.Contains(t, p.Body, text, "want %q in", text)
		}
		p.wantNoText(t, "<script>/x")
	}
	preview := v.get("/console/rules/new?" + form.Encode())
	checkPage(preview, 200, "This rule can be added.", web.URL+"/t/", "Opens the Mini Program.", "pages/&lt;script&gt;/x")
	fragment := v.get("/console/rules/new?part=tried&" + form.Encode())
	checkPage(fragment, 200, "This rule can be added.")
	fragment.wantNoText(t, "<html")
	rejected := v.post("/console/rules/new", form)
	checkPage(rejected, 422, "The file was not found.", "404, want 200", "Put the file into the directory",
		`value="pages/&lt;script&gt;/x"`)
	file := v.get("/console/rules/file?owner=shop")
	assert.True(t, strings.Contains(file.Header.Get("Content-Disposition"), ".txt"),
		"verification file: headers %v, want a .txt name", file.Header)
	web.file.Store(&file.Body)
	p := v.post("/console/rules/new", form)
	p.wantStatus(t, http.StatusSeeOther, "with the file in place")
	rule := "/console/rules?owner=shop&prefix=" + url.QueryEscape(prefix)
	submit := func(action string) page {
		t.Helper()
		return v.post("/console/rules/do", url.Values{"owner": {"shop"}, "prefix": {prefix}, "did": {action}})
	}
	checkPage(v.get(rule), 200, "not published", "left this month: 100", prefix+"7")
	checkPage(submit("check"), 200, "The file was found.")
	checkPage(submit("publish"), 200, "Publish the rule ", "0 would have opened something else")
	p = submit("publish-sure")
	p.wantStatus(t, http.StatusSeeOther, "publish")
	checkPage(v.get(rule), 200, `<span class="tag good">published`, "left this month: 99")
	form.Set("path", "pages/other")
	checkPage(v.get("/console/rules/edit?owner=shop&prefix="+url.QueryEscape(prefix)), 200, `value="pages/&lt;script&gt;/x"`, "readonly")
	checkPage(v.post("/console/rules/edit", form), 422, "pages/other") // the path of a published rule is fixed
	checkPage(submit("delete"), 200, "Delete the rule ")
	checkPage(v.get(rule), 200, `<span class="tag good">published`)
	p = submit("delete-sure")
	p.wantStatus(t, http.StatusSeeOther, "delete")
	checkPage(v.get(rule), 200, "No rule has the prefix")
	var log struct {
		Changes []struct {
			Seq           int64
			Actor, Action string
		}
	}
	s.Admin("GET", "/changes?newest=true&kind=rule&limit=3", "").JSON(t, &log)
	assert.Equal(t, fmt.Sprint(log.Changes[0].Action, log.Changes[1].Action, log.Changes[2].Action), "deletepublishadd", "the audit log")
	for _, change := range log.Changes {
		assert.Equal(t, change.Actor, "person:rita", "%s was by", change.Action)
	}
	v.post("/console/rules/undo", url.Values{"seq": {fmt.Sprint(log.Changes[0].Seq)}, "prefix": {prefix}, "sure": {"1"}})
	checkPage(v.get(rule), 200, `<span class="tag good">published`)
	checkPage(v.post("/console/rules/new", form), 422, "is a rule of shop already")
	form.Set("prefix", "https://other.example/7")
	checkPage(v.post("/console/rules/new", form), 422, "other.example")
}

// TestRulesPage_LimitedToAccount verifies that a person limited to one account edits the rules of this account and sees no others.
func TestRulesPage_LimitedToAccount(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop + "\n"})
	s.Admin("PUT", "/accounts/other", `{"kind":"mini_program","certified":true,"versions":["release"],"secret":"the-secret-of-other"}`)
	s.Admin("POST", "/accounts/other/rules", `{"prefix":"https://other.example/","path":"p"}`)
	v := newUser(t, s, "olga", "rules-editor", "shop")
	ownRule := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/own/"}, "path": {"p"}}
	p := v.post("/console/rules/new", ownRule)
	p.wantStatus(t, http.StatusSeeOther, "their own")
	p = v.get("/console/rules?prefix=https://shop.example/own/")
	assert.True(t, p.Status == 200 && strings.Contains(p.Body, "not published") && strings.Contains(p.Body, "<td>added</td>") &&
		!strings.Contains(p.Body, ">Undo<"), "their own, shown: status %d, want 200: %s", p.Status, p.Body)
	p = v.get("/console/rules?prefix=https://other.example/")
	assert.True(t, !strings.Contains(p.Body, "other</a>") && !strings.Contains(p.Body, "<td>added</td>") &&
		!strings.Contains(p.Body, "</a> other"), "another's, shown: %s", p.Body)
	otherRule := url.Values{"owner": {"other"}, "prefix": {"https://other.example/"}, "path": {"p"}}
	for _, path := range []string{"/console/rules/new", "/console/rules/edit"} {
		assert.Equal(t, v.post(path, otherRule).Status, http.StatusForbidden, "%s for another", path)
	}
	for _, action := range []string{"publish", "publish-sure", "check", "delete", "delete-sure"} {
		otherRule.Set("did", action)
		assert.Equal(t, v.post("/console/rules/do", otherRule).Status, http.StatusForbidden, "%s for another", action)
	}
}

// TestRuleImportForm_AppliesShownPlan verifies that an exported file plans no change, that the plan of a file is shown before it is
// applied, and that only the shown plan is applied.
func TestRuleImportForm_AppliesShownPlan(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	v := newUser(t, s, "rita", adminroute.RulesEditor)
	file := v.get("/console/rules/export?owner=shop")
	require.Contains(t, file.Body, "prefix: https://shop.example/\n", "%d", file.Status)
	send := func(text, confirmation string) page {
		t.Helper()
		return v.post("/console/rules/import", url.Values{"owner": {"shop"}, "text": {text}, "sure": {confirmation}, "prune": {"1"}})
	}
	p := send(file.Body, "")
	assert.True(t, p.Status == 200 && strings.Contains(p.Body, "the rules match the file"),
		"what was exported: status %d, want 200: %s", p.Status, p.Body)
	for text, want := range map[string]string{"rules: [{pathh: x}]": "did you mean path?", "a: *b": "aliases", "": "choose a file",
		"rules:\n- {prefix: nonsense, path: p}": "file:2"} {
		p := send(text, "")
		assert.True(t, p.Status == 422 && strings.Contains(p.Body, want), "%q: %d, want %q in %s", text, p.Status, want, p.Body)
	}
	text := "rules:\n- {prefix: 'https://shop.example/t/', path: '<script>/p', published: true}\n"
	plan := send(text, "")
	sum := regexp.MustCompile(`name="sure" value="([0-9a-f]{64})"`).FindStringSubmatch(plan.Body)
	require.True(t, sum != nil && strings.Contains(plan.Body, "Publishes needed: 1, left this month: 100") &&
		!strings.Contains(plan.Body, "<script>/p"), "%d %s", plan.Status, plan.Body)
	p = send(text+"- {prefix: 'https://shop.example/more/', path: p}\n", sum[1])
	assert.Equal(t, p.Status, 200, "another file than the one that was seen")
	p = v.get("/console/rules?prefix=https://shop.example/")
	p.wantText(t, `<span class="tag good">published`)
	p = send(text, sum[1])
	require.True(t, p.Status == http.StatusSeeOther, "status %d, want 303: %s", p.Status, p.Body)
	file = v.get("/console/rules/export?owner=shop")
	assert.True(t, strings.Count(file.Body, "prefix:") == 1 && strings.Contains(file.Body, "published: true"), "afterwards: %s", file.Body)
}

// scanLinks scans links with a new key.
func scanLinks(t *testing.T, s *servertest.Server, links ...string) {
	t.Helper()
	key := s.NewKey("/scan-keys", `{"name":"app"}`)
	for _, link := range links {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link), "Authorization: Bearer "+key)
	}
}

// TestRulePage_CodeScansAndHistory verifies that the page of a rule offers its code for printing, and shows its scans by day, nearby
// unmatched scans and its history, also to a person limited to its account.
func TestRulePage_CodeScansAndHistory(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	scanLinks(t, s, "https://shop.example/", "https://shop.example/7", "http://shop.example/t/1", "http://else.example/t/1")
	s.Admin("GET", "/statistics?wait=true", "")
	createPerson(s, "olga", "operator", "shop")
	createPerson(s, "vera", adminroute.Viewer)
	for _, name := range []string{"olga", "vera"} {
		v := newVisitor(t, s)
		v.signIn(name, password, "")
		p := v.get("/console/rules?prefix=https://shop.example/")
		for _, text := range []string{`<dt>Scans</dt><dd>2</dd>`, `class="chart phone"`, "Unmatched scans near this rule"} {
			p.wantText(t, text)
		}
		nearby := v.getDeferred(p)
		nearby.wantText(t, `<code>shop.example/t</code></td><td class="num">1<`)
		nearby.wantNoText(t, "else.example")
		p.wantText(t, "17 mm wide (module 0.5mm)", "<h2>History", "added")
		assert.True(t, !strings.Contains(p.Body, "else.example") && p.Status == http.StatusOK,
			"%s: %d, unmatched scans of another host: %s", name, p.Status, p.Body)
		codeFile := func(format, text string) page {
			return v.get("/console/rules/code?" + url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/"}, "text": {text},
				"module": {"0.5mm"}, "as": {format}}.Encode())
		}
		for format, prefix := range map[string]string{"svg": "<svg ", "png": "\x89PNG", "pdf": "%PDF"} {
			got := codeFile(format, "https://shop.example/table/7")
			name := got.Header.Get("Content-Disposition")
			assert.True(t, strings.HasPrefix(got.Body, prefix) && strings.Contains(name, "shop.example_table_7."+format),
				"%s: %d %v %.40q", format, got.Status, got.Header, got.Body)
		}
		picture := require.Value(png.Decode(strings.NewReader(codeFile("png", "https://shop.example/table/7").Body)))(t)
		decoded, err := symbol.FindQR(picture)
		assert.True(t, decoded == "https://shop.example/table/7" && err == nil, "the code says %q, %v", decoded, err)
		for _, invalid := range []page{codeFile("svg", "https://else.example/"), codeFile("gif", "https://shop.example/"),
			codeFile("svg", "https://shop.example/"+strings.Repeat("x", 4000))} {
			assert.True(t, invalid.Status == http.StatusUnprocessableEntity && strings.Contains(invalid.Body, `id="text-wrong"`),
				"a code that cannot be: status %d, want 422: %s", invalid.Status, invalid.Body)
		}
	}
}

// TestRulePage_ChangePreview verifies that the confirmation before a rule is published, changed or deleted shows the effect on the scans of
// the last week, limited to the accounts of the person.
func TestRulePage_ChangePreview(t *testing.T) {
	t.Parallel()
	otherAccount := `  - {appid: other, kind: mini_program, secret: the-secret-of-other, certified: true, versions: [release]}
rules:
  - {owner: other, prefix: "https://other.example/", path: pages/hidden, published: true}`
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: strings.Replace(shop, "rules:", otherAccount, 1)})
	s.OK("shop", "add", `{"prefix":"https://shop.example/new/","path":"pages/new","open_version":"3","permit_sub_rule":"1","is_edit":0}`)
	scanLinks(t, s, "https://shop.example/1", "https://shop.example/new/2", "https://shop.example/new/2", "https://other.example/hidden")
	createPerson(s, "olga", "rules-editor", "shop")
	createPerson(s, "rita", adminroute.RulesEditor)
	otherRule := url.Values{"owner": {"other"}, "prefix": {"https://other.example/"}, "did": {"delete"}}
	for name, scanned := range map[string]int{"olga": 2, "rita": 4} {
		v := newVisitor(t, s)
		v.signIn(name, password, "")
		for action, question := range map[string]string{"publish": "Publish the rule https://shop.example/new/?",
			"delete": "Delete the rule https://shop.example/new/?"} {
			p := v.post("/console/rules/do", url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/new/"}, "did": {action}})
			p.wantText(t, question, fmt.Sprintf("%d links were scanned in 7 days; 2 of these scans match a rule that changes", scanned),
				"2 would have opened something else", "<code>https://shop.example/new/2</code>")
			assert.True(t, p.Status == http.StatusOK && !strings.Contains(p.Body, "pages/hidden"),
				"%s, %s: status %d, want 200: %s", name, action, p.Status, p.Body)
		}
		v.post("/console/rules", url.Values{"did": {"publish"}, "selected": {"shop https://shop.example/new/"}}).wantText(t,
			"Publish the selected rules", "2 would have opened something else")
		p := v.post("/console/rules/do", otherRule)
		assert.True(t, strings.Contains(p.Body, "pages/hidden") == (name == "rita"), "%s deletes another's: %d %s", name, p.Status, p.Body)
	}
	// An undo and a forced deletion show the same preview before their confirmation.
	v := newUser(t, s, "ola", adminroute.Operator)
	rule := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/new/"}}
	submit := func(path, action string, fields ...string) page {
		form := maps.Clone(rule)
		form.Set("did", action)
		for i := 0; i < len(fields); i += 2 {
			form.Set(fields[i], fields[i+1])
		}
		return v.post(path, form)
	}
	submit("/console/rules/do", "publish-sure")
	seq := regexp.MustCompile(`name="seq" value="(\d+)"`).FindStringSubmatch(v.get("/console/rules?" + rule.Encode()).Body)
	submit("/console/rules/undo", "", "seq", seq[1]).wantText(t, "Undo the last change of", "2 would have opened something else")
	submit("/console/rules/do", "force_delete", "reason", "sold").wantText(t, "are force-deleted: printed codes",
		"2 would have opened something else", `id="sure"`)
	p := submit("/console/rules/undo", "undo-sure", "seq", seq[1], "sure", "1")
	assert.True(t, p.Status == http.StatusSeeOther, "status %d, want 303: %s", p.Status, p.Body)
	v.get("/console/rules?"+rule.Encode()).wantText(t, `<span class="tag">not published`)
}
