package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// revisionField is the form field with the revision of the object shown in the form.
const revisionField = "revision"

// changedView is a form that conflicts with a concurrent change, together with the current state of the object.
type changedView struct {
	Action, Back string
	Changes      []client.ObjectChange
	Fields       []keptField // the fields of the form, for submitting the form again
	Rows         []version
	Deleted      bool
}

// version is a field with its value in the form and its current value.
type version struct {
	Label, Submitted, Stored string
	Typed                    bool // whether the form contains the field
	Differs                  bool
}

// versions lists the fields to compare, in display order.
var versions = specsOf([]string{"name subject certified versions jump_open secret secret_frozen features marketcode_key message_url",
	"url_scheme pages event_url ip_allowlist redirect_hosts message_token encoding_aes_key members linked path target occupy open_version",
	"test_links published value accent help open_at_once appearance.logo=logo appearance.app=texts.en.app",
	"appearance.landing=texts.en.landing appearance.code=texts.en.code appearance.app=texts.zh.app",
	"appearance.landing=texts.zh.landing appearance.code=texts.zh.code",
	"url alarms enabled threshold batch.alarm.turn.off=off role accounts second_factor"})

// caseVersions lists the fields of a case to compare.
var caseVersions = specsOf([]string{"cases.title=title alarms.state=state alarms.assignee=assignee cases.note=note alarms=alarms"})

// ticked maps each check box to another field of the same form. Browsers do not submit an unchecked box: if the mapped field was submitted
// but the check box was not, the visitor left the check box unchecked.
var ticked = map[string]string{"certified": "subject", "secret_frozen": "subject", "features": "subject", "occupy": "open_version",
	"open_at_once": "help"}

// changed shows the conflict page of a form that is based on an old revision: both versions and a choice between them. All typed
// values are preserved on the page.
func (v *request) changed(said *client.Problem) {
	form := url.Values{}
	maps.Copy(form, v.r.PostForm)
	data := changedView{Action: v.r.URL.RequestURI(), Back: v.formPage(), Changes: said.Changes, Deleted: len(said.Current) == 0}
	currentNames, rows := flat(said.Current), versions
	if v.r.URL.Path == Root+"/operate/settings" {
		currentNames, rows = settingsOf(said.Current)
	}
	if strings.HasPrefix(v.r.URL.Path, Root+"/cases/") {
		rows = caseVersions
	}
	form.Set(revisionField, currentNames[revisionField])
	data.Fields = fieldsOf(form)
	for _, item := range rows {
		remote, exists := currentNames[item.Name]
		field := cmp.Or(formNames[item.Name], item.Name)
		local, typed := v.typed(form, field)
		if !exists && !(typed && local != "") {
			continue
		}
		row := version{Label: item.Name, Submitted: local, Stored: v.readable(remote), Typed: typed}
		if item.Key != "" {
			row.Label = v.say(item.Key)
		}
		if strings.HasSuffix(field, "_en") || strings.HasSuffix(field, "_zh") {
			row.Label += " · " + v.say("appearance.in."+field[len(field)-2:])
		}
		if typed {
			row.Differs = v.readable(local) != row.Stored
			row.Submitted = v.readable(local)
		}
		if (keptField{Name: field}).Secret() || field == "logo_kept" {
			row.Submitted, row.Differs = v.say("kept.secret"), local != ""
			if row.Typed = local != ""; !row.Typed && !exists {
				continue
			}
		}
		data.Rows = append(data.Rows, row)
	}
	v.show(http.StatusPreconditionFailed, "edit-conflict", data)
}

// typed returns the value of a form field in the format of the admin API.
func (v *request) typed(form url.Values, field string) (text string, has bool) {
	values, has := form[field]
	if value, box := ticked[field]; box && !has {
		if _, has = form[value]; has && field != "features" {
			return "false", true
		}
	}
	switch field {
	case "certified", "secret_frozen", "occupy", "open_at_once":
		return strconv.FormatBool(has), has
	case "versions":
		has = form.Get("did") == "versions"
	// in forms without the field "subject", these fields select the object to change, or describe a new person or webhook
	case "accounts", "role", "name", "url", "alarms":
		has = has && form.Has("subject")
	case "jump_open":
		if did := form.Get("did"); did == "jump-on" || did == "jump-off" {
			return strconv.FormatBool(did == "jump-on"), true
		}
	case "threshold", "off":
		switch form.Get("did") {
		case "set":
			has = field == "threshold"
		case "off", "default":
			return strconv.FormatBool(form.Get("did") == "off"), field == "off"
		}
	case "enabled":
		if did := form.Get("did"); did == "on" || did == "off" {
			return strconv.FormatBool(did == "on"), true
		}
	case "published":
		if form.Get("did") == "publish" {
			return "true", true
		}
	case "ip_allowlist", "redirect_hosts":
		return strings.Join(listed(strings.Join(values, " ")), ", "), has
	case "links":
		values = strings.FieldsFunc(strings.Join(values, "\n"), func(r rune) bool { return r == '\n' || r == '\r' })
	case "accent":
		if form.Get("own_accent") == "" {
			values = nil
		}
	}
	return strings.Join(values, ", "), has
}

// readable returns a value in readable form.
func (v *request) readable(value string) string {
	switch value {
	case "true":
		return v.say("yes")
	case "false":
		return v.say("no")
	}
	return value
}

// settingsOf returns the values of one or several settings, their revisions, and the settings as rows to compare.
func settingsOf(current json.RawMessage) (values map[string]string, rows []spec) {
	var one client.Setting
	var several client.SettingList
	if json.Unmarshal(current, &one) == nil && json.Unmarshal(current, &several) == nil && one.Name != "" {
		several.Settings = []client.Setting{one}
	}
	values = map[string]string{}
	var revisions []string
	for _, setting := range several.Settings {
		values[setting.Name] = settingView{}.Text(setting.Value)
		rows, revisions = append(rows, spec{Name: setting.Name}), append(revisions, setting.Revision)
	}
	values[revisionField] = strings.Join(revisions, ".")
	return values, rows
}

// flat returns the fields of a JSON object as strings.
func flat(current json.RawMessage) map[string]string {
	all := map[string]string{}
	var fields map[string]any
	if json.Unmarshal(current, &fields) != nil {
		return all
	}
	var put func(name string, value any)
	put = func(name string, value any) {
		switch value := value.(type) {
		case nil:
		case map[string]any:
			if name == "texts" || strings.HasPrefix(name, "texts.") {
				for key, v := range value {
					put(name+"."+key, v)
				}
				return
			}
			if path, is := value["path"]; is && name == "logo" {
				all[name] = fmt.Sprint(path)
				return
			}
			var parts []string
			for _, key := range slices.Sorted(maps.Keys(value)) {
				parts = append(parts, fmt.Sprintf("%s: %v", key, value[key]))
			}
			all[name] = strings.Join(parts, ", ")
		case []any:
			var parts []string
			for _, v := range value {
				if object, _ := v.(map[string]any); object["id"] != nil { // an alarm of a case
					v = fmt.Sprintf("%.0f", object["id"])
				}
				parts = append(parts, fmt.Sprint(v))
			}
			all[name] = strings.Join(parts, ", ")
		case float64:
			all[name] = strconv.FormatFloat(value, 'f', -1, 64)
		default:
			all[name] = fmt.Sprint(value)
		}
	}
	for name, value := range fields {
		put(name, value)
	}
	return all
}

// formPage returns the path of the page that contains the submitted form.
func (v *request) formPage() string {
	path, form := v.r.URL.Path, v.r.PostForm
	switch path {
	case Root + "/rules/do", Root + "/rules/undo":
		path = Root + "/rules"
	case Root + "/alarms": // the default list would hide an alarm that was acknowledged
		return v.address(path, "state", cmp.Or(v.r.URL.Query().Get("state"), "open"))
	case Root + "/codes":
		return path + "/" + url.PathEscape(form.Get("batch"))
	case Root + "/gs1/transfer":
		path = Root + "/gs1"
	case Root + "/gs1/key":
		if form.Get("fresh") == "" {
			return gs1Page(form.Get("key"))
		}
	case Root + "/accounts":
		return path + "?make=" + url.QueryEscape(form.Get("kind"))
	}
	if strings.HasPrefix(path, Root+"/rules") {
		return path + "?" + url.Values{"owner": {form.Get("owner")}, "prefix": {form.Get("prefix")}}.Encode()
	}
	for _, end := range []string{"/serials", "/alarm", "/file", "/job", "/texts"} {
		path = strings.TrimSuffix(path, end)
	}
	return strings.TrimSuffix(v.address(path), "?")
}
