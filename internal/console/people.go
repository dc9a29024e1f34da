package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type peopleView struct {
	People               []client.Person
	Keys                 []client.AdminKey
	Roles                []string
	Key                  string // a new one, shown this once
	Link                 string // likewise
	MorePeople, MoreKeys string // where these lists go on
	Factor               client.PersonMade
}

func (v *visit) showPeople(data peopleView) {
	var people client.PersonList
	var keys client.AdminKeyList
	if v.failed(v.ask("GET", "/people", nil, &people)) || v.failed(v.ask("GET", "/admin-keys", nil, &keys)) {
		return
	}
	data.People, data.MorePeople = shown(v, "people", people.People)
	data.Keys, data.MoreKeys = shown(v, "keys", keys.Keys)
	data.Roles = []string{"viewer", "marketer", "rules", "operator", "admin"}
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
	case "sign-out":
		err = v.ask("DELETE", "/people/"+url.PathEscape(name)+"/sessions", nil, nil)
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
