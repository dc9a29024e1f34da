package console_test

import (
	"bytes"
	"fmt"
	"html"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// htmlField is a field of a form of a page.
type htmlField struct {
	kind, name, value string // kind is its type, or select, textarea, button
	on                bool   // a check box that is ticked
	options           []string
}

// htmlForm is a form of a page that is sent by POST.
type htmlForm struct {
	action, enctype string
	fields          []htmlField
}

var (
	formTag   = regexp.MustCompile(`(?s)<form method="post"([^>]*)>(.*?)</form>`)
	fieldTag  = regexp.MustCompile(`(?s)<(input|select|textarea|button)\b([^>]*)>`)
	optionTag = regexp.MustCompile(`<option\b([^>]*)>([^<]*)`)
	attribute = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

func attributesOf(text string) map[string]string {
	all := map[string]string{}
	for _, a := range attribute.FindAllStringSubmatch(text, -1) {
		all[a[1]] = html.UnescapeString(a[2])
	}
	return all
}

// formsOf reads the forms of a page.
func formsOf(page string) (list []htmlForm) {
	_, page, _ = strings.Cut(page, "<main")
	for _, found := range formTag.FindAllStringSubmatch(page, -1) {
		about := attributesOf(found[1])
		f := htmlForm{action: about["action"], enctype: about["enctype"]}
		for _, at := range fieldTag.FindAllStringSubmatchIndex(found[2], -1) {
			element, has, rest := found[2][at[2]:at[3]], attributesOf(found[2][at[4]:at[5]]), found[2][at[1]:]
			one := htmlField{kind: element, name: has["name"], value: has["value"]}
			_, one.on = has["checked"]
			switch element {
			case "input":
				if one.kind = has["type"]; one.kind == "" {
					one.kind = "text"
				}
			case "textarea":
				content, _, _ := strings.Cut(rest, "</textarea>")
				one.value = strings.TrimPrefix(html.UnescapeString(content), "\n")
			case "select":
				content, _, _ := strings.Cut(rest, "</select>")
				for i, o := range optionTag.FindAllStringSubmatch(content, -1) {
					option := attributesOf(o[1])
					value, has := option["value"]
					if !has {
						value = html.UnescapeString(o[2])
					}
					if _, selected := option["selected"]; selected || i == 0 {
						one.value = value
					}
					one.options = append(one.options, value)
				}
			}
			if one.name != "" {
				f.fields = append(f.fields, one)
			}
		}
		list = append(list, f)
	}
	return list
}

// named tells the forms of a page apart: by where they are sent, by their hidden fields and by what their first button does.
func (f htmlForm) named() string {
	action, _ := url.Parse(f.action)
	name, did := action.Path, ""
	for _, one := range f.fields {
		if one.kind == "hidden" && one.name != "revision" {
			name += " " + one.name + "=" + one.value
		}
		if one.name == "did" && one.kind != "hidden" && did == "" {
			if did = one.value; one.kind == "select" {
				did = "of a choice"
			}
		}
	}
	return name + " " + did
}

// secretField matches fields that no page sends back.
var secretField = regexp.MustCompile(`password|^secret$|marketcode_key|_token|encoding_aes_key|passphrase|^code$`)

// Every form of every page is filled in with texts that nothing accepts. If it is rejected, each of its fields still has what was typed
// into it, the same form says why, and no other form of the page has changed.
func TestEveryForm_RejectedKeepsEachField(t *testing.T) {
	t.Parallel()
	s, fill := brought(t)
	v := request(t, s)
	seen, rejected := map[string]bool{}, map[string]bool{}
	for _, p := range everyPage {
		if p.form != "" {
			continue
		}
		path := fill.Replace(p.path)
		first := v.get(path)
		for _, f := range formsOf(first.Body) {
			name := f.named()
			if seen[name] || !slices.ContainsFunc(f.fields, func(one htmlField) bool {
				return one.kind == "text" ||
					one.kind == "textarea"
			}) {
				continue
			}
			seen[name] = true
			before := formsOf(v.get(path).Body)
			typed := url.Values{}
			pressed := false
			for i := range f.fields {
				one := &f.fields[i]
				switch one.kind {
				case "file":
				case "hidden":
					typed.Add(one.name, one.value)
				case "button":
					if !pressed {
						pressed = true
						typed.Add(one.name, one.value)
					}
				case "checkbox", "radio":
					if one.on = !one.on && (one.kind == "checkbox" || !typed.Has(one.name)); one.on {
						typed.Add(one.name, one.value)
					}
				case "select":
					one.value = one.options[len(one.options)-1]
					typed.Add(one.name, one.value)
				default:
					one.value = fmt.Sprintf("typed %d \u202e<b>", i)
					typed.Add(one.name, one.value)
				}
			}
			answer := v.sendForm(f, typed)
			if answer.Status/100 != 4 || answer.Status == http.StatusPreconditionFailed {
				continue
			}
			rejected[name] = true
			assert.True(t, strings.Contains(answer.Body, `role="alert"`), "%s: %d, without a reason", name, answer.Status)
			after := formsOf(answer.Body)
			found := false
			for _, now := range after {
				if now.named() != name {
					i := slices.IndexFunc(before, func(b htmlForm) bool { return b.named() == now.named() })
					if i >= 0 && !slices.EqualFunc(now.fields, before[i].fields, func(a, b htmlField) bool {
						return a.name == b.name && a.value == b.value && a.on == b.on
					}) {
						t.Errorf("%s was rejected, and %s changed from\n%+v to\n%+v", name, now.named(), before[i].fields, now.fields)
					}
					continue
				}
				found = true
				if len(now.fields) != len(f.fields) {
					t.Errorf("%s has %d fields after it was rejected, want %d", name, len(now.fields), len(f.fields))
					continue
				}
				for i, one := range now.fields {
					was := f.fields[i]
					switch {
					case one.kind == "button" || one.kind == "hidden" || one.kind == "file":
					case secretField.MatchString(one.name) && one.kind != "textarea":
						assert.True(t, one.value == "", "%s sends the secret %s back", name, one.name)
					case one.value != was.value || one.on != was.on:
						t.Errorf("%s, rejected: %s = %q (%v), want %q (%v)", name, one.name, one.value, one.on, was.value, was.on)
					}
				}
			}
			_, title, _ := strings.Cut(answer.Body, "<h1>")
			assert.True(t, found, "%s: %d, without the form: %.200s", name, answer.Status, title)
		}
	}
	accepted := slices.Sorted(func(yield func(string) bool) {
		for name := range seen {
			if !rejected[name] && !yield(regexp.MustCompile(`/calls/\S+`).ReplaceAllString(name, "/calls/RID")) {
				return
			}
		}
	})
	assert.True(t, slices.Equal(accepted, acceptingForms) && len(rejected) >= 35,
		"%d forms were rejected; the others are %q, want %q", len(rejected), accepted, acceptingForms)
}

// acceptingForms take any text, or answer with a page that asks whether that is really wanted.
var acceptingForms = []string{"/console/accounts/press link", "/console/accounts/press member", "/console/accounts/shop member",
	"/console/alarms dismiss", "/console/calls/RID again",
	"/console/cases add", "/console/cases/1 save", "/console/packages/1 recall", "/console/preferences/theme add",
	"/console/rules/do owner=shop prefix=https://shop.example/ force_delete", "/console/rules/edit ", "/console/see-as ",
	"/console/statistics share", "/console/statistics/scans erase"}

// sendForm sends a form as a browser does.
func (v *visitor) sendForm(f htmlForm, typed url.Values) page {
	v.t.Helper()
	action, _, _ := strings.Cut(f.action, "#")
	if f.enctype == "" {
		return v.post(action, typed)
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, values := range typed {
		for _, value := range values {
			require.NoError(v.t, w.WriteField(name, value))
		}
	}
	require.NoError(v.t, w.Close())
	return v.send("POST", action, w.FormDataContentType(), &b)
}

// leak matches what a template writes of a value that it cannot show: an address, a wrong verb, a map, nothing, an object of a script.
var leak = regexp.MustCompile(`0x[0-9a-f]{6,}|%!|map\[|&lt;nil&gt;|<nil>|\[object|ZgotmplZ`)

// inConsole matches the addresses of pages and forms in a page.
var inConsole = regexp.MustCompile(` (?:href|action|formaction)="(/console(?:[/?][^"]*)?)"`)

// No page shows the inside of the program, and each page that is filtered by an account leads only to pages that are.
func TestEveryPage_ShowsValuesAndKeepsTheAccount(t *testing.T) {
	t.Parallel()
	s, fill := brought(t)
	v := request(t, s)
	pages := 0
	for _, language := range []string{"en", "zh"} {
		v.get("/console/self?lang=" + language)
		for _, p := range everyPage {
			path, form := fill.Replace(p.path), fill.Replace(p.form)
			for _, account := range []string{"", "shop"} {
				to := path
				if account != "" && (strings.Contains(path, "account=") || !strings.HasPrefix(path, "/console/") ||
					strings.HasPrefix(path, "/console/shared/")) {
					continue
				}
				if account != "" {
					to += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "account=" + account
				}
				answer := v.send("GET", to, "", nil, "Accept: text/html")
				if form != "" {
					answer = v.send("POST", to, "application/x-www-form-urlencoded", strings.NewReader(form))
				}
				if answer.Status/100 == 3 {
					continue
				}
				pages++
				assert.True(t, answer.Status != http.StatusInternalServerError, "%s %s cannot be drawn: %s", to, form, answer.Body)
				if at := leak.FindStringIndex(answer.Body); at != nil {
					t.Errorf("%s %s shows %q", to, form, answer.Body[max(0, at[0]-80):min(len(answer.Body), at[1]+80)])
				}
				for _, element := range []string{"<img class=pwned", "<b class=pwned"} {
					assert.True(t, !strings.Contains(answer.Body, element), "%s %s has a stranger's text as an element", to, form)
				}
				for _, found := range inConsole.FindAllStringSubmatch(answer.Body, -1) {
					link := html.UnescapeString(found[1])
					assert.True(t, account == "" || strings.Contains(link, "account=") || strings.HasSuffix(link, ".css") ||
						strings.HasPrefix(link, "/console/shared/") || strings.HasPrefix(link, "/console/switch"),
						"%s %s leads to %s, without the account", to, form, link)
				}
				for _, filter := range regexp.MustCompile(`(?s)<form method="get".*?</form>`).FindAllString(answer.Body, -1) {
					assert.True(t, account == "" || strings.Contains(filter, `name="account"`),
						"%s %s has a form that forgets the account: %.200s", to, form, filter)
				}
			}
		}
	}
	assert.True(t, pages >= 300, "%d pages were read, want at least 300", pages)
}
