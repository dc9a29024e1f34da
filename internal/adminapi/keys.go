package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

func (a *Admin) registerKeys(api huma.API) {
	type scanKey struct {
		Name      string    `json:"name"`
		Namespace string    `json:"namespace" doc:"users of two namespaces never meet"`
		CreatedAt time.Time `json:"created_at"`
	}
	type scanKeyList struct {
		Keys []scanKey `json:"keys"`
	}
	all := func(ctx context.Context) (*answer[scanKeyList], error) {
		keys, err := a.Keys.Store.ScanKeys(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := scanKeyList{Keys: []scanKey{}}
		for _, k := range keys {
			shown.Keys = append(shown.Keys, scanKey{k.Name, k.Namespace, k.CreatedAt})
		}
		return &answer[scanKeyList]{shown}, nil
	}
	huma.Register(api, operation(http.MethodGet, "/scan-keys", "listScanKeys", "Keys of apps that scan, without the keys themselves"), func(ctx context.Context, _ *struct{}) (*answer[scanKeyList], error) {
		return all(ctx)
	})
	type createdScanKey struct {
		Name string `json:"name"`
		Key  string `json:"key" doc:"shown this once"`
	}
	huma.Register(api, operation(http.MethodPost, "/scan-keys", "createScanKey", "Make a key for an app; one of the same name is replaced"), func(ctx context.Context, in *struct {
		Body struct {
			Name      string `json:"name" minLength:"1" maxLength:"64" pattern:"^[0-9A-Za-z._-]+$"`
			Namespace string `json:"namespace,omitempty" maxLength:"64" pattern:"^[0-9A-Za-z._-]*$"`
		}
	}) (*answer[createdScanKey], error) {
		text, err := a.Keys.Create(ctx, in.Body.Name, in.Body.Namespace)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[createdScanKey]{createdScanKey{in.Body.Name, text}}, nil
	})
	huma.Register(api, operation(http.MethodDelete, "/scan-keys/{name}", "deleteScanKey", "End a key at once; the keys that are left"), func(ctx context.Context, in *struct {
		Name string `path:"name"`
	}) (*answer[scanKeyList], error) {
		if err := a.Keys.Delete(ctx, in.Name); err != nil {
			return nil, a.problem(ctx, err)
		}
		return all(ctx)
	})
}
