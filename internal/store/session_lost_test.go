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

// end ends the session of a transaction, as an operator does.
func end(t *testing.T, target Target, tx *Tx) {
	t.Helper()
	var pid int
	require.NoError(t, tx.row(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
	mustDo(t, admin(t, target), fmt.Sprintf(`SELECT pg_terminate_backend(%d, 600000)`, pid))
}

// Issue 12, 11: what had no effect yet is done on another session; a commit that was sent is not sent again.
func TestPostgresSession_Terminated(t *testing.T) {
	target := newPostgres(t)
	s := open(t, target)
	ctx := t.Context()
	note := func(tx *Tx) error { return tx.note(ctx, ofMeta, "x", "put", nil) }
	stood := false
	for name, c := range map[string]struct {
		do   func(context.Context, func(*Tx) error) error
		f    func(tx *Tx, end func()) error
		runs int
		what string // of the outage; "" = none
	}{
		"before a read": {s.view, func(tx *Tx, end func()) error {
			end()
			var n int
			return tx.row(ctx, `SELECT 1`).Scan(&n)
		}, 2, ""},
		"while something is read that is handed out on the way": {s.view, func(tx *Tx, end func()) error {
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
		"when all is written but what goes out before the commit": {s.update, func(tx *Tx, end func()) error {
			err := errors.Join(note(tx), tx.lockHead(ctx))
			end()
			return err
		}, 2, ""},
		"when the commit is sent": {s.update, func(tx *Tx, end func()) error {
			err := errors.Join(note(tx), tx.writeQueued(ctx))
			tx.moved = false // nothing is left to be said before the commit
			end()
			return err
		}, 1, "ended the session"},
		"because it stood still before the commit was sent": {s.update, func(tx *Tx, end func()) error {
			if stood {
				return note(tx)
			}
			stood = true
			err := errors.Join(note(tx), tx.writeQueued(ctx))
			tx.moved = false // nothing is left to be said before the commit
			var pid int
			require.NoError(t, tx.row(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
			require.NoError(t, assert.ErrorOf(tx.exec(t.Context(), `SET LOCAL idle_in_transaction_session_timeout = '1ms'`)))
			other := admin(t, target)
			for gone := 1; gone > 0; {
				require.NoError(t, other.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&gone))
			}
			return err
		}, 2, ""},
		"when the commit is sent of what may be done twice": {s.update, func(tx *Tx, end func()) error {
			tx.MarkIdempotent()
			_, err := tx.exec(ctx, `UPDATE meta SET value = value`)
			end()
			return err
		}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			err := c.do(ctx, func(tx *Tx) error {
				runs++
				return c.f(tx, func() {
					if runs == 1 {
						end(t, target, tx)
					}
				})
			})
			assert.True(t, runs == c.runs, "%d runs, want %d: %v", runs, c.runs, err)
			out, is := errors.AsType[*errcode.Unavailable](err)
			assert.True(t, (c.what != "" || err == nil) &&
				(c.what == "" || is && (out.Condition == c.what || out.Condition == silentDatabase)), "got %v", err)
		})
	}
	want(t, "changes", number(t, s, `SELECT count(*) FROM changes`), 3)
	// An error of the closure's own is none of the session's.
	runs := 0
	err := s.view(ctx, func(*Tx) error { runs++; return io.EOF })
	assert.True(t, errors.Is(err, io.EOF) && runs == 1, "%v after %d runs", err, runs)
}

// A stream begins again until it has given something out; from then on its end is told as what it is.
func TestPostgresSession_StreamInterrupted(t *testing.T) {
	target := newPostgres(t)
	s := open(t, target)
	ctx := t.Context()
	for name, c := range map[string]struct {
		cutAt     int // after so many rows were read
		runs, got int
		whole     bool
	}{
		"before the first row is given out": {10, 2, 5000, true},
		"afterwards":                        {streamFirst + 1, 1, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			runs, read, got := map[int]bool{}, 0, 0
			var err error
			// 16 KB a row: more of them than a socket holds.
			for _, err = range stream(ctx, s, func(row func(...any) error) (pid int, err error) {
				var text string
				if err = row(&pid, &text); err != nil {
					return pid, err
				}
				runs[pid] = true
				if read++; read == c.cutAt {
					mustDo(t, admin(t, target), fmt.Sprintf(`SELECT pg_terminate_backend(%d, 600000)`, pid))
				}
				return pid, nil
			}, `SELECT pg_backend_pid(), repeat('x', 16000) FROM generate_series(1, $1)`, 5000) {
				if err == nil {
					got++
				}
			}
			_, told := errors.AsType[*errcode.Unavailable](err)
			assert.True(t, len(runs) == c.runs && (!c.whole || err == nil && got == c.got) && (c.whole || told),
				"%d rows of %d runs: %v", got, len(runs), err)
		})
	}
}

// A session that is idle in a transaction ends after 15 s, and one that does not receive a result after a minute: for reads that stream
// their rows after five minutes, and for transactions that block all others after 5 s. The URL can set other limits.
func TestPostgresSession_IdleInTransactionTimeout(t *testing.T) {
	target := newPostgres(t)
	for url, c := range map[string]struct{ usual, bulk, all string }{"": {"15s", "5min", "5s"}, "7s": {"7s", "7s", "7s"}} {
		s := open(t, with(t, target, idleTimeout, url))
		for name, one := range map[string]struct {
			begin         func(*Tx) error
			want, unheard string
		}{
			"any":                   {func(*Tx) error { return nil }, c.usual, "60000"},
			"a change of one owner": {func(tx *Tx) error { return tx.LockOwner(t.Context(), "wxa") }, c.usual, "60000"},
			"an import of rules":    {func(tx *Tx) error { return tx.LockRules(t.Context()) }, c.usual, "60000"},
			"an import of accounts": {func(tx *Tx) error { return tx.LockAccounts(t.Context()) }, c.usual, "60000"},
			"an import of codes": {func(tx *Tx) error {
				_, err := tx.codes().AddImported(t.Context(), nil)
				return err
			}, c.usual, "60000"},
			"the end of the log":         {func(tx *Tx) error { return tx.lockHead(t.Context()) }, c.all, "60000"},
			"rules that are to be shown": {func(tx *Tx) error { return tx.accounts().LockForShow(t.Context()) }, c.all, "60000"},
			"an export, a recount":       {func(tx *Tx) error { return tx.DisableTimeout(t.Context()) }, c.bulk, "300000"},
			"all rules": {func(tx *Tx) error {
				_, err := tx.rules().allRules(t.Context(), func(rules.Rule, error) bool { return true })
				return err
			}, c.bulk, "300000"},
			"another one after all that": {func(*Tx) error { return nil }, c.usual, "60000"},
		} {
			update(t, s, func(ctx context.Context, tx *Tx) error {
				if err := one.begin(tx); err != nil {
					return err
				}
				for setting, wanted := range map[string]string{idleTimeout: one.want, silentNodeTimeout: one.unheard} {
					var got string
					if err := tx.row(ctx, `SHOW `+setting).Scan(&got); err != nil {
						return err
					}
					want(t, name+": "+setting, got, wanted)
				}
				return nil
			})
		}
	}
}

// Issue 12, 1: a node whose changes fail says so until they can be made again, and writes nothing for that while nothing fails.
func TestPing_WritesFail(t *testing.T) {
	target := newPostgres(t)
	s := open(t, with(t, target, "lock_timeout", "50ms"))
	ctx := t.Context()
	change := func() error { return s.Note(ctx, ofMeta, "x", "put", nil) }
	require.NoError(t, change())
	written := func() int64 { return number(t, s, `SELECT xmin::text::bigint FROM audit_log_head`) }
	before := written()
	for range 3 {
		assert.NoError(t, s.Ping(ctx))
	}
	want(t, "the last to write the head", written(), before)

	stopped := admin(t, target)
	mustDo(t, stopped, `BEGIN`)
	mustDo(t, stopped, `SELECT 1 FROM audit_log_head FOR UPDATE`)
	assert.NoErrorf(t, s.Ping(ctx), "before a change failed")
	for range 2 {
		wantOutage(t, change(), "did not grant a lock in time")
		assert.NoErrorf(t, s.Ping(ctx), "while another transaction has the lock")
	}
	// Where something else is known to be wrong, the lock says neither that it is over nor that it is not.
	s.health.record(&errcode.Unavailable{Condition: silentDatabase, Err: io.EOF})
	if err := s.Ping(ctx); err != nil || s.health.last.Load() == nil {
		t.Errorf("while another transaction has the lock: %v, or the trouble is forgotten", err)
	}
	mustDo(t, stopped, `ROLLBACK`)
	assert.NoErrorf(t, s.Ping(ctx), "afterwards")
	before = written()
	err := s.Ping(ctx)
	assert.True(t, err == nil && written() == before, "and then: %v, or it writes on", err)
	// A disk that was full must have more room than the change that is tried needs.
	for _, what := range []string{fullDatabase, unwritableDatabase} {
		s.health.record(&errcode.Unavailable{Condition: what, Err: io.EOF})
		assert.NoErrorf(t, s.Ping(ctx), "%s", what)
	}
}

// The look for room writes to PostgreSQL's disk.
func TestRoom_WritesToDisk(t *testing.T) {
	s := open(t, newPostgres(t))
	err := s.view(t.Context(), func(tx *Tx) error {
		if _, err := tx.exec(t.Context(), `SET LOCAL temp_file_limit = '64kB'`); err != nil {
			return err
		}
		return s.engine.room(t.Context(), tx)
	})
	e, is := errors.AsType[*pgconn.PgError](err)
	assert.True(t, is && e.Code == "53400", "got %v: no file was written", err)
}

// The pool gives a connection to others before a commit that failed is judged. Issue 12.
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
				assert.True(t, errors.Is(err, refused), "a change that is judged at its commit: %v", err)
			}
		})
	}
	all.Wait()
}

// A session whose node takes nothing of a large answer is ended, over TCP. The node
// stands still in the middle of an answer of a hundred megabytes here.
func TestPostgresSession_UnreadResultTimeout(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	if u, err := url.Parse(target.URL); err != nil || strings.HasPrefix(u.Host, "/") || u.Host == "" {
		t.Skip("the tests' server is not reached over TCP")
	}
	s, others := open(t, with(t, target, silentNodeTimeout, "1s")), open(t, target)
	failed := errors.New("enough was seen")
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
		for number(t, others, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) > 0 {
		}
		return failed
	})
	require.True(t, errors.Is(err, failed), "%v", err)
}
