package store

import (
	"context"
	"database/sql"
	goflag "flag"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// tableSizes are the numbers of rows of the tables in TestStatements_CostIndependentOfTableSize. To measure:
// go test ./internal/store -run CostIndependentOfTableSize -v -grown 1000,10000,100000
var tableSizes = goflag.String("grown", "1000,10000", "how many rows the tables have, the fewest first")

// fillQueries add $1 rows to the tables that grow for years. The rows that frequentQueries find are among the oldest, the rarest, or the
// last in an order that is not that of a primary key.
var fillQueries = []string{
	// The first 20 changes have their own kind and actor, and so have a third of all before the rules and a fifth after them.
	`INSERT INTO changes (seq, occurred_at, kind, key, actor, via_component, rid, action, detail, hash)
		SELECT n, n, CASE WHEN n <= 20 THEN 'account' WHEN n <= $1 / 3 THEN 'webhook' WHEN n > $1 - $1 / 5 THEN 'link' ELSE 'rule' END,
			'k' || CAST(n AS TEXT), CASE WHEN n <= 20 THEN 'admin' WHEN n <= $1 / 3 THEN 'wxb' ELSE 'wxa' END,
			'', '', 'edit', '{}', 'h' FROM g`,
	`UPDATE audit_log_head SET seq = $1, hash = 'h'`,
	// Each rule has its own directory, all on one host.
	`INSERT INTO rules (id, key, kind, owner, target, prefix, path, occupy, open_version, test_links, published, created_at, updated_at,
			published_at, host, segment, link_path)
		SELECT n, 'https://h.example/d/' || CAST(n AS TEXT) || '/x', CASE WHEN n = 7 THEN 'service_rule' ELSE 'rule' END, 'wxa',
			CASE WHEN n % 2 = 0 THEN 'wxt' ELSE 'wxa' END, 'https://h.example/d/' || CAST(n AS TEXT) || '/x', 'p', 0, 1, 'null', 1, 1, 1, 1,
			'h.example', '/d', '/d/' || CAST(n AS TEXT) || '/x' FROM g`,
	// Checks fail for the last 20 rows only.
	`INSERT INTO domain_reverifications (owner, directory, prefix, checked_at, ok, reason, failing_since, next_check_at)
		SELECT CASE WHEN n > $1 - 20 THEN 'wxz' ELSE 'wxa' END, 'https://h.example/d/' || CAST(n AS TEXT) || '/', 'https://h.example/d/x', 1, 1,
			'', CASE WHEN n > $1 - 20 THEN 1 ELSE 0 END, 9000000000000 FROM g`,
	`INSERT INTO domain_verifications (rid, created_at, owner, prefix, url, ok, reason, steps)
		SELECT 'r' || CAST(n AS TEXT), n, CASE WHEN n <= 20 THEN 'wxo' ELSE 'wxa' END, 'p', 'u', 1, '', 'null' FROM g`,
	// Two webhooks have half of the deliveries each. All but 40 are delivered; those failed or wait.
	`INSERT INTO webhooks (id, url, secret, filter, enabled, first_scan_offset, first_alarm_id, created_at)
		SELECT n, 'https://hook.example', 's', '{"alarms":true}', 1, 0, 0, 1 FROM g WHERE n <= 2`,
	`INSERT INTO deliveries (id, webhook, event, body, created_at, attempts, next_attempt_at, sent_at, status, error, delivered_at)
		SELECT n, 1 + n % 2, 'e' || CAST(n AS TEXT), '{}', 1700000000000 + n, 1, CASE WHEN n <= 20 THEN 1769788800000 + 3600000 ELSE 0 END, 1,
			200, '', CASE WHEN n > 40 THEN 1 ELSE 0 END FROM g`,
}

// numberSeries defines table g with the numbers from 1 to $1.
const numberSeries = `WITH RECURSIVE g (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM g WHERE n < $1) `

// analyzeTables updates the statistics of PostgreSQL for tables, or for all tables, and disables autovacuum, so that plans do not depend on
// timing. On SQLite it does nothing.
func analyzeTables(t *testing.T, s *Store, tables ...string) {
	t.Helper()
	if s.Engine() != "postgres" {
		return
	}
	if len(tables) == 0 {
		for _, table := range schema {
			if table.name != "scan_events" { // the rows are in its partitions
				tables = append(tables, table.name)
			}
		}
	}
	var statements strings.Builder
	for _, table := range tables {
		statements.WriteString(`ALTER TABLE ` + table + ` SET (autovacuum_enabled = off);`)
	}
	mustExec(t, s, `DO $$ BEGIN `+statements.String()+` END $$`)
	vacuumTables(t, s, tables...)
}

// vacuumTables removes dead rows, which index scans would read again. PostgreSQL removes them only when no session can see them, including
// its own background sessions, which vacuumTables waits for.
func vacuumTables(t *testing.T, s *Store, tables ...string) {
	t.Helper()
	if s.Engine() != "postgres" || len(tables) == 0 {
		return
	}
	for queryInt(t, s, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		AND backend_xmin IS NOT NULL`) > 0 {
		runtime.Gosched()
	}
	mustExec(t, s, `VACUUM ANALYZE `+strings.Join(tables, ", "))
}

// readCost is a number of rows and pages that a database has read. The rows of SQLite are not counted.
type readCost struct{ rows, pages int64 }

func (c readCost) sub(before readCost) readCost {
	return readCost{c.rows - before.rows, c.pages - before.pages}
}

// measureReads returns the reads since the database was opened. The store must have one connection for reads and one for writes.
func measureReads(t *testing.T, s *Store) (r readCost) {
	t.Helper()
	if s.Engine() == "sqlite" {
		for _, db := range []*sql.DB{s.read, s.write} {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			err = conn.Raw(func(driver any) error {
				for _, op := range []sqlite.DBStatusOp{sqlite.DBStatusCacheHit, sqlite.DBStatusCacheMiss} {
					n, _, err := driver.(sqlite.DBStatus).Status(op, false)
					if err != nil {
						return err
					}
					r.pages += int64(n)
				}
				return nil
			})
			require.NoError(t, err)
			conn.Close()
		}
		return r
	}
	require.NoError(t, assert.ErrorOf(s.read.ExecContext(t.Context(), `SELECT pg_stat_force_next_flush()`)))
	r.pages = queryInt(t, s, `SELECT SUM(heap_blks_hit + heap_blks_read + COALESCE(idx_blks_hit + idx_blks_read, 0) +
		COALESCE(toast_blks_hit + toast_blks_read, 0))::bigint FROM pg_statio_user_tables WHERE schemaname = current_schema()`)
	r.rows = queryInt(t, s, `SELECT (SELECT SUM(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE schemaname = current_schema())
		+ (SELECT SUM(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = current_schema())`)
	return r
}

// frequentQueries are calls of the store that run often, and the number of rows that they return.
var frequentQueries = []struct {
	name string
	call func(ctx context.Context, s *Store, n int64) (found int, err error)
	want int
	// writes are the tables in which the call leaves dead rows.
	writes []string
}{
	{"a cycle of the webhook sender without due deliveries", func(ctx context.Context, s *Store, n int64) (int, error) {
		now := time.UnixMilli(1769788800000)
		err := s.view(ctx, func(tx *Tx) error {
			due, err := tx.webhooks().Receivers(ctx, outbox.Deliveries, now, 1000)
			if err != nil || len(due) > 0 {
				return fmt.Errorf("due: %v %w", due, err)
			}
			if _, err = tx.webhooks().CountForgettable(ctx, time.UnixMilli(1700000000000)); err != nil {
				return err
			}
			_, err = tx.webhooks().Webhooks(ctx)
			return err
		})
		if err == nil {
			_, err = s.LastAlarm(ctx)
		}
		return 0, err
	}, 0, nil},
	{"deliveries of a webhook", listDeliveries(outbox.Query{Receiver: "2", Limit: 100}), 100, nil},
	{"deliveries of a webhook, failed", listDeliveries(outbox.Query{Receiver: "2", State: outbox.Failed, Limit: 100}), 10, nil},
	{"deliveries of a webhook, pending", listDeliveries(outbox.Query{Receiver: "2", State: outbox.Pending, Limit: 100}), 10, nil},
	{"failed deliveries", listDeliveries(outbox.Query{State: outbox.Failed, Limit: 100}), 20, nil},
	{"pending deliveries", listDeliveries(outbox.Query{State: outbox.Pending, Limit: 100}), 20, nil},
	{"the audit log by kind", listEntries(auditlog.Query{Kind: "account", Limit: 100}), 20, nil},
	{"the audit log by kind, newest", listEntries(auditlog.Query{Kind: "account", Newest: true, Limit: 100}), 20, nil},
	{"the audit log by actor", listEntries(auditlog.Query{Actor: "admin", Limit: 100}), 20, nil},
	{"the audit log by actor, newest", listEntries(auditlog.Query{Actor: "admin", Newest: true, Limit: 100}), 20, nil},
	{"the audit log by the most frequent kind", listEntries(auditlog.Query{Kind: "rule", Newest: true, Limit: 100}), 100, nil},
	{"the audit log by a frequent kind whose entries are old, newest",
		listEntries(auditlog.Query{Kind: "webhook", Newest: true, Limit: 100}), 100, nil},
	{"the audit log by a frequent kind whose entries are recent", listEntries(auditlog.Query{Kind: "link", Limit: 100}), 100, nil},
	{"the audit log by a frequent actor whose entries are old, newest",
		listEntries(auditlog.Query{Actor: "wxb", Newest: true, Limit: 100}), 100, nil},
	{"the audit log by a frequent kind, a page in the middle", listMiddleEntries(auditlog.Query{Kind: "webhook", Limit: 100}), 100, nil},
	{"the audit log by a frequent kind, the page before the middle",
		listMiddleEntries(auditlog.Query{Kind: "webhook", Newest: true, Limit: 100}), 100, nil},
	{"the last changes, with their rules", func(ctx context.Context, s *Store, n int64) (int, error) {
		found, err := s.ChangesFrom(ctx, n-19, 1000)
		return len(found), err
	}, 20, nil},
	{"rules by target", listRules(rules.Query{Target: "wxt", NoTotal: true, Limit: 100}), 100, nil},
	{"rules by target, newest", listRules(rules.Query{Target: "wxt", NoTotal: true, Newest: true, Limit: 100}), 100, nil},
	{"count of service rules that open a Mini Program", func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			found, err = tx.rules().CountTargeted(ctx, "wxa")
			return err
		})
		return found, err
	}, 1, nil},
	{"rules of a host, up to a limit", func(ctx context.Context, s *Store, _ int64) (int, error) {
		found, err := s.RulesOfHost(ctx, "h.example", 100)
		return len(found), err
	}, 100, nil},
	{"failing rechecks", func(ctx context.Context, s *Store, _ int64) (int, error) {
		found, err := Rechecks{s}.List(ctx, rules.ReverificationQuery{Failing: true, Limit: 100})
		return len(found), err
	}, 20, nil},
	{"a recheck of a file whose rule is deleted", recheckDeletedRule("https://h.example/d/gone/", "https://h.example/d/gone/x"), 1,
		[]string{"domain_reverifications"}},
	{"a recheck of a file above all rules", recheckDeletedRule("https://h.example/", "https://h.example/gone"), 1,
		[]string{"domain_reverifications"}},
	{"confirmations by rid", listConfirmations(rules.VerificationQuery{RID: "r7", Limit: 100}), 1, nil},
	{"confirmations by owner", listConfirmations(rules.VerificationQuery{Owner: "wxo", Limit: 100}), 20, nil},
	{"events of a code", func(ctx context.Context, s *Store, n int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			list, err := tx.codes().EventsAt(ctx, 1, 10*(n/3)+5, 0, 1000)
			found = len(list)
			return err
		})
		return found, err
	}, 1, nil},
	{"the first events of a batch", func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		for _, err := range s.Events(ctx, 1, 0) {
			if found++; err != nil || found == 100 {
				return found, err
			}
		}
		return found, nil
	}, 100, nil},
}

// countInView returns a call of frequentQueries that returns the number of elements that list returns in a transaction.
func countInView[T any](list func(ctx context.Context, tx *Tx) ([]T, error)) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			rows, err := list(ctx, tx)
			found = len(rows)
			return err
		})
		return found, err
	}
}

func listDeliveries(q outbox.Query) func(context.Context, *Store, int64) (int, error) {
	return countInView(func(ctx context.Context, tx *Tx) ([]outbox.Row, error) {
		return tx.webhooks().Rows(ctx, outbox.Deliveries, q)
	})
}

func listEntries(q auditlog.Query) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (int, error) {
		list, err := s.Entries(ctx, q)
		return len(list), err
	}
}

// listMiddleEntries lists the entries from the middle of the first third of the audit log.
func listMiddleEntries(q auditlog.Query) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, n int64) (int, error) {
		q := q
		if q.After = n / 6; q.Newest {
			q.After, q.Before = 0, n/6
		}
		found, err := s.Entries(ctx, q)
		for i, entry := range found {
			want := q.After + 1 + int64(i)
			if q.Newest {
				want = q.Before - 1 - int64(i)
			}
			if entry.Seq != want {
				return i, fmt.Errorf("seq of entry %d = %d, want %d", i, entry.Seq, want)
			}
		}
		return len(found), err
	}
}

func listRules(q rules.Query) func(context.Context, *Store, int64) (int, error) {
	return countInView(func(ctx context.Context, tx *Tx) ([]rules.Rule, error) {
		list, _, err := tx.rules().List(ctx, q)
		return list, err
	})
}

func listConfirmations(q rules.VerificationQuery) func(context.Context, *Store, int64) (int, error) {
	return countInView(func(ctx context.Context, tx *Tx) ([]rules.Confirmation, error) {
		return tx.rules().Confirmations(ctx, q)
	})
}

// recheckDeletedRule checks the file of a rule that was deleted, in a directory without another rule.
func recheckDeletedRule(directory, prefix string) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (int, error) {
		// The row without an owner is not due, so that no rule is read for new directories.
		err := Rechecks{s}.Add(ctx, []rules.Reverification{{Owner: "wxa", Directory: directory, Prefix: prefix, NextAt: t0},
			{NextAt: t0.Add(time.Hour)}})
		if err != nil {
			return 0, err
		}
		r := rules.Verifier{Store: Rechecks{s}, Log: slog.New(slog.DiscardHandler),
			Service: &rules.Service{Store: s, Now: func() time.Time { return t0 }}}
		return r.RunDue(ctx, 1)
	}
}

// TestStatements_CostIndependentOfTableSize runs frequentQueries with small and large tables and compares the rows and pages that the
// database reads.
func TestStatements_CostIndependentOfTableSize(t *testing.T) {
	var sizes []int64
	for size := range strings.SplitSeq(*tableSizes, ",") {
		n := require.Value(strconv.ParseInt(size, 10, 64))(t)
		sizes = append(sizes, n)
	}
	dbtest.ForEachDatabase(t, dbtest.Server, func(t *testing.T, server string) {
		costs := make([][]readCost, len(frequentQueries))
		for _, size := range sizes {
			target := newEmbedded(t)
			if server != "" {
				target = newPostgres(t)
			}
			s := open(t, target)
			s.read.SetMaxOpenConns(1)
			for _, query := range fillQueries {
				if insert, rows, ok := strings.Cut(query, "SELECT"); ok && strings.Contains(query, "FROM g") {
					query = insert + numberSeries + "SELECT" + rows
				}
				mustExec(t, s, query, size)
			}
			// Activations of ten codes each, which do not overlap.
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.insertMany(ctx, `INSERT INTO code_events (`+eventColumns+`)`, ``, 12, int(size), func(i int, args []any) []any {
					r := codes.Range{From: 10 * int64(i), To: 10*int64(i) + 9}
					return append(args, i+1, 1, "activate", r.From, r.To, codes.NewSet(r).Encode(), `{}`, i, i, "a", "", "")
				})
			})
			analyzeTables(t, s)
			for i, q := range frequentQueries {
				call := func() {
					found, err := q.call(t.Context(), s, size)
					assert.True(t, err == nil && found == q.want, "%s with %d rows = %d, %v, want %d", q.name, size, found, err, q.want)
				}
				// The first call reads the schema too. After some calls PostgreSQL may switch to a generic plan, as it does for
				// statements that run every second.
				for range 8 {
					call()
				}
				vacuumTables(t, s, q.writes...)
				before, began := measureReads(t, s), time.Now()
				call()
				took, cost := time.Since(began), measureReads(t, s).sub(before)
				costs[i] = append(costs[i], cost)
				t.Logf("| %s | %s | %d | %d rows | %d pages | %.3f ms |", s.Engine(), q.name, size, cost.rows, cost.pages,
					float64(took.Microseconds())/1000)
			}
		}
		for i, q := range frequentQueries {
			first, last := costs[i][0], costs[i][len(sizes)-1]
			// The index of a larger table has another level, and the plan may differ.
			if last.rows > 2*first.rows+50 || last.pages > 2*first.pages+50 {
				t.Errorf("%s reads %d rows and %d pages with %d rows, and %d rows and %d pages with %d rows", q.name, first.rows,
					first.pages, sizes[0], last.rows, last.pages, sizes[len(sizes)-1])
			}
		}
	})
}
