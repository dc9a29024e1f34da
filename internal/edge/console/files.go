package console

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// fromHere reports whether a request does not come from a page of another site.
func (v *request) fromHere() bool {
	return slices.Contains([]string{"", "same-origin", "none"}, v.r.Header.Get("Sec-Fetch-Site"))
}

// sameSite returns a handler that rejects requests from pages of another site, because such pages must not cause load.
func sameSite(serve handler) handler {
	return func(v *request) error {
		if !v.fromHere() {
			return v.fail(http.StatusForbidden, v.say("fault.origin"))
		}
		return serve(v)
	}
}

// tables maps table names to the admin API routes that return a statistics table as a file.
var tables = map[string]string{"numbers": "/statistics/export", "unmatched": "/statistics/unmatched/export", "alarms": "/alarms/export",
	"scans": "/scans/export"}

// download sends a statistics table as a file.
func (numberPages) download(v *request) error {
	table, format, _ := strings.Cut(v.r.PathValue("table"), ".")
	path, known := tables[table]
	if !known || format != "csv" && format != "parquet" {
		return v.nowhere()
	}
	asked := url.Values{}
	switch table {
	case "numbers":
		asked = v.question().params
	case "alarms":
		d, err := v.alarmsAsked()
		if err != nil {
			return err
		}
		q := d.query()
		if v.Chinese() {
			asked.Set("language", "zh")
		}
		for name, value := range map[string]string{"application_id": d.Batch, "owner": d.owner, "state": q.State,
			"assignee": d.Assignee, "acknowledged": q.Acknowledged} {
			if value != "" {
				asked.Set(name, value)
			}
		}
	default:
		asked = v.question().fields("from", "to", "owner")
	}
	asked.Set("format", format)
	return v.forward("GET", path+"?"+asked.Encode(), "", nil)
}

// upload returns the file uploaded in field or, without a file, the content of the form field whose name is in typed. If the result is
// longer than limit bytes, upload shows the text of the parameter large as an error.
func (v *request) upload(field, typed string, limit int64, large string) (text string, err error) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 2*limit)
	err = errors.Join(v.r.ParseForm(), v.r.ParseMultipartForm(1<<20)) // a form without a file may have another content type
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
		return "", v.fail(http.StatusRequestEntityTooLarge, large)
	}
	return text, nil
}
