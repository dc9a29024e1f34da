package adminapi

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// ShowScan returns a counted scan for a response, without the serial number of its code.
func ShowScan(e *stats.Counted) client.RecordedScan {
	r := client.RecordedScan{ScanID: e.ID.String(), OccurredAt: e.OccurredAt, Source: e.Source, Client: e.Client, Region: e.Region,
		Action: e.Action, Kind: e.Kind, Reason: e.Reason, AppID: e.App,
		Version: e.Version, RuleID: e.RuleID, ApplicationID: e.Batch, Activity: e.Activity, Brand: e.Brand,
		Product: e.Product, Owner: e.Owner, Text: e.Text}
	if e.User != (scanlog.UserHash{}) {
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

const parquetType = "application/vnd.apache.parquet"

const noScanID = "this is no scan id: one is 32 hexadecimal digits, as an answer to a scan gave it"

// period parses from and to, each an RFC 3339 time or a day in the time zone of the settings, which may also be a word such as today.
func (a scanAPI) period(from, to string, days int) (begin, end time.Time, err error) {
	zone := a.Settings.Get().Zone()
	words := map[string]int{"yesterday": -1, "today": 0, "tomorrow": 1}
	read := func(name, text string, lasts int) (time.Time, error) {
		if n, ok := words[text]; ok {
			text = a.Scans.Now().In(zone).AddDate(0, 0, n).Format(time.DateOnly)
		}
		if day, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
			return day.AddDate(0, 0, lasts), nil
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return t, refused("%s is not a time: want a time such as 2026-01-31T15:00:00+08:00, or a date such as 2026-01-31", name)
		}
		return t, nil
	}
	end = a.Scans.Now()
	if to != "" {
		if end, err = read("to", to, 1); err != nil {
			return begin, end, err
		}
	} else {
		end = end.Add(time.Hour) // the period includes the current hour
	}
	begin = end.AddDate(0, 0, -days)
	if from != "" {
		if begin, err = read("from", from, 0); err != nil {
			return begin, end, err
		}
	}
	return begin, end, nil
}

func (a scanAPI) listScans(ctx context.Context, in *client.ScanQuery) (client.ScanPage, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return client.ScanPage{}, err
	}
	if selects(in.ScanFilter) || len(accountIDs) > 0 && in.Newest == 0 {
		return a.matchingScans(ctx, in)
	}
	var list []stats.Counted
	older, hasMore := in.After != "", true
	switch {
	case older && in.Newest > 0:
		return client.ScanPage{}, refused("after and newest: choose one")
	case in.Newest > 0:
		list, older, err = a.Scans.Newest(ctx, accountIDs, in.Newest, in.Limit)
		hasMore = len(list) < in.Newest
	default:
		lastScanID, wrong := scanIDOf(in.After)
		if wrong != nil {
			return client.ScanPage{}, wrong
		}
		list, err = a.Scans.Feed(ctx, lastScanID, in.Limit)
	}
	page := client.ScanPage{Next: in.After, More: hasMore && len(list) == in.Limit, Older: older, Examined: len(list)}
	if n := len(list); n > 0 {
		page.Next = list[n-1].ID.String()
	}
	page.Scans, err = a.showScans(ctx, list, err)
	return page, err
}

// scanIDOf parses the ID of a scan in a request; "" is the zero ID.
func scanIDOf(text string) (id scanlog.ScanID, err error) {
	if text == "" {
		return id, nil
	}
	if id, err = scanlog.ParseScanID(text); err != nil {
		return id, refused(noScanID)
	}
	return id, nil
}

// showScans returns scans for a response, with the serial numbers of their codes, or err, the error of the read of the scans.
func (a scanAPI) showScans(ctx context.Context, list []stats.Counted, err error) ([]client.RecordedScan, error) {
	shown := make([]client.RecordedScan, len(list))
	for i := range list {
		shown[i] = ShowScan(&list[i])
	}
	if err == nil {
		err = codeAPI(a).addSerials(ctx, shown)
	}
	return shown, err
}

// selects reports whether a filter selects scans by other criteria than their owner.
func selects(f client.ScanFilter) bool {
	return f.From != "" || f.To != "" || f.User != "" || len(f.Rules) > 0 || f.ApplicationID != 0
}

// filter converts the query parameters to a stats.Filter.
func (a scanAPI) filter(ctx context.Context, in *client.ScanFilter) (f stats.Filter, err error) {
	if f.Owners, err = owners(ctx, in.Owner); err != nil {
		return f, err
	}
	begin, end, err := a.period(in.From, in.To, 0)
	if err != nil {
		return f, err
	}
	if in.From != "" {
		f.From = begin
	}
	if in.To != "" {
		f.To = end
	}
	if in.User != "" {
		f.Users = scanlog.Users{}
		if hash, err := hex.DecodeString(in.User); err == nil && len(hash) == len(scanlog.UserHash{}) {
			f.Users[scanlog.UserHash(hash)] = true // or a user ID in the form of a hash
			delete(f.Users, scanlog.UserHash{})    // the hash of all scans without a user
		}
		f.Users[a.UserHash(in.Namespace, in.User)] = true
	}
	f.Rules = in.Rules
	if in.ApplicationID != 0 {
		f.Code = &alarms.CodeName{Batch: in.ApplicationID, Index: in.CodeIndex}
	}
	return f, nil
}

// matchingScans implements listScans for requests with a filter.
func (a scanAPI) matchingScans(ctx context.Context, in *client.ScanQuery) (page client.ScanPage, err error) {
	if in.Newest > 0 {
		return page, refused("newest counts from the newest of all scans and cannot be combined with a filter: give from instead")
	}
	lastScanID, err := scanIDOf(in.After)
	if err != nil {
		return page, err
	}
	f, err := a.filter(ctx, &in.ScanFilter)
	if err != nil {
		return page, err
	}
	list, next, looked, hasMore, err := a.Scans.Matching(ctx, lastScanID, f, in.Limit)
	page = client.ScanPage{Next: in.After, More: hasMore, Older: in.After != "", Examined: looked}
	if next != (scanlog.ScanID{}) {
		page.Next = next.String()
	}
	page.Scans, err = a.showScans(ctx, list, err)
	return page, err
}

func (a scanAPI) getScan(ctx context.Context, in *struct {
	ID string `path:"scan_id" maxLength:"100"`
}) (client.RecordedScan, error) {
	id, err := scanlog.ParseScanID(in.ID)
	if err != nil {
		return client.RecordedScan{}, refused(noScanID)
	}
	e, err := a.Scans.Scan(ctx, id)
	shown, err := a.showScans(ctx, []stats.Counted{e}, err)
	return shown[0], err
}

func (a scanAPI) listScanNodes(ctx context.Context, _ *client.Empty) (client.ScanNodeList, error) {
	nodes := a.Scans.Nodes
	if nodes == nil {
		return client.ScanNodeList{Nodes: []client.ScanNode{}}, nil
	}
	list, _, err := nodes.Store.ScanNodes(ctx)
	if err != nil {
		return client.ScanNodeList{}, err
	}
	changes, err := a.Following.Lag(ctx)
	now := nodes.Now()
	ownLag := &client.NodeLag{Changes: changes, Seconds: a.Following.Staleness().Seconds(), ReportedAt: now}
	return client.ScanNodeList{Nodes: mapped(list, func(n scanlog.Node) client.ScanNode {
		shown := client.ScanNode{Node: n.ID, Name: n.Name, StoppedCleanly: n.StoppedCleanly,
			Backlog: max(0, n.LastOffset-n.ShippedOffset), LastSeenAt: n.LastSeenAt}
		switch lag := n.Lag; {
		case n.ID == nodes.Shipper.ID():
			shown.Lag = ownLag
		case !n.StoppedCleanly && !lag.ReportedAt.IsZero():
			shown.Lag = &client.NodeLag{Changes: lag.Changes, Seconds: lag.ReportedAt.Sub(lag.InSyncAt).Seconds(),
				ReportedAt: lag.ReportedAt, ReportAgeSeconds: max(0, now.Sub(lag.ReportedAt).Seconds())}
		}
		return shown
	})}, err
}

func (a scanAPI) deleteScanNode(ctx context.Context, in *struct {
	Node string `path:"node" maxLength:"100"`
}) (client.ScanNodeList, error) {
	exists := false
	if a.Scans.Nodes != nil {
		var err error
		if exists, err = a.Scans.Nodes.Store.GiveUpNode(ctx, in.Node); err != nil {
			return client.ScanNodeList{}, err
		}
	}
	if !exists {
		return client.ScanNodeList{}, huma.Error404NotFound("there is no such node; for the list of nodes: qrjump api listScanNodes")
	}
	return a.listScanNodes(ctx, nil)
}

func (a scanAPI) eraseUser(ctx context.Context, in *struct {
	User string `path:"user"`
	client.ErasureQuery
}) (client.ErasureResult, error) {
	hash := a.UserHash(in.Namespace, in.User)
	n, err := a.Scans.Erase(ctx, hash)
	if err == nil {
		err = a.Desk.Erase(ctx, hex.EncodeToString(hash[:]),
			func(account string) string { return a.OpenIDs.OpenID(in.Namespace, account, in.User) })
	}
	// The audit log omits the user, because naming the user would undo the erasure.
	if err == nil {
		err = a.History.Note(ctx, "scans", "", "erase", map[string]int64{"scans": n})
	}
	return client.ErasureResult{Scans: n}, err
}

// scanRow is a scan in an exported file. The column names equal the JSON names of scanRecord.
type scanRow struct {
	ScanID        string    `parquet:"scan_id"`
	At            time.Time `parquet:"occurred_at,timestamp(millisecond)"`
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
	Serial        string    `parquet:"serial"`
	Owner         string    `parquet:"owner,dict"`
}

// tidy empties the cells for the rule number and the code number if the scan has no rule or no code.
func (r scanRow) tidy(line []string) {
	line[1] = r.At.UTC().Format("2006-01-02T15:04:05.000Z")
	if r.RuleID == 0 {
		line[12] = ""
	}
	if r.ApplicationID == 0 {
		line[13], line[14] = "", ""
	}
}

func scanRowOf(r client.RecordedScan) scanRow {
	var index int64 // 0 if the scan has no code; ApplicationID is then 0 too
	if r.CodeIndex != nil {
		index = *r.CodeIndex
	}
	return scanRow{ScanID: r.ScanID, At: r.OccurredAt, User: r.User, Source: r.Source, Client: r.Client, Network: r.Network,
		Region: r.Region, Action: r.Action, Kind: r.Kind, Reason: r.Reason, AppID: r.AppID, Version: r.Version, RuleID: r.RuleID,
		ApplicationID: r.ApplicationID, CodeIndex: index, Activity: r.Activity, Brand: r.Brand, Product: r.Product, Text: r.Text,
		Serial: r.Serial, Owner: r.Owner}
}

func (a scanAPI) exportScans(ctx context.Context, in *struct {
	client.TableFormat
	client.ScanFilter
}) (adminroute.File, error) {
	f, err := a.filter(ctx, &in.ScanFilter)
	return tableFile("scans", in.TableFormat, func(ctx context.Context, visit func(scanRow) error) error {
		if err := a.visitScans(ctx, f, visit); err != nil {
			return fmt.Errorf("exporting scans: %w", err)
		}
		return nil
	}), err
}

// visitScans calls visit for each scan that matches a filter, until visit returns an error.
func (a scanAPI) visitScans(ctx context.Context, f stats.Filter, visit func(scanRow) error) error {
	if err := a.Scans.CatchUpAll(ctx); err != nil {
		return err
	}
	page := make([]client.RecordedScan, 0, 1000) // the serial numbers of a page of scans are read together
	flush := func() error {
		err := codeAPI(a).addSerials(ctx, page)
		for i := 0; i < len(page) && err == nil; i++ {
			err = visit(scanRowOf(page[i]))
		}
		page = page[:0]
		return err
	}
	for e, err := range a.Scans.ListRange(ctx, f) {
		if err == nil {
			if page = append(page, ShowScan(&e)); len(page) == cap(page) {
				err = flush()
			}
		}
		if err != nil {
			return err
		}
	}
	return flush()
}
