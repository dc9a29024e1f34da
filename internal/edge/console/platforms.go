package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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
	Form       struct {
		AppID string `json:"appid"`
		client.ComponentPut
	}
}

func (pages accountPages) platforms(v *request) error {
	list, err := v.api.Components.List(v.ctx(), v.r.URL.Query().Get("after"), pageRows)
	return v.page("platforms", platformsView{Components: list}, err)
}

// putPlatform stores the platform with the values of the form.
func (pages accountPages) putPlatform(v *request, appid string) error {
	var put client.ComponentPut
	if err := v.showInvalid(v.decode(&put, "secret message_token encoding_aes_key event_url ip_allowlist redirect_hosts")); err != nil {
		return err
	}
	_, err := v.api.Components.Set(v.ctx(), appid, put)
	if v.fresh && client.PreconditionFailed(err) != nil {
		return v.refuse(http.StatusConflict, "appid", v.say("platform.exists", appid))
	}
	return v.done(platformPage(appid)+"?done=account", err)
}

// makePlatform creates a new platform.
func (pages accountPages) makePlatform(v *request) error {
	appid := strings.TrimSpace(v.r.FormValue("appid"))
	if appid == "" {
		return v.refuse(http.StatusUnprocessableEntity, "appid", v.say("accounts.appid.wanted"))
	}
	v.fresh = true
	return pages.putPlatform(v, appid)
}

// platformView contains the data of a platform's page. The verify ticket is shown only once.
type platformView struct {
	client.Component
	Pushes       []client.Push
	Form         client.ComponentPut
	Agreed       client.Consent
	Ticket, Code string
}

func (pages accountPages) showPlatform(v *request, data platformView) error {
	appid, ctx := v.r.PathValue("component"), v.ctx()
	err := cmp.Or(storeResult(&data.Component)(v.api.Components.Get(ctx, appid)),
		storeResult(&data.Pushes)(v.api.Components.ListPushes(ctx, appid, 20)))
	data.Form = client.ComponentPut{EventURL: &data.EventURL, IPAllowlist: &data.IPAllowlist, RedirectHosts: &data.RedirectHosts}
	return v.page("platform", data, err)
}

// changePlatform performs one action on a platform.
func (pages accountPages) changePlatform(v *request) error {
	component, appid, ctx := v.r.PathValue("component"), v.word("appid"), v.ctx()
	return v.perform(platformPage(component)+"?done=account", map[string]action{
		"put": {call: func() error {
			_, err := v.api.Components.Get(ctx, component) // a mistyped URL must not create a platform
			return afterwards(err, func() error { return pages.putPlatform(v, component) })
		}},
		"delete":   {call: func() error { return v.deletion(v.api.Components.Delete, component, "/platforms") }},
		"withdraw": {"sure.withdraw.account", appid, func() error { return v.api.Components.RevokeAuthorization(ctx, component, appid) }},
		"ticket": {call: func() error {
			ticket, err := v.api.Emulator.CreateTicket(ctx, component)
			return afterwards(err, func() error { return pages.showPlatform(v, platformView{Ticket: ticket}) })
		}},
		"authorize": {call: func() error {
			agreed := client.Consent{Component: component}
			if err := v.showInvalid(v.decode(&agreed, "pre_auth_code appid force_exclusive permission_sets")); err != nil {
				return err
			}
			code, err := v.api.Emulator.Authorize(ctx, agreed)
			return afterwards(err, func() error { return pages.showPlatform(v, platformView{Code: code}) })
		}},
	})
}

type appsView struct {
	Keys []client.ScanKey
	Name string // name of the new scan key
	Key  string // the new scan key, shown only once
	New  client.ScanKey
}

func (pages operatePages) showApps(v *request, data appsView) error {
	list, err := v.api.ScanKeys.List(v.ctx())
	data.Keys, data.New.Namespace = list, "default"
	return v.page("apps", data, err)
}

// changeApps creates or deletes a scan key.
func (pages operatePages) changeApps(v *request) error {
	name, ctx := v.word("name"), v.ctx()
	return v.perform(Root+"/operate/apps?done=operate", map[string]action{
		"add": {call: func() error {
			// A key with the same name would be replaced, and the app that uses the old key would be rejected from then on.
			list, err := v.api.ScanKeys.List(ctx)
			taken := slices.ContainsFunc(list, func(k client.ScanKey) bool { return k.Name == name })
			if err == nil && taken {
				err = v.confirmed(v.say("sure.scan-key.new", name), name, nil)
			}
			if err != nil {
				return err
			}
			key, err := v.api.ScanKeys.Create(ctx, client.ScanKey{Name: name, Namespace: v.word("namespace")})
			return afterwards(err, func() error { return pages.showApps(v, appsView{Name: name, Key: key}) })
		}},
		"delete": {"sure.scan-key", name, func() error { return v.api.ScanKeys.Delete(ctx, name) }},
	})
}
