package console

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// fromHere reports whether a request does not come from a page of another site. A page of another site cannot read the response,
// and must not cause server load.
func (v *request) fromHere() bool {
	switch v.r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	v.fail(http.StatusForbidden, v.say("fault.origin"))
	return false
}

// tables maps table names to the admin API routes that return a statistics table as a file.
var tables = map[string]string{"numbers": "/statistics/export", "unmatched": "/statistics/unmatched/export", "alarms": "/alarms/export",
	"scans": "/scans/export"}

// download sends a statistics table as a file.
func (numberPages) download(v *request) {
	table, format, _ := strings.Cut(v.r.PathValue("table"), ".")
	path, known := tables[table]
	if !known || format != "csv" && format != "parquet" {
		v.fail(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	if !v.fromHere() {
		return
	}
	asked := url.Values{}
	switch table {
	case "numbers":
		asked = v.question().params
	case "alarms":
		d, ok := v.alarmsAsked()
		if !ok {
			return
		}
		q := d.query()
		if v.Chinese() {
			asked.Set("language", "zh")
		}
		for name, value := range map[string]string{"application_id": d.Batch, "owner": d.owner, "state": q.State,
			"acknowledged": q.Acknowledged} {
			if value != "" {
				asked.Set(name, value)
			}
		}
	default:
		asked = v.question().fields("from", "to", "owner")
	}
	asked.Set("format", format)
	v.forward("GET", path+"?"+asked.Encode(), "", nil)
}

// upload returns the file uploaded in field or, without a file, the content of the form field whose name is in typed. If the result is
// longer than limit bytes, upload shows the text of the parameter large as an error and returns false.
func (v *request) upload(field, typed string, limit int64, large string) (text string, ok bool) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 2*limit)
	err := errors.Join(v.r.ParseForm(), v.r.ParseMultipartForm(1<<20)) // a form without a file may have another content type
	_, isLong := errors.AsType[*http.MaxBytesError](err)
	if v.r.MultipartForm != nil {
		defer func() { _ = v.r.MultipartForm.RemoveAll() }()
	}
	text = v.r.FormValue(typed)
	if file, _, err := v.r.FormFile(field); err == nil {
		content, err := io.ReadAll(io.LimitReader(file, limit+1))
		_ = file.Close()
		if err == nil && len(content) > 0 {
			text = string(content)
		}
	}
	if isLong || int64(len(text)) > limit {
		v.fail(http.StatusRequestEntityTooLarge, large)
		return "", false
	}
	return text, true
}
