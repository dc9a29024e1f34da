package console

import (
	"bytes"
	"fmt"
	"html/template"
	"reflect"
	"strings"
	"sync"
)

// components are the parts of pages that templates/parts/components.html draws. A page asks the view for one by its data, and never writes
// its markup itself.
var components = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("components").Funcs(functions).ParseFS(files, "templates/parts/components.html"))
})

// render draws a component. It panics where its data are not those of its template: every page is drawn by a test.
func render(name string, data any) template.HTML {
	var b bytes.Buffer
	if err := components().ExecuteTemplate(&b, name, data); err != nil {
		panic(err)
	}
	return template.HTML(b.String())
}

// formField is one input of a form: label, control, hint and what is wrong with it.
type formField struct {
	view
	ID, Name, Label, Hint string
	Kind                  string // the type of an <input>; "area" = several lines, "choice" = one of Choices, "check" = a box
	Value, On             any
	Choices               []choice
	Described             []string // ids of what describes it
	Wrong                 string   // what is wrong with a value in the address; "" = nothing
	Attributes            template.HTMLAttr
}

// choice is a value of which one is chosen.
type choice struct{ Value, Label string }

// attributes are those that templates may give a field, by their short names.
var attributes = map[string]string{"max": "maxlength", "rows": "rows", "mode": "inputmode", "complete": "autocomplete", "accept": "accept",
	"placeholder": "placeholder", "capture": "capture", "min": "min",
	"step": "step", "required": "required", "readonly": "readonly", "autofocus": "autofocus", "plain": `spellcheck="false"`,
	"off":     `autocomplete="off"`,
	"account": `list="account-options" autocomplete="off" spellcheck="false" maxlength="128"`,
	// The same for several AppIDs.
	"accounts": `list="account-options" data-several="yes" autocomplete="off" spellcheck="false" maxlength="4096"`}

// newField returns a field of a form. options are words: id=ID, hint=KEY (a text), by=ID (of a hint elsewhere), type=TYPE, said (the
// label is a text, not a key), and those of attributes.
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

// Field draws an input of one line, with the key of its label and its initial value.
func (v view) Field(name, label string, value any, options ...string) template.HTML {
	return render("field", v.newField("text", name, label, value, options))
}

// FieldWrong is Field of a form that is sent by GET, with what is wrong with its value; "" = nothing.
func (v view) FieldWrong(name, label string, value any, wrong string, options ...string) template.HTML {
	f := v.newField("text", name, label, value, options)
	if f.Wrong = wrong; wrong != "" {
		f.Described = append([]string{f.ID + "-wrong"}, f.Described...)
		f.Attributes += ` autofocus aria-invalid="true"`
	}
	return render("field", f)
}

// Area draws an input of several lines.
func (v view) Area(name, label string, value any, options ...string) template.HTML {
	return render("field", v.newField("area", name, label, value, options))
}

// Check draws a box that sends value where it is on.
func (v view) Check(name, label string, value, on any, options ...string) template.HTML {
	f := v.newField("check", name, label, value, options)
	f.On = on
	return render("check", f)
}

// Choose draws a field of which one value is chosen. Values are choices, or words VALUE=KEY with the key of their text.
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

// keyed returns the values of a list for Choose, whose texts have keys that begin with prefix; before them stands none, with the key of
// first.
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

// texts returns choices that are shown as they are sent.
func texts(values []string) (list []choice) {
	for _, value := range values {
		list = append(list, choice{value, value})
	}
	return list
}

// wordIf returns word where on is true in the sense of templates, else "".
func wordIf(on any, word string) string {
	if is, _ := template.IsTrue(on); is {
		return word
	}
	return ""
}

// Start returns the attributes of an <input>: its name, its value and what describes it.
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

// Post begins a form that changes something, as Form does, with the revision of what it changes and a hidden field for each name and
// value, except those of the button: did.
func (v view) Post(path, class string, revision any, fields ...any) template.HTML {
	f := postForm{view: v, Refused: v.Form(path, fields...), Action: template.URL(v.Keep(path)), Class: class, Revision: revision}
	for i := 0; i+1 < len(fields); i += 2 {
		if name := fmt.Sprint(fields[i]); name != "did" {
			f.Hidden = append(f.Hidden, keptField{name, fmt.Sprint(fields[i+1])})
		}
	}
	return render("post", f)
}

type postForm struct {
	view
	Refused  template.HTML
	Action   template.URL // a path of this program
	Class    string
	Revision any
	Hidden   []keptField
}

// Filters begins a form of fields that narrow a list. Scripts apply them while the user types; without scripts FiltersEnd has a
// button.
func (v view) Filters(path string) template.HTML {
	return render("filters", struct{ Action string }{v.Keep(path)})
}

// FiltersEnd ends the form, and leads to the list without filters where there are some. ownNames is "account" where that is a field of the form.
func (v view) FiltersEnd(path string, ownNames ...string) template.HTML {
	q := v.r.URL.Query()
	for _, name := range []string{"account", "lang", "done"} {
		q.Del(name)
	}
	data := filtersEnd{view: v, Clear: wordIf(len(q) > 0, v.Keep(path))}
	if len(ownNames) == 0 {
		data.Account = v.Kept()
	}
	return render("filters-end", data)
}

type filtersEnd struct {
	view
	Clear   string // the address of the list without filters; "" = there are none
	Account string // by which pages are filtered
}

// KeptField keeps the account by which pages are filtered in a form that is sent by GET.
func (v view) KeptField() template.HTML { return render("kept-field", v.Kept()) }

// table is the head of a list. Its rows follow, then the component "end".
type table struct {
	view
	Label, ID string
	Columns   []column
}

// column is one of a table: its values are numbers, or boxes by which rows are selected.
type column struct {
	Label          string
	Number, Select bool
}

// Table begins a list that is called by the text of a key. Each column has the key of its head: "#KEY" has numbers, "+" selects rows, "" is
// left out; "@ID" names the table.
func (v view) Table(label string, columns ...string) template.HTML {
	t := table{view: v, Label: v.say(label)}
	for _, key := range columns {
		switch {
		case strings.HasPrefix(key, "@"):
			t.ID = key[1:]
		case key == "+":
			t.Columns = append(t.Columns, column{Select: true})
		case key != "":
			name, number := strings.CutPrefix(key, "#")
			t.Columns = append(t.Columns, column{Label: v.say(name), Number: number})
		}
	}
	return render("table", t)
}

// None returns the row of a list that is empty: why it is, and what to do first.
func (v view) None(columns int, key string, first ...string) template.HTML {
	e := emptyState{view: v, Columns: columns, Text: v.say(key)}
	if len(first) == 2 {
		e.To, e.First = v.Keep(first[0]), v.say(first[1])
	}
	return render("none", e)
}

type emptyState struct {
	view
	Columns         int
	Text, To, First string
}

// Badge returns a state in a word, whose kind is good, bad, warn, info or none.
func (v view) Badge(kind, key string, values ...any) template.HTML {
	return render("badge", struct{ Kind, Text string }{kind, v.say(key, values...)})
}

// Tabs are parts of a page, each with an address of its own: pairs of an address and the key of its text.
func (v view) Tabs(pairs ...string) template.HTML {
	type tab struct {
		To, Text string
		Here     bool
	}
	var list []tab
	for i := 0; i+1 < len(pairs); i += 2 {
		to := v.Keep(pairs[i])
		list = append(list, tab{to, v.say(pairs[i+1]), v.Keep(v.Self) == to})
	}
	return render("tabs", struct {
		view
		List []tab
	}{v, list})
}

// Danger draws a destructive action apart from the rest: a title, the reason for caution, and one button.
func (v view) Danger(path string, revision any, did, title, reason, button string) template.HTML {
	return render("danger", struct {
		view
		Post               template.HTML
		Did                string
		Title, Why, Button string
	}{v, v.Post(path, "", revision, "did", did), did, v.say(title), v.say(reason), v.say(button)})
}

// Metrics are numbers that stand out.
func (v view) Metrics(list []number) template.HTML {
	return render("metrics", struct {
		view
		List []number
	}{v, list})
}
