package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/client"
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

// filter returns the scan filter that the flags define; nil if no filter flag is set.
func (c *scansCommand) filter(s *session, operator *client.Client) (*client.ScanFilter, error) {
	if !c.filters() && c.Owner == "" {
		return nil, nil
	}
	f := client.ScanFilter{User: c.User, Namespace: c.Namespace, Owner: c.Owner}
	var err error
	if f.From, err = parseDay("--from", c.From); err != nil {
		return nil, err
	}
	if f.To, err = parseDay("--to", c.To); err != nil {
		return nil, err
	}
	if c.Since != "" {
		t, err := parseTime("--since", c.Since, false)
		if err != nil {
			return nil, err
		}
		f.From = t.UTC().Format(time.RFC3339)
	}
	if c.Code != "" {
		name, err := codeName(c.Code)
		if err != nil {
			return nil, err
		}
		f.ApplicationID, f.CodeIndex = name.ID, name.Index
		if name.ID == 0 {
			found, err := operator.Codes.Get(s.ctx, name)
			if err != nil {
				return nil, failed(tr("scans.scans_of"), c.Code, err)
			}
			f.ApplicationID, f.CodeIndex = found.ApplicationID, found.CodeIndex
		}
	}
	if c.Rule == "" {
		return &f, nil
	}
	if id, err := strconv.ParseInt(c.Rule, 10, 64); err == nil {
		f.Rules = []int64{id}
		return &f, nil
	}
	// A prefix that is deleted and added again is a new rule with a new ID.
	changes, err := operator.Rules.ListChanges(s.ctx, c.Rule)
	if err != nil {
		return nil, failed(tr("scans.scans_of"), c.Rule, err)
	}
	for _, change := range changes {
		if !slices.Contains(f.Rules, change.Rule.ID) && len(f.Rules) < maxFilterRules {
			f.Rules = append(f.Rules, change.Rule.ID)
		}
	}
	if len(f.Rules) == 0 {
		return nil, absent(fault("scans.no_such_rule", c.Rule))
	}
	return &f, nil
}

// maxFilterRules is the maximum number of rules in one filter.
const maxFilterRules = 100

func (c *scansCommand) shape() *outputFlags {
	c.ownCSV = true
	return &c.outputFlags
}

// file exports the matching scans to the file of --out, as CSV or Parquet from the server.
func (c *scansCommand) file(s *session, operator *client.Client) error {
	if !c.isTable() || c.Follow || c.Limit != nil || c.After != "" {
		return misused("scans.out_is_all_scans_that", plain(c.Out))
	}
	wanted, err := c.filter(s, operator)
	if err != nil {
		return err
	}
	if wanted == nil {
		wanted = &client.ScanFilter{}
	}
	_, err = c.write(s, false, func(w io.Writer) error {
		if err := operator.Scans.Export(s.ctx, c.format(), *wanted, w); err != nil {
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
func (c *scansCommand) list(s *session, operator *client.Client, wanted *client.ScanFilter, limit int) error {
	r := scanReading{scansCommand: c, operator: operator, wanted: wanted, limit: limit, after: c.After}
	page, err := r.first(s.ctx)
	out := c.printer(s.out)
	for err == nil {
		if err := printScans(out, page.Scans); err != nil {
			return err
		}
		r.printed += len(page.Scans)
		r.after = cmp.Or(page.Next, r.after)
		switch {
		case c.Follow && !page.More:
			select {
			case <-s.ctx.Done():
				return nil
			case <-time.After(c.Every):
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
	wanted   *client.ScanFilter
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
		page, err := r.operator.Scans.ListNewest(ctx, 1)
		return client.ScanPage{Next: page.Next, More: true}, err
	case r.after == "" && r.limit > 0 && !r.filters():
		page, err := r.operator.Scans.ListNewestOf(ctx, r.Owner, r.limit)
		r.older = page.Older
		return page, err
	}
	return r.next(ctx)
}

func (r *scanReading) next(ctx context.Context) (client.ScanPage, error) {
	size := pageSize(r.limit, r.printed)
	if r.wanted != nil {
		return r.operator.Scans.FindPage(ctx, *r.wanted, r.after, size)
	}
	return r.operator.Scans.ListPage(ctx, r.after, size)
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
	case r.printed == 0 && (r.wanted != nil || r.After != ""):
		printMsg(to, "scans.none")
	case r.printed == 0:
		printMsg(to, "scans.nothing_was_scanned_yet")
	case r.older:
		printMsg(to, "scans.these_are_the_newest_all", r.printed)
	case hasMore:
		printMsg(to, "scans.there_are_more_qrjump_scans", r.after)
	}
}

func printScans(out scanPrinter, scans []client.RecordedScan) error {
	for _, scan := range scans {
		if err := out.print(scan); err != nil {
			return err
		}
	}
	return out.flush()
}

// pageSize returns the number of scans to request for the next page.
func pageSize(limit, printed int) int {
	if limit == 0 {
		return 1000
	}
	return min(1000, limit-printed)
}

// scanPrinter prints scans individually.
type scanPrinter interface {
	print(client.RecordedScan) error
	flush() error
}

func (c *scansCommand) printer(w io.Writer) scanPrinter {
	switch {
	case c.isJSON():
		return scanLines{w}
	case c.isCSV():
		return &scanCSV{w: csv.NewWriter(w)}
	}
	return &scanTable{w: w}
}

type scanLines struct{ w io.Writer }

func (l scanLines) print(s client.RecordedScan) error {
	_, err := l.w.Write(append(s.Raw, '\n'))
	return err
}

func (scanLines) flush() error { return nil }

type scanCSV struct {
	w     *csv.Writer
	began bool
}

func (c *scanCSV) print(s client.RecordedScan) error {
	if !c.began && !withoutHeads {
		c.began = true
		err := c.w.Write([]string{"scan_id", "occurred_at", "user", "source", "client", "network", "region", "action", "kind",
			"reason", "appid", "version", "rule_id", "application_id", "code_index",
			"activity", "brand", "product", "text", "serial"})
		if err != nil {
			return err
		}
	}
	row := []string{s.ScanID, s.OccurredAt.UTC().Format(time.RFC3339Nano), s.User, s.Source, s.Client, s.Network, s.Region, s.Action,
		s.Kind,
		s.Reason, s.AppID, s.Version, numberOrNone(s.RuleID), "", "",
		s.Activity, s.Brand, s.Product, s.Text, s.Serial}
	if s.CodeIndex != nil {
		row[13], row[14] = number(s.ApplicationID), number(*s.CodeIndex)
	}
	for i, text := range row {
		row[i] = csvSafe(text)
	}
	return c.w.Write(row)
}

func (c *scanCSV) flush() error {
	c.w.Flush()
	return c.w.Error()
}

// csvSafe adds an apostrophe to a text that a spreadsheet would interpret as a formula.
func csvSafe(text string) string {
	if first, _ := utf8.DecodeRuneInString(text); text != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + text
	}
	return text
}

func numberOrNone(n int64) string { return textIf(n != 0, number(n)) }

// scanTable prints a table with fixed column widths, so that each row is printed without waiting for later rows.
type scanTable struct {
	w     io.Writer
	began bool
}

func (t *scanTable) print(s client.RecordedScan) error {
	if !t.began && !withoutHeads {
		t.began = true
		heads := []string{"TIME", "SCAN", "OPENED", "APP", "WHAT"}
		for i, head := range heads {
			heads[i] = tr("head." + head)
		}
		if err := t.line(heads...); err != nil {
			return err
		}
	}
	opened := s.Action
	if s.Reason != "" {
		opened = s.Reason
	} else if s.Kind != "" {
		opened = strings.ReplaceAll(s.Kind, "_", " ")
	}
	kind := s.Text
	if s.CodeIndex != nil {
		kind = tr("scans.code", s.ApplicationID, *s.CodeIndex)
	}
	return t.line(formatTime(s.OccurredAt), s.ScanID, opened, orDash(s.AppID), kind)
}

// line prints the cells of a row at fixed column positions.
func (t *scanTable) line(cells ...string) error {
	var line strings.Builder
	for i, width := range []int{27, 34, 24, 22, 0} {
		line.WriteString(inColumn(plain(cells[i]), width))
	}
	_, err := fmt.Fprintln(t.w, strings.TrimRight(line.String(), " "))
	return err
}

func (*scanTable) flush() error { return nil }
