package console

import (
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/client"
)

func (pages appPages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/operate/apps":  pages.apps,
		"POST /console/operate/apps": pages.changeApps,
	}
}

type appsView struct {
	Keys []client.ScanKey
	More string // the key after which the next page starts
	Name string // name of a new key
	Key  string // the new key, shown only once
}

// apps shows the keys of apps that report scans.
func (pages appPages) apps(v *request) { pages.showApps(v, appsView{}) }

func (pages appPages) showApps(v *request, data appsView) {
	if list, err := v.api.ScanKeys.List(v.ctx()); !v.failed(err) {
		data.Keys, data.More = shown(v, "keys", list)
		v.show(http.StatusOK, "apps", data)
	}
}

// changeApps creates or deletes a scan key.
func (pages appPages) changeApps(v *request) {
	name := strings.TrimSpace(v.r.FormValue("name"))
	switch v.r.FormValue("did") {
	case "add":
		// A key with the same name would be replaced, and the app that uses the old key would be rejected from then on.
		list, err := v.api.ScanKeys.List(v.ctx())
		if v.failed(err) {
			return
		}
		for _, scanKey := range list {
			if scanKey.Name == name && !v.sure("sure.scan-key.new", name) {
				return
			}
		}
		key, err := v.api.ScanKeys.Create(v.ctx(), client.ScanKey{Name: name, Namespace: strings.TrimSpace(v.r.FormValue("namespace"))})
		if !v.failed(err) {
			pages.showApps(v, appsView{Name: name, Key: key})
		}
	case "delete":
		if v.sure("sure.scan-key", name) && !v.failed(v.api.ScanKeys.Delete(v.ctx(), name)) {
			v.redirect(Root + "/operate/apps?done=operate")
		}
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
	}
}
