package console

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// maxBulk is the maximum size in bytes of an uploaded file of accounts or rules. Larger files are imported with the command line.
const maxBulk = 16 << 20

type bulkView struct {
	Content string
	Done    *client.Imported
}

// bulkFile sends a file with all accounts or all rules, one JSON object per line.
func (pages operatePages) bulkFile(v *request) error {
	table, isFile := strings.CutSuffix(v.r.PathValue("file"), ".ndjson")
	if !isFile || !slices.Contains([]string{"accounts", "rules", "gs1"}, table) {
		return v.nowhere()
	}
	return v.forward("GET", "/export/"+table, "", nil)
}

func (pages operatePages) bulk(v *request) error {
	return v.show(http.StatusOK, "bulk", bulkView{Content: "accounts"})
}

// loadBulk validates an uploaded file, or imports all of its lines.
func (pages operatePages) loadBulk(v *request) error {
	text, err := v.upload("file", "text", maxBulk, v.say("bulk.large"))
	if err != nil {
		return err
	}
	data, dry := bulkView{Content: v.r.FormValue("what")}, v.r.FormValue("did") != "store"
	load, known := map[string]func(context.Context, io.Reader, bool) (client.Imported, error){"accounts": v.api.Accounts.Import,
		"rules": v.api.Rules.Import, "gs1": v.api.GS1.Import}[data.Content]
	if !known {
		return v.reject("fault.form")
	}
	done, err := load(v.ctx(), strings.NewReader(text), dry)
	data.Done = &done
	if err == nil && dry { // a validated file can then be imported
		v.rejected = newRejectedForm(v.r, nil)
	}
	return v.page("bulk", data, err)
}
