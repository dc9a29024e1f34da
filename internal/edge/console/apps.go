package console

import (
	"slices"

	"github.com/qrjump/qrjump/client"
)

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
