package console

import (
	"encoding/csv"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/internal/operations"
)

// A row of each table that there is as a file. The names are those of the admin API.
type (
	numberFile struct {
		At    *time.Time `parquet:"at,optional,timestamp(millisecond)"`
		Value string     `parquet:"value"`
		Scans int64      `parquet:"scans"`
		First int64      `parquet:"first"`
		Users int64      `parquet:"users"`
	}
	missFile struct {
		Place string `parquet:"place"`
		Scans int64  `parquet:"scans"`
	}
	alarmFile struct {
		ID            int64      `parquet:"id"`
		Kind          string     `parquet:"kind"`
		ApplicationID int64      `parquet:"application_id"`
		CodeIndex     int64      `parquet:"code_index"`
		At            time.Time  `parquet:"at,timestamp(millisecond)"`
		ScanID        string     `parquet:"scan_id"`
		Score         int64      `parquet:"score"`
		Reasons       string     `parquet:"reasons"`
		SeenAt        *time.Time `parquet:"acknowledged_at,optional,timestamp(millisecond)"`
		SeenBy        string     `parquet:"acknowledged_by"`
		DismissedAt   *time.Time `parquet:"dismissed_at,optional,timestamp(millisecond)"`
		DismissedBy   string     `parquet:"dismissed_by"`
		Note          string     `parquet:"note"`
	}
)

// mostInFile is how many misses and alarms a file has.
const mostInFile = 1000

// fromHere reports whether no page of another site asks. Such a page cannot read a file, and
// shall not make the server work for one.
func (v *visit) fromHere() bool {
	switch v.r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	v.fault(http.StatusForbidden, v.say("fault.origin"))
	return false
}

// download is a table of the page of statistics as a file.
func (c *Console) download(v *visit) {
	table, format, _ := strings.Cut(v.r.PathValue("table"), ".")
	if !known(table, format) {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	if !v.fromHere() {
		return
	}
	asked := v.question()
	switch table {
	case "numbers":
		found, err := v.numbers(asked)
		if v.failed(err) {
			return
		}
		var rows []numberFile
		for _, r := range found.Rows {
			rows = append(rows, numberFile{r.At, r.Value, r.Scans, r.First, r.Users})
		}
		sendTable(v, "statistics", format, rows, []string{"at", "value", "scans", "first", "users"}, func(r numberFile) []string {
			return []string{iso(r.At), r.Value, digits(r.Scans), digits(r.First), digits(r.Users)}
		})
	case "misses":
		found, err := v.misses(asked, mostInFile)
		if v.failed(err) {
			return
		}
		var rows []missFile
		for _, m := range found {
			rows = append(rows, missFile{m.Place, m.Scans})
		}
		sendTable(v, table, format, rows, []string{"place", "scans"}, func(r missFile) []string {
			return []string{r.Place, digits(r.Scans)}
		})
	case "alarms":
		found, err := v.alarmList(v.alarmsAsked(), "", mostInFile)
		if v.failed(err) {
			return
		}
		var rows []alarmFile
		for _, a := range found {
			rows = append(rows, alarmFile{a.ID, a.Kind, a.ApplicationID, a.CodeIndex, a.At, a.ScanID, a.Score, strings.Join(a.Reasons, " "),
				a.AcknowledgedAt, a.AcknowledgedBy, a.DismissedAt, a.DismissedBy, a.Note})
		}
		sendTable(v, table, format, rows, []string{"id", "kind", "application_id", "code_index", "at", "scan_id", "score", "reasons",
			"acknowledged_at", "acknowledged_by", "dismissed_at", "dismissed_by", "note"}, func(r alarmFile) []string {
			return []string{digits(r.ID), r.Kind, digits(r.ApplicationID), digits(r.CodeIndex), iso(&r.At), r.ScanID, digits(r.Score),
				r.Reasons, iso(r.SeenAt), r.SeenBy, iso(r.DismissedAt), r.DismissedBy, r.Note}
		})
	case "scans":
		span := asked.fields("from", "to")
		span.Set("format", format)
		v.pass("GET", "/scans/export?"+span.Encode(), "", nil)
	}
}

func digits(n int64) string { return strconv.FormatInt(n, 10) }

func iso(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.Format(time.RFC3339)
}

// sendTable answers rows as a file.
func sendTable[Row any](v *visit, name, format string, rows []Row, head []string, cells func(Row) []string) {
	h := v.w.Header()
	h.Set("Content-Disposition", `attachment; filename="qrjump-`+name+"."+format+`"`)
	if format == "parquet" {
		h.Set("Content-Type", "application/vnd.apache.parquet")
		_ = parquet.Write(v.w, rows) // into the connection: it is broken, or it is not
		return
	}
	h.Set("Content-Type", "text/csv; charset=utf-8")
	out := csv.NewWriter(v.w)
	_ = out.Write(head)
	for _, r := range rows {
		line := cells(r)
		for i, text := range line {
			line[i] = operations.Cell(text)
		}
		_ = out.Write(line)
	}
	out.Flush()
}

// pass answers what an operation of the admin API writes, piece by piece: it may be
// long. A refusal becomes a page.
func (v *visit) pass(method, path, kind string, body io.Reader) {
	r, err := v.request(method, operations.Base+path, kind, body)
	if v.failed(err) {
		return
	}
	w := &passing{ResponseWriter: v.w, refused: &answered{header: http.Header{}}}
	v.c.API.ServeHTTP(w, v.c.As(r, v.caller))
	if w.refused.status != 0 {
		h := v.w.Header()
		h.Del("Content-Length")
		v.failed(w.refused.refusal())
	}
}

// passing keeps refusals to itself.
type passing struct {
	http.ResponseWriter
	refused *answered
}

func (p *passing) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *passing) WriteHeader(status int) {
	if status/100 != 2 {
		p.refused.WriteHeader(status)
		return
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *passing) Write(b []byte) (int, error) {
	if p.refused.status != 0 {
		return p.refused.Write(b)
	}
	return p.ResponseWriter.Write(b)
}
