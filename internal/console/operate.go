package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// changed is an entry of the log of changes.
type changed struct {
	Seq                             int64
	At                              time.Time
	Kind, Key, Actor, Via, RID, Did string
}

func (c *Console) operate(v *visit) {
	q := v.r.URL.Query()
	var settings client.SettingList
	var changes struct{ Changes []changed }
	asked := url.Values{"newest": {"true"}, "limit": {strconv.Itoa(pageRows)}}
	for _, name := range []string{"kind", "actor", "before"} {
		if text := strings.TrimSpace(q.Get(name)); text != "" {
			asked.Set(name, text)
		}
	}
	if v.failed(v.ask("GET", "/settings/described", nil, &settings)) || v.failed(v.ask("GET", "/changes?"+asked.Encode(), nil, &changes)) {
		return
	}
	more := ""
	if len(changes.Changes) == pageRows {
		more = strconv.FormatInt(changes.Changes[pageRows-1].Seq, 10)
	}
	v.show(http.StatusOK, "operate", map[string]any{"Settings": settings.Settings, "Changes": changes.Changes, "More": more})
}

type peopleView struct {
	People []client.Person
	Keys   []client.AdminKey
	Roles  []string
	Key    string // a new one, shown this once
	Link   string // likewise
	Factor client.PersonMade
}

func (v *visit) showPeople(data peopleView) {
	var people client.PersonList
	var keys client.AdminKeyList
	if v.failed(v.ask("GET", "/people", nil, &people)) || v.failed(v.ask("GET", "/admin-keys", nil, &keys)) {
		return
	}
	data.People, data.Keys, data.Roles = people.People, keys.Keys, []string{"viewer", "marketer", "rules", "operator", "admin"}
	v.show(http.StatusOK, "people", data)
}

func (c *Console) people(v *visit) { v.showPeople(peopleView{}) }

// changePeople makes and ends people and keys. What is shown once is in the answer itself.
func (c *Console) changePeople(v *visit) {
	name, role := strings.TrimSpace(v.r.FormValue("name")), v.r.FormValue("role")
	appids := strings.FieldsFunc(v.r.FormValue("accounts"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	var data peopleView
	var err error
	switch v.r.FormValue("did") {
	case "add":
		err = v.ask("POST", "/people", client.PersonPut{Name: name, Role: role, Accounts: appids, Password: v.r.FormValue("password")}, nil)
	case "delete":
		err = v.ask("DELETE", "/people/"+url.PathEscape(name), nil, nil)
	case "factor":
		err = v.ask("PATCH", "/people/"+url.PathEscape(name), map[string]string{"second_factor": "new"}, &data.Factor)
	case "link":
		var link client.LoginLink
		err = v.ask("POST", "/login-links", map[string]string{"name": name}, &link)
		data.Link = link.URL
	case "add-key":
		put := client.AdminKeyPut{Name: name, Role: role, Accounts: appids}
		if days, wrong := strconv.Atoi(v.r.FormValue("days")); wrong == nil && days > 0 {
			put.Expires = new(time.Now().AddDate(0, 0, days).Truncate(time.Second))
		}
		var made client.AdminKeyMade
		err = v.ask("POST", "/admin-keys", put, &made)
		data.Key = made.Key
	case "delete-key":
		err = v.ask("DELETE", "/admin-keys/"+url.PathEscape(v.r.FormValue("id")), nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	switch {
	case v.failed(err):
	case data.Key != "" || data.Link != "" || data.Factor.FactorURI != "":
		v.showPeople(data)
	default:
		v.redirect(Root + "/people?done=people")
	}
}

func (c *Console) emulator(v *visit) {
	if !c.Emulates {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	var clock struct {
		Now    time.Time
		Frozen bool
	}
	var faults struct{ Faults []json.RawMessage }
	if v.failed(v.ask("GET", "/emulator/clock", nil, &clock)) || v.failed(v.ask("GET", "/emulator/faults", nil, &faults)) {
		return
	}
	var shown []string
	for _, one := range faults.Faults {
		shown = append(shown, string(one))
	}
	v.show(http.StatusOK, "emulator", map[string]any{"Clock": clock, "Faults": shown})
}

func (c *Console) changeEmulator(v *visit) {
	var err error
	switch v.r.FormValue("did") {
	case "advance":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"advance": v.r.FormValue("advance")}, nil)
	case "freeze":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"freeze": true}, nil)
	case "run":
		err = v.ask("PUT", "/emulator/clock", map[string]any{"freeze": false}, nil)
	case "fault":
		number, wrong := strconv.Atoi(v.r.FormValue("errcode"))
		times, bad := strconv.Atoi(v.r.FormValue("times"))
		if wrong != nil || bad != nil {
			v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
			return
		}
		err = v.ask("POST", "/emulator/faults", map[string]any{"path": v.r.FormValue("path"), "errcode": number, "times": times}, nil)
	case "clear":
		err = v.ask("DELETE", "/emulator/faults", nil, nil)
	case "reset":
		err = v.ask("POST", "/emulator/reset", nil, nil)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(Root + "/emulator?done=emulator")
	}
}
