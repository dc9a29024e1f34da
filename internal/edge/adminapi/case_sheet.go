package adminapi

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/print/pdf"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

const (
	// sheetScans is the maximum number of scans that a report lists of each alarm.
	sheetScans = 20
	// sheetExamined is the number of scans of the log after which a report lists no scans of further alarms.
	sheetExamined = 200_000
)

// caseSheet is the report of a case, in one language.
type caseSheet struct {
	Language string
	Title    string
	Lines    []string
	Alarms   []sheetAlarm
}

// sheetAlarm is the part of a report about an alarm.
type sheetAlarm struct {
	Title        string
	Lines, Scans []string
}

// sheetWriter collects the texts of a report.
type sheetWriter struct {
	scanAPI
	language i18n.Language
	zone     *time.Location
	examined int // entries of the scan log
}

func (w *sheetWriter) say(key string, values ...any) string {
	return catalog.Text(key, values...).In(w.language)
}

func (w *sheetWriter) time(t time.Time) string { return t.In(w.zone).Format("2006-01-02 15:04:05") }

func (a scanAPI) getCaseSheet(ctx context.Context, in *struct {
	CasePath
	client.CaseSheetQuery
}) (adminroute.File, error) {
	language, _ := i18n.Parse(in.Language)
	w := &sheetWriter{scanAPI: a, language: language, zone: a.Settings.Get().Zone()}
	c, list, err := a.Alarms.Case(ctx, in.ID)
	if err != nil {
		return adminroute.File{}, err
	}
	sheet := caseSheet{Language: in.Language, Title: w.say("case", c.ID, c.Title)}
	for _, line := range []struct{ key, value string }{{"state", w.say("state." + c.State)}, {"assignee", c.Assignee}, {"note", c.Note}} {
		if line.value != "" {
			sheet.Lines = append(sheet.Lines, w.say(line.key, line.value))
		}
	}
	sheet.Lines = append(sheet.Lines, w.say("created", c.CreatedBy, w.time(c.CreatedAt)),
		w.say("made", w.time(a.Scans.Now()), a.Scans.Now().In(w.zone).Format("-07:00"), len(list)))
	for _, item := range list {
		part, err := w.alarm(ctx, item)
		if err != nil {
			return adminroute.File{}, err
		}
		sheet.Alarms = append(sheet.Alarms, part)
	}
	file := adminroute.File{Name: "qrjump-case." + in.Format, Type: "application/pdf"}
	file.Write = func(_ context.Context, out io.Writer) error { return sheet.writePDF(out) }
	if in.Format == "html" {
		file.Type, file.Policy = "text/html; charset=utf-8", sheetPolicy
		file.Write = func(_ context.Context, out io.Writer) error { return sheetPage.Execute(out, sheet) }
	}
	return file, nil
}

func (w *sheetWriter) alarm(ctx context.Context, item alarms.Alarm) (part sheetAlarm, err error) {
	shown, err := w.showAlarm(ctx, item)
	if err != nil {
		return part, err
	}
	part.Title = w.say("about", shown.ID, shown.Name()) + " · " + w.say("alarm."+shown.State)
	part.Lines = []string{w.say("account", shown.Account, shown.Score, w.time(shown.OccurredAt))}
	for _, reason := range item.Reasons() {
		part.Lines = append(part.Lines, reason.In(w.language))
	}
	if at := shown.ConfirmedAt; at != nil {
		part.Lines = append(part.Lines, w.say("confirmed", shown.ConfirmedBy, w.time(*at)))
	}
	if at := shown.DismissedAt; at != nil {
		part.Lines = append(part.Lines, w.say("dismissed", shown.DismissedBy, w.time(*at), shown.Note))
	} else if shown.Note != "" {
		part.Lines = append(part.Lines, w.say("note", shown.Note))
	}
	if shown.CodeIndex < 0 { // a prefix or a user
		return part, w.scan(ctx, item, &part)
	}
	c, err := w.Alarms.Code(ctx, item.CodeName)
	if err != nil || c.Scans == 0 {
		return part, err
	}
	part.Lines = append(part.Lines, w.say("scans", c.Scans, c.Users.Count(), w.time(c.FirstAt), w.time(c.LastAt)))
	places := mapped(c.Locations, func(p alarms.Location) string { return w.say("place", p.Region, p.Scans) })
	if len(places) > 0 {
		part.Lines = append(part.Lines, w.say("places", strings.Join(places, " · ")))
	}
	return part, w.listScansOf(ctx, item.CodeName, c.FirstAt, &part)
}

// scan adds the scan that raised an alarm.
func (w *sheetWriter) scan(ctx context.Context, item alarms.Alarm, part *sheetAlarm) error {
	id, err := scanlog.ParseScanID(item.Scan)
	if err != nil {
		return nil // an alarm without a scan
	}
	e, err := w.Scans.Scan(ctx, id)
	if err == nil {
		part.Scans = append(part.Scans, w.line(ShowScan(&e)))
	}
	return err
}

// listScansOf adds the first scans of a code.
func (w *sheetWriter) listScansOf(ctx context.Context, name alarms.CodeName, first time.Time, part *sheetAlarm) error {
	filter, last := stats.Filter{Code: &name, From: first}, scanlog.ScanID{}
	for hasMore := true; hasMore && len(part.Scans) < sheetScans; {
		if w.examined >= sheetExamined {
			part.Lines = append(part.Lines, w.say("skipped"))
			return nil
		}
		list, next, examined, more, err := w.Scans.Matching(ctx, last, filter, sheetScans-len(part.Scans))
		if err != nil {
			return err
		}
		for i := range list {
			part.Scans = append(part.Scans, w.line(ShowScan(&list[i])))
		}
		w.examined += examined
		if last, hasMore = next, more; hasMore && len(part.Scans) == sheetScans {
			part.Lines = append(part.Lines, w.say("cut", sheetScans))
		}
	}
	return nil
}

// line describes a scan.
func (w *sheetWriter) line(s client.RecordedScan) string {
	action, err := catalog.In(w.language).Say("scan." + s.Action)
	if err != nil {
		action = s.Action // of a newer version
	}
	words := []string{w.time(s.OccurredAt), s.Region, s.Network, s.Client, action}
	return strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), " · ")
}

const sheetStyle = `body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em;overflow-wrap:anywhere}
h1{font-size:1.4em}h2{font-size:1.1em;margin:1.5em 0 0}p,ul{margin:.3em 0}h2,p{break-after:avoid}li,p{break-inside:avoid}
@page{size:A4;margin:18mm}@media print{body{font-size:10pt;max-width:none;margin:0;padding:0}}`

var sheetHash = sha256.Sum256([]byte(sheetStyle))

// sheetPolicy allows a report its own style, and nothing else.
var sheetPolicy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sheetHash[:]) +
	"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"

var sheetPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="{{.Language}}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title><style>` + sheetStyle + `</style></head><body>
<h1>{{.Title}}</h1>{{range .Lines}}<p>{{.}}</p>{{end}}
{{range .Alarms}}<section><h2>{{.Title}}</h2>{{range .Lines}}<p>{{.}}</p>{{end}}
{{if .Scans}}<ul>{{range .Scans}}<li>{{.}}</li>{{end}}</ul>{{end}}</section>
{{end}}</body></html>
`))

// sheetPDF draws lines on pages of A4, from top to bottom.
type sheetPDF struct {
	file *pdf.Writer
	font pdf.Font
	page *pdf.Page
	y    int
	err  error
}

// The sizes of a PDF report, in points.
const sheetWidth, sheetHeight, sheetMargin = 595, 842, 50

func (s caseSheet) writePDF(out io.Writer) error {
	d := sheetPDF{file: pdf.NewWriter(out, pdf.Info{Title: s.Title})}
	d.font = d.file.UseWithChinese(symbol.DefaultFont())
	d.add(14, 0, s.Title)
	d.add(9, 0, s.Lines...)
	for _, a := range s.Alarms {
		d.y += 9
		d.add(11, 0, a.Title)
		d.add(9, 0, a.Lines...)
		d.add(9, 12, a.Scans...)
	}
	if d.err == nil {
		d.err = d.file.Add(d.page)
	}
	if d.err != nil {
		return d.err
	}
	return d.file.Close()
}

// add draws lines with a font size and an indent in points; a line that is too long continues on the next one.
func (d *sheetPDF) add(size, indent int, lines ...string) {
	for _, line := range lines {
		for rest := []rune(strings.Join(strings.Fields(line), " ")); len(rest) > 0 && d.err == nil; {
			n := len(rest)
			for n > 1 && d.font.Width(string(rest[:n]))*float64(size) > float64(sheetWidth-2*sheetMargin-indent) {
				n--
			}
			if d.page == nil || d.y > sheetHeight-sheetMargin-size {
				if d.page != nil {
					d.err = d.file.Add(d.page)
				}
				d.page, d.y = pdf.NewPage(210, 297, 72), sheetMargin
			}
			d.y += size * 3 / 2
			d.page.Text(d.font, float64(size), sheetMargin+indent, d.y, string(rest[:n]))
			rest = rest[n:]
		}
	}
}
