package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/spelling"
)

// seen is a moment in a list; "never" where there was none.
func seen(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return when(*t)
}

// forAccounts says which accounts a role is for.
func forAccounts(list []string) string { return cmp.Or(strings.Join(list, ","), "all accounts") }

type personList struct{ operator }

// Run lists people.
func (c *personList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.People(s.ctx)
	if err != nil {
		return fmt.Errorf("person list: %w", err)
	}
	return c.print(s, client.PersonList{People: list}, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "nobody has a name here: the admin token signs in")
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, p := range list {
			factor := "no second factor"
			switch {
			case p.Provider != "":
				factor = "of " + plain(p.Provider)
			case p.SecondFactor:
				factor = "second factor"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", plain(p.Name), p.Role, plain(forAccounts(p.Accounts)), factor, seen(p.SeenAt))
		}
		t.Flush()
	})
}

type personAdd struct {
	operator
	Name         string   `arg:""`
	Role         string   `required:"" placeholder:"ROLE"`
	Account      []string `placeholder:"APPID"`
	Password     string   `env:"QRJUMP_PERSON_PASSWORD" placeholder:"PASSWORD" file:"in,self"`
	SecondFactor bool
	Invite       int `placeholder:"DAYS"`
}

// Run makes a person.
func (c *personAdd) Run(s *session, qrjump *client.Client) error {
	password, err := secret(s, c.Password)
	if err != nil {
		return err
	}
	p := client.PersonPut{Name: c.Name, Role: c.Role, Accounts: c.Account, Password: password, InviteDays: c.Invite}
	if c.SecondFactor {
		p.SecondFactor = "new"
	}
	made, err := qrjump.AddPerson(s.ctx, p)
	if err != nil {
		return fmt.Errorf("person add %s: %w", c.Name, err)
	}
	return c.print(s, made, func(w io.Writer) {
		fmt.Fprintf(w, "%s may sign in as %s of %s\n", plain(made.Name), made.Role, plain(forAccounts(made.Accounts)))
		if !made.HasPassword && made.Invitation == nil {
			fmt.Fprintf(w, "without a password: qrjump login-link %s prints a link for it\n", plain(made.Name))
		}
		printMade(w, made)
	})
}

// printMade prints an invitation and a new second factor, which are shown this once.
func printMade(w io.Writer, made client.PersonMade) {
	if made.Invitation != nil {
		fmt.Fprintf(w, "by this link, once until %s, they sign in and choose a password: %s\n", when(made.Invitation.Expires),
			made.Invitation.URL)
	}
	if made.FactorURI == "" {
		return
	}
	fmt.Fprintf(w, "second factor, for an authenticator app (shown this once): %s\n", made.FactorURI)
	fmt.Fprintf(w, "recovery codes, each good once (shown this once): %s\n", strings.Join(made.Recovery, " "))
}

type personChange struct {
	operator
	Name         string   `arg:""`
	Role         *string  `placeholder:"ROLE"`
	Account      []string `placeholder:"APPID"`
	AllAccounts  bool
	Password     *string `placeholder:"PASSWORD" file:"in,self"`
	SecondFactor *string `placeholder:"new|off"`
	Invite       int     `placeholder:"DAYS"`
}

// Run changes what is named.
func (c *personChange) Run(s *session) error {
	if c.AllAccounts && len(c.Account) > 0 {
		return misused("say --account or --all-accounts")
	}
	if c.Role == nil && c.Account == nil && !c.AllAccounts && c.Password == nil && c.SecondFactor == nil && c.Invite == 0 {
		return misused("say what is to be changed: --role, --account, --all-accounts, --password, --second-factor or --invite")
	}
	qrjump, err := c.client()
	if err != nil {
		return err
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
	made, err := qrjump.ChangePerson(s.ctx, c.Name, p)
	if err != nil {
		return aboutPerson(s, qrjump, "person change", c.Name, err)
	}
	return c.print(s, made, func(w io.Writer) {
		fmt.Fprintf(w, "%s is now %s of %s, and is signed out everywhere\n", plain(made.Name), made.Role, plain(forAccounts(made.Accounts)))
		printMade(w, made)
	})
}

type personSignOut struct {
	operator
	Name string `arg:""`
}

// Run ends a person's sessions.
func (c *personSignOut) Run(s *session, qrjump *client.Client) error {
	p, err := qrjump.SignOutPerson(s.ctx, c.Name)
	return c.outcome(s, p, aboutPerson(s, qrjump, "person sign-out", c.Name, err),
		"%s is signed out everywhere", plain(p.Name))
}

// aboutPerson names the person that an error is about; where there is none of the
// name, it asks who may be meant.
func aboutPerson(s *session, operator *client.Client, did, name string, err error) error {
	if !isNotFound(err) {
		return failed(did, name, err)
	}
	meant := ""
	// The answer stands without a guess too.
	if list, err := operator.People(s.ctx); err == nil {
		names := []string{}
		for _, p := range list {
			names = append(names, p.Name)
		}
		meant = spelling.DidYouMean(name, names...)
	}
	return advised{error: fmt.Errorf("%w%s", failed(did, name, err), meant), next: "see: qrjump person list"}
}

type personDelete struct {
	operator
	Name string `arg:""`
	Yes  bool
}

// Run removes a person.
func (c *personDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.People(s.ctx)
	if err != nil {
		return failed("delete person", c.Name, err)
	}
	one, err := named(list, func(p client.Person) string { return p.Name }, "delete", c.Name, "person", "qrjump person list")
	if err != nil {
		return err
	}
	if err := confirmed(s, c.Yes, one.Name+" ("+one.Role+") may sign in no more, and is signed out everywhere"); err != nil {
		return err
	}
	left, err := qrjump.DeletePerson(client.IfMatch(s.ctx, one.Revision), c.Name)
	return c.outcome(s, client.PersonList{People: left},
		seeList("person delete", c.Name, "qrjump person list", unlessOvertaken("qrjump person list", err)),
		"%s may sign in no more", plain(c.Name))
}

type adminKeyList struct{ operator }

// Run lists admin keys.
func (c *adminKeyList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.AdminKeys(s.ctx)
	if err != nil {
		return fmt.Errorf("admin-key list: %w", err)
	}
	return c.print(s, client.AdminKeyList{Keys: list}, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "there is no admin key: programs use the admin token")
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, k := range list {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\tends %s\tused %s\n", plain(k.ID), plain(k.Name), k.Role, plain(forAccounts(k.Accounts)),
				seen(k.Expires), seen(k.SeenAt))
		}
		t.Flush()
	})
}

type adminKeyAdd struct {
	operator
	Name    string   `arg:""`
	Role    string   `required:"" placeholder:"ROLE"`
	Account []string `placeholder:"APPID"`
	Days    int      `placeholder:"N"`
}

// Run makes an admin key.
func (c *adminKeyAdd) Run(s *session) error {
	if c.Days < 0 {
		return misused("--days %d: want 1 or more", c.Days)
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	k := client.AdminKeyPut{Name: c.Name, Role: c.Role, Accounts: c.Account}
	if c.Days > 0 {
		k.Expires = new(time.Now().AddDate(0, 0, c.Days).Truncate(time.Second))
	}
	made, err := qrjump.AddAdminKey(s.ctx, k)
	return c.outcome(s, made, failed("admin-key add", c.Name, err),
		"%s\nthis is the key %s of %s, shown this once; send it as Authorization: Bearer", made.Key, plain(made.ID), plain(c.Name))
}

type adminKeyDelete struct {
	operator
	ID  string `arg:"" name:"id"`
	Yes bool
}

// Run ends an admin key.
func (c *adminKeyDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.AdminKeys(s.ctx)
	if err != nil {
		return failed("delete admin key", c.ID, err)
	}
	one, err := named(list, func(k client.AdminKey) string { return k.ID }, "delete", c.ID, "admin key", "qrjump admin-key list")
	if err != nil {
		return err
	}
	if err := confirmed(s, c.Yes, "the program with the key "+one.ID+" ("+one.Name+") may administer no more"); err != nil {
		return err
	}
	left, err := qrjump.DeleteAdminKey(s.ctx, c.ID)
	return c.outcome(s, client.AdminKeyList{Keys: left}, seeList("admin-key delete", c.ID, "qrjump admin-key list", err),
		"the key %s opens nothing any more", plain(c.ID))
}

type loginLink struct {
	operator
	Name string `arg:"" optional:""`
}

// Run prints a link.
func (c *loginLink) Run(s *session, qrjump *client.Client) error {
	link, err := qrjump.LoginLink(s.ctx, c.Name)
	return c.outcome(s, link, aboutPerson(s, qrjump, "login-link for", cmp.Or(c.Name, "the admin token"), err),
		"%s\ngood once, until %s", link.URL, when(link.Expires))
}
