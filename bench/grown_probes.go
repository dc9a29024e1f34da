package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // has dbstat, the table-valued function with the size of each table

	"github.com/qrjump/qrjump/bench/rulegen"
)

// Quantities that the cost of a row is expected to grow with.
const (
	withNothing  = "nothing"
	withScans    = "the scans that are kept"
	withRules    = "the rules"
	withDays     = "the days asked for, not the scans"
	withAnswer   = "the length of the answer"
	withChanges  = "the changes"
	withWhole    = "everything that is stored"
	withCombined = "combinations of what scans have in common, an hour"
)

// serverStart is the row that starts the server for all later rows.
const serverStart = "start from the snapshot"

// probes are the rows of the growth table in the order of measurement; probes that change data come last.
var probes = []probe{
	{"upgrade of the schema, with the first start", "the rows of tables that a migration rewrites", "", (*grownServer).upgrade},
	{"ledger, a scan", withNothing, "bytes", (*grownServer).ledgerBytes},
	{"counts, a scan", "less than the scans: " + withCombined, "bytes",
		func(s *grownServer, ctx context.Context) (cost, error) { return s.countBytes(ctx, false) }},
	{"indexes of the counts, a scan", "as the counts", "bytes",
		func(s *grownServer, ctx context.Context) (cost, error) { return s.countBytes(ctx, true) }},
	{"counting, a scan, when the folder was filled (time passed)", withNothing, "µs",
		fillTime("counting", func(g *grown) float64 { return float64(g.Scans) })},
	{"import of rules, a rule, when the folder was filled (time passed)", withNothing, "µs",
		fillTime("rules", func(g *grown) float64 { return float64(g.Rules) })},
	{"import of accounts, an account, when the folder was filled (time passed)", withNothing, "µs",
		fillTime("accounts", func(g *grown) float64 { return float64(g.Accounts) })},
	{"start from the store", withRules, "", (*grownServer).startFromStore},
	{serverStart, withRules, "", (*grownServer).startFromSnapshot},
	{"resident memory after the start", withRules, "MiB", func(s *grownServer, _ context.Context) (cost, error) {
		return cost{value: memory(s.pid(), "VmRSS") / (1 << 20)}, nil
	}},
	{"a second in which nothing happens", withNothing, "", (*grownServer).idle},
	{"resolve of a link", withNothing, "", func(s *grownServer, ctx context.Context) (cost, error) { return s.scan(ctx, "resolve") }},
	{"explain of a link", withNothing, "", func(s *grownServer, ctx context.Context) (cost, error) { return s.scan(ctx, "explain") }},
	{"explain of a link that no rule matches", withNothing, "", (*grownServer).explainMiss},

	{"statistics: 400 days, one number", withDays, "", statisticsGet("")},
	{"statistics: by day", withDays, "", statisticsGet("&by=day&limit=1000")},
	{"statistics: by hour, a week", withDays, "", adminGet(func(s *grownServer) string { return s.statistics(7, "&by=hour&limit=1000") })},
	{"statistics: by day, of one activity", withDays, "", statisticsGet("&by=day&limit=1000&activity=activity+1")},
	{"statistics: by activity", "days × activities", "", statisticsGet("&group=activity")},
	{"statistics: by region", withDays, "", statisticsGet("&group=region")},
	{"statistics: by region, of one activity", withDays, "", statisticsGet("&group=region&activity=activity+1")},
	{"statistics: by rule", "days × rules that are scanned", "", statisticsGet("&group=rule")},
	{"statistics: by day, of one rule", withDays, "", adminGet(func(s *grownServer) string {
		return s.statistics(s.g.Days, "&by=day&limit=1000&rule="+strconv.FormatInt(s.g.Scanned[0].Rule, 10))
	})},
	{"statistics: users by day", withDays, "", statisticsGet("&by=day&limit=1000&count=users")},
	{"statistics: users of 400 days", withDays, "", statisticsGet("&count=users")},
	{"statistics: users of one activity", withDays, "", statisticsGet("&count=users&activity=activity+1")},
	{"statistics: what was scanned and found nothing", "hours × places", "", adminGet(func(s *grownServer) string {
		return "/statistics/unmatched?from=" + s.ago(s.g.Days)
	})},
	{"statistics: scans of one code", withNothing, "", adminGet(func(s *grownServer) string {
		return fmt.Sprintf("/batches/%d/codes/7/scans", s.g.Made[0].ID)
	})},

	{"scan feed: the first page", withAnswer, "", adminGet(static("/scans"))},
	{"scan feed: a page in the middle", withAnswer, "", adminGet(func(s *grownServer) string { return "/scans?after=" + s.g.Middle })},
	{"scan feed: a page at the end", withAnswer, "", adminGet(func(s *grownServer) string { return "/scans?after=" + s.g.Last })},
	{"scan feed: the newest 100", withAnswer, "", adminGet(static("/scans?newest=100"))},
	{"one scan by its id", withNothing, "", adminGet(func(s *grownServer) string { return "/scans/" + s.g.Middle })},
	{"export of two hours of scans", withAnswer, "", (*grownServer).twoHours},

	{"admin: the first rules", withAnswer, "", adminGet(static("/rules"))},
	{"admin: rules from the middle", withAnswer, "", adminGet(func(s *grownServer) string {
		return fmt.Sprintf("/rules?after=%d", s.g.Scanned[len(s.g.Scanned)/2].Rule)
	})},
	{"admin: rules of an owner", withAnswer, "", adminGet(func(s *grownServer) string { return "/rules?owner=" + s.owner() })},
	{"admin: rules that open an account", withAnswer, "", adminGet(func(s *grownServer) string { return "/rules?target=" + s.owner() })},
	{"admin: history of a prefix", withAnswer, "",
		adminGet(func(s *grownServer) string { return "/rules/history?prefix=" + url.QueryEscape(s.prefix()) })},
	{"admin: occupiers of a prefix", withNothing, "",
		adminGet(func(s *grownServer) string { return "/rules/conflicts?prefix=" + url.QueryEscape(s.prefix()) })},
	{"admin: the first accounts", withAnswer, "", adminGet(static("/accounts"))},
	{"admin: one account", withNothing, "", adminGet(func(s *grownServer) string { return "/accounts/" + s.owner() })},
	{"admin: applications for codes", withAnswer, "", adminGet(static("/batches?limit=10"))},
	{"admin: events of an application, the first page", withAnswer, "",
		adminGet(func(s *grownServer) string { return fmt.Sprintf("/batches/%d/events", s.g.Made[0].ID) })},
	{"admin: look-up of a code", withNothing, "", (*grownServer).lookup},
	{"audit log: the newest", withAnswer, "", adminGet(static("/changes?newest=true"))},
	{"audit log: from the middle", withAnswer, "",
		adminGet(func(s *grownServer) string { return fmt.Sprintf("/changes?after=%d", (s.g.Rules+s.g.Changes)/2) })},
	{"audit log: of one account", withAnswer, "", adminGet(func(s *grownServer) string {
		return "/changes?newest=true&kind=account&key=" +
			s.owner()
	})},
	{"audit log: the newest of a kind", withAnswer, "", adminGet(static("/changes?newest=true&kind=account"))},
	{"audit log: of an actor", withAnswer, "", adminGet(static("/changes?newest=true&actor=seed"))},
	{"what a link opened 200 days ago", "changes since then that it depends on", "", adminGet(func(s *grownServer) string {
		return "/history/resolve?text=" + url.QueryEscape(s.g.Scanned[0].Text) + "&at=" +
			url.QueryEscape(s.g.Now.AddDate(0, 0, -200).Format(time.RFC3339))
	})},

	{"replay of a plan over a week", "the scans of the week", "", (*grownServer).replay},
	{"verification of the audit log", withChanges, "", (*grownServer).verify},
	{"export of all rules", withRules, "", func(s *grownServer, ctx context.Context) (cost, error) {
		return s.readAll(ctx, http.MethodGet, "/export/rules", "", io.Discard)
	}},
	{"export of everything", withWhole, "", (*grownServer).export},
	{"the archive, a scan", withNothing, "bytes", (*grownServer).archiveBytes},
	{"restore of everything", withWhole, "", (*grownServer).restore},
	{"drill of a restore", withWhole, "", func(s *grownServer, ctx context.Context) (cost, error) {
		if s.archive == "" {
			return cost{}, notMeasured("there is no archive")
		}
		return s.runCommand(ctx, "restore-drill", s.archive)
	}},
	{"recount", withScans, "", (*grownServer).recount},
	{"erasure of a user", withScans, "", (*grownServer).erase},
	{"peak of resident memory, over all of the above", "the rules, and what one question holds", "MiB",
		func(s *grownServer, _ context.Context) (cost, error) {
			return cost{value: memory(s.pid(), "VmHWM") / (1 << 20)}, nil
		}},
	{"stop after a rule was changed", withRules, "", (*grownServer).stopAfterChange},
	{"retention of half of the days", "what is removed", "", (*grownServer).retention},
}

func statisticsGet(rest string) func(*grownServer, context.Context) (cost, error) {
	return adminGet(func(s *grownServer) string { return s.statistics(s.g.Days, rest) })
}

func (s *grownServer) ago(days int) string { return s.g.Now.AddDate(0, 0, -days).Format(time.DateOnly) }

func (s *grownServer) statistics(days int, rest string) string {
	return "/statistics?from=" + s.ago(days) + "&to=" + s.g.Now.Format(time.DateOnly) + rest
}

// owner returns the owner of a scanned rule in the middle.
func (s *grownServer) owner() string { return s.g.Scanned[len(s.g.Scanned)/2].Owner }

// prefix returns the prefix of a rule in the middle.
func (s *grownServer) prefix() string { return rulegen.New(s.g.Rules, 1).At(s.g.Rules / 2).Prefix }

func fillTime(part string, divisor func(*grown) float64) func(*grownServer, context.Context) (cost, error) {
	return func(s *grownServer, _ context.Context) (cost, error) {
		return cost{value: s.g.Spent[part] * 1e6 / divisor(s.g)}, nil
	}
}

// upgrade measures the first start on the folder if it migrates the schema.
func (s *grownServer) upgrade(ctx context.Context) (cost, error) {
	before, err := s.schema(ctx)
	if err != nil {
		return cost{}, err
	}
	c, err := s.start(ctx)
	if err != nil {
		return c, err
	}
	s.stop()
	after, err := s.schema(ctx)
	if err == nil && after == before {
		err = notMeasured("the folder has the program's schema, %d, already", after)
	}
	return c, err
}

func (s *grownServer) schema(ctx context.Context) (version int, err error) {
	const query = "SELECT max(version_id) FROM goose_db_version"
	return version, s.query(ctx, query, func(scan func(...any) error) error { return scan(&version) })
}

// query runs a query on the database of a stopped server.
func (s *grownServer) query(ctx context.Context, query string, each func(scan func(...any) error) error) error {
	driver, source := "sqlite", "file:"+filepath.Join(s.data, "qrjump.db")+"?mode=ro"
	if s.database != "" {
		driver, source = "pgx", s.database
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *grownServer) ledgerBytes(ctx context.Context) (cost, error) {
	var n int64
	if s.database != "" {
		err := s.query(ctx, "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('scan_events') WHERE isleaf",
			func(scan func(...any) error) error { return scan(&n) })
		return cost{value: float64(n) / float64(s.g.scanCount())}, err
	}
	files, err := filepath.Glob(filepath.Join(s.data, "scans", "*.scans"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			n += info.Size()
		}
	}
	return cost{value: float64(n) / float64(s.g.scanCount())}, err
}

// countBytes returns the size of the statistics tables, or of their indexes, in bytes per scan.
func (s *grownServer) countBytes(ctx context.Context, indexes bool) (cost, error) {
	var n int64
	size, tables := "pg_table_size", "'table'"
	if indexes {
		size, tables = "pg_indexes_size", "'index'"
	}
	query := "SELECT coalesce(sum(" + size + "(c.oid)), 0)::bigint FROM pg_class c " +
		"WHERE c.relkind = 'r' AND (c.relname LIKE 'statistics%' OR c.relname IN ('code_counts', 'code_scans'))"
	if s.database == "" {
		query = "SELECT coalesce(sum(d.pgsize), 0) FROM dbstat('main', 1) d JOIN sqlite_master m ON m.name = d.name " +
			"WHERE m.type = " + tables + " AND (m.tbl_name LIKE 'statistics%' OR m.tbl_name IN ('code_counts', 'code_scans'))"
	}
	err := s.query(ctx, query, func(scan func(...any) error) error { return scan(&n) })
	return cost{value: float64(n) / float64(s.g.scanCount())}, err
}

func (s *grownServer) startFromStore(ctx context.Context) (cost, error) {
	for _, file := range snapshotFiles(s.data) {
		if err := os.Remove(file); err != nil {
			return cost{}, err
		}
	}
	c, err := s.start(ctx)
	s.stop() // writes a snapshot
	return c, err
}

func (s *grownServer) startFromSnapshot(ctx context.Context) (cost, error) {
	c, err := s.start(ctx)
	if err != nil {
		return c, err
	}
	if len(snapshotFiles(s.data)) == 0 {
		return c, notMeasured("the server wrote no snapshot")
	}
	if err := s.admin(ctx, http.MethodPut, "/settings", `{"rule_rate_limit":null,"default_rate_limit":null}`, nil); err != nil {
		return c, err
	}
	// A node on PostgreSQL rejects reads of the scan log until it knows that the log is complete.
	for range 30 {
		if err = s.admin(ctx, http.MethodGet, "/scans?limit=1", nil, nil); err == nil {
			break
		}
		time.Sleep(time.Second)
	}
	return c, err
}

// idle returns the processor time per second of an idle server.
func (s *grownServer) idle(ctx context.Context) (cost, error) {
	if err := s.admin(ctx, http.MethodGet, "/statistics?wait=true", nil, nil); err != nil {
		return cost{}, err
	}
	time.Sleep(2 * time.Second)
	const seconds = 6
	before, err := cpu(s.pid())
	if err != nil {
		return cost{}, err
	}
	time.Sleep(seconds * time.Second)
	after, err := cpu(s.pid())
	return cost{(after - before).Seconds() / seconds, 1}, err
}

func (s *grownServer) scan(ctx context.Context, call string) (cost, error) {
	if err := s.open(ctx); err != nil {
		return cost{}, err
	}
	turn := 0
	return s.spent(ctx, false, func() error {
		turn++
		return s.postScan(ctx, call, s.g.Scanned[turn*7919%len(s.g.Scanned)].Text)
	})
}

func (s *grownServer) explainMiss(ctx context.Context) (cost, error) {
	if err := s.open(ctx); err != nil {
		return cost{}, err
	}
	return s.spent(ctx, false, func() error { return s.postScan(ctx, "explain", "https://gone1.example/a") })
}

func (s *grownServer) open(ctx context.Context) (err error) {
	if s.key == "" {
		s.key, err = s.scanKey(ctx)
	}
	return err
}

func (s *grownServer) postScan(ctx context.Context, path, text string) error {
	return call(ctx, http.MethodPost, s.scanURL+"/scan/v1/"+path, s.key, map[string]any{"text": text, "user": "somebody"}, nil)
}

func (s *grownServer) twoHours(ctx context.Context) (cost, error) {
	middle := s.g.Now.AddDate(0, 0, -s.g.Days/2)
	path := "/scans/export?format=csv&from=" + url.QueryEscape(middle.Format(time.RFC3339)) + "&to=" +
		url.QueryEscape(middle.Add(2*time.Hour).Format(time.RFC3339))
	var response lineCounter
	c, err := s.readAll(ctx, http.MethodGet, path, "", &response)
	if err == nil && response.lines < 2 && s.g.Factor >= 0.001 {
		err = errors.New("the export has no scans")
	}
	return c, err
}

// lineCounter is a writer that counts lines.
type lineCounter struct{ lines int }

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += strings.Count(string(p), "\n")
	return len(p), nil
}

func (s *grownServer) lookup(ctx context.Context) (cost, error) {
	body := fmt.Sprintf(`{"application_id":%d,"code_index":77}`, s.g.Made[0].ID)
	return s.spent(ctx, false, func() error { return s.admin(ctx, http.MethodPost, "/codes/lookup", body, nil) })
}

func (s *grownServer) replay(ctx context.Context) (cost, error) {
	l := s.g.Scanned[0]
	plan := fmt.Sprintf(`{"days":7,"changes":[{"action":"delete","owner":%q,"prefix":%q}]}`, l.Owner, strings.TrimSuffix(l.Text, "t1"))
	var response struct{ Scans, Changed int64 }
	c, err := s.spent(ctx, true, func() error { return s.admin(ctx, http.MethodPost, "/rules/plan/replay", plan, &response) })
	if err == nil && response.Changed == 0 {
		err = fmt.Errorf("the plan changes none of %d scans", response.Scans)
	}
	return c, err
}

func (s *grownServer) verify(ctx context.Context) (cost, error) {
	var response struct {
		Changes int64
		Fault   json.RawMessage
	}
	c, err := s.spent(ctx, true, func() error { return s.admin(ctx, http.MethodPost, "/audit/verify", nil, &response) })
	if err == nil && (response.Fault != nil || response.Changes < int64(s.g.Rules+s.g.Changes)) {
		err = fmt.Errorf("%d changes verified, fault %s", response.Changes, response.Fault)
	}
	return c, err
}

func (s *grownServer) export(ctx context.Context) (cost, error) {
	file := filepath.Join(s.b.work, "grown-export.tar.gz")
	if need, free := s.stored(), freeBytes(s.b.work); free < 2*need+(4<<30) {
		return cost{}, notMeasured("the disk has %.0f GiB left, the archive and what is restored from it need up to %.0f",
			float64(free)/(1<<30), float64(2*need)/(1<<30))
	}
	f, err := os.Create(file)
	if err != nil {
		return cost{}, err
	}
	defer f.Close()
	c, err := s.readAll(ctx, http.MethodPost, "/export", fmt.Sprintf(`{"passphrase":%q}`, grownPassphrase), f)
	if err == nil {
		s.archive = file
	}
	return c, err
}

func (s *grownServer) archiveBytes(context.Context) (cost, error) {
	if s.archive == "" {
		return cost{}, notMeasured("there is no archive")
	}
	info, err := os.Stat(s.archive)
	if err != nil {
		return cost{}, err
	}
	return cost{value: float64(info.Size()) / float64(s.g.scanCount())}, nil
}

func (s *grownServer) restore(ctx context.Context) (cost, error) {
	if s.archive == "" {
		return cost{}, notMeasured("there is no archive")
	}
	into := filepath.Join(s.b.work, "grown-restored")
	defer os.RemoveAll(into)
	args := []string{"import", "--data", into, s.archive}
	if s.database != "" {
		if err := execPostgres(ctx, s.database, "CREATE DATABASE restored"); err != nil {
			return cost{}, err
		}
		defer execPostgres(ctx, s.database, "DROP DATABASE restored WITH (FORCE)")
		args = append(args, "--database", databaseURL(s.database, "restored"))
	}
	return s.runCommand(ctx, args...)
}

func (s *grownServer) recount(ctx context.Context) (cost, error) {
	if s.archive != "" {
		os.Remove(s.archive)
	}
	var response struct {
		Scans       int64
		Differences int64 `json:"difference_count"`
	}
	c, err := s.spent(ctx, true, func() error { return s.admin(ctx, http.MethodPost, "/statistics/recount", nil, &response) })
	if err == nil && (response.Differences != 0 || response.Scans < s.g.scanCount()) {
		err = fmt.Errorf("%d scans recounted, %d differences", response.Scans, response.Differences)
	}
	return c, err
}

func (s *grownServer) erase(ctx context.Context) (cost, error) {
	if s.user == len(s.g.Erasable) {
		return cost{}, notMeasured("all known users are erased")
	}
	user := s.g.Erasable[s.user]
	s.user++
	var response struct{ Scans int64 }
	c, err := s.spent(ctx, true, func() error { return s.admin(ctx, http.MethodDelete, "/users/"+user+"/scans", nil, &response) })
	if err == nil && response.Scans != scansOfUser+1 {
		err = fmt.Errorf("%d scans of a user were erased, want %d", response.Scans, scansOfUser+1)
	}
	return c, err
}

// stopAfterChange measures a shutdown of a server with unsaved changes.
func (s *grownServer) stopAfterChange(ctx context.Context) (cost, error) {
	err := s.upload(ctx, "/import/rules", func(w *bufio.Writer) error {
		_, err := fmt.Fprintf(w, `{"owner":%q,"prefix":"https://late.example/x","path":"pages/late/late","published":true}`+"\n", s.owner())
		return err
	})
	if err != nil {
		return cost{}, err
	}
	before, err := cpu(s.pid())
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	q := s.qrjump
	s.stop()
	total := q.cmd.ProcessState.UserTime() + q.cmd.ProcessState.SystemTime()
	return cost{max(0, (total - before).Seconds()), time.Since(began).Seconds()}, nil
}

// retention measures the removal of old scans, which begins a minute after the start.
func (s *grownServer) retention(ctx context.Context) (cost, error) {
	if s.qrjump == nil {
		if _, err := s.start(ctx); err != nil {
			return cost{}, err
		}
	}
	if err := s.admin(ctx, http.MethodPut, "/settings", fmt.Sprintf(`{"scan_retention_days":%d}`, s.g.Days/2), nil); err != nil {
		return cost{}, err
	}
	s.stop()
	if _, err := s.start(ctx); err != nil {
		return cost{}, err
	}
	// The feed begins with the scans of the erasable users, which are recent.
	oldest := func() (string, error) {
		var response struct {
			Scans []struct {
				OccurredAt string `json:"occurred_at"`
			}
		}
		err := s.admin(ctx, http.MethodGet, fmt.Sprintf("/scans?limit=%d", grownErased+1), nil, &response)
		if err != nil || len(response.Scans) == 0 {
			return "", err
		}
		return response.Scans[len(response.Scans)-1].OccurredAt, nil
	}
	first, err := oldest()
	if err != nil {
		return cost{}, err
	}
	time.Sleep(57 * time.Second)
	before, err := cpu(s.pid())
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	last, since, spent, wall := first, time.Now(), time.Duration(0), time.Duration(0)
	for limit := time.Now().Add(10 * time.Minute); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		now, err := oldest()
		if err != nil {
			return cost{}, err
		}
		if now != last {
			last, since = now, time.Now()
			if spent, err = cpu(s.pid()); err != nil {
				return cost{}, err
			}
			spent, wall = spent-before, time.Since(began)
		}
		if last != first && time.Since(since) > 3*time.Second || last == first && time.Since(began) > 15*time.Second &&
			s.engine == "SQLite" {
			break
		}
	}
	if last == first {
		return cost{}, notMeasured("nothing was removed, because a file of the scan log is removed as a whole and the oldest file " +
			"still has younger scans")
	}
	return cost{spent.Seconds(), wall.Seconds()}, nil
}

// stored returns the size of the data folder plus, on PostgreSQL, of the database in bytes.
func (s *grownServer) stored() (n int64) {
	filepath.WalkDir(s.data, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	if s.database != "" {
		var more int64
		if s.query(context.Background(), "SELECT pg_database_size(current_database())",
			func(scan func(...any) error) error { return scan(&more) }) == nil {
			n += more
		}
	}
	return n
}
