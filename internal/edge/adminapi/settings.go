package adminapi

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// settingsNow is the current settings as a response.
type settingsNow settings.Settings

// Schema describes the settings from their table of fields.
func (settingsNow) Schema(r huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for _, f := range settings.Table {
		s.Properties[f.Name] = SettingSchema(r, f)
		s.Required = append(s.Required, f.Name)
	}
	return s
}

// settingsChange describes a change with a lenient schema, because settings.Merge reports errors better than a schema validator.
func settingsChange(r huma.Registry) *huma.Schema {
	s := settingsNow{}.Schema(r)
	s.Required = nil
	return s
}

// SettingSchema describes one setting.
func SettingSchema(r huma.Registry, f settings.Field) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeArray, Description: f.Meaning().String()}
	switch f.Value(settings.Defaults()).(type) {
	case bool:
		s.Type = huma.TypeBoolean
	case int, int64, settings.Limit:
		minimum, limit := float64(f.Min), float64(f.Max)
		s.Nullable = f.CanBeUnlimited()
		s.Type, s.Format, s.Minimum, s.Maximum = huma.TypeInteger, "int64", &minimum, &limit
	case settings.Limits:
		s.Type, s.AdditionalProperties = huma.TypeObject, &huma.Schema{Type: huma.TypeInteger}
	case settings.Prefixes:
		s.Type, s.AdditionalProperties = huma.TypeObject, &huma.Schema{Type: huma.TypeString}
	case settings.Overrides:
		s.Type = huma.TypeObject
		s.AdditionalProperties = &huma.Schema{Type: huma.TypeString, Enum: []any{string(settings.Allow), string(settings.Reject)}}
	case settings.Verification:
		s.Type = ""
		s.OneOf = []*huma.Schema{{Type: huma.TypeString, Enum: []any{"fetch", "trust"}},
			{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}}}
	case settings.AndroidApps:
		s.Items = r.Schema(reflect.TypeFor[settings.AndroidApp](), true, "")
	case settings.Addresses, settings.Hosts, settings.AppleAppIDs:
		s.Items = &huma.Schema{Type: huma.TypeString}
	default:
		s.Type = huma.TypeString
		for _, word := range f.Words {
			s.Enum = append(s.Enum, word)
		}
	}
	return s
}

// getSettings returns the settings in effect; a caller limited to accounts sees only the GS1 Company Prefixes of these accounts.
func (a serverAPI) getSettings(ctx context.Context, _ *client.Empty) (settingsNow, error) {
	shown, caller := a.Settings.Get(), adminroute.CallerFromContext(ctx)
	shown.GS1Prefixes = maps.Clone(shown.GS1Prefixes)
	maps.DeleteFunc(shown.GS1Prefixes, func(_, appid string) bool { return !caller.CanAccess(appid) })
	return settingsNow(shown), nil
}

type SettingsInput struct {
	Body json.RawMessage `contentType:"application/json"`
}

func (a serverAPI) putSettings(ctx context.Context, in *SettingsInput) (settingsNow, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(in.Body, &object); err != nil || object == nil {
		return settingsNow{}, refused("settings: want a JSON object")
	}
	if _, err := settings.Merge(a.Settings.Get(), in.Body); err != nil {
		return settingsNow{}, refused("%v", err)
	}
	err := a.SaveSettings(ctx, in.Body)
	return settingsNow(a.Settings.Get()), err
}

func (a serverAPI) describeSettings(context.Context, *client.Empty) (client.SettingList, error) {
	return a.describe(a.Settings.Get())
}

func (a serverAPI) describe(currentSettings settings.Settings) (list client.SettingList, err error) {
	fallback := a.DefaultSettings()
	for _, f := range settings.Table {
		setting := client.Setting{Name: f.Name, Meaning: f.Meaning().String(), Allowed: f.Allowed().String(), Effect: f.Counts().String()}
		if setting.Value, err = json.Marshal(f.Value(currentSettings)); err != nil {
			return list, err
		}
		if setting.Default, err = json.Marshal(f.Value(fallback)); err != nil {
			return list, err
		}
		setting.Revision = settingRevision(f, currentSettings)
		list.Settings = append(list.Settings, setting)
	}
	return list, nil
}

type SettingPath struct {
	Name string `path:"name" maxLength:"64"`
}

func (a serverAPI) resetSetting(ctx context.Context, in *SettingPath) (settingsNow, error) {
	names := settings.Names()
	if !slices.Contains(names, in.Name) {
		return settingsNow{}, huma.Error404NotFound("there is no setting " + in.Name + suggest.DidYouMean(in.Name, names...))
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	err := a.ResetSetting(ctx, in.Name)
	return settingsNow(a.Settings.Get()), err
}

func (a serverAPI) listScanKeys(ctx context.Context, _ *client.Empty) (client.ScanKeyList, error) {
	list, err := a.Keys.Store.ScanKeys(ctx)
	return client.ScanKeyList{Keys: mapped(list, func(k accounts.ScanKey) client.ScanKey {
		return client.ScanKey{Name: k.Name, Namespace: k.Namespace, CreatedAt: &k.CreatedAt}
	})}, err
}

func (a serverAPI) createScanKey(ctx context.Context, in *struct{ Body client.ScanKeyPut }) (client.CreatedScanKey, error) {
	text, err := a.Keys.Create(ctx, in.Body.Name, in.Body.Namespace)
	return client.CreatedScanKey{Name: in.Body.Name, Key: text}, err
}

func (a serverAPI) deleteScanKey(ctx context.Context, in *struct {
	Name string `path:"name"`
}) (client.ScanKeyList, error) {
	return readAfter(ctx, a.Keys.Delete(ctx, in.Name), a.listScanKeys, nil)
}
