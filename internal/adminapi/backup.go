package adminapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/archive"
)

func (a *Admin) registerBackup(api huma.API) {
	op := operation(http.MethodPost, "/export", "exportEverything", "An archive of everything as it is now, its keys sealed by a passphrase")
	op.Responses = map[string]*huma.Response{"200": {Description: "the archive, for qrjump import",
		Content: map[string]*huma.MediaType{"application/gzip": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
	var running sync.Mutex // one at a time: each takes a connection and, for a second, much memory
	huma.Register(api, op, func(_ context.Context, in *struct {
		Body struct {
			// Its length is no rule of the schema: an answer would quote it.
			Passphrase string `json:"passphrase" doc:"at least 12 characters; whoever has it and the archive has every secret of the server"`
		}
	}) (*huma.StreamResponse, error) {
		if err := archive.CheckPassphrase(in.Body.Passphrase); err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			if !running.TryLock() {
				_ = huma.WriteErr(api, hctx, http.StatusConflict, "another export is running: wait for its end")
				return
			}
			defer running.Unlock()
			r, w := humago.Unwrap(hctx)
			out := &download{pacer: newPacer(w)}
			err := a.Export(r.Context(), out, in.Body.Passphrase)
			out.end()
			switch {
			case err == nil:
			case out.began:
				a.Log.ErrorContext(r.Context(), "an export broke off", "error", err)
				panic(http.ErrAbortHandler) // so that the client sees it
			default:
				a.refuse(api, hctx, fmt.Errorf("exporting everything: %w", err))
			}
		}}, nil
	})
}

// download is an archive on its way: nothing is sent before its first byte.
type download struct {
	pacer
	began bool
}

var _ io.Writer = (*download)(nil)

func (d *download) Write(b []byte) (int, error) {
	if !d.began {
		d.began = true
		d.w.Header().Set("Content-Type", "application/gzip")
		d.w.Header().Set("Content-Disposition", `attachment; filename="qrjump-export.tar.gz"`)
		d.w.Header().Set("Cache-Control", "no-store")
	}
	return d.write(b)
}
