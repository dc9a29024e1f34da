package console

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// mostBulk is the maximum size in bytes of an uploaded file of accounts or rules. Longer files are imported with the command line.
const mostBulk = 16 << 20

func (pages bulkPages) routes() map[string]func(*request) {
	return map[string]func(*request){
		"GET /console/operate/bulk":        pages.bulk,
		"POST /console/operate/bulk":       pages.loadBulk,
		"GET /console/operate/bulk/{file}": pages.bulkFile,
	}
}

type bulkView struct {
	What string
	Done *client.Imported
}

func (pages bulkPages) bulk(v *request) { v.show(http.StatusOK, "bulk", bulkView{What: "accounts"}) }

// bulkFile sends a file with all accounts or all rules, one JSON object per line.
func (pages bulkPages) bulkFile(v *request) {
	if !v.fromHere() {
		return
	}
	switch v.r.PathValue("file") {
	case "accounts.ndjson":
		v.forward("GET", "/export/accounts", "", nil)
	case "rules.ndjson":
		v.forward("GET", "/export/rules", "", nil)
	case "gs1.ndjson":
		v.forward("GET", "/export/gs1", "", nil)
	default:
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
	}
}

// loadBulk validates an uploaded file, or imports all of its lines.
func (pages bulkPages) loadBulk(v *request) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, mostBulk)
	data := bulkView{What: v.r.FormValue("what")}
	err := v.r.ParseMultipartForm(1 << 20)
	if _, isLong := errors.AsType[*http.MaxBytesError](err); isLong {
		v.fault(http.StatusRequestEntityTooLarge, v.say("bulk.large"))
		return
	}
	if v.r.MultipartForm != nil {
		defer func() { _ = v.r.MultipartForm.RemoveAll() }()
	}
	var lines io.Reader = strings.NewReader(v.r.FormValue("text"))
	if file, header, err := v.r.FormFile("file"); err == nil {
		defer file.Close()
		if header.Size > 0 {
			lines = file
		}
	}
	dry := v.r.FormValue("did") != "store"
	data.Done = &client.Imported{}
	switch data.What {
	case "accounts":
		*data.Done, err = v.api.Accounts.Import(v.ctx(), lines, dry)
	case "rules":
		*data.Done, err = v.api.Rules.Import(v.ctx(), lines, dry)
	case "gs1":
		*data.Done, err = v.api.GS1.Import(v.ctx(), lines, dry)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if said, is := mendable(err); is {
		v.fault(said.Status, v.said(said))
	} else if !v.failed(err) {
		if dry { // a validated file can then be imported
			v.rejected = newRejectedForm(v.r, nil)
		}
		v.show(http.StatusOK, "bulk", data)
	}
}
