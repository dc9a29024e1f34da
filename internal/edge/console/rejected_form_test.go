package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// htmlField is a field of a form of a page.
type htmlField struct {
	kind, name, value string // kind is its type, or select, textarea, button
	checked           bool
	options           []string
}

// htmlForm is a form of a page that is sent by POST.
type htmlForm struct {
	html, action, enctype string
	fields                []htmlField
}

var (
	formTag   = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	fieldTag  = regexp.MustCompile(`(?s)<(input|select|textarea|button)\b([^>]*)>`)
	optionTag = regexp.MustCompile(`<option\b([^>]*)>([^<]*)`)
	attribute = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

func parseAttributes(text string) map[string]string {
	values := map[string]string{}
	for _, a := range attribute.FindAllStringSubmatch(text, -1) {
		values[a[1]] = html.UnescapeString(a[2])
	}
	return values
}

// parseForms returns the forms of a page.
func parseForms(page string) (list []htmlForm) {
	_, page, _ = strings.Cut(page, "<main")
	for _, form := range formTag.FindAllStringSubmatch(page, -1) {
		attributes, content := parseAttributes(form[1]), form[2]
		if attributes["method"] != "post" {
			continue
		}
		f := htmlForm{html: form[0], action: attributes["action"], enctype: attributes["enctype"]}
		for _, span := range fieldTag.FindAllStringSubmatchIndex(content, -1) {
			kind, attributes, rest := content[span[2]:span[3]], parseAttributes(content[span[4]:span[5]]), content[span[1]:]
			field := htmlField{kind: kind, name: attributes["name"], value: attributes["value"]}
			_, field.checked = attributes["checked"]
			switch kind {
			case "input":
				if field.kind = attributes["type"]; field.kind == "" {
					field.kind = "text"
				}
			case "textarea":
				content, _, _ := strings.Cut(rest, "</textarea>")
				field.value = strings.TrimPrefix(html.UnescapeString(content), "\n")
			case "select":
				content, _, _ := strings.Cut(rest, "</select>")
				for i, o := range optionTag.FindAllStringSubmatch(content, -1) {
					option := parseAttributes(o[1])
					value, ok := option["value"]
					if !ok {
						value = html.UnescapeString(o[2])
					}
					if _, selected := option["selected"]; selected || i == 0 {
						field.value = value
					}
					field.options = append(field.options, value)
				}
			}
			if field.name != "" {
				f.fields = append(f.fields, field)
			}
		}
		list = append(list, f)
	}
	return list
}

// values returns the fields of a form as a browser sends them without a button.
func (f htmlForm) values() url.Values {
	values := url.Values{}
	for _, field := range f.fields {
		isChoice := field.kind == "checkbox" || field.kind == "radio"
		if field.kind != "button" && field.kind != "file" && (!isChoice || field.checked) {
			values.Add(field.name, field.value)
		}
	}
	return values
}

// key identifies a form of a page by its action, its hidden fields and the value of its first button.
func (f htmlForm) key() string {
	action, _ := url.Parse(f.action)
	name, button := action.Path, ""
	for _, field := range f.fields {
		if field.kind == "hidden" && field.name != "revision" {
			name += " " + field.name + "=" + field.value
		}
		if field.name == "did" && field.kind != "hidden" && button == "" {
			if button = field.value; field.kind == "select" {
				button = "of a choice"
			}
		}
	}
	return name + " " + button
}

// secretField matches the names of fields whose values no page sends back.
var secretField = regexp.MustCompile(`password|^secret$|marketcode_key|_token|encoding_aes_key|passphrase|^code$`)

// TestEveryForm_RejectedKeepsEachField fills every form of every page with texts that no operation accepts. A rejected form must keep the
// input of each field and give a reason, and must not change other forms of the page.
func TestEveryForm_RejectedKeepsEachField(t *testing.T) {
	t.Parallel()
	s, fill := startWithHostileText(t)
	v := newVisitor(t, s)
	seen, rejected := map[string]bool{}, map[string]bool{}
	for _, p := range openPages {
		if p.form != "" {
			continue
		}
		path := fill.Replace(p.path)
		first := v.get(path)
		for _, f := range parseForms(first.Body) {
			name := f.key()
			if seen[name] || !slices.ContainsFunc(f.fields, func(field htmlField) bool {
				return field.kind == "text" ||
					field.kind == "textarea"
			}) {
				continue
			}
			seen[name] = true
			before := parseForms(v.get(path).Body)
			values := url.Values{}
			hasButton := false
			for i := range f.fields {
				field := &f.fields[i]
				switch field.kind {
				case "file":
				case "hidden":
					values.Add(field.name, field.value)
				case "button":
					if !hasButton {
						hasButton = true
						values.Add(field.name, field.value)
					}
				case "checkbox", "radio":
					if field.checked = !field.checked && (field.kind == "checkbox" || !values.Has(field.name)); field.checked {
						values.Add(field.name, field.value)
					}
				case "select":
					field.value = field.options[len(field.options)-1]
					values.Add(field.name, field.value)
				default:
					field.value = fmt.Sprintf("typed %d \u202e<b>", i)
					values.Add(field.name, field.value)
				}
			}
			action, _, _ := strings.Cut(f.action, "#")
			var answer page
			if f.enctype == "" {
				answer = v.post(action, values)
			} else {
				answer = v.upload(action, values, "", nil)
			}
			if answer.Status/100 != 4 || answer.Status == http.StatusPreconditionFailed {
				continue
			}
			rejected[name] = true
			assert.True(t, strings.Contains(answer.Body, `role="alert"`), "%s: status %d without a reason", name, answer.Status)
			after := parseForms(answer.Body)
			present := false
			for _, form := range after {
				if form.key() != name {
					i := slices.IndexFunc(before, func(b htmlForm) bool { return b.key() == form.key() })
					if i >= 0 && !slices.EqualFunc(form.fields, before[i].fields, func(a, b htmlField) bool {
						return a.name == b.name && a.value == b.value && a.checked == b.checked
					}) {
						t.Errorf("%s was rejected, and %s changed from\n%+v to\n%+v", name, form.key(), before[i].fields, form.fields)
					}
					continue
				}
				present = true
				if len(form.fields) != len(f.fields) {
					t.Errorf("%s has %d fields after it was rejected, want %d", name, len(form.fields), len(f.fields))
					continue
				}
				for i, field := range form.fields {
					previous := f.fields[i]
					switch {
					case field.kind == "button" || field.kind == "hidden" || field.kind == "file":
					case secretField.MatchString(field.name) && field.kind != "textarea":
						assert.True(t, field.value == "", "%s sends the secret %s back", name, field.name)
					case field.value != previous.value || field.checked != previous.checked:
						t.Errorf("%s, rejected: %s = %q (%v), want %q (%v)", name, field.name,
							field.value, field.checked, previous.value, previous.checked)
					}
				}
			}
			_, title, _ := strings.Cut(answer.Body, "<h1>")
			assert.True(t, present, "%s: status %d without the form: %.200s", name, answer.Status, title)
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

// acceptingForms accept any text, or answer with a confirmation page.
var acceptingForms = []string{"/console/accounts/press link", "/console/accounts/press member", "/console/accounts/shop member",
	"/console/alarms dismiss", "/console/calls/RID again",
	"/console/cases add", "/console/cases/1 save", "/console/packages/1 recall", "/console/preferences/theme add",
	"/console/rules/do owner=shop prefix=https://shop.example/ force_delete", "/console/rules/edit ", "/console/see-as ",
	"/console/statistics share", "/console/statistics/scans erase"}

// leakedValue matches what a template writes for a value that it cannot render: a pointer, a wrong verb, a map, nil, an object of a script.
var leakedValue = regexp.MustCompile(`0x[0-9a-f]{6,}|%!|map\[|&lt;nil&gt;|<nil>|\[object|ZgotmplZ`)

// inConsole matches the addresses of pages and forms in a page.
var inConsole = regexp.MustCompile(` (?:href|action|formaction)="(/console(?:[/?][^"]*)?)"`)

// TestEveryPage_ShowsValuesAndKeepsTheAccount verifies that no page shows an internal value, and that a page filtered by an account links
// only to pages with the same filter.
func TestEveryPage_ShowsValuesAndKeepsTheAccount(t *testing.T) {
	t.Parallel()
	s, fill := startWithHostileText(t)
	v := newVisitor(t, s)
	pages := 0
	languages := testscope.Select([]string{"en", "zh"}, []string{"zh"})
	for _, language := range languages {
		v.get("/console/self?lang=" + language)
		for _, p := range openPages {
			path, form := fill.Replace(p.path), fill.Replace(p.form)
			for _, account := range []string{"", "shop"} {
				target := path
				if account != "" && (strings.Contains(path, "account=") || !strings.HasPrefix(path, "/console/") ||
					strings.HasPrefix(path, "/console/shared/")) {
					continue
				}
				if account != "" {
					target += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "account=" + account
				}
				answer := v.send("GET", target, "", nil, "Accept: text/html")
				if form != "" {
					answer = v.send("POST", target, "application/x-www-form-urlencoded", strings.NewReader(form))
				}
				if answer.Status/100 == 3 {
					continue
				}
				pages++
				assert.True(t, answer.Status != http.StatusInternalServerError, "%s %s: status 500: %s", target, form, answer.Body)
				if match := leakedValue.FindStringIndex(answer.Body); match != nil {
					t.Errorf("%s %s shows %q", target, form, answer.Body[max(0, match[0]-80):min(len(answer.Body), match[1]+80)])
				}
				for _, element := range []string{"<img class=pwned", "<b class=pwned"} {
					assert.True(t, !strings.Contains(answer.Body, element), "%s %s renders a hostile text as an element", target, form)
				}
				for _, match := range inConsole.FindAllStringSubmatch(answer.Body, -1) {
					link := html.UnescapeString(match[1])
					assert.True(t, account == "" || strings.Contains(link, "account=") || strings.HasSuffix(link, ".css") ||
						strings.HasPrefix(link, "/console/shared/") || strings.HasPrefix(link, "/console/switch"),
						"%s %s links to %s without the account", target, form, link)
				}
				for _, filter := range regexp.MustCompile(`(?s)<form method="get".*?</form>`).FindAllString(answer.Body, -1) {
					assert.True(t, account == "" || strings.Contains(filter, `name="account"`),
						"%s %s has a form without the account: %.200s", target, form, filter)
				}
			}
		}
	}
	assert.True(t, pages >= 150*len(languages), "%d pages in %q were read, want at least 150 each", pages, languages)
}
