package main

import (
	"cmp"
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
	all, err := everyPage(page, func(lastComponent client.Component) ([]client.Component, error) {
		return qrjump.Components.List(s.ctx, lastComponent.AppID, page)
	})
	return listing[client.Component]{name: "components",
		none:  tr("component.there_is_no_third_party"),
		heads: []string{"APPID", "AUTHORISED BY", "EVENT URL", "CREATED"},
		row: func(component client.Component) []string {
			return []string{component.AppID, strconv.Itoa(component.Total), orDash(component.EventURL), formatTime(component.CreatedAt)}
		}}.print(s, c.outputFlags, all, failed("list", "components", err))
}

// aboutComponent adds the affected platform to an error; if no platform has the AppID, aboutComponent suggests a similar AppID.
func aboutComponent(s *session, operator *client.Client, did, appid string, err error) error {
	return withSuggestion(did, appid, err, tr("report.see", seeComponents),
		func() ([]client.Component, error) { return operator.Components.List(s.ctx, "", 100) },
		func(component client.Component) string { return component.AppID })
}

type componentShow struct {
	operator
	AppID  string `arg:"" name:"appid"`
	Pushes int    `default:"20" placeholder:"N"`
}

// Run shows one platform, the accounts that authorised it, and the messages that were sent to its event URL.
func (c *componentShow) Run(s *session, qrjump *client.Client) error {
	entry := struct {
		client.Component
		Pushes []client.Push `json:"pushes"`
	}{Pushes: []client.Push{}}
	var err error
	if entry.Component, err = qrjump.Components.Get(s.ctx, c.AppID); err == nil && c.Pushes > 0 {
		entry.Pushes, err = qrjump.Components.ListPushes(s.ctx, c.AppID, c.Pushes)
	}
	return c.print(s, entry, aboutComponent(s, qrjump, tr("component.show_component"), c.AppID, err), func(w io.Writer) {
		printFields(w, [2]string{"appid", entry.AppID}, [2]string{"event URL", cmp.Or(entry.EventURL, "nowhere")},
			[2]string{"allowed IPs", cmp.Or(strings.Join(entry.IPAllowlist, ", "), tr("component.any_address"))},
			[2]string{"redirect hosts", cmp.Or(strings.Join(entry.RedirectHosts, ", "), tr("component.no_host"))},
			[2]string{"made", formatTime(entry.CreatedAt)}, [2]string{"authorised by", counted(entry.Total, "account")})
		if len(entry.Authorizations) > 0 {
			fmt.Fprintln(w)
			printRows(w, []string{"ACCOUNT", "PERMISSION SETS", "SINCE"}, entry.Authorizations, func(a client.Authorization) []string {
				return []string{a.AppID, sets(a.PermissionSets), formatTime(a.GrantedAt)}
			})
		}
		if left := entry.Total - len(entry.Authorizations); left > 0 {
			printMsg(w, "component.and_more", left)
		}
		if len(entry.Pushes) > 0 {
			printPushes(w, entry.Pushes)
		}
	})
}

// The function "sets" returns the numbers of permission sets as the text of a table cell.
func sets(list []int) string { return orDash(strings.Join(mapped(list, strconv.Itoa), " ")) }

type componentSet struct {
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

// Run creates a platform, or changes those fields of an existing platform whose flags are set.
func (c *componentSet) Run(s *session, qrjump *client.Client) error {
	if c.AnyIP && c.IP != nil {
		return misused("component.ip_and_any_ip_choose")
	}
	did := tr("account.changed", c.AppID)
	old, err := qrjump.Components.Get(s.ctx, c.AppID)
	ctx := client.IfMatch(s.ctx, old.Revision)
	if isNotFound(err) {
		did, ctx = tr("account.created", c.AppID), client.IfNoneMatch(s.ctx)
	} else if err != nil {
		return failed(tr("component.save"), c.AppID, err)
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
	component, err := qrjump.Components.Set(ctx, c.AppID, want)
	return c.outcome(s, component, failed(tr("component.save"), c.AppID, describeConflict("qrjump component show "+c.AppID, err)),
		"plain", plain(did))
}

// printPushes prints the messages that were sent to a platform's event URL, newest last.
func printPushes(w io.Writer, list []client.Push) {
	fmt.Fprintln(w)
	printMsg(w, "component.pushes")
	heads := []string{"ID", "CREATED", "KIND", "ACCOUNT", "STATE", "ATTEMPTS", "RESPONSE", "NEXT ATTEMPT", "ERROR"}
	printRows(w, heads, reversed(list), func(p client.Push) []string {
		state := "pending"
		if p.Delivered {
			state = "delivered"
		} else if p.NextAt == nil {
			state = tr("component.failed")
		}
		return []string{number(p.ID), formatTime(p.CreatedAt), p.InfoType, orDash(p.AppID), state,
			strconv.Itoa(p.Attempts), orDash(numberOrNone(int64(p.Status))), moment(p.NextAt), orDash(p.Error)}
	})
}

type componentRevoke struct {
	operator
	Component string `arg:""`
	AppID     string `arg:"" name:"appid"`
	confirmFlag
}

// Run revokes the authorisation that an account granted to a platform.
func (c *componentRevoke) Run(s *session, qrjump *client.Client) error {
	kind := c.AppID + " from " + c.Component
	held, err := qrjump.Accounts.ListAuthorizations(s.ctx, c.AppID)
	err = aboutAccount(s, qrjump, "revoke "+c.Component+" from", c.AppID, err)
	if _, err := named(held, err, func(h client.ComponentGrant) string { return h.Component }, "revoke "+kind+": component", c.Component,
		tr("component.platform_that")+c.AppID+" authorised", "qrjump account show "+c.AppID); err != nil {
		return err
	}
	if err := c.confirmed(s, tr("component.cannot_act_for", c.Component, c.AppID)); err != nil {
		return err
	}
	err = qrjump.Components.RevokeAuthorization(s.ctx, c.Component, c.AppID)
	return c.outcome(s, map[string]any{"component": c.Component, "appid": c.AppID, "revoked": true}, failed("revoke", kind, err),
		"plain", plain(c.AppID+tr("component.revoked")+c.Component))
}

type componentConsent struct {
	operator
	Component      string `arg:""`
	AppID          string `arg:"" name:"appid"`
	PreAuthCode    string `required:"" placeholder:"CODE"`
	Set            []int  `sep:"," placeholder:"NUMBER"`
	ForceExclusive bool
}

// Run grants an authorisation on the emulator in place of a human administrator.
func (c *componentConsent) Run(s *session, qrjump *client.Client) error {
	did := doing("consent", c.Component+" for "+c.AppID)
	code, err := qrjump.Emulator.Authorize(s.ctx, client.Consent{Component: c.Component, AppID: c.AppID, PreAuthCode: c.PreAuthCode,
		PermissionSets: c.Set, Move: c.ForceExclusive})
	if isProblem(err, http.StatusConflict) {
		p, _ := errors.AsType[*client.Problem](err)
		return exitError{hintError{error: fault("clock.of", did, p.Detail), next: tr("component.add_force_exclusive")}, exitRefused}
	}
	if isNotFound(err) {
		if _, unknown := qrjump.Components.Get(s.ctx, c.Component); isNotFound(unknown) {
			return aboutComponent(s, qrjump, did+": component", c.Component, err)
		}
		return aboutAccount(s, qrjump, did+": account", c.AppID, err)
	}
	return c.print(s, map[string]any{"auth_code": code}, emulated(did, err), func(w io.Writer) {
		fmt.Fprintln(w, code)
		fmt.Fprintln(s.err, plain(c.AppID+" agreed: "+c.Component+tr("component.trades_this_authorization_code_by")))
	})
}

// linkState describes the state of a link in words.
func linkState(l client.AccountLink) string {
	switch {
	case l.Status == client.LinkActive && l.Unlinking:
		return tr("component.linked_its_end_waits_for")
	case l.Status == client.LinkActive:
		return "linked"
	case l.Status == client.LinkPendingMiniProgram:
		return tr("component.waits_for_the_mini_program")
	case l.Status == client.LinkPendingAccount:
		return tr("component.waits_for_the_service_account")
	case l.Status == client.LinkRejected:
		return "refused"
	}
	return strconv.Itoa(l.Status)
}
