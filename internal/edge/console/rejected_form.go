package console

import (
	"context"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"

	"github.com/qrjump/qrjump/client"
)

// fieldWord matches the name of the field in an error message of the admin API.
var fieldWord = regexp.MustCompile(`^(?:(?:account|component) \S+: |settings: )?([a-z_]+(?:\.[a-z_]+)*)(?:\[\d+\])?(?:: |,? )`)

// rejectedForm is a rejected form submission that the page shows again with error messages. The page is rendered twice: the first
// pass finds out whether the page contains the form and which fields can show their error; the second pass shows the result.
type rejectedForm struct {
	path   string // the path to which the form was submitted
	values url.Values
	errors map[string]string // error messages by field name; "" for errors about no particular field
	found  bool              // whether the page contains the rejected form
	placed map[string]bool   // errors that are shown next to their field
	// Of one execution:
	inForm      bool // whether the form being rendered is the rejected form
	rendered    bool // the rejected form has been rendered
	focused     bool
	valueCounts map[string]int // number of values rendered so far, by field name
	shownErrors map[string]bool
}

type rejectedKey struct{}

func newRejectedForm(r *http.Request, faults map[string]string) *rejectedForm {
	return &rejectedForm{path: r.URL.EscapedPath(), values: r.PostForm, errors: faults, placed: map[string]bool{}}
}

// begin resets the state before a rendering pass of the page.
func (f *rejectedForm) begin() {
	f.inForm, f.rendered, f.focused, f.valueCounts, f.shownErrors = false, false, false, map[string]int{}, map[string]bool{}
}

// value returns the submitted value of a field; for fields with the same name, successive calls return successive values.
func (f *rejectedForm) value(name, fallback string) string {
	values, had := f.values[name]
	if !had {
		return fallback
	}
	i := f.valueCounts[name]
	f.valueCounts[name]++
	if i >= len(values) {
		return ""
	}
	return values[i]
}

// sent returns the rejected form while it is being rendered, otherwise nil.
func (v view) sent() *rejectedForm {
	if v.rejected != nil && v.rejected.inForm {
		return v.rejected
	}
	return nil
}

// Sent reports whether the form being rendered was rejected, so that the fold-out around the form is shown open.
func (v view) Sent() bool { return v.sent() != nil }

// Form starts rendering a form that is submitted to path. The form is the rejected form if the paths are equal and, for each name in
// fields, the submission has one of the given values; a submission without a field "did" matches any value of "did". Form returns the error
// messages that belong to no field of the form.
func (v view) Form(path string, fields ...any) template.HTML {
	f := v.rejected
	if f == nil {
		return ""
	}
	to, err := url.Parse(path)
	wanted := map[string][]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		name := fmt.Sprint(fields[i])
		wanted[name] = append(wanted[name], fmt.Sprint(fields[i+1]))
	}
	f.inForm = err == nil && !f.rendered && to.EscapedPath() == f.path
	for name, values := range wanted {
		f.inForm = f.inForm && (!f.values.Has(name) && name == "did" || slices.Contains(values, f.values.Get(name)))
	}
	if !f.inForm {
		return ""
	}
	f.found, f.rendered = true, true
	loose := maps.Clone(f.errors)
	maps.DeleteFunc(loose, func(name, _ string) bool { return f.placed[name] })
	said := slices.Sorted(maps.Values(loose))
	if len(loose) < len(f.errors) {
		said = append(said, v.say("form.marked"))
	}
	if len(said) == 0 {
		return ""
	}
	return template.HTML(`<p class="notice bad" role="alert" id="refused">` + template.HTMLEscapeString(strings.Join(said, " ")) + `</p>`)
}

// Mark returns the name attribute of a field, with the attributes that mark an invalid field; described lists the ids of the elements that
// describe the field.
func (v view) Mark(name string, described ...string) template.HTMLAttr {
	text := `name="` + template.HTMLEscapeString(name) + `"`
	f := v.sent()
	if f != nil && f.errors[name] != "" && !f.shownErrors[name] {
		described = append(described, name+"-wrong")
		text += ` aria-invalid="true"`
		if !f.focused {
			f.focused, text = true, text+" autofocus"
		}
	}
	if len(described) > 0 {
		text += ` aria-describedby="` + template.HTMLEscapeString(strings.Join(described, " ")) + `"`
	}
	return template.HTMLAttr(text)
}

// Fault returns the error message to show after a field.
func (v view) Fault(name string) template.HTML {
	f := v.sent()
	if f == nil || f.errors[name] == "" || f.shownErrors[name] {
		return ""
	}
	f.placed[name], f.shownErrors[name] = true, true
	return template.HTML(`<strong id="` + template.HTMLEscapeString(name) + `-wrong">` +
		template.HTMLEscapeString(f.errors[name]) + `</strong>`)
}

// Input returns the name and value attributes of a field: the submitted value, otherwise the given value. Secrets are never sent
// back to the browser.
func (v view) Input(name string, value any, described ...string) template.HTMLAttr {
	text := fmt.Sprint(value)
	if f := v.sent(); f != nil && !(keptField{Name: name}).Secret() {
		text = f.value(name, text)
	}
	return v.Mark(name, described...) + valueAttr(text)
}

// Text returns the content of a multi-line field.
func (v view) Text(name string, value any) string {
	if f := v.sent(); f != nil {
		return f.value(name, fmt.Sprint(value))
	}
	return fmt.Sprint(value)
}

// Box returns the name, value and checked attributes of a check box or radio button.
func (v view) Box(name string, value, on any, described ...string) template.HTMLAttr {
	text := fmt.Sprint(value)
	checked, _ := texttemplate.IsTrue(on)
	if f := v.sent(); f != nil {
		checked = slices.Contains(f.values[name], text)
	}
	return v.Mark(name, described...) + valueAttr(text) + switchAttr("checked", checked)
}

// Option returns the value and selected attributes of an option of a select field.
func (v view) Option(name string, value, on any) template.HTMLAttr {
	text := fmt.Sprint(value)
	selected, _ := texttemplate.IsTrue(on)
	if f := v.sent(); f != nil && f.values.Has(name) {
		selected = slices.Contains(f.values[name], text)
	}
	return valueAttr(text)[1:] + switchAttr("selected", selected)
}

func valueAttr(text string) template.HTMLAttr {
	return template.HTMLAttr(` value="` + template.HTMLEscapeString(text) + `"`)
}

func switchAttr(name string, on bool) template.HTMLAttr {
	if on {
		return template.HTMLAttr(" " + name)
	}
	return ""
}

// formNames maps field names of the admin API to form field names that differ.
var formNames = map[string]string{"code_start": "from", "code_end": "to", "formats": "format", "drawing": "kind", "wxa_appid": "target",
	"wxa_path": "path", "appid": "target", "test_links": "links", "expires_at": "days", "logo": "logo_kept", "texts.en.app": "app_en",
	"texts.en.landing": "landing_en", "texts.en.code": "code_en", "texts.zh.app": "app_zh", "texts.zh.landing": "landing_zh",
	"texts.zh.code": "code_zh"}

// faultsOf returns the error messages of an API error by form field.
func (v *request) faultsOf(said *client.Problem) map[string]string {
	faults := map[string]string{}
	blame := func(field, reason string) {
		last := field[strings.LastIndexByte(field, '.')+1:]
		for _, name := range []string{field, last, formNames[last], formNames[field]} {
			if _, sent := v.r.PostForm[name]; sent && name != "" {
				faults[name] = reason
				return
			}
		}
		faults[""] = reason
	}
	for _, problemError := range said.Errors {
		blame(strings.TrimPrefix(problemError.Location, "body."), v.Reason(problemError.Message))
	}
	if len(said.Errors) == 0 {
		field := ""
		if found := fieldWord.FindStringSubmatch(said.Detail); found != nil {
			field = found[1]
		}
		blame(field, v.problemText(said))
	}
	return faults
}

// showForm shows the page with the rejected form again, or returns false if the page does not contain the form.
func (v *request) showForm(status int, faults map[string]string) bool {
	if v.r.Method != http.MethodPost || status/100 != 4 || status == http.StatusPreconditionFailed || v.r.PostForm == nil {
		return false
	}
	from, err := url.Parse(view{request: v, SignedIn: true}.Keep(v.formPage()))
	if err != nil {
		return false
	}
	form := newRejectedForm(v.r, faults)
	r := v.r.Clone(context.WithValue(v.r.Context(), rejectedKey{}, form))
	r.Method, r.URL, r.RequestURI, r.Body, r.ContentLength = http.MethodGet, from, from.RequestURI(), http.NoBody, 0
	r.Form, r.PostForm, r.MultipartForm = nil, nil, nil
	r.Header.Del("Content-Type")
	r.Header.Del("Accept-Encoding")
	a := &bufferedResponse{visitors: v.w, header: http.Header{}}
	v.c.pages.ServeHTTP(a, r)
	if a.status != http.StatusOK || !form.found {
		return false
	}
	v.write(status, a.body.String())
	return true
}
