package console

import (
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
func (pages operatePages) bulkFile(v *request) {
	if !v.fromHere() {
		return
	}
	table, isFile := strings.CutSuffix(v.r.PathValue("file"), ".ndjson")
	if !isFile || !slices.Contains([]string{"accounts", "rules", "gs1"}, table) {
		v.fail(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	v.forward("GET", "/export/"+table, "", nil)
}

// loadBulk validates an uploaded file, or imports all of its lines.
func (pages operatePages) loadBulk(v *request) {
	text, ok := v.upload("file", "text", maxBulk, v.say("bulk.large"))
	if !ok {
		return
	}
	data, lines, err := bulkView{Content: v.r.FormValue("what")}, strings.NewReader(text), error(nil)
	dry := v.r.FormValue("did") != "store"
	data.Done = &client.Imported{}
	switch data.Content {
	case "accounts":
		*data.Done, err = v.api.Accounts.Import(v.ctx(), lines, dry)
	case "rules":
		*data.Done, err = v.api.Rules.Import(v.ctx(), lines, dry)
	case "gs1":
		*data.Done, err = v.api.GS1.Import(v.ctx(), lines, dry)
	default:
		v.fail(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if said, is := mendable(err); is {
		v.fail(said.Status, v.problemText(said))
	} else if !v.failed(err) {
		if dry { // a validated file can then be imported
			v.rejected = newRejectedForm(v.r, nil)
		}
		v.show(http.StatusOK, "bulk", data)
	}
}
