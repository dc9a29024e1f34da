package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/store/archive"
)

// DrillReport is the result of a restore drill.
type DrillReport struct {
	CreatedAt time.Time     `json:"created_at"`
	Program   string        `json:"program"`
	Engine    string        `json:"engine"`
	Schema    int64         `json:"schema"`
	Tables    int           `json:"tables"`
	Rows      int64         `json:"rows"`
	Same      int           `json:"identical_tables"` // number of restored tables that equal the archive byte for byte
	Restored  time.Duration `json:"restored_ns"`
	Started   time.Duration `json:"started_ns"`
	Rules     int           `json:"rules"`
	Published int           `json:"published"`
	Opened    int           `json:"opened"`    // published rules whose prefix opened a Mini Program when it was scanned
	Explained int           `json:"explained"` // published rules that opened nothing, for a reason that the explanation names
	Batches   int           `json:"batches"`
	Codes     int           `json:"codes"`             // codes that were made again and found by their texts
	Changes   int64         `json:"changes,omitempty"` // entries of a restored database's audit log that were verified
}

// Compared describes how the restored tables were compared with the archive.
func (r DrillReport) Compared() string {
	if r.Same == r.Tables {
		return "every table is equal to the archive byte for byte"
	}
	return fmt.Sprintf("every row counted; %d of %d tables are equal byte for byte (the archive has an older schema)", r.Same, r.Tables)
}

// drillScans is the maximum number of published rules that a drill scans.
const drillScans = 10_000

// Drill proves that an archive can be restored. Drill imports the archive into an embedded database in a temporary folder and compares the
// data. Drill then starts a server without outbound requests, scans published rules, and finds codes of every batch. The temporary folder
// is deleted before Drill returns.
func Drill(ctx context.Context, file string, passphrase func() (string, error)) (r DrillReport, err error) {
	dir, err := os.MkdirTemp("", "qrjump-drill-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := Default()
	c.Data, c.Listen, c.AdminToken = filepath.Join(dir, "data"), "127.0.0.1:0", rand.Text()
	began := time.Now()
	m, err := Import(ctx, c, file, passphrase)
	if err != nil {
		return r, err
	}
	r.Restored = time.Since(began)
	r.CreatedAt, r.Program, r.Engine, r.Schema, r.Tables, r.Rows = m.CreatedAt, m.Program, m.Engine, m.Schema, len(m.Tables()), m.Rows()
	if r.Same, err = compareRestored(ctx, c, m); err != nil {
		return r, err
	}
	return r, startAndTest(ctx, c, &r)
}

// DrillDatabase proves that a restored copy of a PostgreSQL database works, as Drill does for an archive. masterKey is the original key.
// Instead of comparing tables with an archive, DrillDatabase verifies the audit log and compares rules, accounts and codes with it.
// DrillDatabase changes the copy: it migrates the schema, and adds a scan key and scans. DrillDatabase returns an error, and changes
// nothing, if another program is connected to the database.
func DrillDatabase(ctx context.Context, database, masterKey string) (r DrillReport, err error) {
	if err := store.CheckUnused(ctx, database); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "qrjump-drill-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := Default()
	c.Data, c.Listen, c.AdminToken, c.Database, c.MasterKey = dir, "127.0.0.1:0", rand.Text(), database, masterKey
	if err := c.Check(); err != nil {
		return r, err
	}
	s, err := store.Open(ctx, store.Target{URL: c.Database, Dir: c.Data})
	if err != nil {
		return r, err
	}
	r.Schema, r.Engine = store.NewestSchema(), s.Engine()
	err = s.Snapshot(ctx, func(p *store.Snapshot) error { return p.CheckCounts(ctx) })
	if err := errors.Join(err, s.Close()); err != nil {
		return r, err
	}
	return r, startAndTest(ctx, c, &r)
}

// startAndTest starts a server with restored data, scans the published rules and finds codes of every batch.
func startAndTest(ctx context.Context, c Config, r *DrillReport) (err error) {
	var logs bytes.Buffer
	began := time.Now()
	s, err := Start(ctx, c, &logs, TestHooks{Outbound: silent(), Demo: true})
	if err != nil {
		return fmt.Errorf("the restored server does not start: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r.Started = time.Since(began)
	operator, err := client.New(s.URL, client.Options{AdminToken: c.AdminToken, Timeout: drillTimeout})
	if err != nil {
		return err
	}
	answer, err := operator.Do(ctx, client.OperationRequest{Method: http.MethodGet, Path: "/readyz"})
	if err != nil {
		return fmt.Errorf("the restored server is not ready: %w", err)
	}
	answer.Body.Close()
	d := drill{server: s, client: operator}
	if c.Database != "" {
		log, err := s.store.VerifyChanges(ctx)
		if err == nil && log.FirstError != nil {
			err = log.FirstError
		}
		if err != nil {
			return fmt.Errorf("the restored rows do not match the audit log, restore another backup: %w", err)
		}
		r.Changes = log.Changes
	}
	if err := d.scanRules(ctx, r); err != nil {
		return err
	}
	return d.findCodes(ctx, r)
}

// silent returns an HTTP client without network access.
func silent() *safehttp.Client {
	return &safehttp.Client{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("a drill makes no network connections")
	}}
}

// compareRestored compares every restored table with the archive, and returns the number of equal tables. A different table or a wrong
// stored counter is an error. If the archive has an older schema, only the counters are checked.
func compareRestored(ctx context.Context, c Config, m archive.Manifest) (equal int, err error) {
	s, err := store.Open(ctx, store.Target{Dir: c.Data})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if err := s.Snapshot(ctx, func(p *store.Snapshot) error { return p.CheckCounts(ctx) }); err != nil {
		return 0, err
	}
	if m.Schema != store.NewestSchema() {
		return 0, nil // tables are not comparable: migrations may have changed rows; Import has checked the row counts
	}
	journal, err := scanlog.OpenJournal(c.scansDir(), scanlog.JournalOptions{})
	if err != nil {
		return 0, fmt.Errorf("opening the restored scan log: %w", err)
	}
	defer journal.Close()
	if err := s.SetLocalScanLog(ctx, journal); err != nil {
		return 0, err
	}
	return equal, s.Snapshot(ctx, func(p *store.Snapshot) error {
		equal = 0
		for _, want := range m.Tables() {
			table := strings.TrimSuffix(strings.TrimPrefix(want.Name, "tables/"), ".ndjson")
			sum := sha256.New()
			rows, err := p.WriteRows(ctx, table, sum)
			if err != nil {
				return err
			}
			if rows != want.Rows || hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
				return fmt.Errorf("the restored rows of table %s (%d) differ from the rows in the archive (%d)", table, rows, want.Rows)
			}
			equal++
		}
		return nil
	})
}

// drill is a restored server under test, with a client of it.
type drill struct {
	server *Server
	client *client.Client
}

// drillTimeout limits each call of a drill; the first calls of a large database are slow.
const drillTimeout = 5 * time.Minute

// scanRules scans the published rules as a scanning app does. A rule may open nothing, but then the explanation of the scan must contain
// the rule with a verdict that justifies this, such as no_release.
func (d *drill) scanRules(ctx context.Context, r *DrillReport) error {
	key, err := d.client.ScanKeys.Create(ctx, client.ScanKey{Name: "drill-" + strings.ToLower(rand.Text())[:8]})
	if err != nil {
		return fmt.Errorf("creating a scan key: %w", err)
	}
	scanner, err := client.New(d.server.URL, client.Options{ScanKey: key, Timeout: drillTimeout})
	if err != nil {
		return err
	}
	for start := int64(0); ; {
		page, err := d.server.domain.rules.Find(ctx, rules.Query{AfterID: start, Limit: 1000})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, rule := range page {
			start = rule.ID
			r.Rules++
			if !rule.Published {
				continue
			}
			r.Published++
			if r.Published > drillScans {
				continue
			}
			opens, err := opens(ctx, scanner, rule)
			if err != nil {
				return fmt.Errorf("the rule %s of %s: %w", rule.Prefix.Text, rule.Owner, err)
			}
			if opens {
				r.Opened++
			} else {
				r.Explained++
			}
		}
	}
}

// opens scans the prefix of a rule as a link, and reports whether the scan opens a Mini Program.
func opens(ctx context.Context, scanner *client.Client, rule rules.Rule) (bool, error) {
	request := client.ScanRequest{Text: rule.Prefix.Text}
	d, err := scanner.Scans.Resolve(ctx, request)
	if err != nil || d.Action == client.OpenMiniProgram {
		return err == nil, err
	}
	got, err := scanner.Scans.Explain(ctx, client.ExplainRequest{ScanRequest: request})
	if err != nil {
		return false, err
	}
	for _, step := range got.Steps {
		if step.Prefix != rule.Prefix.Text || step.Owner != rule.Owner {
			continue
		}
		switch step.Verdict {
		case "no_release", "owner_switched_off", "matches_but_shorter", "unpublished_hides":
			return false, nil
		}
		return false, fmt.Errorf("a scan of it returned %s", cmp.Or(step.Verdict, got.Action))
	}
	return false, fmt.Errorf("a scan of it does not find it: %s", got.Action)
}

// findCodes makes some codes of every batch again, and checks that the server finds these codes by their texts.
func (d *drill) findCodes(ctx context.Context, r *DrillReport) error {
	service := d.server.domain.codes
	for _, b := range service.Memory.Batches() {
		r.Batches++
		for _, index := range []int64{0, b.Count / 2, b.Count - 1} {
			code, text, err := service.Print(ctx, b, index)
			if errors.Is(err, errcode.NotFinished) {
				continue // the batch is an unfinished import of codes
			}
			if err != nil {
				return fmt.Errorf("code %d of application %d cannot be read: %w", index, b.ID, err)
			}
			for _, name := range []codes.CodeName{{URL: text, ID: b.ID}, {Code: code, ID: b.ID}} {
				found, err := service.Lookup(ctx, name)
				if err != nil {
					return fmt.Errorf("code %d of application %d cannot be read: %w", index, b.ID, err)
				}
				if found.Batch.ID != b.ID || found.Index != index {
					return fmt.Errorf("code %d of application %d was resolved as code %d of %d", index, b.ID, found.Index, found.Batch.ID)
				}
			}
			r.Codes++
		}
	}
	return nil
}
