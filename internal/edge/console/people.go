package console

import (
	"cmp"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type peopleView struct {
	People []client.Person
	Keys   []client.AdminKey
	Key    string               // a new API key, shown only once
	Link   string               // a new sign-in link, shown only once
	Made   client.CreatedPerson // a new second factor and an invitation, shown only once
	// SeenAs and SeenFor are the role and accounts with which an admin wants to view the console; SeenFault is their error.
	SeenAs, SeenFor, SeenFault string
	New                        client.PersonPut
	NewKey                     newKey
}

// newKey is the form of a new API key. The key expires after Days days; 0 = never.
type newKey struct {
	client.AdminKeyPut
	Days int `json:"days"`
}

// maxKeyDays is the maximum number of days of an API key that expires.
const maxKeyDays = 9999

// roles lists the roles, the least powerful first.
var roles = []string{"viewer", "marketer", "rules-editor", "operator", "admin"}

func (pages peoplePages) showPeople(v *request, data peopleView) error {
	err := cmp.Or(storeResult(&data.People)(v.api.People.List(v.ctx())), storeResult(&data.Keys)(v.api.AdminKeys.List(v.ctx())))
	data.New.InviteDays = inviteDays
	return v.page("people", data, err)
}

// inviteDays is the lifetime in days of an invitation made in the list of people.
const inviteDays = 3

// changePeople creates, changes and deletes people and API keys. New secrets are shown only once, on the page that follows.
func (pages peoplePages) changePeople(v *request) error {
	name := strings.TrimSpace(v.r.FormValue("name"))
	var data peopleView
	ctx := v.ctx()
	update := func(change client.PersonChange) (err error) {
		data.Made, err = v.api.People.Update(ctx, name, change)
		return err
	}
	// shown calls the API and then shows the page at once if the response contains a new secret.
	shown := func(call func() error) action {
		return action{call: func() error {
			if err := call(); err != nil || data.Key+data.Link+data.Made.FactorURI == "" && data.Made.Invitation == nil {
				return err
			}
			return pages.showPeople(v, data)
		}}
	}
	return v.perform(Root+"/people?done=people", map[string]action{
		"add": shown(func() (err error) {
			var put client.PersonPut
			if err := v.showInvalid(v.decode(&put, "name role accounts password invite_days")); err != nil {
				return err
			}
			data.Made, err = v.api.People.Create(ctx, put)
			return err
		}),
		"change": shown(func() error {
			var change client.PersonChange
			faults := v.decode(&change, "role accounts"+wordIf(v.r.FormValue("password"), " password"))
			return afterwards(v.showInvalid(faults), func() error { return update(change) })
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
			var put newKey
			faults := v.decode(&put, "name role accounts days")
			if put.Days > maxKeyDays {
				faults["days"] = v.say("people.days.form", maxKeyDays)
			}
			if err := v.showInvalid(faults); err != nil {
				return err
			}
			if put.Days > 0 {
				put.ExpiresAt = new(v.c.People.Now().AddDate(0, 0, put.Days).Truncate(time.Second))
			}
			made, err := v.api.AdminKeys.Create(ctx, put.AdminKeyPut)
			data.Key = made.Key
			return err
		}),
		"delete-key": {"sure.key", name, func() error { return onlyError(v.api.AdminKeys.Delete(ctx, v.r.FormValue("id"))) }},
	})
}
