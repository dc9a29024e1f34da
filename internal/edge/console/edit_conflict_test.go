package console_test

import (
	"fmt"
	"html"
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
	formTags = regexp.MustCompile(`(?s)<form\b[^>]*\bmethod="post"[^>]*>.*?</form>`)
	formTo   = regexp.MustCompile(`\baction="([^"]*)"`)
	inputs   = regexp.MustCompile(`(?s)<input\b[^>]*>|<textarea\b[^>]*>.*?</textarea>|<select\b[^>]*>.*?</select>`)
	named    = regexp.MustCompile(`\bname="([^"]*)"`)
	valued   = regexp.MustCompile(`\bvalue="([^"]*)"`)
	typedIn  = regexp.MustCompile(`(?s)<textarea\b[^>]*>\n?(.*?)</textarea>`)
	chosen   = regexp.MustCompile(`(?s)<option value="([^"]*)"[^>]*\bselected`)
)

// filledIn is the form of a page that goes to an address and has a text, as a browser would send it.
func (p page) filledIn(t *testing.T, action, with string) url.Values {
	t.Helper()
	for _, form := range formTags.FindAllString(p.Body, -1) {
		if html.UnescapeString(formTo.FindStringSubmatch(form)[1]) != action || !strings.Contains(form, with) {
			continue
		}
		return fieldsOf(form)
	}
	t.Fatalf("the page has no form for %s with %q: %s", action, with, p.Body)
	return nil
}

// fieldsOf are the fields of a form as a browser would send them without a button.
func fieldsOf(form string) url.Values {
	fields := url.Values{}
	for _, input := range inputs.FindAllString(form, -1) {
		name := named.FindStringSubmatch(input)
		if name == nil || strings.Contains(input, `type="checkbox"`) && !strings.Contains(input, " checked") ||
			strings.Contains(input, `type="file"`) {
			continue
		}
		value := ""
		if text := typedIn.FindStringSubmatch(input); text != nil {
			value = text[1]
		} else if one := chosen.FindStringSubmatch(input); one != nil {
			value = one[1]
		} else if one := valued.FindStringSubmatch(input); one != nil {
			value = one[1]
		}
		fields.Add(name[1], html.UnescapeString(value))
	}
	return fields
}

// Of pages that also have forms which make something, end a key, or undo the change that they name: these forms.
var makers = []string{`value="add"`, `value="add-key"`, `value="delete-key"`, `name="delivery"`, `value="release"`, `value="authorize"`,
	`value="ticket"`, `value="undo"`}

// Issue 28: a form that changes a thing says which revision it shows; a new form cannot forget it.
func TestForms_CarryRevision(t *testing.T) {
	t.Parallel()
	revisionless := testtable.Map(t, "testdata/revisionless.txt")
	names, err := fs.Glob(os.DirFS("templates"), "*.html")
	parts, errParts := fs.Glob(os.DirFS("templates"), "parts/*.html")
	require.True(t, err == nil && errParts == nil && len(names) >= 30, "%v %v %v", err, errParts, names)
	for _, name := range append(names, parts...) {
		text, err := os.ReadFile("templates/" + name)
		require.NoError(t, err)
		found := formTags.FindAllString(string(text), -1)
		n := strings.Count(string(text), `method="post"`)
		assert.True(t, n == len(found), "%s has %d forms, and this test sees %d", name, n, len(found))
	forms:
		for _, form := range found {
			form = strings.ReplaceAll(form, `{{$.Filter "?"}}`, "")
			if strings.Contains(form, `Input "revision"`) || strings.Contains(form, `name="revision"`) ||
				revisionless[formTo.FindStringSubmatch(form)[1]] != "" {
				continue
			}
			for _, one := range makers {
				if strings.Contains(form, one) {
					continue forms
				}
			}
			t.Errorf("%s has a form without a revision: %.300s", name, form)
		}
	}
}

// No button of a page whose forms name a revision leads to a call of the admin API that rejects it: the button would be useless.
func TestForms_ButtonsAcceptRevision(t *testing.T) {
	t.Parallel()
	s, fill := brought(t)
	s.Admin("PUT", "/gs1/links/01/09506000134352", `{"owner":"shop","links":[],"archived":true}`)
	s.Do("PUT", "/admin/v1/accounts/shop/rules", `{"prefix":"https://mine.example/","path":"pages/b"}`, "Content-Type: application/json")
	v := request(t, s)
	button := regexp.MustCompile(`<button(?:[^>]* name="did" value="([^"]*)")?`)
	pressed := map[string]bool{}
	for _, path := range []string{"/console/rules?owner=shop&prefix=https://mine.example/", "/console/gs1/key?key=01/09506000134352",
		"/console/platforms/plat", "/console/accounts/press", "/console/accounts/shop", "/console/operate/webhooks", "/console/people"} {
		for _, form := range formTags.FindAllString(v.get(fill.Replace(path)).Body, -1) {
			to := html.UnescapeString(formTo.FindStringSubmatch(form)[1])
			if !strings.HasPrefix(fill.Replace(path), to) && !strings.HasPrefix(to, "/console/rules/") {
				continue // a form of every page
			}
			for _, did := range button.FindAllStringSubmatch(form, -1) {
				fields := fieldsOf(form)
				fields.Set("did", did[1])
				p := v.post(to, fields)
				if to == "/console/rules/undo" { // it asks first
					p = v.post(to, p.filledIn(t, to, `name="sure"`))
					did[1] = "undo of a rule"
				}
				if pressed[did[1]] = true; p.Status == http.StatusBadRequest || strings.Contains(p.Body, "compares no revision") {
					t.Errorf("%s: the button %s of the form for %s: %d %s", path, did[1], to, p.Status, p.Body)
				}
			}
		}
	}
	for _, did := range []string{"publish", "check", "ticket", "authorize", "undo", "undo of a rule", "test", "link"} {
		assert.True(t, pressed[did], "no button %s was pressed, only %v", did, pressed)
	}
}

// The form of a batch's alarm, whose threshold has a revision of its own.
func TestThresholdForm_RevisionConflict(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch := applied(t, s)
	v := request(t, s)
	v.signIn("", servertest.AdminToken, "")
	page, alarm := fmt.Sprintf("/console/codes/%d?lang=en", batch), fmt.Sprintf("/batches/%d/alarm", batch)
	to := fmt.Sprintf("/console/codes/%d/alarm", batch)
	form := v.get(page).filledIn(t, to+"#alarm", `name="threshold"`)
	form.Set("did", "set")
	form.Set("threshold", "180")
	s.Admin("PUT", alarm, `{"threshold":150}`)
	p := v.post(to, form)
	require.True(t, p.Status == http.StatusPreconditionFailed, "a form that came too late: %d %s", p.Status, p.Body)
	p.wants(t, "<td>150</td>", "<td>180</td>", "Save my version")
	assert.Contains(t, s.Admin("GET", alarm, "").Body, `"threshold":150`, "it was changed")
	v.did(to, p.filledIn(t, to, ""))
	assert.Contains(t, s.Admin("GET", alarm, "").Body, `"threshold":180`, "mine was kept, and it")
}

// The form of a case into which an alarm was put meanwhile. Before the alarms, the code is on the list of codes to watch, without a form.
func TestCaseForm_RevisionConflict(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	batch, key := applied(t, s), scanKey(t, s)
	v := request(t, s)
	v.signIn("", servertest.AdminToken, "")
	for threshold, shown := range map[int]bool{250: true, 400: false} { // 188 points
		s.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", batch), fmt.Sprintf(`{"threshold":%d}`, threshold))
		scannedByMany(t, s, "press", key)
		for _, group := range []string{"", "network", "account"} {
			p := v.get("/console/alarms?state=watch&group=" + group)
			listed := strings.Contains(p.Body, fmt.Sprintf(`<a href="/console/codes?code=%d%%3a7">`, batch))
			assert.True(t, p.Status == http.StatusOK && listed == shown && !strings.Contains(p.Body, `type="checkbox"`),
				"codes to watch at threshold %d by %q: %d %s", threshold, group, p.Status, p.Body)
		}
	}
	s.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", batch), `{"threshold":100}`)
	scannedByMany(t, s, "press", key)
	s.Admin("POST", "/cases", `{"title":"Stall","alarms":[1]}`)
	form := v.get("/console/cases/1?lang=en").filledIn(t, "/console/cases/1", `name="title"`)
	form.Set("did", "save")
	form.Set("note", "mine")
	s.Admin("POST", "/alarms/2/acknowledge", `{"case":1}`)
	p := v.post("/console/cases/1", form)
	require.True(t, p.Status == http.StatusPreconditionFailed, "a form that came too late: %d %s", p.Status, p.Body)
	p.wants(t, "Alarms", "1, 2</td>", "mine", "Save my version")
	v.did("/console/cases/1", p.filledIn(t, "/console/cases/1", ""))
	a := s.Admin("GET", "/cases/1", "").Body
	assert.True(t, strings.Contains(a, `"note":"mine"`) && strings.Count(a, `"case":1`) == 2, "the case with both alarms: %s", a)
}

// Two people open one form. The second who saves sees both versions, with nothing lost, and chooses.
func TestForms_ConflictShowsBothVersions(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "ada", adminroute.Admin)
	person(s, "bob", adminroute.Admin)
	ada, bob := request(t, s), request(t, s)
	ada.signIn("ada", password, "")
	bob.signIn("bob", password, "")
	made := bob.post("/console/operate/webhooks", url.Values{"did": {"add"}, "url": {"https://hooks.example/x"}, "alarms": {"yes"}})
	if at := strings.Index(made.Body, "whsec_"); at > 0 {
		s.Hide(made.Body[at : at+strings.IndexByte(made.Body[at:], '<')])
	}
	for _, row := range testtable.Rows(t, "testdata/edit_conflicts.txt", 9) {
		name, address, to, shows, now := row[0], row[1], row[2], testtable.List(row[6]), row[7]
		changed, err := url.ParseQuery(row[4])
		require.NoError(t, err)
		mine, err := url.ParseQuery(row[5])
		require.NoError(t, err)
		form := ada.get(address).filledIn(t, to, row[3])
		theirs := bob.get(address).filledIn(t, to, row[3])
		require.True(t, form.Get("revision") != "", "%s: the form has no revision: %v", name, form)
		maps.Copy(theirs, changed)
		bob.did(to, theirs)
		for field, values := range mine {
			if form[field] = values; values[0] == "" {
				delete(form, field)
			}
		}
		before := s.Admin("GET", now, "").Body
		ada.get(address + map[bool]string{true: "&lang=zh", false: "?lang=zh"}[strings.Contains(address, "?")])
		p := ada.post(to, form)
		p.wants(t, append(shows, "保存我的版本", "保留当前版本")...)
		ada.get("/console/calls?lang=en")
		p = ada.post(to, form)
		require.True(t, p.Status == http.StatusPreconditionFailed, "%s: a form that came too late: %d %s", name, p.Status, p.Body)
		p.wants(t, append(shows, "Save my version", "Keep the current version", "Compare versions")...)
		ada.small(address, p)
		assert.Equal(t, s.Admin("GET", now, "").Body, before, "%s: it was changed", name)
		kept := p.filledIn(t, to, "")
		for field, values := range form {
			if field != "revision" && strings.Join(kept[field], "|") != strings.Join(values, "|") {
				t.Errorf("%s: %s was %q, and is %q in the form that is kept", name, field, values, kept[field])
			}
		}
		ada.did(to, kept)
		assert.Contains(t, s.Admin("GET", now, "").Body, row[8], "%s: mine was kept, and it", name)
	}
	// What is gone cannot be kept, and what was typed is still there.
	form := ada.get("/console/people").filledIn(t, "/console/people", `value="bob"`)
	s.Admin("DELETE", "/people/bob", "")
	form.Set("did", "factor")
	p := ada.post("/console/people", form)
	assert.True(t, p.Status == http.StatusPreconditionFailed && !strings.Contains(p.Body, "Save my version"),
		"of somebody who is gone: %d %s", p.Status, p.Body)
	p.wants(t, "Another person deleted", "admin")
}
