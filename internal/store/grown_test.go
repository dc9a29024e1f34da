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

// grownSizes are how many rows the tables have of which TestWhatIsAskedOften asks. To
// measure: go test ./internal/store -run WhatIsAskedOften -v -grown 1000,10000,100000
var grownSizes = goflag.String("grown", "1000,10000", "how many rows the tables have, the fewest first")

// grownRows fills the tables that grow for years with $1 rows: what is asked for is
// among the oldest, the rarest, or at the end of an order that no primary key has.
var grownRows = []string{
	// Of the log of changes the first 20 are of another kind and actor; so are a third of all, before all rules, and a fifth behind them.
	`INSERT INTO changes (seq, occurred_at, kind, key, actor, via_component, rid, action, detail, hash)
		SELECT n, n, CASE WHEN n <= 20 THEN 'account' WHEN n <= $1 / 3 THEN 'webhook' WHEN n > $1 - $1 / 5 THEN 'link' ELSE 'rule' END,
			'k' || CAST(n AS TEXT), CASE WHEN n <= 20 THEN 'admin' WHEN n <= $1 / 3 THEN 'wxb' ELSE 'wxa' END,
			'', '', 'edit', '{}', 'h' FROM g`,
	`UPDATE audit_log_head SET seq = $1, hash = 'h'`,
	// Each rule has a directory of its own, under one host.
	`INSERT INTO rules (id, key, kind, owner, target, prefix, path, occupy, open_version, test_links, published, created_at, updated_at,
			published_at, host, segment, link_path)
		SELECT n, 'https://h.example/d/' || CAST(n AS TEXT) || '/x', CASE WHEN n = 7 THEN 'service_rule' ELSE 'rule' END, 'wxa',
			CASE WHEN n % 2 = 0 THEN 'wxt' ELSE 'wxa' END, 'https://h.example/d/' || CAST(n AS TEXT) || '/x', 'p', 0, 1, 'null', 1, 1, 1, 1,
			'h.example', '/d', '/d/' || CAST(n AS TEXT) || '/x' FROM g`,
	// A file is missing of the last of its owners alone.
	`INSERT INTO domain_reverifications (owner, directory, prefix, checked_at, ok, reason, failing_since, next_check_at)
		SELECT CASE WHEN n > $1 - 20 THEN 'wxz' ELSE 'wxa' END, 'https://h.example/d/' || CAST(n AS TEXT) || '/', 'https://h.example/d/x', 1, 1,
			'', CASE WHEN n > $1 - 20 THEN 1 ELSE 0 END, 9000000000000 FROM g`,
	`INSERT INTO domain_verifications (rid, created_at, owner, prefix, url, ok, reason, steps)
		SELECT 'r' || CAST(n AS TEXT), n, CASE WHEN n <= 20 THEN 'wxo' ELSE 'wxa' END, 'p', 'u', 1, '', 'null' FROM g`,
	// Two webhooks have a half each; all but 40 were delivered; those failed or wait until later.
	`INSERT INTO webhooks (id, url, secret, filter, enabled, first_scan_offset, first_alarm_id, created_at)
		SELECT n, 'https://hook.example', 's', '{"alarms":true}', 1, 0, 0, 1 FROM g WHERE n <= 2`,
	`INSERT INTO deliveries (id, webhook, event, body, created_at, attempts, next_attempt_at, sent_at, status, error, delivered_at)
		SELECT n, 1 + n % 2, 'e' || CAST(n AS TEXT), '{}', 1700000000000 + n, 1, CASE WHEN n <= 20 THEN 1769788800000 + 3600000 ELSE 0 END, 1,
			200, '', CASE WHEN n > 40 THEN 1 ELSE 0 END FROM g`,
}

const series = `WITH RECURSIVE g (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM g WHERE n < $1) `

// settled updates PostgreSQL's statistics of some tables, or of all if none is named, and turns off automatic updates, so that plans depend
// on the test alone. On SQLite, settled does nothing.
func settled(t *testing.T, s *Store, tables ...string) {
	t.Helper()
	if s.Engine() != "postgres" {
		return
	}
	if len(tables) == 0 {
		for _, table := range schema {
			if table.name != "scan_events" { // its parts alone have rows
				tables = append(tables, table.name)
			}
		}
	}
	var hands strings.Builder
	for _, table := range tables {
		hands.WriteString(`ALTER TABLE ` + table + ` SET (autovacuum_enabled = off);`)
	}
	require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), `DO $$ BEGIN `+hands.String()+` END $$`)))
	swept(t, s, tables...)
}

// swept removes from tables what no row has any more. PostgreSQL does so only when no session of the database, such as one of its
// own that takes statistics of a catalog, may still see it; until then each look by an index reads it again.
func swept(t *testing.T, s *Store, tables ...string) {
	t.Helper()
	if s.Engine() != "postgres" || len(tables) == 0 {
		return
	}
	for number(t, s, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		AND backend_xmin IS NOT NULL`) > 0 {
		runtime.Gosched()
	}
	require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), `VACUUM ANALYZE `+strings.Join(tables, ", "))))
}

// read is how many rows and pages a database has read for anybody since it was opened.
type read struct{ rows, pages int64 }

// reads tells it. The store has one connection of each sort.
func reads(t *testing.T, s *Store) (r read) {
	t.Helper()
	if s.Engine() == "sqlite" {
		for _, db := range []*sql.DB{s.read, s.write} {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			err = conn.Raw(func(driver any) error {
				for _, of := range []sqlite.DBStatusOp{sqlite.DBStatusCacheHit, sqlite.DBStatusCacheMiss} {
					n, _, err := driver.(sqlite.DBStatus).Status(of, false)
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
	r.pages = number(t, s, `SELECT SUM(heap_blks_hit + heap_blks_read + COALESCE(idx_blks_hit + idx_blks_read, 0) + COALESCE(toast_blks_hit + toast_blks_read, 0))::bigint
		FROM pg_statio_user_tables WHERE schemaname = current_schema()`)
	r.rows = number(t, s, `SELECT (SELECT SUM(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE schemaname = current_schema())
		+ (SELECT SUM(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = current_schema())`)
	return r
}

// grownAsks are what is asked often, by those that ask it.
var grownAsks = []struct {
	name string
	ask  func(ctx context.Context, s *Store, n int64) (found int, err error)
	want int
	// writes are the tables that it changes: what was there before is read no more.
	writes []string
}{
	{"a second of a webhook in which nothing is due", func(ctx context.Context, s *Store, n int64) (int, error) {
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
	{"deliveries of a webhook", deliveriesOf(outbox.Query{Receiver: "2", Limit: 100}), 100, nil},
	{"deliveries of a webhook, failed", deliveriesOf(outbox.Query{Receiver: "2", State: outbox.Failed, Limit: 100}), 10, nil},
	{"deliveries of a webhook, waiting", deliveriesOf(outbox.Query{Receiver: "2", State: outbox.Pending, Limit: 100}), 10, nil},
	{"deliveries that failed", deliveriesOf(outbox.Query{State: outbox.Failed, Limit: 100}), 20, nil},
	{"deliveries that wait", deliveriesOf(outbox.Query{State: outbox.Pending, Limit: 100}), 20, nil},
	{"the audit log by kind", entriesOf(auditlog.Query{Kind: "account", Limit: 100}), 20, nil},
	{"the audit log by kind, newest", entriesOf(auditlog.Query{Kind: "account", Newest: true, Limit: 100}), 20, nil},
	{"the audit log by actor", entriesOf(auditlog.Query{Actor: "admin", Limit: 100}), 20, nil},
	{"the audit log by actor, newest", entriesOf(auditlog.Query{Actor: "admin", Newest: true, Limit: 100}), 20, nil},
	{"the audit log by the kind of most", entriesOf(auditlog.Query{Kind: "rule", Newest: true, Limit: 100}), 100, nil},
	{"the audit log by a kind of many, all of them old, newest",
		entriesOf(auditlog.Query{Kind: "webhook", Newest: true, Limit: 100}), 100, nil},
	{"the audit log by a kind of many, all of them young", entriesOf(auditlog.Query{Kind: "link", Limit: 100}), 100, nil},
	{"the audit log by an actor of much, all of it old, newest",
		entriesOf(auditlog.Query{Actor: "wxb", Newest: true, Limit: 100}), 100, nil},
	{"the audit log by a kind of many, a page in its middle", entriesOfMiddle(auditlog.Query{Kind: "webhook", Limit: 100}), 100, nil},
	{"the audit log by a kind of many, the page before its middle",
		entriesOfMiddle(auditlog.Query{Kind: "webhook", Newest: true, Limit: 100}), 100, nil},
	{"the last changes, with their rules", func(ctx context.Context, s *Store, n int64) (int, error) {
		found, err := s.ChangesFrom(ctx, n-19, 1000)
		return len(found), err
	}, 20, nil},
	{"rules by target", listOf(rules.Query{Target: "wxt", NoTotal: true, Limit: 100}), 100, nil},
	{"rules by target, newest", listOf(rules.Query{Target: "wxt", NoTotal: true, Newest: true, Limit: 100}), 100, nil},
	{"rules of service accounts that open a program", func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			found, err = tx.rules().CountTargeted(ctx, "wxa")
			return err
		})
		return found, err
	}, 1, nil},
	{"rules of a host, too many for a file of links", func(ctx context.Context, s *Store, _ int64) (int, error) {
		found, err := s.RulesOfHost(ctx, "h.example", 100)
		return len(found), err
	}, 100, nil},
	{"failing rechecks", func(ctx context.Context, s *Store, _ int64) (int, error) {
		found, err := Rechecks{s}.List(ctx, rules.ReverificationQuery{Failing: true, Limit: 100})
		return len(found), err
	}, 20, nil},
	{"a recheck of a file whose rule is gone", recheckGone("https://h.example/d/gone/", "https://h.example/d/gone/x"), 1,
		[]string{"domain_reverifications"}},
	{"a recheck of a file above all rules", recheckGone("https://h.example/", "https://h.example/gone"), 1,
		[]string{"domain_reverifications"}},
	{"confirmations by rid", confirmationsOf(rules.VerificationQuery{RID: "r7", Limit: 100}), 1, nil},
	{"confirmations by owner", confirmationsOf(rules.VerificationQuery{Owner: "wxo", Limit: 100}), 20, nil},
	{"what happened to a code", func(ctx context.Context, s *Store, n int64) (found int, err error) {
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

func deliveriesOf(q outbox.Query) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			list, err := tx.webhooks().Rows(ctx, outbox.Deliveries, q)
			found = len(list)
			return err
		})
		return found, err
	}
}

func entriesOf(q auditlog.Query) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (int, error) {
		list, err := s.Entries(ctx, q)
		return len(list), err
	}
}

// entriesOfMiddle asks on from the middle of the first third.
func entriesOfMiddle(q auditlog.Query) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, n int64) (int, error) {
		q := q
		if q.After = n / 6; q.Newest {
			q.After, q.Before = 0, n/6
		}
		found, err := s.Entries(ctx, q)
		for i, one := range found {
			if next := q.Before - 1 - int64(i); q.Newest && one.Seq != next {
				return i, fmt.Errorf("change %d is where %d is to be", one.Seq, next)
			}
			if next := q.After + 1 + int64(i); !q.Newest && one.Seq != next {
				return i, fmt.Errorf("change %d is where %d is to be", one.Seq, next)
			}
		}
		return len(found), err
	}
}

func listOf(q rules.Query) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			list, _, err := tx.rules().List(ctx, q)
			found = len(list)
			return err
		})
		return found, err
	}
}

func confirmationsOf(q rules.VerificationQuery) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (found int, err error) {
		err = s.view(ctx, func(tx *Tx) error {
			list, err := tx.rules().Confirmations(ctx, q)
			found = len(list)
			return err
		})
		return found, err
	}
}

// recheckGone looks at a file whose rule was deleted, and finds no other in its place.
func recheckGone(directory, prefix string) func(context.Context, *Store, int64) (int, error) {
	return func(ctx context.Context, s *Store, _ int64) (int, error) {
		// The row without an owner is not due, so that no rule is looked at for new directories.
		err := Rechecks{s}.Add(ctx, []rules.Reverification{{Owner: "wxa", Directory: directory, Prefix: prefix, NextAt: at},
			{NextAt: at.Add(time.Hour)}})
		if err != nil {
			return 0, err
		}
		r := rules.Verifier{Store: Rechecks{s}, Log: slog.New(slog.DiscardHandler),
			Service: &rules.Service{Store: s, Now: func() time.Time { return at }}}
		return r.RunDue(ctx, 1)
	}
}

// What is asked often reads no more of tables that have grown: each statement is asked as its callers ask it, of tables with ten times the
// rows of before, and the rows and the pages that the database read are counted. (Issue 14.)
func TestStatements_CostIndependentOfTableSize(t *testing.T) {
	var sizes []int64
	for size := range strings.SplitSeq(*grownSizes, ",") {
		n, err := strconv.ParseInt(size, 10, 64)
		require.NoError(t, err)
		sizes = append(sizes, n)
	}
	dbtest.OnEach(t, dbtest.Server, func(t *testing.T, server string) {
		costs := make([][]read, len(grownAsks))
		for _, size := range sizes {
			target := newEmbedded(t)
			if server != "" {
				target = newPostgres(t) // of its own: nobody else looks at anything there
			}
			s := open(t, target)
			s.read.SetMaxOpenConns(1)
			for _, query := range grownRows {
				if into, from, of := strings.Cut(query, "\n"); of && strings.Contains(query, "FROM g") {
					query = into + "\n" + from
					at := strings.Index(query, "SELECT")
					query = query[:at] + series + query[at:]
				}
				require.NoErrorf(t, assert.ErrorOf(s.write.ExecContext(t.Context(), query, size)), "%s", query)
			}
			// Activations stand side by side, ten codes each.
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.insertMany(ctx, `INSERT INTO code_events (`+eventColumns+`)`, ``, 12, int(size), func(i int, args []any) []any {
					r := codes.Range{From: 10 * int64(i), To: 10*int64(i) + 9}
					return append(args, i+1, 1, "activate", r.From, r.To, codes.NewSet(r).Encode(), `{}`, i, i, "a", "", "")
				})
			})
			settled(t, s)
			for i, of := range grownAsks {
				ask := func() {
					found, err := of.ask(t.Context(), s, size)
					assert.True(t, err == nil && found == of.want,
						"%s of %d rows: found %d, want %d: %v", of.name, size, found, of.want, err)
				}
				// The first reads the schema, too. After some, PostgreSQL may make one plan for
				// all, whatever is asked for, as it does for what is asked each second.
				for range 8 {
					ask()
				}
				swept(t, s, of.writes...)
				before, began := reads(t, s), time.Now()
				ask()
				took, after := time.Since(began), reads(t, s)
				costs[i] = append(costs[i], read{after.rows - before.rows, after.pages - before.pages})
				t.Logf("| %s | %s | %d | %d rows | %d pages | %.3f ms |", s.Engine(), of.name, size, costs[i][len(costs[i])-1].rows,
					costs[i][len(costs[i])-1].pages, float64(took.Microseconds())/1000)
			}
		}
		for i, of := range grownAsks {
			first, last := costs[i][0], costs[i][len(sizes)-1]
			// A tree of ten times the rows is a page higher, and a plan may be another.
			if last.rows > 2*first.rows+50 || last.pages > 2*first.pages+50 {
				t.Errorf("%s: of %d rows %d rows and %d pages were read, of %d rows %d rows and %d pages", of.name, sizes[0], first.rows,
					first.pages, sizes[len(sizes)-1], last.rows, last.pages)
			}
		}
	})
}
