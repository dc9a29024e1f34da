package console

import (
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
	v.fault(http.StatusForbidden, v.say("fault.origin"))
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
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	if !v.fromHere() {
		return
	}
	asked := url.Values{}
	switch table {
	case "numbers":
		asked = v.question().asked
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
