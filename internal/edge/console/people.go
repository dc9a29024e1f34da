package console

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type peopleView struct {
	People               []client.Person
	Keys                 []client.AdminKey
	Roles                []string
	Key                  string            // a new API key, shown only once
	Link                 string            // likewise
	MorePeople, MoreKeys string            // the entries after which the next pages of the lists of people and of API keys start
	Made                 client.PersonMade // a new second factor and an invitation, shown only once
	// The role and limits with which an admin wants to view the console, and the error in this choice.
	SeenAs, SeenFor, SeenFault string
}

// Invites returns the lifetimes that an invitation can have.
func (v view) Invites() (list []choice) {
	for _, days := range []int{3, 7, 30} {
		list = append(list, choice{strconv.Itoa(days), v.say("people.invite.for", days)})
	}
	return append(list, choice{"0", v.say("people.invite.none")})
}

// SeenRoles returns the roles as which an admin can view the console.
func (d peopleView) SeenRoles() []string { return d.Roles[:len(d.Roles)-1] }

func (pages peoplePages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/people":  pages.people,
		"POST /console/people": pages.changePeople,
	}
}

func (pages peoplePages) showPeople(v *request, data peopleView) {
	var people []client.Person
	var keys []client.AdminKey
	if v.failed(storeResult(&people)(v.api.People.List(v.ctx()))) || v.failed(storeResult(&keys)(v.api.AdminKeys.List(v.ctx()))) {
		return
	}
	data.People, data.MorePeople = shown(v, "people", people)
	data.Keys, data.MoreKeys = shown(v, "keys", keys)
	data.Roles = []string{"viewer", "marketer", "rules-editor", "operator", "admin"}
	v.show(http.StatusOK, "people", data)
}

func (pages peoplePages) people(v *request) { pages.showPeople(v, peopleView{}) }

// inviteDays is the lifetime in days of an invitation made in the list of people.
const inviteDays = 3

// changePeople creates, changes and deletes people and API keys. New secrets are shown only once, on the page that follows.
func (pages peoplePages) changePeople(v *request) {
	name, role := strings.TrimSpace(v.r.FormValue("name")), v.r.FormValue("role")
	appids := append([]string{}, listed(v.r.FormValue("accounts"))...)
	var data peopleView
	ctx, err := v.ctx(), error(nil)
	switch v.r.FormValue("did") {
	case "add":
		put := client.PersonPut{Name: name, Role: role, Accounts: appids, Password: v.r.FormValue("password")}
		put.InviteDays, _ = strconv.Atoi(v.r.FormValue("invite_days"))
		data.Made, err = v.api.People.Create(ctx, put)
	case "change":
		change := client.PersonChange{Role: &role, Accounts: &appids}
		if text := v.r.FormValue("password"); text != "" {
			change.Password = &text
		}
		_, err = v.api.People.Update(ctx, name, change)
	case "invite":
		data.Made, err = v.api.People.Update(ctx, name, client.PersonChange{InviteDays: inviteDays})
	case "delete":
		if !v.sure("sure.person", name) {
			return
		}
		_, err = v.api.People.Delete(ctx, name)
	case "sign-out":
		_, err = v.api.People.SignOut(ctx, name)
	case "factor":
		data.Made, err = v.api.People.Update(ctx, name, client.PersonChange{SecondFactor: new("new")})
	case "link":
		var link client.LoginLink
		link, err = v.api.People.CreateLoginLink(ctx, name)
		data.Link = link.URL
	case "add-key":
		put := client.AdminKeyPut{Name: name, Role: role, Accounts: appids}
		if days, wrong := strconv.Atoi(v.r.FormValue("days")); wrong == nil && days > 0 {
			put.ExpiresAt = new(time.Now().AddDate(0, 0, days).Truncate(time.Second))
		}
		var made client.AdminKeyMade
		made, err = v.api.AdminKeys.Create(ctx, put)
		data.Key = made.Key
	case "delete-key":
		if !v.sure("sure.key", name) {
			return
		}
		_, err = v.api.AdminKeys.Delete(ctx, v.r.FormValue("id"))
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	switch {
	case v.failed(err):
	case data.Key != "" || data.Link != "" || data.Made.FactorURI != "" || data.Made.Invitation != nil:
		pages.showPeople(v, data)
	default:
		v.redirect(Root + "/people?done=people")
	}
}
