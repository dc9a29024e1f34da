package adminapi

import (
	"context"
	"fmt"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

func (a codeAPI) bindSerials(ctx context.Context, in *struct {
	BatchPath
	Body struct{ client.SerialsPut }
}) (client.CodesChanged, error) {
	list := make([]codes.Serial, 0, len(in.Body.Serials))
	for i, s := range in.Body.Serials {
		name := codes.CodeName{URL: s.CodeURL, Code: s.Code, ID: in.ID}
		if s.Index != nil {
			name.Index, name.HasIndex = *s.Index, true
		}
		f, err := a.Codes.Lookup(ctx, name)
		// The error gives only the index of the code in the request, because the code itself must not appear in logs.
		if code, detail := errcode.FromError(err); code == errcode.CodeMalformed {
			return client.CodesChanged{}, accounts.Invalid(fmt.Sprintf("serials[%d]: %s", i, detail))
		}
		if err != nil {
			return client.CodesChanged{}, err
		}
		if f.Batch.ID != in.ID {
			return client.CodesChanged{}, accounts.Invalid(fmt.Sprintf("serials[%d] is of another application", i))
		}
		list = append(list, codes.Serial{Index: f.Index, Serial: s.Serial})
	}
	changed, err := a.Codes.BindSerials(acting(ctx, in.Body.Actor), in.ID, list, in.Body.Replace)
	return client.CodesChanged{Codes: int64(len(list)), Changed: changed}, err
}

// addSerials fills in the serial numbers of the scanned codes.
func (a codeAPI) addSerials(ctx context.Context, scans []client.RecordedScan) error {
	indexes := map[int64][]int64{}
	for _, s := range scans {
		if s.CodeIndex != nil {
			indexes[s.ApplicationID] = append(indexes[s.ApplicationID], *s.CodeIndex)
		}
	}
	for batch, list := range indexes {
		found, err := a.Codes.Serials(ctx, batch, list...)
		if err != nil {
			return err
		}
		for i, s := range scans {
			if s.CodeIndex != nil && s.ApplicationID == batch {
				scans[i].Serial = found[*s.CodeIndex]
			}
		}
	}
	return nil
}
