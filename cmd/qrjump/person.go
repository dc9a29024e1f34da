package main

import (
	"cmp"
	"io"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

// lastSeen formats an optional time for a list; nil is "never".
func lastSeen(t *time.Time) string {
	if t == nil {
		return tr("word.never")
	}
	return formatTime(*t)
}

// forAccounts returns the accounts to which a role is restricted, as text; an empty list means all accounts.
func forAccounts(list []string) string {
	return cmp.Or(strings.Join(list, ","), tr("person.all_accounts"))
}

type personList struct{ operator }

// Run lists people.
func (c *personList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.People.List(s.ctx)
	return listing[client.Person]{name: "people", none: tr("person.none"),
		heads: []string{"NAME", "ROLE", "ACCOUNTS", "SIGN-IN METHODS", "LAST SIGN-IN"}, row: func(p client.Person) []string {
			factor := tr("person.no_second_factor")
			switch {
			case p.Provider != "":
				factor = tr("person.of_provider", p.Provider)
			case p.SecondFactor:
				factor = tr("person.second_factor")
			}
			return []string{p.Name, p.Role, forAccounts(p.Accounts), factor, lastSeen(p.LastSeenAt)}
		}}.print(s, c.outputFlags, list, wrapped("person.person_list", err))
}

type personAdd struct {
	operator
	Name         string   `arg:""`
	Role         string   `required:"" placeholder:"ROLE"`
	Account      []string `placeholder:"APPID"`
	Password     string   `env:"QRJUMP_PERSON_PASSWORD" placeholder:"PASSWORD" file:"in,self" absent:""`
	SecondFactor bool
	Invite       int `placeholder:"DAYS"`
}

// Run creates a person.
func (c *personAdd) Run(s *session, qrjump *client.Client) error {
	password, err := secret(s, c.Password)
	if err != nil {
		return err
	}
	p := client.PersonPut{Name: c.Name, Role: c.Role, Accounts: c.Account, Password: password, InviteDays: c.Invite}
	if c.SecondFactor {
		p.SecondFactor = "new"
	}
	made, err := qrjump.People.Create(s.ctx, p)
	return c.print(s, made, wrapped("person.person_add", c.Name, err), func(w io.Writer) {
		printMsg(w, "person.may_sign_in_as_of", plain(made.Name), made.Role, plain(forAccounts(made.Accounts)))
		if !made.HasPassword && made.Invitation == nil {
			printMsg(w, "person.without_a_password_qrjump_login", shellWord(made.Name))
		}
		printMade(w, made)
	})
}

// printMade prints an invitation and a new second factor, which are shown only once.
func printMade(w io.Writer, made client.CreatedPerson) {
	if made.Invitation != nil {
		printMsg(w, "person.by_this_link_once_until", formatTime(made.Invitation.ExpiresAt), made.Invitation.URL)
	}
	if made.FactorURI == "" {
		return
	}
	printMsg(w, "person.second_factor_for_an_authenticator", made.FactorURI)
	printMsg(w, "person.recovery_codes_each_good_once", strings.Join(made.RecoveryCodes, " "))
}

type personUpdate struct {
	operator
	Name         string   `arg:""`
	Role         *string  `placeholder:"ROLE"`
	Account      []string `placeholder:"APPID"`
	AllAccounts  bool
	Password     *string `placeholder:"PASSWORD" file:"in,self" absent:""`
	SecondFactor *string `placeholder:"new|off"`
	Invite       int     `placeholder:"DAYS"`
}

// Run changes those fields of a person whose flags are set.
func (c *personUpdate) Run(s *session, qrjump *client.Client) error {
	if c.AllAccounts && len(c.Account) > 0 {
		return misused("person.missing_accounts")
	}
	if c.Role == nil && c.Account == nil && !c.AllAccounts && c.Password == nil && c.SecondFactor == nil && c.Invite == 0 {
		return misused("person.nothing_to_change")
	}
	p := client.PersonChange{Role: c.Role, SecondFactor: c.SecondFactor, InviteDays: c.Invite}
	if c.Account != nil || c.AllAccounts {
		p.Accounts = new(append([]string{}, c.Account...))
	}
	if c.Password != nil {
		text, err := secret(s, *c.Password)
		if err != nil {
			return err
		}
		p.Password = &text
	}
	made, err := qrjump.People.Update(s.ctx, c.Name, p)
	return c.print(s, made, aboutPerson(s, qrjump, tr("person.person_change"), c.Name, err), func(w io.Writer) {
		printMsg(w, "person.is_now_of_and_is", plain(made.Name), made.Role, plain(forAccounts(made.Accounts)))
		printMade(w, made)
	})
}

// aboutPerson adds the person's name to an error; if no person has the name, aboutPerson suggests a similar name.
func aboutPerson(s *session, operator *client.Client, did, name string, err error) error {
	return withSuggestion(did, name, err, tr("person.see_qrjump_person_list"),
		func() ([]client.Person, error) { return operator.People.List(s.ctx) }, func(p client.Person) string { return p.Name })
}

type personDelete struct {
	operator
	Name string `arg:""`
	confirmFlag
}

// Run deletes a person.
func (c *personDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.People.List(s.ctx)
	person, err := named(list, failed(tr("person.delete_person"), c.Name, err), func(p client.Person) string { return p.Name },
		"delete", c.Name, "person", "qrjump person list")
	if err != nil {
		return err
	}
	if err := c.confirmed(s, tr("person.deletes", person.Name, person.Role)); err != nil {
		return err
	}
	left, err := qrjump.People.Delete(client.IfMatch(s.ctx, person.Revision), c.Name)
	return c.outcome(s, client.PersonList{People: left},
		withListCommand(tr("person.person_delete"), c.Name, "qrjump person list", describeConflict("qrjump person list", err)),
		"person.deleted", plain(c.Name))
}

type adminKeyList struct{ operator }

// Run lists admin keys.
func (c *adminKeyList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.AdminKeys.List(s.ctx)
	return listing[client.AdminKey]{name: "keys", none: tr("person.there_is_no_admin_key"),
		heads: []string{"KEY", "NAME", "ROLE", "ACCOUNTS", "EXPIRES", "LAST USED"}, row: func(k client.AdminKey) []string {
			return []string{k.ID, k.Name, k.Role, forAccounts(k.Accounts), lastSeen(k.ExpiresAt), lastSeen(k.LastSeenAt)}
		}}.print(s, c.outputFlags, list, wrapped("person.admin_key_list", err))
}

type adminKeyAdd struct {
	operator
	Name    string   `arg:""`
	Role    string   `required:"" placeholder:"ROLE"`
	Account []string `placeholder:"APPID"`
	Days    int      `placeholder:"N"`
}

// Run creates an admin key.
func (c *adminKeyAdd) Run(s *session, qrjump *client.Client) error {
	if c.Days < 0 {
		return misused("person.days_want_1_or_more", c.Days)
	}
	k := client.AdminKeyPut{Name: c.Name, Role: c.Role, Accounts: c.Account}
	if c.Days > 0 {
		k.ExpiresAt = new(time.Now().AddDate(0, 0, c.Days).Truncate(time.Second))
	}
	made, err := qrjump.AdminKeys.Create(s.ctx, k)
	return c.outcome(s, made, failed(tr("person.admin_key_add"), c.Name, err),
		"person.this_is_the_key_of", made.Key, plain(made.ID), plain(c.Name))
}

type adminKeyDelete struct {
	operator
	ID string `arg:"" name:"id"`
	confirmFlag
}

// Run deletes an admin key.
func (c *adminKeyDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.AdminKeys.List(s.ctx)
	key, err := named(list, failed(tr("person.delete_admin_key"), c.ID, err), func(k client.AdminKey) string { return k.ID },
		"delete", c.ID, tr("person.admin_key"), "qrjump admin-key list")
	if err != nil {
		return err
	}
	if err := c.confirmed(s, tr("person.the_program_with_the_key", key.ID, key.Name)); err != nil {
		return err
	}
	left, err := qrjump.AdminKeys.Delete(s.ctx, c.ID)
	return c.outcome(s, client.AdminKeyList{Keys: left}, withListCommand(tr("person.admin_key_delete"), c.ID, "qrjump admin-key list", err),
		"person.key_revoked", plain(c.ID))
}

type loginLink struct {
	operator
	Name string `arg:"" optional:""`
}

// Run prints a login link.
func (c *loginLink) Run(s *session, qrjump *client.Client) error {
	link, err := qrjump.People.CreateLoginLink(s.ctx, c.Name)
	return c.outcome(s, link, aboutPerson(s, qrjump, tr("person.login_link_for"), cmp.Or(c.Name, tr("person.the_admin_token")), err),
		"person.good_once_until", link.URL, formatTime(link.ExpiresAt))
}
