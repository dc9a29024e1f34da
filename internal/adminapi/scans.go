package adminapi

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/stats"
)

// scanRecord is one scan of the ledger.
type scanRecord struct {
	ScanID        string    `json:"scan_id"`
	At            time.Time `json:"at"`
	User          string    `json:"user,omitempty" doc:"a keyed hash of namespace and user; left out where the scan was anonymous or its user was erased"`
	Source        string    `json:"source"`
	Client        string    `json:"client,omitempty" doc:"what the app said of itself"`
	Network       string    `json:"network,omitempty" doc:"/24 or /48 of the address"`
	Region        string    `json:"region,omitempty"`
	Action        string    `json:"action"`
	Kind          string    `json:"kind,omitempty" doc:"on what it fell: rule, test_link, service_rule or code"`
	Reason        string    `json:"reason,omitempty" doc:"why a code opened nothing"`
	AppID         string    `json:"appid,omitempty"`
	Version       string    `json:"version,omitempty"`
	RuleID        int64     `json:"rule_id,omitempty"`
	ApplicationID int64     `json:"application_id,omitempty"`
	CodeIndex     *int64    `json:"code_index,omitempty"`
	Activity      string    `json:"activity,omitempty"`
	Brand         string    `json:"brand,omitempty"`
	Product       string    `json:"product,omitempty"`
	Text          string    `json:"text,omitempty" doc:"the link; never a code"`
}

func showScan(e *stats.Counted) scanRecord {
	r := scanRecord{ScanID: e.ID.String(), At: e.At, Source: e.Source, Client: e.Client, Region: e.Region, Action: e.Action, Kind: e.Kind, Reason: e.Reason,
		AppID: e.App, Version: e.Version, RuleID: e.RuleID, ApplicationID: e.Batch, Activity: e.Activity, Brand: e.Brand, Product: e.Product, Text: e.Text}
	if e.User != (ledger.UserHash{}) {
		r.User = hex.EncodeToString(e.User[:])
	}
	if e.Network.IsValid() {
		r.Network = e.Network.String()
	}
	if e.Batch != 0 {
		r.CodeIndex = &e.Index
	}
	return r
}

// scanProblem says what is wrong with a scan's id, in one sentence.
func (a *Admin) scanProblem(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, stats.ErrForgotten):
		return huma.Error404NotFound("this scan is older than what the ledger keeps: read on without after, from the oldest scan that there is")
	case errors.Is(err, ledger.ErrNoScan):
		return huma.Error404NotFound("there is no scan with this id on this server")
	}
	return a.problem(ctx, err)
}

const noScanID = "this is no scan id: one is 32 hexadecimal digits, as an answer to a scan gave it"

// period reads from and to: RFC 3339, or a day in the zone of the settings.
func (a *Admin) period(from, to string, days int) (begin, end time.Time, err error) {
	zone := a.Settings.Get().Zone()
	read := func(name, text string, lasts int) (time.Time, error) {
		if day, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
			return day.AddDate(0, 0, lasts), nil
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return at, huma.Error422UnprocessableEntity(name + " is no time: want one such as 2026-01-31T15:00:00+08:00, or a day such as 2026-01-31")
		}
		return at, nil
	}
	end = a.Scans.Now()
	if to != "" {
		if end, err = read("to", to, 1); err != nil {
			return begin, end, err
		}
	} else {
		end = end.Add(time.Hour) // the hour that runs
	}
	begin = end.AddDate(0, 0, -days)
	if from != "" {
		if begin, err = read("from", from, 0); err != nil {
			return begin, end, err
		}
	}
	return begin, end, nil
}

func (a *Admin) registerScans(api huma.API) {
	type scanPage struct {
		Scans []scanRecord `json:"scans"`
		Next  string       `json:"next" doc:"what to give as after the next time"`
		More  bool         `json:"more" doc:"there are further ones already"`
		Older bool         `json:"older" doc:"there are further ones before them"`
	}
	huma.Register(api, operation(http.MethodGet, "/scans", "listScans", "Scans in the order in which they became known; each once"), func(ctx context.Context, in *struct {
		After  string `query:"after" maxLength:"100" doc:"the last scan id that is known; left out: from the oldest"`
		Newest int    `query:"newest" minimum:"0" maximum:"100000" doc:"instead of after: from so many before the end"`
		Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"of a page"`
	}) (*answer[scanPage], error) {
		if in.After != "" && in.Newest > 0 {
			return nil, huma.Error422UnprocessableEntity("after and newest: choose one")
		}
		if in.Newest > 0 {
			list, older, err := a.Scans.Newest(ctx, in.Newest, in.Limit)
			if err != nil {
				return nil, a.scanProblem(ctx, err)
			}
			page := scanPage{Scans: make([]scanRecord, 0, len(list)), More: len(list) == in.Limit && len(list) < in.Newest, Older: older}
			for i := range list {
				page.Scans = append(page.Scans, showScan(&list[i]))
				page.Next = page.Scans[i].ScanID
			}
			return &answer[scanPage]{page}, nil
		}
		var after ledger.ScanID
		if in.After != "" {
			var err error
			if after, err = ledger.ParseScanID(in.After); err != nil {
				return nil, huma.Error422UnprocessableEntity(noScanID)
			}
		}
		list, err := a.Scans.Feed(ctx, after, in.Limit)
		if err != nil {
			return nil, a.scanProblem(ctx, err)
		}
		page := scanPage{Scans: make([]scanRecord, 0, len(list)), Next: in.After, More: len(list) == in.Limit, Older: in.After != ""}
		for i := range list {
			page.Scans = append(page.Scans, showScan(&list[i]))
			page.Next = page.Scans[i].ScanID
		}
		return &answer[scanPage]{page}, nil
	})
	huma.Register(api, operation(http.MethodGet, "/scans/{scan_id}", "getScan", "Show a scan"), func(ctx context.Context, in *struct {
		ID string `path:"scan_id" maxLength:"100"`
	}) (*answer[scanRecord], error) {
		id, err := ledger.ParseScanID(in.ID)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(noScanID)
		}
		e, err := a.Scans.Scan(ctx, id)
		if err != nil {
			return nil, a.scanProblem(ctx, err)
		}
		return &answer[scanRecord]{showScan(&e)}, nil
	})
	a.registerScanExport(api)

	type scanNode struct {
		Node    string    `json:"node" doc:"the id of its journal"`
		Name    string    `json:"name" doc:"host and data folder"`
		Stopped bool      `json:"stopped" doc:"it ended in order"`
		Behind  int64     `json:"behind" doc:"scans that it had not brought to the ledger when it was last heard of"`
		SeenAt  time.Time `json:"seen_at"`
	}
	type scanNodes struct {
		Nodes []scanNode `json:"nodes"`
	}
	huma.Register(api, operation(http.MethodGet, "/scan-nodes", "listScanNodes", "The nodes whose journals may hold scans that are not in the ledger; none with an embedded database"), func(ctx context.Context, _ *struct{}) (*answer[scanNodes], error) {
		shown := scanNodes{Nodes: []scanNode{}}
		if a.Scans.Nodes == nil {
			return &answer[scanNodes]{shown}, nil
		}
		all, _, err := a.Scans.Nodes.Store.ScanNodes(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		for _, n := range all {
			shown.Nodes = append(shown.Nodes, scanNode{Node: n.ID, Name: n.Name, Stopped: n.Stopped, Behind: max(0, n.Ended-n.Shipped), SeenAt: n.SeenAt})
		}
		return &answer[scanNodes]{shown}, nil
	})
	huma.Register(api, operation(http.MethodDelete, "/scan-nodes/{node}", "forgetScanNode", "Wait no more for the scans of a node that never comes back; what it did not bring is lost"), func(ctx context.Context, in *struct {
		Node string `path:"node" maxLength:"100"`
	}) (*struct{}, error) {
		there := false
		if a.Scans.Nodes != nil {
			var err error
			if there, err = a.Scans.Nodes.Store.GiveUpNode(ctx, in.Node); err != nil {
				return nil, a.problem(ctx, err)
			}
		}
		if !there {
			return nil, huma.Error404NotFound("there is no such node: GET /admin/v1/scan-nodes lists them")
		}
		return nil, nil
	})

	type erased struct {
		Scans int64 `json:"scans" doc:"how many were made anonymous"`
	}
	erase := operation(http.MethodDelete, "/users/{user}/scans", "eraseUser", "Make every scan of a user anonymous, and remove tickets, logins and what else stands by the user's openids; what the scans count stays")
	erase.Middlewares = huma.Middlewares{patient}
	huma.Register(api, erase, func(ctx context.Context, in *struct {
		User      string `path:"user"`
		Namespace string `query:"namespace" default:"default"`
	}) (*answer[erased], error) {
		hash := a.UserHash(in.Namespace, in.User)
		n, err := a.Scans.Erase(ctx, hash)
		if err == nil {
			err = a.Desk.Erase(ctx, hex.EncodeToString(hash[:]), func(account string) string { return a.OpenIDs.OpenID(in.Namespace, account, in.User) })
		}
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		// Whose scans they were is not told: it would undo the erasure.
		if err := a.History.Note(ctx, "scans", "", "erase", map[string]int64{"scans": n}); err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[erased]{erased{n}}, nil
	})

	huma.Register(api, operation(http.MethodGet, "/batches/{application_id}/codes/{code_index}/scans", "getCodeScans", "What is known of the scans of a code"), func(ctx context.Context, in *struct {
		BatchPath
		Index int64 `path:"code_index" minimum:"0"`
	}) (*answer[codeScans], error) {
		b, ok := a.Codes.Memory.Batch(in.ID)
		if !ok {
			return nil, a.problem(ctx, codes.ErrNoBatch)
		}
		if err := b.Within(codes.Range{From: in.Index, To: in.Index}); err != nil {
			return nil, a.problem(ctx, err)
		}
		one, err := a.Scans.Code(ctx, stats.CodeName{Batch: in.ID, Index: in.Index})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[codeScans]{showCodeScans(one)}, nil
	})
}

// codeScans is what is known of the scans of a code.
type codeScans struct {
	Scans    int64      `json:"scans"`
	Users    int64      `json:"users" doc:"different ones, within 1 %"`
	FirstAt  *time.Time `json:"first_at,omitempty"`
	LastAt   *time.Time `json:"last_at,omitempty"`
	Networks int        `json:"networks" doc:"different ones, at most 64 are told apart"`
	Regions  int        `json:"regions" doc:"different ones, at most 32 are told apart"`
	Trips    int        `json:"trips" doc:"how often it was in two places with too little time between them"`
	Score    int        `json:"score" doc:"from 100 on it looks as if it was copied"`
}

func showCodeScans(c *stats.CodeScans) codeScans {
	shown := codeScans{Scans: c.Scans, Users: c.Users.Count(), Networks: c.Networks, Regions: c.Regions, Trips: c.Trips, Score: c.Score()}
	if c.Scans > 0 {
		shown.FirstAt, shown.LastAt = &c.FirstAt, &c.LastAt
	}
	return shown
}

// scanRow is a scan of an export. The names are those of scanRecord.
type scanRow struct {
	ScanID        string    `parquet:"scan_id"`
	At            time.Time `parquet:"at,timestamp(millisecond)"`
	User          string    `parquet:"user,dict"`
	Source        string    `parquet:"source,dict"`
	Client        string    `parquet:"client,dict"`
	Network       string    `parquet:"network,dict"`
	Region        string    `parquet:"region,dict"`
	Action        string    `parquet:"action,dict"`
	Kind          string    `parquet:"kind,dict"`
	Reason        string    `parquet:"reason,dict"`
	AppID         string    `parquet:"appid,dict"`
	Version       string    `parquet:"version,dict"`
	RuleID        int64     `parquet:"rule_id"`
	ApplicationID int64     `parquet:"application_id"`
	CodeIndex     int64     `parquet:"code_index"`
	Activity      string    `parquet:"activity,dict"`
	Brand         string    `parquet:"brand,dict"`
	Product       string    `parquet:"product,dict"`
	Text          string    `parquet:"text"`
}

var scanHeader = []string{"scan_id", "at", "user", "source", "client", "network", "region", "action", "kind", "reason", "appid", "version", "rule_id", "application_id", "code_index",
	"activity", "brand", "product", "text"}

// rowsAtOnce bounds a row group, and so the memory of an export.
const rowsAtOnce = 20_000

// scanSink is a format of an export.
type scanSink interface {
	add(e *stats.Counted) error
	finish() error
}

type csvSink struct{ w *csv.Writer }

func newCSVSink(w io.Writer) (*csvSink, error) {
	s := &csvSink{csv.NewWriter(w)}
	return s, s.w.Write(scanHeader)
}

// cell keeps a text from being taken for a formula by a spreadsheet, which in
// some languages also begins with a wide sign.
func cell(text string) string {
	if first, _ := utf8.DecodeRuneInString(text); text != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + text
	}
	return text
}

func (s *csvSink) add(e *stats.Counted) error {
	r := showScan(e)
	row := []string{r.ScanID, r.At.UTC().Format("2006-01-02T15:04:05.000Z"), r.User, r.Source, r.Client, r.Network, r.Region, r.Action, r.Kind, r.Reason, r.AppID, r.Version,
		"", "", "", r.Activity, r.Brand, r.Product, r.Text}
	for i, text := range row {
		row[i] = cell(text)
	}
	if r.RuleID != 0 {
		row[12] = strconv.FormatInt(r.RuleID, 10)
	}
	if r.CodeIndex != nil {
		row[13], row[14] = strconv.FormatInt(r.ApplicationID, 10), strconv.FormatInt(*r.CodeIndex, 10)
	}
	return s.w.Write(row)
}

func (s *csvSink) finish() error {
	s.w.Flush()
	return s.w.Error()
}

type parquetSink struct {
	w    *parquet.GenericWriter[scanRow]
	rows []scanRow
}

func newParquetSink(w io.Writer) *parquetSink {
	return &parquetSink{w: parquet.NewGenericWriter[scanRow](w, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(rowsAtOnce))}
}

func (s *parquetSink) add(e *stats.Counted) error {
	r := showScan(e)
	s.rows = append(s.rows, scanRow{ScanID: r.ScanID, At: r.At, User: r.User, Source: r.Source, Client: r.Client, Network: r.Network, Region: r.Region, Action: r.Action,
		Kind: r.Kind, Reason: r.Reason, AppID: r.AppID, Version: r.Version, RuleID: r.RuleID, ApplicationID: r.ApplicationID, CodeIndex: e.Index,
		Activity: r.Activity, Brand: r.Brand, Product: r.Product, Text: r.Text})
	if len(s.rows) < rowsAtOnce {
		return nil
	}
	return s.flush()
}

func (s *parquetSink) flush() error {
	_, err := s.w.Write(s.rows)
	s.rows = s.rows[:0]
	if err == nil {
		err = s.w.Flush()
	}
	return err
}

func (s *parquetSink) finish() error {
	return errors.Join(s.flush(), s.w.Close())
}

func (a *Admin) registerScanExport(api huma.API) {
	op := operation(http.MethodGet, "/scans/export", "exportScans", "Scans of a time as a file, in the order in which they became known")
	file := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	op.Responses = map[string]*huma.Response{"200": {Description: "the scans",
		Content: map[string]*huma.MediaType{"text/csv": file, "application/vnd.apache.parquet": file}}}
	huma.Register(api, op, func(_ context.Context, in *struct {
		Format string `query:"format" enum:"csv,parquet" default:"csv"`
		From   string `query:"from" maxLength:"40" doc:"RFC 3339, or a day; left out: from the oldest"`
		To     string `query:"to" maxLength:"40" doc:"RFC 3339, or a day, which belongs to it"`
	}) (*huma.StreamResponse, error) {
		from, to, err := a.period(in.From, in.To, 0)
		if err != nil {
			return nil, err
		}
		if in.From == "" {
			from = time.Time{}
		}
		if in.To == "" {
			to = time.UnixMilli(1 << 47)
		}
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			r, w := humago.Unwrap(hctx)
			out := &scanFile{pacer: newPacer(w), format: in.Format}
			err := a.exportScans(r.Context(), out, in.Format, from, to)
			out.end()
			switch {
			case err == nil:
			case out.began:
				a.Log.ErrorContext(r.Context(), "an export of scans broke off", "error", err)
				panic(http.ErrAbortHandler) // so that the client sees it
			default:
				a.refuse(api, hctx, fmt.Errorf("exporting scans: %w", err))
			}
		}}, nil
	})
}

func (a *Admin) exportScans(ctx context.Context, w io.Writer, format string, from, to time.Time) error {
	if err := a.Scans.CatchUpAll(ctx); err != nil {
		return err
	}
	var sink scanSink
	if format == "parquet" {
		sink = newParquetSink(w)
	} else {
		var err error
		if sink, err = newCSVSink(w); err != nil {
			return err
		}
	}
	for e, err := range a.Scans.Since(ctx, from) {
		if err != nil {
			return err
		}
		if e.At.Before(from) || !e.At.Before(to) {
			continue
		}
		if err := sink.add(&e); err != nil {
			return err
		}
	}
	return sink.finish()
}

// scanFile is an export on its way: nothing is sent before its first byte.
type scanFile struct {
	pacer
	format string
	began  bool
}

func (f *scanFile) Write(b []byte) (int, error) {
	if !f.began {
		f.began = true
		kind := map[string]string{"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}[f.format]
		f.w.Header().Set("Content-Type", kind)
		f.w.Header().Set("Content-Disposition", `attachment; filename="scans.`+f.format+`"`)
		f.w.Header().Set("X-Content-Type-Options", "nosniff")
		f.w.Header().Set("Cache-Control", "no-store")
	}
	return f.write(b)
}
