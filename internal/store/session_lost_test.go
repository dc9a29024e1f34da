package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPostgresSession_Terminated terminates the session at several points of a transaction. The transaction is repeated in another session,
// unless its commit was sent or rows were returned; an idempotent transaction is repeated then too.
func TestPostgresSession_Terminated(t *testing.T) {
	target := newPostgres(t)
	s := open(t, target)
	ctx := t.Context()
	note := func(tx *Tx) error { return tx.note(ctx, ofMeta, "x", "put", nil) }
	stalled := false
	for name, c := range map[string]struct {
		run       func(context.Context, func(*Tx) error) error
		f         func(tx *Tx, end func()) error
		runs      int
		condition string // of the outage, "" for no error
	}{
		"before a read": {s.view, func(tx *Tx, end func()) error {
			end()
			var n int
			return tx.row(ctx, `SELECT 1`).Scan(&n)
		}, 2, ""},
		"during a read that streams its rows": {s.view, func(tx *Tx, end func()) error {
			if err := tx.DisableTimeout(ctx); err != nil {
				return err
			}
			end()
			var n int
			return tx.row(ctx, `SELECT 1`).Scan(&n)
		}, 1, "ended the session"},
		"before a change is written": {s.update, func(tx *Tx, end func()) error {
			end()
			return note(tx)
		}, 2, ""},
		"before the queued statements are sent": {s.update, func(tx *Tx, end func()) error {
			err := errors.Join(note(tx), tx.lockHead(ctx))
			end()
			return err
		}, 2, ""},
		"before the commit": {s.update, func(tx *Tx, end func()) error {
			err := errors.Join(note(tx), tx.writeQueued(ctx))
			tx.moved = false // no statement is sent before the commit
			end()
			return err
		}, 1, "ended the session"},
		"by the idle timeout before the commit": {s.update, func(tx *Tx, end func()) error {
			if stalled {
				return note(tx)
			}
			stalled = true
			err := errors.Join(note(tx), tx.writeQueued(ctx))
			tx.moved = false // no statement is sent before the commit
			var pid int
			require.NoError(t, tx.row(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
			require.NoError(t, assert.ErrorOf(tx.exec(t.Context(), `SET LOCAL idle_in_transaction_session_timeout = '1ms'`)))
			conn := connectAdmin(t, target)
			for sessions := 1; sessions > 0; {
				query := `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`
				require.NoError(t, conn.QueryRow(t.Context(), query, pid).Scan(&sessions))
			}
			return err
		}, 2, ""},
		"before the commit of an idempotent transaction": {s.update, func(tx *Tx, end func()) error {
			tx.MarkIdempotent()
			_, err := tx.exec(ctx, `UPDATE meta SET value = value`)
			end()
			return err
		}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			err := c.run(ctx, func(tx *Tx) error {
				runs++
				return c.f(tx, func() {
					if runs == 1 {
						var pid int
						require.NoError(t, tx.row(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
						mustExecConn(t, connectAdmin(t, target), fmt.Sprintf(`SELECT pg_terminate_backend(%d, 600000)`, pid))
					}
				})
			})
			assert.Equal(t, runs, c.runs, "runs of a transaction with error %v", err)
			outage, ok := errors.AsType[*errcode.Unavailable](err)
			assert.True(t, (c.condition != "" || err == nil) &&
				(c.condition == "" || ok && (outage.Condition == c.condition || outage.Condition == silentDatabase)),
				"error = %v, want an outage that %q", err, c.condition)
		})
	}
	check(t, "changes", queryInt(t, s, `SELECT count(*) FROM changes`), 3)
	// An error of the closure is not an error of the session.
	runs := 0
	err := s.view(ctx, func(*Tx) error { runs++; return io.EOF })
	assert.True(t, errors.Is(err, io.EOF) && runs == 1, "view() = %v after %d runs, want EOF after 1", err, runs)
}

// TestPostgresSession_PagesInterrupted terminates the session that has read a page. The iteration continues in another session.
func TestPostgresSession_PagesInterrupted(t *testing.T) {
	target := newPostgres(t)
	s := open(t, target)
	ctx := t.Context()
	for name, terminateAt := range map[string]int{"first page": 10, "later page": 1500} {
		t.Run(name, func(t *testing.T) {
			sessions, ended, got := map[int]bool{}, 0, 0
			for n, err := range pages(ctx, s, 100, func(tx *Tx, last, limit int) ([]int, error) {
				return list(ctx, tx, func(row func(...any) error) (n int, err error) {
					var pid int
					if err = row(&n, &pid); err == nil && n == terminateAt && ended == 0 {
						ended = pid
						mustExecConn(t, connectAdmin(t, target), fmt.Sprintf(`SELECT pg_terminate_backend(%d, 600000)`, pid))
					}
					sessions[pid] = true
					return n, err
				}, `SELECT n, pg_backend_pid() FROM generate_series($1::int + 1, 5000) AS n ORDER BY n LIMIT $2`, last, limit)
			}) {
				got++
				require.NoError(t, err)
				require.Equal(t, n, got, "row")
			}
			assert.True(t, got == 5000 && ended != 0 && len(sessions) > 1, "%d rows in %d sessions, want 5000 rows in several sessions",
				got, len(sessions))
		})
	}
}

// TestPostgresSession_IdleInTransactionTimeout verifies the timeouts of sessions that are idle in a transaction or do not receive a result,
// for usual transactions, reads that stream their rows, and transactions that block all others. The URL can set other timeouts.
func TestPostgresSession_IdleInTransactionTimeout(t *testing.T) {
	target := newPostgres(t)
	for url, c := range map[string]struct{ usual, bulk, all string }{"": {"15s", "5min", "5s"}, "7s": {"7s", "7s", "7s"}} {
		s := open(t, withOption(target, idleTimeout, url))
		for name, tt := range map[string]struct {
			begin        func(*Tx) error
			idle, silent string
		}{
			"any":                   {func(*Tx) error { return nil }, c.usual, "60000"},
			"a change of one owner": {func(tx *Tx) error { return tx.LockOwner(t.Context(), "wxa") }, c.usual, "60000"},
			"an import of rules":    {func(tx *Tx) error { return tx.LockRules(t.Context()) }, c.usual, "60000"},
			"an import of accounts": {func(tx *Tx) error { return tx.LockAccounts(t.Context()) }, c.usual, "60000"},
			"an import of codes": {func(tx *Tx) error {
				_, err := tx.codes().AddImported(t.Context(), nil)
				return err
			}, c.usual, "60000"},
			"the head of the audit log": {func(tx *Tx) error { return tx.lockHead(t.Context()) }, c.all, "60000"},
			"the end of an import":      {func(tx *Tx) error { return tx.accounts().LockForShow(t.Context()) }, c.all, "60000"},
			"an export, a recount":      {func(tx *Tx) error { return tx.DisableTimeout(t.Context()) }, c.bulk, "300000"},
			"all rules": {func(tx *Tx) error {
				_, err := tx.rules().allRules(t.Context(), func(rules.Rule, error) bool { return true })
				return err
			}, c.bulk, "300000"},
			"a later transaction": {func(*Tx) error { return nil }, c.usual, "60000"},
		} {
			update(t, s, func(ctx context.Context, tx *Tx) error {
				if err := tt.begin(tx); err != nil {
					return err
				}
				for setting, wanted := range map[string]string{idleTimeout: tt.idle, silentNodeTimeout: tt.silent} {
					var got string
					if err := tx.row(ctx, `SHOW `+setting).Scan(&got); err != nil {
						return err
					}
					check(t, name+": "+setting, got, wanted)
				}
				return nil
			})
		}
	}
}

// TestPing_WritesFail verifies that Ping reports failed changes until changes succeed again, and that it writes nothing if no change
// failed.
func TestPing_WritesFail(t *testing.T) {
	target := newPostgres(t)
	s := open(t, withOption(target, "lock_timeout", "50ms"))
	ctx := t.Context()
	change := func() error { return s.Note(ctx, ofMeta, "x", "put", nil) }
	require.NoError(t, change())
	lastWriter := func() int64 { return queryInt(t, s, `SELECT xmin::text::bigint FROM audit_log_head`) }
	before := lastWriter()
	for range 3 {
		assert.NoError(t, s.Ping(ctx))
	}
	check(t, "last transaction that wrote the head", lastWriter(), before)

	locker := connectAdmin(t, target)
	mustExecConn(t, locker, `BEGIN`)
	mustExecConn(t, locker, `SELECT 1 FROM audit_log_head FOR UPDATE`)
	assert.NoErrorf(t, s.Ping(ctx), "Ping() before a change fails")
	for range 2 {
		checkOutage(t, change(), "did not grant a lock in time")
		assert.NoErrorf(t, s.Ping(ctx), "Ping() while another transaction holds the lock")
	}
	// A recorded failure of another kind remains recorded while the lock prevents the probe.
	s.health.record(&errcode.Unavailable{Condition: silentDatabase, Err: io.EOF})
	if err := s.Ping(ctx); err != nil || s.health.last.Load() == nil {
		t.Errorf("Ping() = %v while another transaction holds the lock, or the failure is not recorded", err)
	}
	mustExecConn(t, locker, `ROLLBACK`)
	assert.NoErrorf(t, s.Ping(ctx), "Ping() after the lock is released")
	before = lastWriter()
	err := s.Ping(ctx)
	assert.True(t, err == nil && lastWriter() == before, "second Ping() = %v, or it writes", err)
	// After a full disk, the probe also checks for free space.
	for _, condition := range []string{fullDatabase, unwritableDatabase} {
		s.health.record(&errcode.Unavailable{Condition: condition, Err: io.EOF})
		assert.NoErrorf(t, s.Ping(ctx), "Ping() after a failure that %s", condition)
	}
}

// TestRoom_WritesToDisk verifies that the check for free space writes a temporary file.
func TestRoom_WritesToDisk(t *testing.T) {
	s := open(t, newPostgres(t))
	err := s.view(t.Context(), func(tx *Tx) error {
		if _, err := tx.exec(t.Context(), `SET LOCAL temp_file_limit = '64kB'`); err != nil {
			return err
		}
		return s.engine.room(t.Context(), tx)
	})
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	assert.True(t, ok && pgErr.Code == "53400", "room() = %v, want the error of temp_file_limit", err)
}

// TestCommit_FailureIgnoresReusedConnection verifies the error of a failed commit while the pool has already given its connection to
// another transaction.
func TestCommit_FailureIgnoresReusedConnection(t *testing.T) {
	target := newPostgres(t)
	target.URL += "&pool_max_conns=4"
	s := open(t, target)
	ctx := t.Context()
	refused := errors.New("refused")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				err := s.update(ctx, func(tx *Tx) error {
					return tx.execQueued(ctx, func(int64) error { return refused }, `UPDATE meta SET value = value WHERE name = 'none'`)
				})
				assert.ErrorIs(t, err, refused, "a change that fails at its commit")
			}
		})
	}
	all.Wait()
}

// TestPostgresSession_UnreadResultTimeout verifies that PostgreSQL ends the session of a node that stops reading a result of 100 MB, over
// TCP.
func TestPostgresSession_UnreadResultTimeout(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	if u, err := url.Parse(target.URL); err != nil || strings.HasPrefix(u.Host, "/") || u.Host == "" {
		t.Skip("the tests' server is not reached over TCP")
	}
	s, others := open(t, withOption(target, silentNodeTimeout, "1s")), open(t, target)
	failed := errors.New("the session ended")
	err := s.view(t.Context(), func(tx *Tx) error {
		var pid int64
		if err := tx.row(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		rows, err := tx.query(t.Context(), `SELECT repeat('x', 10000) FROM generate_series(1, 10000)`)
		if err != nil {
			return err
		}
		defer rows.Close()
		rows.Next()
		for queryInt(t, others, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) > 0 {
		}
		return failed
	})
	require.True(t, errors.Is(err, failed), "%v", err)
}
