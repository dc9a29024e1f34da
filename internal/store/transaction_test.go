package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// writeAll writes rows of several kinds in a transaction.
func writeAll(ctx context.Context, t *testing.T, tx *Tx) error {
	if _, err := tx.rules().AddRule(ctx, newRule(t, "wxa", "https://h.example/"), addMeta); err != nil {
		return err
	}
	if err := tx.rules().AddPublish(ctx, "wxa", "https://h.example/", t0); err != nil {
		return err
	}
	if _, err := tx.accounts().AddCount(ctx, "wxa", "x", 1); err != nil {
		return err
	}
	if err := tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxa"}); err != nil {
		return err
	}
	if err := tx.accounts().PutToken(ctx, accounts.Token{Hash: "h", AppID: "wxa", Kind: accounts.Plain}); err != nil {
		return err
	}
	if err := tx.rules().PutConfirmation(ctx, rules.Confirmation{RID: "r", At: t0}); err != nil {
		return err
	}
	return tx.rules().PutDomain(ctx, rules.Domain{Host: "h", Status: rules.Denied})
}

// checkEmpty reports an error if a table has rows, and checks that a transaction succeeds.
func checkEmpty(t *testing.T, s *Store) {
	t.Helper()
	for _, table := range tableNames(t, s) {
		query := `SELECT COUNT(*) FROM ` + table
		switch table {
		case "sequences":
			continue
		case "audit_log_head":
			query = `SELECT seq FROM audit_log_head`
		}
		assert.Equal(t, queryInt(t, s, query), 0, "%s", query)
	}
	update(t, s, func(ctx context.Context, tx *Tx) error { return writeAll(ctx, t, tx) })
	check(t, "seq of the next change", queryInt(t, s, `SELECT MIN(seq) FROM changes`), 1)
}

func TestTransaction_ErrorRollsBack(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		failed := errors.New("failed")
		err := s.update(t.Context(), func(tx *Tx) error {
			if err := writeAll(t.Context(), t, tx); err != nil {
				return err
			}
			return fmt.Errorf("wrapped: %w", failed)
		})
		assert.ErrorIs(t, err, failed, "the error of the closure")
		checkEmpty(t, s)
	})
}

func TestTransaction_PanicRollsBack(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		func() {
			defer func() {
				assert.True(t, recover() != nil, "update() does not panic")
			}()
			s.update(t.Context(), func(tx *Tx) error {
				assert.NoError(t, writeAll(t.Context(), t, tx))
				panic("broken")
			})
		}()
		checkEmpty(t, s)
	})
}

func TestTransaction_FailedStatementRollsBack(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		err := s.update(t.Context(), func(tx *Tx) error {
			if err := writeAll(t.Context(), t, tx); err != nil {
				return err
			}
			return tx.accounts().PutToken(t.Context(), accounts.Token{Hash: "h"}) // a duplicate
		})
		assert.True(t, err != nil, "a second token with the hash is stored")
		checkEmpty(t, s)
	})
}

func TestTransaction_CanceledRollsBack(t *testing.T) {
	for name, after := range map[string]error{"and the closure notices": context.Canceled, "and the closure goes on": nil} {
		t.Run(name, func(t *testing.T) {
			forEachBackend(t, func(t *testing.T, s *Store) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				runs := 0
				err := s.update(ctx, func(tx *Tx) error {
					runs++
					if err := writeAll(ctx, t, tx); err != nil {
						return err
					}
					cancel()
					return after
				})
				assert.True(t, err != nil, "update() = nil after the context is canceled")
				check(t, "runs", runs, 1)
				checkEmpty(t, s)
			})
		})
	}
}

func TestTransaction_CanceledBeforeStart(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, run := range map[string]func(context.Context, func(*Tx) error) error{"update": s.update, "view": s.view} {
			err := run(ctx, func(*Tx) error {
				t.Errorf("%s: the closure runs", name)
				return nil
			})
			assert.ErrorIs(t, err, context.Canceled, "%s", name)
		}
		checkEmpty(t, s)
	})
}

// TestTransaction_ReturnsCancelCause verifies that the error of a canceled transaction has the cause of the cancellation and the text of
// the statement that failed first.
func TestTransaction_ReturnsCancelCause(t *testing.T) {
	// repeat calls f until the cancellation reaches the transaction.
	repeat := func(f func() error) error {
		for {
			if err := f(); err != nil {
				return err
			}
		}
	}
	for name, c := range map[string]struct {
		text string
		f    func(ctx context.Context, cancel func(), tx *Tx) error // ctx is not canceled
	}{
		"a statement": {"transaction has already been committed or rolled back", func(ctx context.Context, cancel func(), tx *Tx) error {
			cancel()
			return repeat(func() error {
				_, err := tx.exec(ctx, `SELECT 1`)
				return err
			})
		}},
		"rows": {"Rows are closed", func(ctx context.Context, cancel func(), tx *Tx) error {
			rows, err := tx.query(ctx, `SELECT 1`)
			if err != nil {
				return err
			}
			defer rows.Close()
			rows.Next()
			cancel()
			return repeat(func() error { return rows.Scan(new(int)) })
		}},
		"the audit log entry": {"reading the head of the audit log", func(ctx context.Context, cancel func(), tx *Tx) error {
			if err := tx.note(ctx, ofMeta, "x", "put", nil); err != nil {
				return err
			}
			cancel()
			repeat(func() error {
				_, err := tx.exec(ctx, `SELECT 1`)
				return err
			})
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			forEachBackend(t, func(t *testing.T, s *Store) {
				for method, run := range map[string]func(context.Context, func(*Tx) error) error{"update": s.update, "view": s.view} {
					ctx, cancel := context.WithCancelCause(t.Context())
					err := run(ctx, func(tx *Tx) error { return c.f(t.Context(), func() { cancel(errDisconnected) }, tx) })
					assert.True(t, errors.Is(err, errDisconnected) && strings.Contains(err.Error(), c.text),
						"error of %s = %v, want %v with %q", method, err, errDisconnected, c.text)
				}
				checkEmpty(t, s)
			})
		})
	}
}

// TestStoreRead_ReturnsCancelCause verifies the error of canceled reads that run without a transaction of the caller.
func TestStoreRead_ReturnsCancelCause(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errDisconnected)
		calls := map[string]func() error{
			"a ping":  func() error { return s.Ping(ctx) },
			"changes": func() error { _, err := s.ChangesFrom(ctx, 0, 10); return err },
			"a load":  func() error { return s.Load(ctx, func(*Restore) error { return nil }) },
			"rules": func() error {
				for _, err := range s.AllRules(ctx) {
					return err
				}
				return nil
			},
		}
		if s.Shared() {
			calls["a rate limit"] = func() error { _, err := s.RateLimits().Allow(ctx, "k", 1); return err }
		}
		for name, call := range calls {
			assert.ErrorIs(t, call(), errDisconnected, "%s", name)
		}
	})
}

func TestTransaction_CanceledWhileWaitingForLock(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		held, canceled := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		go func() {
			first <- nodes[0].update(t.Context(), func(tx *Tx) error {
				if err := tx.LockOwner(t.Context(), "wxa"); err != nil {
					return err
				}
				close(held)
				<-canceled
				return writeAll(t.Context(), t, tx)
			})
		}()
		<-held
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := nodes[1].update(ctx, func(tx *Tx) error {
			if err := tx.LockOwner(ctx, "wxa"); err != nil {
				return err
			}
			return errors.New("two transactions hold the lock")
		})
		close(canceled)
		assert.ErrorIs(t, err, context.Canceled, "the canceled transaction")
		assert.NoError(t, (<-first))
		check(t, "rules", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules`), 1)
	})
}

func TestTransaction_LockExclusive(t *testing.T) {
	for name, lock := range map[string]func(*Tx, context.Context, string) error{
		"owner": (*Tx).LockOwner, "origin": (*Tx).LockOrigin, "account": (*Tx).LockAccount,
	} {
		t.Run(name, func(t *testing.T) {
			forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
				var holders atomic.Int32
				errs := race(16, func(i int) error {
					return nodes[i%2].update(t.Context(), func(tx *Tx) error {
						if err := lock(tx, t.Context(), "wxa"); err != nil {
							return err
						}
						assert.Equal(t, holders.Add(1), 1, "transactions that hold the lock")
						defer holders.Add(-1)
						return tx.row(t.Context(), `SELECT 1`).Scan(new(int))
					})
				})
				countSuccesses(t, errs, nil)
			})
		})
	}
}

// newConflict returns a function that returns the errors of a transaction that conflicts with another and can be repeated.
func newConflict(t *testing.T, s *Store, target Target) func() error {
	if s.Engine() == "postgres" {
		code := 0
		return func() error {
			code++
			return &pgconn.PgError{Code: []string{"40001", "40P01"}[code%2]}
		}
	}
	db := require.Value(sql.Open("sqlite", "file:"+target.Dir+"/qrjump.db?_txlock=immediate&_busy_timeout=0"))(t)
	t.Cleanup(func() { db.Close() })
	return func() error { // the caller's transaction holds the write lock
		_, err := db.ExecContext(t.Context(), `UPDATE sequences SET value = 99`)
		assert.True(t, err != nil, "a write succeeds while another transaction holds the write lock")
		return err
	}
}

func TestTransaction_RetryCountsOnce(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, target Target) {
		s := open(t, target)
		conflict := newConflict(t, s, target)
		runs := 0
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := writeAll(ctx, t, tx); err != nil {
				return err
			}
			if runs++; runs < 3 {
				return fmt.Errorf("reading: %w", conflict())
			}
			return nil
		})
		check(t, "runs", runs, 3)
		check(t, "rules", queryInt(t, s, `SELECT COUNT(*) FROM rules`), 1)
		check(t, "changes", queryInt(t, s, `SELECT COUNT(*) FROM changes WHERE kind = 'rule'`), 1)
		check(t, "seq of the last change", queryInt(t, s, `SELECT seq FROM audit_log_head`), 3)
		check(t, "counter", queryInt(t, s, `SELECT value FROM counters`), 1)
	})
}

func TestTransaction_RetryLimit(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, target Target) {
		s := open(t, target)
		conflict := newConflict(t, s, target)
		runs := 0
		err := s.update(t.Context(), func(tx *Tx) error {
			runs++
			if err := writeAll(t.Context(), t, tx); err != nil {
				return err
			}
			return conflict()
		})
		assert.True(t, err != nil && s.engine.retryable(err), "update() = %v, want a retryable error", err)
		check(t, "runs", runs, attempts)
		checkEmpty(t, s)
	})
}

func TestTransaction_ErrorNotRetried(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, wanted := range []error{rules.ErrPrefixTaken, context.DeadlineExceeded, sql.ErrNoRows, &pgconn.PgError{Code: "23505"}} {
			runs := 0
			err := s.update(t.Context(), func(*Tx) error {
				runs++
				return wanted
			})
			assert.True(t, errors.Is(err, wanted) && runs == 1, "update() = %v after %d runs, want %v after 1", err, runs, wanted)
		}
	})
}

func TestTransaction_DeadlockResolved(t *testing.T) {
	// SQLite has one writer, so a deadlock is impossible.
	s := open(t, newPostgres(t))
	holds := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	var runs [2]int
	errs := race(2, func(i int) error {
		return s.update(t.Context(), func(tx *Tx) error {
			runs[i]++
			if err := tx.LockOwner(t.Context(), fmt.Sprint("wx", i)); err != nil {
				return err
			}
			if runs[i] == 1 {
				close(holds[i])
				<-holds[1-i]
			}
			if err := tx.LockOwner(t.Context(), fmt.Sprint("wx", 1-i)); err != nil {
				return err
			}
			_, err := tx.rules().AddRule(t.Context(), newRule(t, "wxa", fmt.Sprintf("https://h%d.example/", i)), addMeta)
			return err
		})
	})
	countSuccesses(t, errs, nil)
	check(t, "runs", runs[0]+runs[1], 3)
	check(t, "rules", queryInt(t, s, `SELECT COUNT(*) FROM rules`), 2)
}

func TestView_SnapshotIsolation(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		count := func(tx *Tx) (n int) {
			t.Helper()
			assert.NoError(t, tx.row(t.Context(), `SELECT COUNT(*) FROM rules`).Scan(&n))
			return n
		}
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			check(t, "rules before the write", count(tx), 0)
			addRules(t, nodes[1], newRule(t, "wxa", "https://h.example/"))
			check(t, "rules after the write of another node", count(tx), 0)
			return nil
		})
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			check(t, "rules in the next view", count(tx), 1)
			return nil
		})
	})
}

func TestView_ReadOnlyEnforced(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		assert.True(t, s.view(t.Context(), func(tx *Tx) error { return writeAll(t.Context(), t, tx) }) != nil, "a write in view() succeeds")
		checkEmpty(t, s)
	})
}

func TestView_CommittedVisibleOnEveryNode(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for i := range 100 {
			update(t, nodes[i%2], func(ctx context.Context, tx *Tx) error {
				_, err := tx.accounts().AddCount(ctx, "wxa", "x", 1)
				return err
			})
			view(t, nodes[1-i%2], func(ctx context.Context, tx *Tx) error {
				n, err := tx.accounts().Count(ctx, "wxa", "x", 1)
				require.Equal(t, n, i+1, "counter on the other node")
				return err
			})
		}
	})
}
