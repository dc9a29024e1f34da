package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

type scansCommand struct {
	operator
	After  string        `placeholder:"SCANID"`
	Limit  *int          `placeholder:"N"`
	Follow bool          `short:"f"`
	Every  time.Duration `default:"1s" hidden:""`
	tableFlags

	Since     string `placeholder:"TIME" xor:"from"`
	From      string `placeholder:"TIME" xor:"from"`
	To        string `placeholder:"TIME"`
	User      string `placeholder:"USER"`
	Namespace string `placeholder:"NAME"`
	Code      string `placeholder:"CODE"`
	Rule      string `placeholder:"PREFIX"`
	Owner     string `placeholder:"APPID"`
}

func (c *scansCommand) filters() bool {
	return c.Since != "" || c.From != "" || c.To != "" || c.User != "" || c.Code != "" || c.Rule != ""
}

// filter returns the scan filter that the flags define.
func (c *scansCommand) filter(s *session, operator *client.Client) (f client.ScanFilter, err error) {
	f = client.ScanFilter{User: c.User, Namespace: c.Namespace, Owner: c.Owner}
	if f.From, err = parseDay("--from", c.From); err != nil {
		return f, err
	}
	if f.To, err = parseDay("--to", c.To); err != nil {
		return f, err
	}
	if c.Since != "" {
		t, err := parseTime("--since", c.Since, false)
		if err != nil {
			return f, err
		}
		f.From = t.UTC().Format(time.RFC3339)
	}
	if c.Code != "" {
		name, err := codeName(c.Code)
		if err != nil {
			return f, err
		}
		f.ApplicationID, f.CodeIndex = name.ID, name.Index
		if name.ID == 0 {
			found, err := operator.Codes.Get(s.ctx, name)
			if err != nil {
				return f, failed(tr("scans.scans_of"), c.Code, err)
			}
			f.ApplicationID, f.CodeIndex = found.ApplicationID, found.CodeIndex
		}
	}
	if c.Rule == "" {
		return f, nil
	}
	if id, err := strconv.ParseInt(c.Rule, 10, 64); err == nil {
		f.Rules = []int64{id}
		return f, nil
	}
	// A prefix that is deleted and added again is a new rule with a new ID.
	changes, err := operator.Rules.ListChanges(s.ctx, c.Rule)
	if err != nil {
		return f, failed(tr("scans.scans_of"), c.Rule, err)
	}
	for _, change := range changes {
		if !slices.Contains(f.Rules, change.Rule.ID) && len(f.Rules) < maxFilterRules {
			f.Rules = append(f.Rules, change.Rule.ID)
		}
	}
	if len(f.Rules) == 0 {
		return f, absent(fault("scans.no_such_rule", c.Rule))
	}
	return f, nil
}

// maxFilterRules is the maximum number of rules in one filter.
const maxFilterRules = 100

// file exports the matching scans to the file of --out, as CSV or Parquet from the server.
func (c *scansCommand) file(s *session, operator *client.Client) error {
	if !c.isTable() || c.Follow || c.Limit != nil || c.After != "" {
		return misused("scans.out_is_all_scans_that", plain(c.Out))
	}
	wanted, err := c.filter(s, operator)
	if err != nil {
		return err
	}
	_, err = c.write(s, false, func(w io.Writer) error {
		if err := operator.Scans.Export(s.ctx, c.format(), wanted, w); err != nil {
			return fault("scans.export_scans", err)
		}
		return nil
	})
	return err
}

// Run prints scans in the order in which they were recorded. JSON output has one scan per line; the ID in the last line is the value of
// --after for the next run.
func (c *scansCommand) Run(s *session, operator *client.Client) error {
	if c.Namespace != "" && c.User == "" {
		return misused("scans.namespace_is_that_of_user")
	}
	if c.Out != "" {
		return c.file(s, operator)
	}
	limit := 0 // all
	switch {
	case c.Limit != nil && c.Follow:
		return misused("scans.follow_goes_on_until_it")
	case c.Limit != nil && *c.Limit < 0:
		return misused("rule.limit_want_a_number_from", *c.Limit)
	case c.Limit != nil:
		limit = *c.Limit
	case c.isTable() && !c.Follow:
		limit = 100
	}
	if c.After == "" && limit > maxNewestScans && !c.filters() {
		return misused("scans.limit_at_most_of_the", limit, maxNewestScans)
	}
	wanted, err := c.filter(s, operator)
	if err != nil {
		return err
	}
	if c.filters() && c.Limit == nil {
		limit = 0
	}
	return c.list(s, operator, wanted, limit)
}

// maxNewestScans is the maximum of --limit if neither --after nor a filter is set: the server returns at most this many newest scans.
const maxNewestScans = 100_000

// list prints at most limit scans; 0 = no limit. With --after, list prints scans after the given ID; with a filter, the first matching
// scans; otherwise the newest scans, or all scans if limit is 0.
func (c *scansCommand) list(s *session, operator *client.Client, wanted client.ScanFilter, limit int) error {
	r := scanReading{scansCommand: c, operator: operator, wanted: wanted, limit: limit, after: c.After}
	page, err := r.first(s.ctx)
	for err == nil {
		if err := r.printScans(s.out, page.Scans); err != nil {
			return err
		}
		r.after = cmp.Or(page.Next, r.after)
		switch {
		case c.Follow && !page.More:
			if pause(s.ctx, c.Every) != nil {
				return nil
			}
		case !c.Follow && (!page.More || limit > 0 && r.printed >= limit):
			r.printMsg(s.err, page.More)
			return nil
		}
		page, err = r.next(s.ctx)
	}
	if s.ctx.Err() != nil && c.Follow {
		return nil
	}
	return r.failed(err)
}

// scanReading is the state of a command that reads scans page by page.
type scanReading struct {
	*scansCommand
	operator *client.Client
	wanted   client.ScanFilter
	limit    int    // The maximum number of printed scans; 0 means no limit.
	after    string // The cursor of the last scan that was read.
	printed  int
	older    bool // true = there are scans before the first one that was read
}

// first returns the first page of a listing.
func (r *scanReading) first(ctx context.Context) (client.ScanPage, error) {
	switch {
	case r.after == "" && r.Follow && r.Since == "" && r.From == "":
		// --follow prints only new scans: those after the newest existing scan, or all if there is none yet.
		page, err := r.operator.Scans.ListPage(ctx, client.ScanQuery{Newest: 1})
		return client.ScanPage{Next: page.Next, More: true}, err
	case r.after == "" && r.limit > 0 && !r.filters():
		page, err := r.operator.Scans.ListPage(ctx, client.ScanQuery{Newest: r.limit, Limit: 1000, ScanFilter: r.wanted})
		r.older = page.Older
		return page, err
	}
	return r.next(ctx)
}

func (r *scanReading) next(ctx context.Context) (client.ScanPage, error) {
	return r.operator.Scans.ListPage(ctx, client.ScanQuery{After: r.after, Limit: pageSize(r.limit, r.printed), ScanFilter: r.wanted})
}

func (r *scanReading) failed(err error) error {
	if r.after == "" {
		return fault("scans.list_scans", err)
	}
	return failed(tr("scans.list_scans_after"), r.after, err)
}

// printMsg prints a note after the last scan: that no scan was found, or how to print the scans that were not printed.
func (r *scanReading) printMsg(to io.Writer, hasMore bool) {
	switch {
	case r.printed == 0 && (r.filters() || r.Owner != "" || r.After != ""):
		printMsg(to, "scans.none")
	case r.printed == 0:
		printMsg(to, "scans.nothing_was_scanned_yet")
	case r.older:
		printMsg(to, "scans.these_are_the_newest_all", r.printed)
	case hasMore:
		printMsg(to, "scans.there_are_more_qrjump_scans", r.after)
	}
}

// pageSize returns the number of scans to request for the next page.
func pageSize(limit, printed int) int {
	if limit == 0 {
		return 1000
	}
	return min(1000, limit-printed)
}

// printScans prints a page of scans, below the header if it is the first page.
func (r *scanReading) printScans(w io.Writer, scans []client.RecordedScan) error {
	begins := r.printed == 0 && len(scans) > 0
	r.printed += len(scans)
	if r.Output == "csv" {
		return printCSV(w, begins, scanColumns, mapped(scans, scanCells))
	}
	var lines []byte
	if begins && r.isTable() && !withoutHeads {
		lines = scanLine(mapped([]string{"TIME", "SCAN", "OPENED", "APP", "TEXT"}, func(head string) string { return tr("head." + head) }))
	}
	for _, scan := range scans {
		if r.isJSON() {
			lines = append(append(lines, scan.Raw...), '\n')
			continue
		}
		opened, kind := cmp.Or(scan.Reason, strings.ReplaceAll(scan.Kind, "_", " "), scan.Action), scan.Text
		if scan.CodeIndex != nil {
			kind = tr("scans.code", scan.ApplicationID, *scan.CodeIndex)
		}
		lines = append(lines, scanLine([]string{formatTime(scan.OccurredAt), scan.ScanID, opened, orDash(scan.AppID), kind})...)
	}
	_, err := w.Write(lines)
	return err
}

// scanLine returns a row at fixed column positions, so that a row is printed without waiting for later rows.
func scanLine(cells []string) []byte {
	var line strings.Builder
	for i, width := range []int{27, 34, 24, 22, 0} {
		line.WriteString(inColumn(plain(cells[i]), width))
	}
	return []byte(strings.TrimRight(line.String(), " ") + "\n")
}

var scanColumns = []string{"scan_id", "occurred_at", "user", "source", "client", "network", "region", "action", "kind", "reason", "appid",
	"version", "rule_id", "application_id", "code_index", "activity", "brand", "product", "text", "serial", "owner"}

// scanCells returns a scan's cells in the columns scanColumns.
func scanCells(s client.RecordedScan) []string {
	code, index := "", ""
	if s.CodeIndex != nil {
		code, index = number(s.ApplicationID), number(*s.CodeIndex)
	}
	return mapped([]string{s.ScanID, s.OccurredAt.UTC().Format(time.RFC3339Nano), s.User, s.Source, s.Client, s.Network, s.Region, s.Action,
		s.Kind, s.Reason, s.AppID, s.Version, numberOrNone(s.RuleID), code, index,
		s.Activity, s.Brand, s.Product, s.Text, s.Serial, s.Owner}, adminroute.EscapeCSVFormula)
}

func numberOrNone(n int64) string { return textIf(n != 0, number(n)) }
