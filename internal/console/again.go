package console

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// A form that is refused is shown once more on the page that it came from, with whatever was typed, and the refusal at the field that
// it names. That is done to the finished page, as these patterns find their way in it, so that it holds for every form. Templates
// write no > into an attribute.
var (
	tags       = regexp.MustCompile(`<(/?)(form|input|select|option|textarea|button|details|datalist)\b([^>]*)>`)
	attributes = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
	fieldWord  = regexp.MustCompile(`^(?:(?:account|component) \S+: |settings: )?([a-z_]+(?:\.[a-z_]+)*)(?:\[\d+\])?(?:: |,? )`)
)

// switches are attributes without a value.
var switches = []string{"autofocus", "checked", "formnovalidate", "multiple", "open", "readonly", "required", "selected"}

// tag is a tag of a page, with the text that follows it.
type tag struct {
	closes bool
	name   string
	raw    string // as it stands; "" once has changed
	text   string
	order  []string
	has    map[string]string
}

func (t *tag) set(name, value string) {
	if _, was := t.has[name]; !was {
		t.order = append(t.order, name)
	}
	t.has[name], t.raw = value, ""
}

func (t *tag) turn(name string, on bool) {
	if _, was := t.has[name]; was != on {
		if t.set(name, ""); !on {
			delete(t.has, name)
		}
	}
}

func (t *tag) write(b *strings.Builder) {
	if b.WriteString(t.raw); t.raw == "" && t.name != "" {
		b.WriteString("<" + t.name)
		for _, name := range t.order {
			value, is := t.has[name]
			switch {
			case is && value == "" && slices.Contains(switches, name):
				b.WriteString(" " + name)
			case is:
				b.WriteString(" " + name + `="` + html.EscapeString(value) + `"`)
			}
		}
		b.WriteString(">")
	}
	b.WriteString(t.text)
}

// readTags takes a page apart. The first tag is none: it has what stands before the others.
func readTags(page string) []*tag {
	list, end := []*tag{{}}, 0
	for _, at := range tags.FindAllStringSubmatchIndex(page, -1) {
		list[len(list)-1].text = page[end:at[0]]
		one := &tag{closes: at[3] > at[2], name: page[at[4]:at[5]], raw: page[at[0]:at[1]], has: map[string]string{}}
		for _, has := range attributes.FindAllStringSubmatch(page[at[6]:at[7]], -1) {
			one.order, one.has[has[1]] = append(one.order, has[1]), html.UnescapeString(has[2])
		}
		list, end = append(list, one), at[1]
	}
	list[len(list)-1].text = page[end:]
	return list
}

// refill puts what was typed into the form of a page that r sent, and what is wrong beside the fields it is about; faults are by the
// names of fields, "" for what is about none. ok is false where the page does not have the form.
func refill(page string, r *http.Request, faults map[string]string, marked string) (filled string, ok bool) {
	list := readTags(page)
	first, last := formOf(list, r)
	if first == 0 {
		return page, false
	}
	typed := url.Values{}
	for name, values := range r.PostForm {
		typed[name] = slices.Clone(values)
	}
	left := maps.Clone(faults)
	for i := first + 1; i < last; i++ {
		if list[i].closes || !list[i].fill(typed, list, i) {
			continue
		}
		if list[i].raw == "" {
			open(list[first:i])
		}
		name := list[i].has["name"]
		if why, wrong := left[name]; wrong && name != "" {
			list[i].blame(why, len(left) == len(faults), list[ends(list, i)])
			delete(left, name)
			open(list[:i])
		}
	}
	whole := slices.Sorted(maps.Values(left))
	if len(left) < len(faults) {
		whole = append(whole, marked)
	}
	if len(whole) > 0 {
		list[first-1].text += `<p class="notice bad" role="alert" id="refused">` + html.EscapeString(strings.Join(whole, " ")) + `</p>`
		open(list[:first])
	}
	var b strings.Builder
	for _, one := range list {
		one.write(&b)
	}
	return b.String(), true
}

// formOf finds the form that r sent: it goes where r went, its hidden fields are those of r, and it can do what r asks for.
func formOf(list []*tag, r *http.Request) (first, last int) {
	for i, one := range list {
		if one.name != "form" || one.closes || !strings.EqualFold(one.has["method"], "post") {
			continue
		}
		to, err := url.Parse(one.has["action"])
		if err != nil || to.EscapedPath() != r.URL.EscapedPath() {
			continue
		}
		end, same, does := i+1, true, !r.PostForm.Has("did")
		for ; end < len(list) && list[end].name != "form"; end++ {
			switch name, value := list[end].has["name"], list[end].has["value"]; {
			case name == "did" && list[end].has["type"] != "hidden":
				does = does || list[end].name == "select" || value == r.PostForm.Get("did")
			case list[end].has["type"] == "hidden" && name != revisionField:
				same = same && slices.Contains(r.PostForm[name], value)
				does = does || name == "did"
			}
		}
		if same && does {
			return i, end
		}
	}
	return 0, 0
}

// fill gives a field what was typed into it, and reports whether it is one that people fill in.
func (t *tag) fill(typed url.Values, list []*tag, i int) bool {
	name := t.has["name"]
	values, had := typed[name]
	if name == "" || t.name == "button" {
		return false
	}
	take := func() (value string) {
		if len(values) > 0 {
			value, typed[name] = values[0], values[1:]
		}
		return value
	}
	switch kind := t.has["type"]; {
	case kind == "file" || (keptField{Name: name}).Secret() || kind == "password":
	case kind == "hidden":
		if had {
			t.set("value", take())
		}
		return false
	case kind == "checkbox", kind == "radio":
		t.turn("checked", slices.Contains(values, t.has["value"]))
	case t.name == "select":
		for _, option := range list[i+1 : ends(list, i)] {
			option.turn("selected", had && slices.Contains(values, option.has["value"]))
		}
	case t.name == "textarea" && had:
		t.text = html.EscapeString(take())
	case had:
		t.set("value", take())
	}
	return true
}

// blame marks a field, and says why behind it. The first one is where the page opens.
func (t *tag) blame(why string, first bool, end *tag) {
	id := t.has["name"] + "-wrong"
	t.set("aria-invalid", "true")
	t.set("aria-describedby", strings.TrimSpace(t.has["aria-describedby"]+" "+id))
	t.turn("autofocus", first)
	end.text = `<strong id="` + id + `">` + html.EscapeString(why) + `</strong>` + end.text
}

// ends is where a field ends: at its last tag.
func ends(list []*tag, i int) int {
	if name := list[i].name; name == "select" || name == "textarea" {
		for end := i + 1; end < len(list); end++ {
			if list[end].closes && list[end].name == name {
				return end
			}
		}
	}
	return i
}

// open unfolds what the end of a list of tags is in.
func open(list []*tag) {
	closed := 0
	for _, one := range slices.Backward(list) {
		switch {
		case one.name == "details" && one.closes:
			closed++
		case one.name == "details" && closed > 0:
			closed--
		case one.name == "details":
			one.turn("open", true)
		}
	}
}

// fieldsOf are the names that refusals have for fields of forms, where these are others.
var fieldsOf = map[string]string{"code_start": "from", "code_end": "to", "code_count": "count", "formats": "format", "drawing": "kind",
	"wxa_appid": "target", "wxa_path": "path", "appid": "target", "test_links": "links", "expires": "days"}

// faultsOf is a refusal by the fields of the form that it is about.
func (v *visit) faultsOf(said *client.Problem) map[string]string {
	faults := map[string]string{}
	blame := func(field, why string) {
		last := field[strings.LastIndexByte(field, '.')+1:]
		for _, name := range []string{field, last, fieldsOf[last], v.fieldOf(field)} {
			if _, sent := v.r.PostForm[name]; sent && name != "" {
				faults[name] = why
				return
			}
		}
		faults[""] = why
	}
	for _, one := range said.Errors {
		blame(strings.TrimPrefix(one.Location, "body."), v.reason(one.Message))
	}
	if len(said.Errors) == 0 {
		field := ""
		if found := fieldWord.FindStringSubmatch(said.Detail); found != nil {
			field = found[1]
		}
		blame(field, v.said(said))
	}
	return faults
}

// fieldOf is the field of a form for one of the admin API.
func (*visit) fieldOf(json string) string {
	for _, one := range versions {
		if one.json == json {
			return one.field
		}
	}
	return ""
}

// again shows the page of a refused form once more; false where it cannot be found.
func (v *visit) again(status int, faults map[string]string) bool {
	if v.r.Method != http.MethodPost || status/100 != 4 || status == http.StatusPreconditionFailed || v.r.PostForm == nil {
		return false
	}
	from, err := url.Parse(v.before())
	if err != nil {
		return false
	}
	r := v.r.Clone(v.r.Context())
	r.Method, r.URL, r.RequestURI, r.Body, r.ContentLength = http.MethodGet, from, from.RequestURI(), http.NoBody, 0
	r.Form, r.PostForm, r.MultipartForm = nil, nil, nil
	r.Header.Del("Content-Type")
	a := &answered{visitors: v.w, header: http.Header{}}
	v.c.pages.ServeHTTP(a, r)
	if a.status != http.StatusOK {
		return false
	}
	page, ok := refill(a.body.String(), v.r, faults, v.say("form.marked"))
	if ok {
		v.write(status, page)
	}
	return ok
}
