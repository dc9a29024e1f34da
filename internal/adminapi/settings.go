package adminapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/settings"
)

func (a *Admin) getSettings(context.Context, *none) (any, error) { return a.Settings.Get(), nil }

func (a *Admin) putSettings(ctx context.Context, in *struct {
	Body json.RawMessage `contentType:"application/json"`
}) (any, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(in.Body, &object); err != nil || object == nil {
		return nil, refused("settings: want a JSON object")
	}
	if _, err := settings.Merge(a.Settings.Get(), in.Body); err != nil {
		return nil, refused("%v", err)
	}
	err := a.SaveSettings(ctx, in.Body)
	return a.Settings.Get(), err
}

// scanKey is a scan key without the key itself; client.ScanKey is also what asks
// for one.
type scanKey struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace" doc:"users of two namespaces never meet"`
	CreatedAt time.Time `json:"created_at"`
}

type scanKeyList struct {
	Keys []scanKey `json:"keys"`
}

func (a *Admin) listScanKeys(ctx context.Context, _ *none) (scanKeyList, error) {
	list, err := a.Keys.Store.ScanKeys(ctx)
	return scanKeyList{each(list, func(k accounts.ScanKey) scanKey { return scanKey{k.Name, k.Namespace, k.CreatedAt} })}, err
}

type createdScanKey struct {
	Name string `json:"name"`
	Key  string `json:"key" doc:"shown this once"`
}

func (a *Admin) createScanKey(ctx context.Context, in *struct {
	Body struct {
		Name      string `json:"name" minLength:"1" maxLength:"64" pattern:"^[0-9A-Za-z._-]+$"`
		Namespace string `json:"namespace,omitempty" maxLength:"64" pattern:"^[0-9A-Za-z._-]*$"`
	}
}) (createdScanKey, error) {
	text, err := a.Keys.Create(ctx, in.Body.Name, in.Body.Namespace)
	return createdScanKey{in.Body.Name, text}, err
}

func (a *Admin) deleteScanKey(ctx context.Context, in *struct {
	Name string `path:"name"`
}) (scanKeyList, error) {
	if err := a.Keys.Delete(ctx, in.Name); err != nil {
		return scanKeyList{}, err
	}
	return a.listScanKeys(ctx, nil)
}
