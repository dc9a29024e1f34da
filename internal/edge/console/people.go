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
	ctx := v.ctx()
	update := func(change client.PersonChange) (err error) {
		data.Made, err = v.api.People.Update(ctx, name, change)
		return err
	}
	// shown calls the API and then shows the page if it has a new secret.
	shown := func(call func() error) action {
		return action{call: func() error {
			err := call()
			if err == nil && (data.Key != "" || data.Link != "" || data.Made.FactorURI != "" || data.Made.Invitation != nil) {
				pages.showPeople(v, data)
				err = errAnswered
			}
			return err
		}}
	}
	v.perform(Root+"/people?done=people", map[string]action{
		"add": shown(func() (err error) {
			put := client.PersonPut{Name: name, Role: role, Accounts: appids, Password: v.r.FormValue("password")}
			put.InviteDays, _ = strconv.Atoi(v.r.FormValue("invite_days"))
			data.Made, err = v.api.People.Create(ctx, put)
			return err
		}),
		"change": shown(func() error {
			change := client.PersonChange{Role: &role, Accounts: &appids}
			if text := v.r.FormValue("password"); text != "" {
				change.Password = &text
			}
			return update(change)
		}),
		"invite":   shown(func() error { return update(client.PersonChange{InviteDays: inviteDays}) }),
		"factor":   shown(func() error { return update(client.PersonChange{SecondFactor: new("new")}) }),
		"delete":   {"sure.person", name, func() error { return onlyError(v.api.People.Delete(ctx, name)) }},
		"sign-out": {call: func() error { return onlyError(v.api.People.SignOut(ctx, name)) }},
		"link": shown(func() error {
			link, err := v.api.People.CreateLoginLink(ctx, name)
			data.Link = link.URL
			return err
		}),
		"add-key": shown(func() error {
			put := client.AdminKeyPut{Name: name, Role: role, Accounts: appids}
			if days, wrong := strconv.Atoi(v.r.FormValue("days")); wrong == nil && days > 0 {
				put.ExpiresAt = new(time.Now().AddDate(0, 0, days).Truncate(time.Second))
			}
			made, err := v.api.AdminKeys.Create(ctx, put)
			data.Key = made.Key
			return err
		}),
		"delete-key": {"sure.key", name, func() error { return onlyError(v.api.AdminKeys.Delete(ctx, v.r.FormValue("id"))) }},
	})
}
