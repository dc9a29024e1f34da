package adminapi

import (
	"context"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/store/archive"
)

func (a archiveAPI) exportAll(_ context.Context, in *struct{ Body client.ExportAllRequest }) (adminroute.File, error) {
	if err := archive.CheckPassphrase(in.Body.Passphrase); err != nil {
		return adminroute.File{}, refused("%v", err)
	}
	return adminroute.File{Name: "qrjump-export.tar.gz", Type: "application/gzip", Write: func(ctx context.Context, w io.Writer) error {
		if err := a.Export(ctx, w, in.Body.Passphrase, in.Body.Accounts); err != nil {
			return fmt.Errorf("exporting everything: %w", err)
		}
		return nil
	}}, nil
}

// recordDrill records the result of a restore drill in the audit log. The drill ran on another machine, with an archive of this server.
func (a archiveAPI) recordDrill(ctx context.Context, in *struct{ Body client.Drill }) (client.Drill, error) {
	did := "restored"
	switch d := in.Body; {
	case d.OK && d.Problem != "":
		return in.Body, refused("problem: a successful drill has no problem")
	case !d.OK && d.Problem == "":
		return in.Body, refused("problem: describe the failure")
	case !d.OK:
		did = "failed"
	}
	return in.Body, a.History.Note(ctx, "drill", "", did, in.Body)
}
