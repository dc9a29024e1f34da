package adminapi

import (
	"context"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/internal/archive"
	"github.com/qrjump/qrjump/internal/operations"
)

func (a *Admin) exportEverything(_ context.Context, in *struct {
	Body struct {
		// Its length is no rule of the schema: an answer would quote it.
		Passphrase string `json:"passphrase" doc:"at least 12 characters; whoever has it and the archive has every secret of the server"`
	}
}) (operations.File, error) {
	if err := archive.CheckPassphrase(in.Body.Passphrase); err != nil {
		return operations.File{}, refused("%v", err)
	}
	return operations.File{Name: "qrjump-export.tar.gz", Type: "application/gzip", Write: func(ctx context.Context, w io.Writer) error {
		if err := a.Export(ctx, w, in.Body.Passphrase); err != nil {
			return fmt.Errorf("exporting everything: %w", err)
		}
		return nil
	}}, nil
}
