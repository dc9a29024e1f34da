package console

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/client"
)

// components contains the page components that templates/parts/components.html defines. Pages pass the data of a component to a method of
// view, which renders the component; pages contain no component markup of their own.
var components = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("components").Funcs(functions).ParseFS(files, "templates/parts/components.html"))
})

// part contains the data that the template of a component receives.
type part map[string]any

// render executes the template of a component. render panics if the data does not fit the template; tests render every page.
func render(name string, data any) template.HTML {
	var b bytes.Buffer
	if err := components().ExecuteTemplate(&b, name, data); err != nil {
		panic(err)
	}
	return template.HTML(b.String())
}

// formField is an input of a form: label, control, hint and error message.
type formField struct {
	view
	ID, Name, Label, Hint string
	Kind                  string // "area" = multi-line, "choice" = select from Choices, "check" = check box, else type of an <input>
	Value, On             any
	Choices               []choice
	Described             []string // ids of the elements that describe the field
	Wrong                 string   // error message for a value in the URL; "" = valid
	Attributes            template.HTMLAttr
}

// choice is an option of a select field.
type choice struct{ Value, Label string }

// attributes maps short names, which are used in templates, to HTML attributes of a form field.
var attributes = map[string]string{"max": "maxlength", "rows": "rows", "mode": "inputmode", "complete": "autocomplete", "accept": "accept",
	"placeholder": "placeholder", "capture": "capture", "min": "min",
	"step": "step", "required": "required", "readonly": "readonly", "autofocus": "autofocus", "plain": `spellcheck="false"`,
	"off":     `autocomplete="off"`,
	"account": `list="account-options" autocomplete="off" spellcheck="false" maxlength="128"`,
	// This entry is for fields that contain several AppIDs.
	"accounts": `list="account-options" data-several="yes" autocomplete="off" spellcheck="false" maxlength="4096"`}

// newField returns a form field; options are words: id=ID, hint=KEY (a text key), by=ID (of an element that describes the field),
// type=TYPE, "said" (label is a text, not a text key), and the names in attributes.
func (v view) newField(kind, name, label string, value any, options []string) formField {
	f := formField{view: v, ID: name, Name: name, Label: label, Kind: kind, Value: value}
	var b strings.Builder
	said := false
	for option := range strings.FieldsSeq(strings.Join(options, " ")) {
		name, text, has := strings.Cut(option, "=")
		switch name {
		case "id":
			f.ID = text
		case "hint":
			f.Hint = v.say(text)
		case "by":
			f.Described = append(f.Described, text)
		case "type":
			f.Kind = text
		case "said":
			said = true
		default:
			attribute, known := attributes[name]
			switch {
			case !known:
				panic("no attribute of fields is called " + name)
			case has:
				fmt.Fprintf(&b, ` %s="%s"`, attribute, template.HTMLEscapeString(text))
			default:
				b.WriteString(" " + attribute)
			}
		}
	}
	if !said {
		f.Label = v.say(label)
	}
	if f.Hint != "" {
		f.Described = append([]string{f.ID + "-hint"}, f.Described...)
	}
	f.Attributes = template.HTMLAttr(b.String())
	return f
}

// Field renders a single-line input; label is the text key of its label, and value is its initial value.
func (v view) Field(name, label string, value any, options ...string) template.HTML {
	return render("field", v.newField("text", name, label, value, options))
}

// FieldWrong renders a Field of a GET form; wrong is the error message for the value of the field, "" = the value is valid.
func (v view) FieldWrong(name, label string, value any, wrong string, options ...string) template.HTML {
	f := v.newField("text", name, label, value, options)
	f.Wrong = wrong
	if wrong != "" {
		f.Described = append([]string{f.ID + "-wrong"}, f.Described...)
		f.Attributes += ` autofocus aria-invalid="true"`
	}
	return render("field", f)
}

// Area renders a multi-line input.
func (v view) Area(name, label string, value any, options ...string) template.HTML {
	return render("field", v.newField("area", name, label, value, options))
}

// Check renders a check box, which submits value if it is checked; the parameter on determines whether it is checked at first.
func (v view) Check(name, label string, value, on any, options ...string) template.HTML {
	f := v.newField("check", name, label, value, options)
	f.On = on
	return render("check", f)
}

// Choose renders a select field. values is a list of choice structs or of words VALUE=KEY, in which KEY is the text key of the label.
func (v view) Choose(name, label string, chosen any, values any, options ...string) template.HTML {
	f := v.newField("choice", name, label, fmt.Sprint(chosen), options)
	var list []string
	switch values := values.(type) {
	case []choice:
		f.Choices = values
	case []string:
		list = values
	case string:
		list = strings.Fields(values)
	}
	for _, item := range list {
		value, key, _ := strings.Cut(item, "=")
		f.Choices = append(f.Choices, choice{value, v.say(key)})
	}
	return render("field", f)
}

// keyed returns words VALUE=KEY for Choose; KEY is prefix followed by the value. A text key KEY in first adds a word "=KEY" at the start.
func keyed(prefix string, values any, first ...string) (list []string) {
	for _, key := range first {
		list = append(list, "="+key)
	}
	for _, v := range reflect.ValueOf(values).Seq2() {
		value := fmt.Sprint(v)
		list = append(list, value+"="+prefix+value)
	}
	return list
}

// texts returns options whose label equals their value.
func texts(values []string) []choice {
	return mapped(values, func(value string) choice { return choice{value, value} })
}

// mapped converts every entry of a list with the function show.
func mapped[T, U any](list []T, show func(T) U) []U {
	shown := make([]U, 0, len(list))
	for _, item := range list {
		shown = append(shown, show(item))
	}
	return shown
}

// wordIf returns word if a template would treat the value of the parameter on as true, else "".
func wordIf(on any, word string) string {
	if is, _ := template.IsTrue(on); is {
		return word
	}
	return ""
}

// Start returns the attributes of an <input>: name, value and describing elements.
func (f formField) Start() template.HTMLAttr {
	switch f.Kind {
	case "check":
		return f.Box(f.Name, f.Value, f.On, f.Described...)
	case "area", "choice":
		return f.Mark(f.Name, f.Described...)
	case "password", "file":
		return f.Mark(f.Name, f.Described...) + template.HTMLAttr(` type="`+f.Kind+`"`)
	}
	start := f.Input(f.Name, f.Value, f.Described...)
	if f.Kind != "text" {
		start += template.HTMLAttr(` type="` + template.HTMLEscapeString(f.Kind) + `"`)
	}
	return start
}

// Post starts a form that changes an object; revision is the revision of the object that the page shows. fields contains pairs of a name
// and a value, as for Form; each pair becomes a hidden field, except "did", which the button sends.
func (v view) Post(path, class string, revision any, fields ...any) template.HTML {
	var hidden []keptField
	for i := 0; i+1 < len(fields); i += 2 {
		if name := fmt.Sprint(fields[i]); name != "did" {
			hidden = append(hidden, keptField{name, fmt.Sprint(fields[i+1])})
		}
	}
	return render("post", part{"View": v, "Refused": v.Form(path, fields...), "Action": template.URL(v.Keep(path)), "Class": class,
		"Revision": revision, "Hidden": hidden})
}

// Filters starts a form whose fields filter a list. Scripts apply the filters while the user types; without scripts the button from
// FiltersEnd submits the form.
func (v view) Filters(path string) template.HTML {
	return render("filters", part{"Action": v.Keep(path)})
}

// FiltersEnd ends the form and links to the unfiltered list if filters are active; ownNames is "account" if the form has an account field.
func (v view) FiltersEnd(path string, ownNames ...string) template.HTML {
	q := v.r.URL.Query()
	for _, name := range []string{"account", "lang", "done"} {
		q.Del(name)
	}
	data := part{"View": v, "Clear": wordIf(len(q) > 0, v.Keep(path)), "Account": ""}
	if len(ownNames) == 0 {
		data["Account"] = v.AccountFilter()
	}
	return render("filters-end", data)
}

// KeptField renders a hidden field that preserves the account filter in a GET form.
func (v view) KeptField() template.HTML { return render("kept-field", v.AccountFilter()) }

// table contains the header of a list. In a template the rows of the list follow the header, and the component "end" follows the rows.
type table struct {
	view
	Label, ID string
	Columns   []column
}

// column is a table column; its values may be numbers, or check boxes that select rows.
type column struct {
	Label          string
	Number, Select bool
	To, Sorted     string // address of the list sorted by this column; the value of aria-sort
}

// sortBy links the header of c to the list in an order of the server, or to the reverse order if the list has this order.
func (c *column) sortBy(v view, order string) {
	reverse := ""
	if v.Q("order") == order {
		reverse = wordIf(v.Q("reverse") == "", "yes")
		c.Sorted = map[bool]string{true: "ascending", false: "descending"}[(reverse == "") != (order == "name")]
	}
	c.To = v.address(v.r.URL.Path, "offset", "", "order", order, "reverse", reverse)
}

// Table starts a list; label is the text key of the list's label, or "=TEXT". Each word in columns is the text key of a column header;
// "#KEY" marks a column of numbers, and "=TEXT" is a column of numbers with this label. The word "" is skipped, and "@ID" sets the id of
// the table.
func (v view) Table(label string, columns ...string) template.HTML {
	text, said := strings.CutPrefix(label, "=")
	if !said {
		text = v.say(label)
	}
	t := table{view: v, Label: text}
	for _, key := range columns {
		switch {
		case strings.HasPrefix(key, "@"):
			t.ID = key[1:]
		case strings.HasPrefix(key, "="):
			t.Columns = append(t.Columns, column{Label: key[1:], Number: true})
		case key != "":
			name, number := strings.CutPrefix(key, "#")
			t.Columns = append(t.Columns, column{Label: v.say(name), Number: number})
		}
	}
	return render("table", t)
}

// EmptyRow returns the row for an empty list: why the list is empty, and what to do first.
func (v view) EmptyRow(columns int, key string, first ...string) template.HTML {
	data := part{"Columns": columns, "Text": v.say(key), "First": ""}
	if len(first) == 2 {
		data["To"], data["First"] = v.Keep(first[0]), v.say(first[1])
	}
	return render("none", data)
}

// Badge renders a state as a word; kind is good, bad, warn, info or none.
func (v view) Badge(kind, key string, values ...any) template.HTML {
	return badge(kind, v.say(key, values...))
}

func badge(kind, text string) template.HTML {
	return template.HTML(`<span class="tag` + wordIf(kind, " "+kind) + `">` + template.HTMLEscapeString(text) + `</span>`)
}

// Tabs renders links to the parts of a page, given as pairs of an address and a text key.
func (v view) Tabs(pairs ...string) template.HTML {
	var list []part
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, part{"To": v.Keep(pairs[i]), "Text": v.say(pairs[i+1]), "Current": pairs[i] == v.r.URL.Path})
	}
	return render("tabs", list)
}

// Danger renders a destructive action in a separate box: a title, the reason for caution, and one button.
func (v view) Danger(path string, revision any, did, title, reason, button string) template.HTML {
	return render("danger", part{"Post": v.Post(path, "", revision, "did", did), "Did": did, "Title": v.say(title),
		"Why": v.say(reason), "Button": v.say(button)})
}

// Metrics renders a list of prominent numbers.
func (v view) Metrics(list []number) template.HTML {
	return render("metrics", part{"View": v, "List": list})
}

// componentRow is a row of a sample table.
type componentRow struct {
	Name, Kind, State string
	Scans             int64 `json:"scans"`
}

// components shows every user interface component, for developers of this server.
func (operatePages) components(v *request) error {
	if !v.c.Emulates {
		return v.nowhere()
	}
	return v.show(http.StatusOK, "components", struct {
		Numbers []number
		Rows    []componentRow
		Hook    client.Webhook
	}{[]number{{Name: "home.today", Value: "1,003", Beside: v.say("home.week", "870"), Trend: []int64{3, 5, 4, 8, 7, 9, 12}},
		{Kind: "warn", Name: "home.misses", Value: "5"}, {Kind: "bad", Name: "home.alarms", Value: "1"}},
		[]componentRow{{"Tea", "good", "rules.published", 1003}, {"Coffee", "", "rules.draft", 12}},
		client.Webhook{URL: "https://hooks.example/scans", Alarms: true, Enabled: true, CreatedAt: time.Now()}})
}
