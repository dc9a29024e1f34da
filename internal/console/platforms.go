package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// platformPages are the pages of third-party platforms.
func (c *Console) platformPages() map[string]func(*visit) {
	return map[string]func(*visit){
		"GET /console/platforms":              c.platforms,
		"POST /console/platforms":             c.makePlatform,
		"GET /console/platforms/{component}":  c.platform,
		"POST /console/platforms/{component}": c.changePlatform,
	}
}

// Set is the name of a permission set, with its number.
func (v view) Set(id int) string {
	if key := fmt.Sprint("set.", id); v.Has(key) {
		return fmt.Sprint(id, " ", v.say(key))
	}
	return strconv.Itoa(id)
}

func platformPage(appid string) string { return Root + "/platforms/" + url.PathEscape(appid) }

// platformForm is a platform as somebody fills it in.
type platformForm struct {
	New, URL, Addresses, Hosts string
	Revision                   string // of the platform that the form shows
	Fault                      string
}

func (f platformForm) put(r *http.Request) client.ComponentPut {
	return client.ComponentPut{Secret: r.FormValue("secret"), MessageToken: r.FormValue("message_token"),
		EncodingAESKey: r.FormValue("encoding_aes_key"), EventURL: &f.URL, IPAllowlist: new(append([]string{}, listed(f.Addresses)...)),
		RedirectHosts: new(append([]string{}, listed(f.Hosts)...))}
}

func filledPlatform(r *http.Request) platformForm {
	return platformForm{New: strings.TrimSpace(r.FormValue("appid")), URL: strings.TrimSpace(r.FormValue("event_url")),
		Addresses: r.FormValue("ip_allowlist"), Hosts: r.FormValue("redirect_hosts"), Revision: r.FormValue(revisionField)}
}

type platformsView struct {
	Components []client.Component
	More       string
	Form       platformForm
}

func (c *Console) platforms(v *visit) { v.showPlatforms(http.StatusOK, platformForm{}) }

func (v *visit) showPlatforms(status int, form platformForm) {
	var list client.ComponentList
	after := url.QueryEscape(v.r.URL.Query().Get("after"))
	if v.failed(v.ask("GET", fmt.Sprintf("/components?limit=%d&after=%s", pageRows, after), nil, &list)) {
		return
	}
	data := platformsView{Components: list.Components, Form: form}
	if len(list.Components) == pageRows {
		data.More = list.Components[pageRows-1].AppID
	}
	v.show(status, "platforms", data)
}

// putPlatform makes the platform so; else it shows the form again by show.
func (v *visit) putPlatform(appid string, f platformForm, show func(int, platformForm)) {
	err := v.ask("PUT", "/components/"+url.PathEscape(appid), f.put(v.r), nil)
	said, refused := errors.AsType[refusal](err)
	switch {
	case refused && said.overtaken() && v.fresh:
		f.Fault = v.say("platform.exists", appid)
		show(http.StatusConflict, f)
		return
	case refused && said.Status/100 == 4 && said.Status != http.StatusForbidden && !said.overtaken():
		f.Fault = said.Detail
		show(said.Status, f)
		return
	}
	if !v.failed(err) {
		v.redirect(platformPage(appid) + "?done=account")
	}
}

// makePlatform makes a platform that is not there yet.
func (c *Console) makePlatform(v *visit) {
	f := filledPlatform(v.r)
	if f.New == "" {
		f.Fault = v.say("accounts.appid.wanted")
		v.showPlatforms(http.StatusUnprocessableEntity, f)
		return
	}
	err := v.ask("GET", "/components/"+url.PathEscape(f.New), nil, nil)
	if said, ok := errors.AsType[refusal](err); ok && said.Status == http.StatusNotFound {
		v.fresh = true
		v.putPlatform(f.New, f, v.showPlatforms)
		return
	}
	if err == nil {
		f.Fault = v.say("platform.exists", f.New)
		v.showPlatforms(http.StatusConflict, f)
		return
	}
	v.failed(err)
}

// platformView is the page of a platform. Ticket is shown this once.
type platformView struct {
	client.Component
	Pushes       []client.Push
	Form         platformForm
	Ticket, Code string
}

func (c *Console) platform(v *visit) { v.showPlatform(http.StatusOK, platformView{}) }

func (v *visit) showPlatform(status int, data platformView) {
	below := "/components/" + url.PathEscape(v.r.PathValue("component"))
	var pushes client.PushList
	if v.failed(v.ask("GET", below, nil, &data.Component)) || v.failed(v.ask("GET", below+"/pushes?limit=20", nil, &pushes)) {
		return
	}
	data.Pushes = pushes.Pushes
	if data.Form.Fault == "" {
		data.Form = platformForm{URL: data.EventURL, Addresses: strings.Join(data.IPAllowlist, ", "),
			Hosts: strings.Join(data.RedirectHosts, ", "), Revision: data.Revision}
	}
	v.show(status, "platform", data)
}

// changePlatform does one thing to a platform.
func (c *Console) changePlatform(v *visit) {
	component, appid := v.r.PathValue("component"), strings.TrimSpace(v.r.FormValue("appid"))
	var err error
	switch v.r.FormValue("did") {
	case "put":
		if v.failed(v.ask("GET", "/components/"+url.PathEscape(component), nil, nil)) { // none is made by a slip of the address
			return
		}
		v.putPlatform(component, filledPlatform(v.r), func(status int, f platformForm) { v.showPlatform(status, platformView{Form: f}) })
		return
	case "withdraw":
		if !v.sure("sure.withdraw.account", appid) {
			return
		}
		err = v.ask("DELETE", "/components/"+url.PathEscape(component)+"/authorizations/"+url.PathEscape(appid), nil, nil)
	case "ticket":
		var made struct {
			Ticket string `json:"component_verify_ticket"`
		}
		if !v.failed(v.ask("POST", "/emulator/ticket", map[string]string{"component": component}, &made)) {
			v.showPlatform(http.StatusOK, platformView{Ticket: made.Ticket})
		}
		return
	case "authorize":
		agreed := map[string]any{"component": component, "pre_auth_code": strings.TrimSpace(v.r.FormValue("pre_auth_code")), "appid": appid,
			"move": v.r.FormValue("move") != ""}
		var sets []int
		for _, text := range v.r.PostForm["sets"] {
			if id, wrong := strconv.Atoi(text); wrong == nil {
				sets = append(sets, id)
			}
		}
		if len(sets) > 0 {
			agreed["permission_sets"] = sets
		}
		var made struct {
			Code string `json:"auth_code"`
		}
		if !v.failed(v.ask("POST", "/emulator/authorize", agreed, &made)) {
			v.showPlatform(http.StatusOK, platformView{Code: made.Code})
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

// AllSets are the permission sets that matter here, as a platform asks for them.
func (platformView) AllSets() []int { return []int{3, 18, 33, 46} }
