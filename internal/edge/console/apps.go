package console

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/qrjump/qrjump/client"
)

type appsView struct {
	Keys []client.ScanKey
	More string // the scan key after which the next page starts
	Name string // name of the new scan key
	Key  string // the new scan key, shown only once
	New  client.ScanKey
}

func (pages operatePages) showApps(v *request, data appsView) {
	if list, err := v.api.ScanKeys.List(v.ctx()); !v.failed(err) {
		data.Keys, data.More = shown(v, "keys", list)
		data.New.Namespace = "default"
		v.show(http.StatusOK, "apps", data)
	}
}

// changeApps creates or deletes a scan key.
func (pages operatePages) changeApps(v *request) {
	name, ctx := v.word("name"), v.ctx()
	v.perform(Root+"/operate/apps?done=operate", map[string]action{
		"add": {call: func() error {
			// A key with the same name would be replaced, and the app that uses the old key would be rejected from then on.
			list, err := v.api.ScanKeys.List(ctx)
			taken := slices.ContainsFunc(list, func(k client.ScanKey) bool { return k.Name == name })
			if err != nil || taken && !v.confirmed("sure.scan-key.new", name) {
				return cmp.Or(err, errAnswered)
			}
			key, err := v.api.ScanKeys.Create(ctx, client.ScanKey{Name: name, Namespace: v.word("namespace")})
			return afterwards(err, func() { pages.showApps(v, appsView{Name: name, Key: key}) })
		}},
		"delete": {"sure.scan-key", name, func() error { return v.api.ScanKeys.Delete(ctx, name) }},
	})
}
