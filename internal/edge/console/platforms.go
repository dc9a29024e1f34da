package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// Set returns the display name of a permission set, including its number.
func (v view) Set(id int) string {
	if key := fmt.Sprint("set.", id); v.Has(key) {
		return fmt.Sprint(id, " ", v.say(key))
	}
	return strconv.Itoa(id)
}

func platformPage(appid string) string { return Root + "/platforms/" + url.PathEscape(appid) }

type platformsView struct {
	Components []client.Component
	More       string
	Form       struct {
		AppID string `json:"appid"`
		client.ComponentPut
	}
}

func (pages accountPages) platforms(v *request) {
	list, err := v.api.Components.List(v.ctx(), v.r.URL.Query().Get("after"), pageRows)
	if v.failed(err) {
		return
	}
	data := platformsView{Components: list}
	data.More = lastKey(list, func(row client.Component) string { return row.AppID })
	v.show(http.StatusOK, "platforms", data)
}

// putPlatform stores the platform with the values of the form.
func (pages accountPages) putPlatform(v *request, appid string) {
	var put client.ComponentPut
	v.decode(&put, "secret message_token encoding_aes_key event_url ip_allowlist redirect_hosts")
	_, err := v.api.Components.Set(v.ctx(), appid, put)
	if v.fresh && client.ChangedMeanwhile(err) != nil {
		v.refuse(http.StatusConflict, "appid", v.say("platform.exists", appid))
	} else if !v.failed(err) {
		v.redirect(platformPage(appid) + "?done=account")
	}
}

// makePlatform creates a new platform.
func (pages accountPages) makePlatform(v *request) {
	appid := strings.TrimSpace(v.r.FormValue("appid"))
	if appid == "" {
		v.refuse(http.StatusUnprocessableEntity, "appid", v.say("accounts.appid.wanted"))
		return
	}
	v.fresh = true
	pages.putPlatform(v, appid)
}

// platformView contains the data of a platform's page. The verify ticket is shown only once.
type platformView struct {
	client.Component
	Pushes       []client.Push
	Form         client.ComponentPut
	Agreed       client.Agreement
	Ticket, Code string
}

func (pages accountPages) showPlatform(v *request, data platformView) {
	appid, ctx := v.r.PathValue("component"), v.ctx()
	if v.failed(storeResult(&data.Component)(v.api.Components.Get(ctx, appid))) ||
		v.failed(storeResult(&data.Pushes)(v.api.Components.ListPushes(ctx, appid, 20))) {
		return
	}
	data.Form = client.ComponentPut{EventURL: &data.EventURL, IPAllowlist: &data.IPAllowlist, RedirectHosts: &data.RedirectHosts}
	v.show(http.StatusOK, "platform", data)
}

// changePlatform performs one action on a platform.
func (pages accountPages) changePlatform(v *request) {
	component, appid, ctx := v.r.PathValue("component"), v.word("appid"), v.ctx()
	v.perform(platformPage(component)+"?done=account", map[string]action{
		"put": {call: func() error {
			_, err := v.api.Components.Get(ctx, component) // a mistyped URL must not create a platform
			return afterwards(err, func() { pages.putPlatform(v, component) })
		}},
		"delete":   {call: func() error { return v.deletion(v.api.Components.Delete, component, "/platforms") }},
		"withdraw": {"sure.withdraw.account", appid, func() error { return v.api.Components.RevokeAuthorization(ctx, component, appid) }},
		"ticket": {call: func() error {
			ticket, err := v.api.Emulator.CreateTicket(ctx, component)
			return afterwards(err, func() { pages.showPlatform(v, platformView{Ticket: ticket}) })
		}},
		"authorize": {call: func() error {
			agreed := client.Agreement{Component: component}
			v.decode(&agreed, "pre_auth_code appid force_exclusive permission_sets")
			code, err := v.api.Emulator.Authorize(ctx, agreed)
			return afterwards(err, func() { pages.showPlatform(v, platformView{Code: code}) })
		}},
	})
}
