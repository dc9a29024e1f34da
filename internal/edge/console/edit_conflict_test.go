package console_test

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

var (
	postForm   = regexp.MustCompile(`(?s)<form\b[^>]*\bmethod="post"[^>]*>.*?</form>`)
	actionAttr = regexp.MustCompile(`\baction="([^"]*)"`)
)

// formValues returns the form of a page that posts to action and contains a text, with the values that a browser would send.
func (p page) formValues(t *testing.T, action, text string) url.Values {
	t.Helper()
	for _, form := range parseForms(p.Body) {
		if form.action == action && strings.Contains(form.html, text) {
			return form.values()
		}
	}
	t.Fatalf("no form for %s with %q on the page: %s", action, text, p.Body)
	return nil
}

// creatingForms mark forms that create something, delete a key or undo a named change; they need no revision.
var creatingForms = []string{`value="add"`, `value="add-key"`, `value="delete-key"`, `name="delivery"`, `value="release"`,
	`value="authorize"`, `value="ticket"`, `value="undo"`}

// TestForms_CarryRevision verifies that each form that changes an object carries the revision that it shows. It finds new forms without
// one.
func TestForms_CarryRevision(t *testing.T) {
	t.Parallel()
	revisionless := testtable.Map(t, "testdata/revisionless.txt")
	names, err := fs.Glob(os.DirFS("templates"), "*.html")
	parts, errParts := fs.Glob(os.DirFS("templates"), "parts/*.html")
	require.True(t, err == nil && errParts == nil && len(names) >= 30, "%d templates, %v, %v; want at least 30", len(names), err, errParts)
	for _, name := range append(names, parts...) {
		text := require.Value(os.ReadFile("templates/" + name))(t)
		forms := postForm.FindAllString(string(text), -1)
		n := strings.Count(string(text), `method="post"`)
		assert.True(t, n == len(forms), "%s has %d forms, want %d as matched by postForm", name, n, len(forms))
	forms:
		for _, form := range forms {
			form = strings.ReplaceAll(form, `{{$.Filter "?"}}`, "")
			if strings.Contains(form, `Input "revision"`) || strings.Contains(form, `name="revision"`) ||
				revisionless[actionAttr.FindStringSubmatch(form)[1]] != "" {
				continue
			}
			for _, mark := range creatingForms {
				if strings.Contains(form, mark) {
					continue forms
				}
			}
			t.Errorf("%s has a form without a revision: %.300s", name, form)
		}
	}
}

// TestForms_ButtonsAcceptRevision verifies that the admin API accepts a revision for each button of a form that carries one; otherwise the
// button would be useless.
func TestForms_ButtonsAcceptRevision(t *testing.T) {
	t.Parallel()
	s, fill := startWithHostileText(t)
	s.Admin("PUT", "/gs1/links/01/09506000134352", `{"owner":"shop","links":[],"archived":true}`)
	s.Do("PUT", "/admin/v1/accounts/shop/rules", `{"prefix":"https://mine.example/","path":"pages/b"}`, "Content-Type: application/json")
	v := newVisitor(t, s)
	button := regexp.MustCompile(`<button(?:[^>]* name="did" value="([^"]*)")?`)
	pressed := map[string]bool{}
	for _, path := range []string{"/console/rules?owner=shop&prefix=https://mine.example/", "/console/gs1/key?key=01/09506000134352",
		"/console/platforms/plat", "/console/accounts/press", "/console/accounts/shop", "/console/operate/webhooks", "/console/people"} {
		for _, form := range parseForms(v.get(fill.Replace(path)).Body) {
			if !strings.HasPrefix(fill.Replace(path), form.action) && !strings.HasPrefix(form.action, "/console/rules/") {
				continue // a form for another page
			}
			for _, match := range button.FindAllStringSubmatch(form.html, -1) {
				name, values := match[1], form.values()
				values.Set("did", name)
				p := v.post(form.action, values)
				if form.action == "/console/rules/undo" { // confirmation page
					p = v.post(form.action, p.formValues(t, form.action, `name="sure"`))
					name = "undo of a rule"
				}
				pressed[name] = true
				assert.True(t, p.Status != http.StatusBadRequest && !strings.Contains(p.Body, "compares no revision"),
					"%s: button %s of the form for %s: status %d: %s", path, name, form.action, p.Status, p.Body)
			}
		}
	}
	for _, name := range []string{"publish", "check", "ticket", "authorize", "undo", "undo of a rule", "test", "link"} {
		assert.True(t, pressed[name], "no button %s was tested, only %v", name, pressed)
	}
}

// TestThresholdForm_RevisionConflict verifies the conflict page of the alarm threshold of a batch, which has its own revision.
func TestThresholdForm_RevisionConflict(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := s.Apply("press", "<b>order", 10_000)
	v := newVisitor(t, s)
	v.signIn("", servertest.AdminToken, "")
	path, alarm := fmt.Sprintf("/console/codes/%d?lang=en", batch), fmt.Sprintf("/batches/%d/alarm", batch)
	action := fmt.Sprintf("/console/codes/%d/alarm", batch)
	form := v.get(path).formValues(t, action+"#alarm", `name="threshold"`)
	form.Set("did", "set")
	form.Set("threshold", "180")
	s.Admin("PUT", alarm, `{"threshold":150}`)
	p := v.post(action, form)
	p.wantStatus(t, http.StatusPreconditionFailed, "a form that came too late")
	p.wantText(t, "<td>150</td>", "<td>180</td>", "Save my version")
	assert.Contains(t, s.Admin("GET", alarm, "").Body, `"threshold":150`, "alarm after the conflict")
	v.submit(action, p.formValues(t, action, ""))
	assert.Contains(t, s.Admin("GET", alarm, "").Body, `"threshold":180`, "alarm after the second save")
}

// TestCaseForm_RevisionConflict verifies the conflict page of a case to which an alarm was added after the form was opened. Below the
// threshold, a code is on the watch list, which has no form.
func TestCaseForm_RevisionConflict(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch, key := s.Apply("press", "<b>order", 10_000), newScanKey(s)
	v := newVisitor(t, s)
	v.signIn("", servertest.AdminToken, "")
	for threshold, shown := range map[int]bool{250: true, 400: false} { // 188 points
		s.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", batch), fmt.Sprintf(`{"threshold":%d}`, threshold))
		scanAsCopy(t, s, "press", key)
		for _, group := range []string{"", "network", "account"} {
			p := v.get("/console/alarms?state=watch&group=" + group)
			listed := strings.Contains(p.Body, fmt.Sprintf(`<a href="/console/codes?code=%d%%3a7">`, batch))
			assert.True(t, p.Status == http.StatusOK && listed == shown && !strings.Contains(p.Body, `type="checkbox"`),
				"watch list at threshold %d by %q: %d %s", threshold, group, p.Status, p.Body)
		}
	}
	s.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", batch), `{"threshold":100}`)
	scanAsCopy(t, s, "press", key)
	s.Admin("POST", "/cases", `{"title":"Stall","alarms":[1]}`)
	form := v.get("/console/cases/1?lang=en").formValues(t, "/console/cases/1", `name="title"`)
	form.Set("did", "save")
	form.Set("note", "mine")
	s.Admin("POST", "/alarms/2/acknowledge", `{"case":1}`)
	p := v.post("/console/cases/1", form)
	p.wantStatus(t, http.StatusPreconditionFailed, "a form that came too late")
	p.wantText(t, "Alarms", "1, 2</td>", "mine", "Save my version")
	v.submit("/console/cases/1", p.formValues(t, "/console/cases/1", ""))
	a := s.Admin("GET", "/cases/1", "").Body
	assert.True(t, strings.Contains(a, `"note":"mine"`) && strings.Count(a, `"case":1`) == 2, "case = %s, want the note and both alarms", a)
}

// TestForms_ConflictShowsBothVersions opens each form as two people. The second save must show both versions with all input, and save
// either of them.
func TestForms_ConflictShowsBothVersions(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "ada", adminroute.Admin)
	createPerson(s, "bob", adminroute.Admin)
	ada, bob := newVisitor(t, s), newVisitor(t, s)
	ada.signIn("ada", password, "")
	bob.signIn("bob", password, "")
	hook := bob.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"}, "alarms": {"yes"}})
	hideWebhookSecret(s, hook)
	for _, row := range testtable.Rows(t, "testdata/edit_conflicts.txt", 9) {
		name, address, action, texts, apiPath := row[0], row[1], row[2], testtable.List(row[6]), row[7]
		otherValues := require.Value(url.ParseQuery(row[4]))(t)
		myValues := require.Value(url.ParseQuery(row[5]))(t)
		form := ada.get(address).formValues(t, action, row[3])
		otherForm := bob.get(address).formValues(t, action, row[3])
		require.True(t, form.Get("revision") != "", "%s: the form has no revision: %v", name, form)
		maps.Copy(otherForm, otherValues)
		bob.submit(action, otherForm)
		for field, values := range myValues {
			if form[field] = values; values[0] == "" {
				delete(form, field)
			}
		}
		before := s.Admin("GET", apiPath, "").Body
		ada.get(address + map[bool]string{true: "&lang=zh", false: "?lang=zh"}[strings.Contains(address, "?")])
		p := ada.post(action, form)
		p.wantText(t, append(texts, "保存我的版本", "保留当前版本")...)
		ada.get("/console/calls?lang=en")
		p = ada.post(action, form)
		p.wantStatus(t, http.StatusPreconditionFailed, "%s: a form that came too late", name)
		p.wantText(t, append(texts, "Save my version", "Keep the current version", "Compare versions")...)
		ada.checkSize(address, p)
		assert.Equal(t, s.Admin("GET", apiPath, "").Body, before, "%s: object after the conflict", name)
		kept := p.formValues(t, action, "")
		for field, values := range form {
			if field != "revision" && strings.Join(kept[field], "|") != strings.Join(values, "|") {
				t.Errorf("%s: %s = %q in the first form, %q in the conflict form", name, field, values, kept[field])
			}
		}
		ada.submit(action, kept)
		assert.Contains(t, s.Admin("GET", apiPath, "").Body, row[8], "%s: object after the second save", name)
	}
	// An object that was deleted meanwhile cannot be saved; the page shows the input.
	form := ada.get("/console/people").formValues(t, "/console/people", `value="bob"`)
	s.Admin("DELETE", "/people/bob", "")
	form.Set("did", "factor")
	p := ada.post("/console/people", form)
	assert.True(t, p.Status == http.StatusPreconditionFailed && !strings.Contains(p.Body, "Save my version"),
		"form of a deleted person: status %d, want 412: %s", p.Status, p.Body)
	p.wantText(t, "Another person deleted", "admin")
}
