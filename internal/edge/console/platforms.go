package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// routes returns the handlers of the pages of third-party platforms.
func (pages platformPages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/platforms":              pages.platforms,
		"POST /console/platforms":             pages.makePlatform,
		"GET /console/platforms/{component}":  pages.platform,
		"POST /console/platforms/{component}": pages.changePlatform,
	}
}

// Set returns the display name of a permission set, including its number.
func (v view) Set(id int) string {
	if key := fmt.Sprint("set.", id); v.Has(key) {
		return fmt.Sprint(id, " ", v.say(key))
	}
	return strconv.Itoa(id)
}

func platformPage(appid string) string { return Root + "/platforms/" + url.PathEscape(appid) }

// platformForm holds the platform form with the submitted values.
type platformForm struct {
	URL, Addresses, Hosts string
	Revision              string // revision of the platform that the form shows
}

func (f platformForm) put(r *http.Request) client.ComponentPut {
	return client.ComponentPut{Secret: r.FormValue("secret"), MessageToken: r.FormValue("message_token"),
		EncodingAESKey: r.FormValue("encoding_aes_key"), EventURL: &f.URL, IPAllowlist: new(append([]string{}, listed(f.Addresses)...)),
		RedirectHosts: new(append([]string{}, listed(f.Hosts)...))}
}

func filledPlatform(r *http.Request) platformForm {
	return platformForm{URL: strings.TrimSpace(r.FormValue("event_url")), Addresses: r.FormValue("ip_allowlist"),
		Hosts: r.FormValue("redirect_hosts")}
}

type platformsView struct {
	Components []client.Component
	More       string
	Form       platformForm
}

func (pages platformPages) platforms(v *request) {
	list, err := v.api.Components.List(v.ctx(), v.r.URL.Query().Get("after"), pageRows)
	if v.failed(err) {
		return
	}
	data := platformsView{Components: list}
	if len(list) == pageRows {
		data.More = list[pageRows-1].AppID
	}
	v.show(http.StatusOK, "platforms", data)
}

// putPlatform stores the platform with the values of the form.
func (pages platformPages) putPlatform(v *request, appid string) {
	_, err := v.api.Components.Set(v.ctx(), appid, filledPlatform(v.r).put(v.r))
	if v.fresh && client.ChangedMeanwhile(err) != nil {
		v.refuse(http.StatusConflict, "appid", v.say("platform.exists", appid))
	} else if !v.failed(err) {
		v.redirect(platformPage(appid) + "?done=account")
	}
}

// makePlatform creates a new platform.
func (pages platformPages) makePlatform(v *request) {
	appid := strings.TrimSpace(v.r.FormValue("appid"))
	if appid == "" {
		v.refuse(http.StatusUnprocessableEntity, "appid", v.say("accounts.appid.wanted"))
		return
	}
	v.fresh = true
	pages.putPlatform(v, appid)
}

// platformView holds the data of a platform's page. The verify ticket is shown only once.
type platformView struct {
	client.Component
	Pushes       []client.Push
	Form         platformForm
	Ticket, Code string
}

func (pages platformPages) platform(v *request) { pages.showPlatform(v, http.StatusOK, platformView{}) }

func (pages platformPages) showPlatform(v *request, status int, data platformView) {
	appid, ctx := v.r.PathValue("component"), v.ctx()
	if v.failed(storeResult(&data.Component)(v.api.Components.Get(ctx, appid))) ||
		v.failed(storeResult(&data.Pushes)(v.api.Components.ListPushes(ctx,
			appid, 20))) {
		return
	}
	data.Form = platformForm{URL: data.EventURL, Addresses: strings.Join(data.IPAllowlist, ", "),
		Hosts: strings.Join(data.RedirectHosts, ", "), Revision: data.Revision}
	v.show(status, "platform", data)
}

// changePlatform performs one action on a platform.
func (pages platformPages) changePlatform(v *request) {
	component, appid := v.r.PathValue("component"), strings.TrimSpace(v.r.FormValue("appid"))
	ctx, err := v.ctx(), error(nil)
	switch v.r.FormValue("did") {
	case "put":
		if _, err := v.api.Components.Get(ctx, component); v.failed(err) { // a mistyped URL must not create a platform
			return
		}
		pages.putPlatform(v, component)
		return
	case "delete":
		if v.deleted(v.api.Components.Delete, component) {
			v.redirect(Root + "/platforms?done=deleted")
		}
		return
	case "withdraw":
		if !v.sure("sure.withdraw.account", appid) {
			return
		}
		err = v.api.Components.RevokeAuthorization(ctx, component, appid)
	case "ticket":
		if ticket, err := v.api.Emulator.CreateTicket(ctx, component); !v.failed(err) {
			pages.showPlatform(v, http.StatusOK, platformView{Ticket: ticket})
		}
		return
	case "authorize":
		agreed := client.Agreement{Component: component, PreAuthCode: strings.TrimSpace(v.r.FormValue("pre_auth_code")), AppID: appid,
			Move: v.r.FormValue("move") != ""}
		for _, text := range v.r.PostForm["sets"] {
			if id, wrong := strconv.Atoi(text); wrong == nil {
				agreed.PermissionSets = append(agreed.PermissionSets, id)
			}
		}
		if code, err := v.api.Emulator.Authorize(ctx, agreed); !v.failed(err) {
			pages.showPlatform(v, http.StatusOK, platformView{Code: code})
		}
		return
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(platformPage(component) + "?done=account")
	}
}

// AllSets returns the permission sets that this server knows.
func (platformView) AllSets() []int { return []int{3, 18, 33, 46} }
