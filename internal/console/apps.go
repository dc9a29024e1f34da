package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type appsView struct {
	Keys []client.ScanKey
	More string // where they go on
	Name string // of a new one
	Key  string // itself, shown this once
}

// apps lists the keys of apps that scan.
func (c *Console) apps(v *visit) { v.showApps(appsView{}) }

func (v *visit) showApps(data appsView) {
	var list struct{ Keys []client.ScanKey }
	if !v.failed(v.ask("GET", "/scan-keys", nil, &list)) {
		data.Keys, data.More = shown(v, "keys", list.Keys)
		v.show(http.StatusOK, "apps", data)
	}
}

// changeApps makes a key, or ends one.
func (c *Console) changeApps(v *visit) {
	name := strings.TrimSpace(v.r.FormValue("name"))
	switch v.r.FormValue("did") {
	case "add":
		// One of the same name would be replaced, and its app refused from then on.
		var list struct{ Keys []client.ScanKey }
		if v.failed(v.ask("GET", "/scan-keys", nil, &list)) {
			return
		}
		for _, one := range list.Keys {
			if one.Name == name && !v.sure("sure.scan-key.new", name) {
				return
			}
		}
		var made struct{ Key string }
		put := client.ScanKey{Name: name, Namespace: strings.TrimSpace(v.r.FormValue("namespace"))}
		if !v.failed(v.ask("POST", "/scan-keys", put, &made)) {
			v.showApps(appsView{Name: name, Key: made.Key})
		}
	case "delete":
		if v.sure("sure.scan-key", name) && !v.failed(v.ask("DELETE", "/scan-keys/"+url.PathEscape(name), nil, nil)) {
			v.redirect(Root + "/operate/apps?done=operate")
		}
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
	}
}
