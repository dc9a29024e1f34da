package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

const seeComponents = "qrjump component list"

type componentList struct{ operator }

// Run lists all third-party platforms, page by page.
func (c *componentList) Run(s *session, qrjump *client.Client) error {
	const page = 100
	all, err := everyPage(page, func(after client.Component) ([]client.Component, error) {
		return qrjump.Components.List(s.ctx, after.AppID, page)
	})
	return listing[client.Component]{name: "components",
		none:  said("component.there_is_no_third_party"),
		heads: []string{"APPID", "AUTHORISED BY", "EVENTS GO TO", "MADE"},
		row: func(one client.Component) []string {
			return []string{one.AppID, strconv.Itoa(one.Total), orDash(one.EventURL), when(one.CreatedAt)}
		}}.print(s, c.outputFlags, all, failed("list", "components", err))
}

// aboutComponent names the platform that an error is about; where there is none with
// this AppID, it asks which one may be meant.
func aboutComponent(s *session, operator *client.Client, did, appid string, err error) error {
	meant := ""
	if isNotFound(err) {
		// The answer stands without a guess too.
		if list, err := operator.Components.List(s.ctx, "", 100); err == nil {
			appids := []string{}
			for _, one := range list {
				appids = append(appids, one.AppID)
			}
			meant = didYouMean(appid, appids...)
		}
		return advised{error: fmt.Errorf("%w%s", failed(did, appid, err), meant), next: said("report.see", seeComponents)}
	}
	return failed(did, appid, err)
}

type componentShow struct {
	operator
	AppID string `arg:"" name:"appid"`
}

// Run shows one platform and which accounts authorised it.
func (c *componentShow) Run(s *session, qrjump *client.Client) error {
	one, err := qrjump.Components.Get(s.ctx, c.AppID)
	if err != nil {
		return aboutComponent(s, qrjump, said("component.show_component"), c.AppID, err)
	}
	return c.print(s, one, func(w io.Writer) {
		printFields(w, [2]string{"appid", one.AppID}, [2]string{"events go to", orElse(one.EventURL, "nowhere")},
			[2]string{"calls come from", orElse(strings.Join(one.IPAllowlist, ", "), said("component.any_address"))},
			[2]string{"people go back to", orElse(strings.Join(one.RedirectHosts, ", "), said("component.no_host"))},
			[2]string{"made", when(one.CreatedAt)}, [2]string{"authorised by", counted(one.Total, "account")})
		if len(one.Authorizations) == 0 {
			return
		}
		fmt.Fprintln(w)
		rows := [][]string{}
		for _, a := range one.Authorizations {
			rows = append(rows, []string{a.AppID, sets(a.PermissionSets), when(a.GrantedAt)})
		}
		printTable(w, []string{"ACCOUNT", "PERMISSION SETS", "SINCE"}, rows)
		if left := one.Total - len(one.Authorizations); left > 0 {
			tell(w, "component.and_more", left)
		}
	})
}

// sets are numbers of permission sets.
func sets(list []int) string {
	var parts []string
	for _, n := range list {
		parts = append(parts, strconv.Itoa(n))
	}
	return orDash(strings.Join(parts, " "))
}

type componentPut struct {
	operator
	AppID          string   `arg:"" name:"appid"`
	Secret         string   `placeholder:"SECRET" file:"in,self" absent:""`
	MessageToken   string   `placeholder:"TOKEN"`
	EncodingAESKey string   `name:"encoding-aes-key" placeholder:"KEY"`
	EventURL       *string  `name:"event-url" placeholder:"URL"`
	IP             []string `name:"ip" sep:"none" placeholder:"RANGE"`
	AnyIP          bool     `name:"any-ip"`
	RedirectHost   []string `sep:"none" placeholder:"HOST"`
}

// Run creates a platform or changes what is named of one.
func (c *componentPut) Run(s *session) error {
	if c.AnyIP && c.IP != nil {
		return misused("component.ip_and_any_ip_choose")
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	did := said("account.changed", c.AppID)
	old, err := qrjump.Components.Get(s.ctx, c.AppID)
	ctx := client.IfMatch(s.ctx, old.Revision)
	if isNotFound(err) {
		did, ctx = said("account.created", c.AppID), client.IfNone(s.ctx)
	} else if err != nil {
		return failed(said("component.put_component"), c.AppID, err)
	}
	want := client.ComponentPut{MessageToken: c.MessageToken, EncodingAESKey: c.EncodingAESKey, EventURL: c.EventURL}
	if want.Secret, err = secret(s, c.Secret); err != nil {
		return err
	}
	switch {
	case c.AnyIP:
		want.IPAllowlist = &[]string{}
	case c.IP != nil:
		want.IPAllowlist = &c.IP
	}
	if c.RedirectHost != nil {
		want.RedirectHosts = &c.RedirectHost
	}
	one, err := qrjump.Components.Set(ctx, c.AppID, want)
	return c.outcome(s, one, failed(said("component.put_component"), c.AppID, unlessOvertaken("qrjump component show "+c.AppID, err)),
		"plain", plain(did))
}

type componentPushes struct {
	operator
	AppID string `arg:"" name:"appid"`
	Limit int    `default:"50" placeholder:"N"`
}

// Run lists what was sent to a platform's event URL.
func (c *componentPushes) Run(s *session, qrjump *client.Client) error {
	if _, err := qrjump.Components.Get(s.ctx, c.AppID); err != nil {
		return aboutComponent(s, qrjump, said("component.pushes_of_component"), c.AppID, err)
	}
	list, err := qrjump.Components.ListPushes(s.ctx, c.AppID, c.Limit)
	return listing[client.Push]{name: "pushes", none: plain(said("component.nothing_was_sent_to") + c.AppID), newestFirst: true,
		heads: []string{"ID", "MADE", "KIND", "ACCOUNT", "STATE", "TRIES", "ANSWERED", "NEXT TRY", "FAULT"},
		row: func(p client.Push) []string {
			state := "waiting"
			if p.Delivered {
				state = "delivered"
			} else if p.NextAt == nil {
				state = said("component.given_up")
			}
			return []string{number(p.ID), when(p.CreatedAt), p.InfoType, orDash(p.AppID), state,
				strconv.Itoa(p.Attempts), orElse(numberOrNone(int64(p.Status)), "-"), moment(p.NextAt), orDash(p.Fault)}
		}}.print(s, c.outputFlags, list, failed(said("component.pushes_of_component"), c.AppID, err))
}

type componentWithdraw struct {
	operator
	Component string `arg:""`
	AppID     string `arg:"" name:"appid"`
	ending
}

// Run ends what an account granted a platform.
func (c *componentWithdraw) Run(s *session, qrjump *client.Client) error {
	what := c.AppID + " from " + c.Component
	held, err := qrjump.Accounts.ListAuthorizations(s.ctx, c.AppID)
	if err != nil {
		return aboutAccount(s, qrjump, "withdraw "+c.Component+" from", c.AppID, err)
	}
	if _, err := named(held, func(h client.Holding) string { return h.Component }, "withdraw "+what+": component", c.Component,
		said("component.platform_that")+c.AppID+" authorised", "qrjump account authorizations "+c.AppID); err != nil {
		return err
	}
	if err := c.confirmed(s, said("component.cannot_act_for", c.Component, c.AppID)); err != nil {
		return err
	}
	err = qrjump.Components.RevokeAuthorization(s.ctx, c.Component, c.AppID)
	return c.outcome(s, map[string]any{"component": c.Component, "appid": c.AppID, "withdrawn": true}, failed("withdraw", what, err),
		"plain", plain(c.AppID+said("component.took_back_what_it_granted")+c.Component))
}

type componentAuthorize struct {
	operator
	Component   string `arg:""`
	AppID       string `arg:"" name:"appid"`
	PreAuthCode string `required:"" placeholder:"CODE"`
	Set         []int  `sep:"," placeholder:"NUMBER"`
	Move        bool
}

// Run agrees in place of a person, on the emulator.
func (c *componentAuthorize) Run(s *session, qrjump *client.Client) error {
	did := "authorize " + c.Component + " for " + c.AppID
	code, err := qrjump.Emulator.Authorize(s.ctx, client.Agreement{Component: c.Component, AppID: c.AppID, PreAuthCode: c.PreAuthCode,
		PermissionSets: c.Set, Move: c.Move})
	if isProblem(err, http.StatusConflict) {
		p, _ := errors.AsType[*client.Problem](err)
		return coded{advised{error: fault("clock.of", did, p.Detail), next: said("component.say_move")}, exitRefused}
	}
	if isNotFound(err) {
		if _, unknown := qrjump.Components.Get(s.ctx, c.Component); isNotFound(unknown) {
			return aboutComponent(s, qrjump, did+": component", c.Component, err)
		}
		return aboutAccount(s, qrjump, did+": account", c.AppID, err)
	}
	if err != nil {
		return emulated(did, err)
	}
	return c.print(s, map[string]any{"auth_code": code}, func(w io.Writer) {
		fmt.Fprintln(w, code)
		fmt.Fprintln(s.err, plain(c.AppID+" agreed: "+c.Component+said("component.trades_this_authorization_code_by")))
	})
}

type componentAgree struct {
	operator
	Link  string `arg:""`
	AppID string `arg:"" name:"appid"`
	Set   []int  `sep:"," placeholder:"NUMBER"`
	Move  bool
}

// Run agrees as the page of a platform's link does.
func (c *componentAgree) Run(s *session) error {
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	asked, err := qrjump.Consents.Get(s.ctx, client.AuthorizationQuestion{Reference: c.Link, Part: c.AppID})
	if err != nil {
		return failed(said("component.agree_for"), c.AppID, err)
	}
	if c.Set == nil {
		c.Set = asked.PermissionSets
	}
	location, err := qrjump.Consents.Create(s.ctx, client.AuthorizationAgreed{Reference: c.Link, AppID: c.AppID, PermissionSets: c.Set,
		Move: c.Move})
	if isProblem(err, http.StatusConflict) {
		p, _ := errors.AsType[*client.Problem](err)
		return coded{advised{error: fault("component.agree_for_2", c.AppID, p.Detail), next: said("component.say_move")}, exitRefused}
	}
	if err != nil {
		return failed(said("component.agree_for"), c.AppID, err)
	}
	return c.print(s, map[string]any{"location": location}, func(w io.Writer) {
		fmt.Fprintln(w, location)
		fmt.Fprintln(s.err, plain(c.AppID+said("component.agreed_open_this_address_by")+asked.Component+said("component.learns_of_it")))
	})
}

type componentTicket struct {
	operator
	Component string `arg:""`
}

// Run makes a verify ticket, on the emulator.
func (c *componentTicket) Run(s *session, qrjump *client.Client) error {
	ticket, err := qrjump.Emulator.CreateTicket(s.ctx, c.Component)
	if isNotFound(err) {
		return aboutComponent(s, qrjump, said("component.ticket_for_component"), c.Component, err)
	}
	return c.outcome(s, map[string]any{"component_verify_ticket": ticket},
		emulated(said("component.ticket_for_component_2")+c.Component, err), "plain", ticket)
}

type accountAuthorizations struct {
	operator
	AppID string `arg:"" name:"appid"`
}

// Run lists which platforms an account authorised.
func (c *accountAuthorizations) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Accounts.ListAuthorizations(s.ctx, c.AppID)
	return listing[client.Holding]{name: "authorizations", none: plain(c.AppID + said("component.authorised_no_platform")),
		heads: []string{"PLATFORM", "PERMISSION SETS", "SINCE"},
		row: func(h client.Holding) []string {
			return []string{h.Component, sets(h.PermissionSets), when(h.GrantedAt)}
		}}.print(s, c.outputFlags, list, aboutAccount(s, qrjump, said("component.authorizations_of"), c.AppID, err))
}

type accountLinks struct {
	operator
	Service string `arg:"" optional:""`
	Waiting bool
}

// linkOf is a link with the service account that it is of.
type linkOf struct {
	Service string `json:"service"`
	client.AccountLink
	Waits string `json:"waits"` // for which side's administrator
}

// Run lists links, of one service account or of all.
func (c *accountLinks) Run(s *session, qrjump *client.Client) error {
	services, err := []string{c.Service}, error(nil)
	if c.Service == "" {
		if services, err = serviceAccounts(s, qrjump); err != nil {
			return fault("component.list_accounts", err)
		}
	}
	all := []linkOf{}
	for _, service := range services {
		list, err := qrjump.Links.List(s.ctx, service)
		if err != nil {
			return aboutAccount(s, qrjump, said("component.links_of"), service, err)
		}
		for _, l := range list {
			if waits := l.Waits(); waits != "" || !c.Waiting {
				all = append(all, linkOf{service, l, waits})
			}
		}
	}
	none, more := said("component.there_is_no_link"), ""
	if c.Waiting {
		none = said("component.no_link_waits_for_anybody")
	}
	if i := waitingLink(all); i >= 0 {
		more = said("component.answer_with_qrjump_account_confirm", plain(all[i].Service),
			plain(all[i].MiniProgram), all[i].Waits)
	}
	return listing[linkOf]{name: "links", none: none,
		heads: []string{"SERVICE ACCOUNT", "MINI PROGRAM", "NAME", "STATE", "SINCE"},
		more:  more,
		row: func(l linkOf) []string {
			return []string{l.Service, l.MiniProgram, l.Name, linkState(l.AccountLink), when(l.CreatedAt)}
		}}.print(s, c.outputFlags, all, nil)
}

func waitingLink(list []linkOf) int {
	for i, l := range list {
		if l.Waits != "" {
			return i
		}
	}
	return -1
}

// linkState says in words how a link is.
func linkState(l client.AccountLink) string {
	switch {
	case l.Status == client.LinkStands && l.Unlinking:
		return said("component.linked_its_end_waits_for")
	case l.Status == client.LinkStands:
		return "linked"
	case l.Status == client.LinkWaitsProgram:
		return said("component.waits_for_the_mini_program")
	case l.Status == client.LinkWaitsAccount:
		return said("component.waits_for_the_service_account")
	case l.Status == client.LinkRefused:
		return "refused"
	}
	return strconv.Itoa(l.Status)
}

// serviceAccounts are the AppIDs of all accounts that can have links.
func serviceAccounts(s *session, qrjump *client.Client) ([]string, error) {
	const page = 1000
	found := []string{}
	for after := ""; ; {
		list, err := qrjump.Accounts.List(s.ctx, after, page)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if a.Kind != "mini_program" {
				found = append(found, a.AppID)
			}
			after = a.AppID
		}
		if len(list) < page {
			return found, nil
		}
	}
}

type accountConfirmLink struct {
	operator
	Service     string `arg:""`
	MiniProgram string `arg:"" name:"mini"`
	Side        string `required:"" enum:"account,mini_program" placeholder:"SIDE"`
	Refuse      bool
}

// Run answers for an administrator whether a link, or its end, shall be.
func (c *accountConfirmLink) Run(s *session, qrjump *client.Client) error {
	what := c.Service + " with " + c.MiniProgram
	list, err := qrjump.Links.Confirm(s.ctx, c.Service, c.MiniProgram, c.Side, !c.Refuse)
	if err != nil {
		return aboutAccount(s, qrjump, said("component.confirm_the_link_of")+c.MiniProgram+" with", c.Service, err)
	}
	state := said("component.not_linked_any_more")
	for _, l := range list {
		if l.MiniProgram == c.MiniProgram {
			state = linkState(l)
		}
	}
	return c.print(s, map[string]any{"links": append([]client.AccountLink{}, list...)}, func(w io.Writer) {
		fmt.Fprintln(w, plain(said("component.the_link_of")+what+said("component.is_answered")+state))
	})
}
