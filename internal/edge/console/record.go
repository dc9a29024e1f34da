package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// spec describes how a page shows or asks for a field of an operation. Templates write a spec as [KEY=]NAME[?][:KIND][,OPTION…]. NAME is
// the field's name in JSON. KEY is the text key of the label (default: see fieldLabels). KIND selects the form of the cell or input;
// without KIND, the entry of the field in kinds does, else the type of the field. "?" means that Facts omits the field if its value is
// empty. OPTION is an option of newField.
type spec struct {
	Key, Name, Kind string
	Optional        bool
	Options         []string
}

func specsOf(words []string) (list []spec) {
	for word := range strings.FieldsSeq(strings.Join(words, " ")) {
		word, options, _ := strings.Cut(word, ",")
		word, kind, _ := strings.Cut(word, ":")
		s := spec{Kind: kind, Name: word, Options: strings.Split(options, ",")}
		if key, name, has := strings.Cut(word, "="); has {
			s.Key, s.Name = key, name
		}
		s.Name, s.Optional = strings.CutSuffix(s.Name, "?")
		s.Key = cmp.Or(s.Key, fieldLabels[s.Name])
		list = append(list, s)
	}
	return list
}

// fieldLabels maps field names of the admin API to the text keys of their labels.
var fieldLabels = map[string]string{"accent": "appearance.accent", "account": "calls.account", "accounts": "people.accounts",
	"actor": "rules.by", "alarms": "hooks.alarms.tell", "appid": "accounts.appid", "application_id": "codes.batch",
	"attempts": "hooks.tries", "certified": "need.certified", "code_count": "codes.count", "codes": "hooks.codes.tell",
	"count": "codes.count", "created_at": "calls.at", "created_by": "rules.by", "enabled": "rules.state",
	"encoding_aes_key": "platform.aes", "errcode": "calls.errcode", "event_url": "platform.events", "features": "accounts.features",
	"granted_at": "platform.granted", "help": "appearance.help", "host": "checks.host", "ip": "operate.refused.ip",
	"ip_allowlist": "accounts.addresses", "isv_application_id": "batch.isv", "jump_open": "accounts.jump", "key": "operate.key",
	"kind": "accounts.kind", "linked": "accounts.linked", "marketcode_key": "accounts.key", "members": "accounts.members",
	"message_token": "platform.token", "message_url": "accounts.messages", "name": "accounts.name", "namespace": "scans.namespace",
	"note": "batch.note", "occupy": "rule.occupy", "occurred_at": "calls.at", "ok": "checks.found", "open_at_once": "appearance.once",
	"open_version": "rule.open", "owner": "rules.owner", "pages": "accounts.pages", "password": "login.password", "path": "rules.page",
	"permission_sets": "platform.sets", "prefix": "rules.prefix", "printer": "packages.printer", "published": "rules.published",
	"reason": "calls.why", "redirect_hosts": "platform.hosts", "region": "stats.region", "rid": "calls.rid", "role": "people.role",
	"rules": "hooks.rules.tell", "scans": "stats.scans", "second_factor": "people.factor", "secret": "accounts.secret",
	"secret_frozen": "accounts.frozen", "last_seen_at": "people.seen", "order": "list.order", "state": "rules.state",
	"status":  "rules.state",
	"subject": "accounts.subject", "target": "rules.target", "test_links": "rule.links", "threshold": "batch.alarm.threshold",
	"url": "hooks.url", "url_scheme": "accounts.scheme", "user": "scan.user", "value": "operate.value", "versions": "accounts.versions"}

// kinds maps field names of the admin API to the kind of their cells.
var kinds = map[string]string{"account": "account", "owner": "account", "target": "account", "prefix": "code", "ok": "yes.no",
	"enabled": "on.off", "endpoint": "code", "directory": "code"}

// enums maps field names of the admin API to their values, in the order of forms.
var enums = map[string][]string{"kind": accountKinds, "subject": accountSubjects, "versions": accountVersions, "features": features,
	"role": roles, "status": {"trusted", "denied", "no_icp"}, "permission_sets": {"3", "18", "33", "46"},
	"invite_days": {"3", "7", "30", "0"}, "seen_as": roles[:len(roles)-1], "member": {"admin", "developer", "trial"},
	"language": {"en", "zh"}, "lists": {"csv", "ndjson", "lines", "text"}, "labels": drawnFormats, "level": {"L", "M", "Q", "H"},
	"symbol": {"qr", "datamatrix", "matrix", "both", "gs1-qr", "gs1-datamatrix", "gs1-digital-link"}, "picture": {"pdf", "png", "svg"},
	"code": {"free", "active", "redeemed", "frozen", "void"}, "delivery": {"pending", "delivered", "failed"},
	"shared_days": {"7", "30", "90"}, "camera": strings.Fields("start stop asking looking found stopped unseen long gone denied none " +
		"used failed lost ended insecure")}

// states maps the name of a state to the kind of its badge.
var states = map[string]string{"delivered": "good", "failed": "bad", "pending": "warn", "generated": "good", "rejected": "bad",
	"pending_approval": "warn", "generating": "warn", "active": "good", "void": "bad", "frozen": "warn", "redeemed": "info"}

var fieldIndexes sync.Map // maps a reflect.Type to the indexes of its fields by name, a map[string][]int

// fieldOf returns the field of value with this name in JSON or Go, or the result of the method with this name. The name "." means the value
// itself, and "OUTER.INNER" means the field INNER of the field OUTER.
func fieldOf(value reflect.Value, name string) (field reflect.Value, tag reflect.StructTag) {
	if name == "." {
		return value, ""
	}
	if outer, inner, nested := strings.Cut(name, "."); nested {
		value, _ = fieldOf(value, outer)
		name = inner
	}
	record := reflect.Indirect(value)
	indexes, known := fieldIndexes.Load(record.Type())
	if !known {
		found := map[string][]int{}
		for _, f := range reflect.VisibleFields(record.Type()) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			found[f.Name], found[cmp.Or(key, f.Tag.Get("query"), f.Name)] = f.Index, f.Index
		}
		indexes, _ = fieldIndexes.LoadOrStore(record.Type(), found)
	}
	if i, has := indexes.(map[string][]int)[name]; has {
		return record.FieldByIndex(i), record.Type().FieldByIndex(i).Tag
	}
	if method := value.MethodByName(name); method.IsValid() {
		return method.Call(nil)[0], ""
	}
	panic("no field of " + record.Type().String() + " is called " + name)
}

// cell is a shown field of a value.
type cell struct {
	Label, Kind, Text, To string
	Number                bool
	Content               template.HTML
}

// cell shows a field. The kind in s is the name of a template of the page, to which cell passes the value, or one of: "code", "copy" (code
// to copy), "GOOD.BAD" (a badge for a bool, with these text keys), "/PATH" (a link to PATH followed by the value), "PREFIX." (the text with
// the key PREFIX.VALUE), "PREFIX*" (a badge with the text key PREFIXVALUE). Without a kind in s or in kinds, the type of the field
// determines the form of the cell.
func (v view) cell(s spec, row reflect.Value) cell {
	value, _ := fieldOf(row, s.Name)
	kind := cmp.Or(s.Kind, kinds[s.Name])
	c := cell{Kind: kind}
	if kind == "account" { // a template for each cell would take most of the time of a long list
		c.Content = v.AccountLink(value.String())
		return c
	}
	if isPage := templates()[v.Name].Lookup(kind); isPage != nil && kind != "" {
		var b strings.Builder
		if err := isPage.Execute(&b, v.WithData(value.Interface())); err != nil {
			panic(err)
		}
		c.Content = template.HTML(b.String())
		return c
	}
	if c.Text = textOf(value); value.CanInt() && kind != "" {
		c.Text = fmt.Sprint(value)
	}
	yes, no, isSwitch := strings.Cut(kind, ".")
	switch t := value.Interface().(type) {
	case time.Time, *time.Time:
		if !value.IsZero() {
			c.Content = v.Time(t)
			return c
		}
	case bool:
		switch {
		case isSwitch && t:
			c.Content = v.Badge("good", yes)
		case isSwitch:
			c.Content = v.Badge(cmp.Or(map[string]string{"off": "warn"}[no], "bad"), no)
		default:
			c.Text = v.say(map[bool]string{true: "yes", false: "no"}[t])
		}
		if isSwitch {
			return c
		}
	case int, int64, int32:
		c.Number = kind == "" || kind == "id"
	}
	switch prefix, isState := strings.CutSuffix(kind, "*"); {
	case isState:
		c.Content = badge(states[c.Text], v.say(prefix+c.Text))
		return c
	case strings.HasSuffix(kind, ".") && v.Has(kind+c.Text):
		c.Text = v.say(kind + c.Text)
	case strings.HasPrefix(kind, "/"):
		escape := url.QueryEscape
		if strings.HasSuffix(kind, "/") {
			escape = url.PathEscape
		}
		c.To = v.Keep(Root + kind + escape(c.Text))
	case c.Text == "":
		c.Kind, c.Text = "", "–"
	}
	text := template.HTMLEscapeString(c.Text)
	switch {
	case c.Kind == "code":
		text = "<code>" + text + "</code>"
	case c.Kind == "copy":
		text = `<code class="copy">` + text + "</code>"
	}
	c.Content = template.HTML(linked(c.To, text))
	return c
}

// linked returns an HTML text as a link to an address; "" = no link.
func linked(to, html string) string {
	if to == "" {
		return html
	}
	return `<a href="` + template.HTMLEscapeString(to) + `">` + html + "</a>"
}

// textOf returns a value as text: numbers with separators, lists with commas.
func textOf(value reflect.Value) string {
	switch value = reflect.Indirect(value); {
	case !value.IsValid(), value.Kind() == reflect.Slice && value.Len() == 0:
		return ""
	case value.CanInt():
		return separated(value.Int())
	case value.Kind() == reflect.Slice && value.Type().Elem().Kind() != reflect.Uint8:
		var words []string
		for i := range value.Len() {
			words = append(words, fmt.Sprint(value.Index(i)))
		}
		return strings.Join(words, ", ")
	}
	return fmt.Sprint(value)
}

// List renders a list of values with a column for each word. label contains the text key of the label and optionally a second text key for
// an empty list (default: LABEL.none). A word with the key "+" is a column of check boxes; the option "sort=ORDER" makes the header a link.
// A last word "@PARAMETER=FIELD" adds a link to the next page, which follows the row with FIELD in the query parameter PARAMETER;
// "@PARAMETER=offset" divides rows into pages. An option is appended to the address of the next page.
func (v view) List(label string, rows any, words ...string) template.HTML {
	label, empty, _ := strings.Cut(label, " ")
	t, list, specs, next := table{view: v, Label: v.say(label)}, reflect.ValueOf(rows), specsOf(words), ""
	if last := len(specs) - 1; strings.HasPrefix(specs[last].Key, "@") {
		list, next = v.listPage(specs[last], list)
		specs = specs[:last]
	}
	var html strings.Builder
	numbers := make([]bool, len(specs))
	for i := range list.Len() {
		html.WriteString("\n<tr>")
		for column, s := range specs {
			c := v.cell(s, list.Index(i))
			numbers[column] = i == 0 && c.Number || numbers[column]
			html.WriteString("<td" + wordIf(c.Number, ` class="num"`) + ">" + string(c.Content) + "</td>")
		}
		html.WriteString("</tr>")
	}
	for i, s := range specs {
		c := column{Select: s.Key == "+", Number: numbers[i]}
		if !c.Select {
			c.Label = v.say(s.Key)
		}
		if _, order, has := strings.Cut(s.Options[0], "sort="); has {
			c.sortBy(v, order)
		}
		t.Columns = append(t.Columns, c)
	}
	shown := template.HTML(html.String())
	if empty = cmp.Or(empty, label+".none"); shown == "" && v.Has(empty) {
		shown = v.EmptyRow(len(specs), empty)
	}
	return render("list", part{"Head": render("table", t), "Rows": shown, "Next": next, "More": v.say("more")})
}

// Cell renders the field of value that word describes; page templates call Cell.
func (v view) Cell(value any, word string) template.HTML {
	return v.cell(specsOf([]string{word})[0], reflect.ValueOf(value)).Content
}

// Facts renders the fields of a value as a list of labels and values.
func (v view) Facts(value any, words ...string) template.HTML {
	var list []cell
	for _, s := range specsOf(words) {
		if field, _ := fieldOf(reflect.ValueOf(value), s.Name); s.Optional && field.IsZero() {
			continue
		}
		c := v.cell(s, reflect.ValueOf(value))
		c.Label = v.say(s.Key)
		list = append(list, c)
	}
	return render("facts", list)
}

// Fields renders one input for each name in words; the field of form with this name contains the initial value, and its schema tags
// determine the maximum length and whether the input is required. If the text LABEL.hint exists, it is the hint of the input whose label
// has the text key LABEL. The kind in a word is "area" for a multi-line input, or the prefix of the text keys of choices.
func (v view) Fields(form any, words ...string) template.HTML {
	var b strings.Builder
	for _, s := range specsOf(words) {
		b.WriteString(string(v.input(reflect.ValueOf(form), s)) + "\n")
	}
	return template.HTML(b.String())
}

func (v view) input(form reflect.Value, s spec) template.HTML {
	value, tag := fieldOf(form, s.Name)
	options, text := s.Options, textOf(value)
	if length := tag.Get("maxLength"); length != "" {
		options = append([]string{"max=" + length}, options...)
	}
	if tag.Get("minLength") != "" {
		options = append(options, "required")
	}
	if v.Has(s.Key + ".hint") {
		options = append(options, "hint="+s.Key+".hint")
	}
	values, isChoice := enums[s.Name], strings.HasSuffix(s.Kind, ".")
	if words := tag.Get("enum"); words != "" {
		values = strings.Split(words, ",")
	}
	elem := reflect.Indirect(value)
	if !elem.IsValid() {
		elem = reflect.Zero(value.Type().Elem())
	}
	switch {
	case isChoice && elem.Kind() == reflect.Slice:
		boxes, chosen := "", strings.Split(text, ", ")
		for _, word := range values {
			boxes += "<p>" + string(v.Check(s.Name, s.Kind+word, word, slices.Contains(chosen, word))) + "</p>"
		}
		return render("fieldset", cell{Kind: s.Name, Label: v.say(s.Key), Content: template.HTML(boxes)})
	case isChoice:
		if slices.Contains(options, "any") {
			values = append([]string{""}, values...)
		}
		list := keyed(s.Kind, values)
		if values[0] == "" {
			list[0] = "=list.any"
		}
		return v.Choose(s.Name, s.Key, text, list, slices.DeleteFunc(options, func(option string) bool { return option == "any" })...)
	case elem.Kind() == reflect.Bool:
		return "<p>" + v.Check(s.Name, s.Key, "yes", elem.Bool(), options...) + "</p>"
	case keptField{Name: s.Name}.Secret():
		return v.Field(s.Name, s.Key, "", append(options, "type=password complete=new-password")...)
	case elem.CanInt():
		options, text = append(options, "mode=numeric"), nonzero(elem.Int())
	}
	if s.Kind == "area" {
		return v.Area(s.Name, s.Key, strings.ReplaceAll(text, ", ", "\n"), options...)
	}
	return v.Field(s.Name, s.Key, text, options...)
}

// AddForm renders a form that adds a value: a heading, an input for each name in words, and a button that submits the value in did.
func (v view) AddForm(path, did, key string, form any, words ...string) template.HTML {
	return render("ask", part{"Did": did, "Label": v.say(key), "Post": v.Post(path, "", "", "did", did),
		"Fields": v.Fields(form, words...)})
}

// ShownOnce renders secrets that are shown only once, or nothing if the first secret is "".
func (v view) ShownOnce(text string, secrets ...string) template.HTML {
	if secrets[0] == "" {
		return ""
	}
	return render("once", part{"Text": text, "Secrets": slices.DeleteFunc(secrets, func(s string) bool { return s == "" })})
}

// decode sets the named fields of *to from the form or the query of the URL, and returns an error message for each invalid number and list.
func (v *request) decode(to any, names string) map[string]string {
	_ = v.r.FormValue("") // parses the form
	return v.decodeFrom(v.r.Form, to, names)
}

// decodeFrom is like decode with the values of form.
func (v *request) decodeFrom(form url.Values, to any, names string) map[string]string {
	faults := map[string]string{}
	for name := range strings.FieldsSeq(names) {
		field, _ := fieldOf(reflect.ValueOf(to), name)
		text := form.Get(name)
		if !(keptField{Name: name}).Secret() {
			text = strings.TrimSpace(text)
		}
		if field.Kind() == reflect.Pointer {
			target := reflect.New(field.Type().Elem())
			if target.Elem().CanInt() && text == "" {
				continue
			}
			field.Set(target)
			field = target.Elem()
		}
		switch words := listed(strings.Join(form[name], " ")); {
		case field.Kind() == reflect.Bool:
			field.SetBool(text != "")
		case field.Kind() == reflect.String:
			field.SetString(text)
		case field.CanInt():
			n, err := strconv.ParseInt(cmp.Or(text, "0"), 10, 64)
			field.SetInt(n)
			if err != nil || n < 0 {
				faults[name] = v.say("packages.number.form")
			}
		case text != "" && len(words) == 0: // only separators; in many lists, an empty list means all
			faults[name] = v.say("fault.form")
		case field.Type().Elem().Kind() != reflect.String:
			if slices.Contains(words, "null") || json.Unmarshal([]byte("["+strings.Join(words, ",")+"]"), field.Addr().Interface()) != nil {
				faults[name] = v.say("fault.form")
			}
		default:
			field.Set(reflect.ValueOf(append([]string{}, words...)))
		}
	}
	return faults
}
