package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/settings"
)

func (a *Admin) registerSettings(api huma.API) {
	var changing sync.Mutex
	huma.Register(api, operation(http.MethodGet, "/settings", "getSettings", "The settings in force"), func(context.Context, *struct{}) (*answer[any], error) {
		return &answer[any]{a.Settings.Get()}, nil
	})
	huma.Register(api, operation(http.MethodPut, "/settings", "putSettings", "Change settings: fields that are left out stay"), func(ctx context.Context, in *struct {
		Body json.RawMessage `contentType:"application/json"`
	}) (*answer[any], error) {
		changing.Lock()
		defer changing.Unlock()
		var object map[string]json.RawMessage
		if err := json.Unmarshal(in.Body, &object); err != nil || object == nil {
			return nil, huma.Error422UnprocessableEntity("settings: want a JSON object")
		}
		if _, err := settings.Merge(a.Settings.Get(), in.Body); err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		if err := a.SaveSettings(ctx, in.Body); err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[any]{a.Settings.Get()}, nil
	})
}
