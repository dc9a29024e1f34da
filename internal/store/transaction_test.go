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

// writeAll writes something of every kind.
func writeAll(ctx context.Context, t *testing.T, tx *Tx) error {
	if _, err := tx.rules().AddRule(ctx, aRule(t, "wxa", "https://h.example/"), someone); err != nil {
		return err
	}
	if err := tx.rules().AddPublish(ctx, "wxa", "https://h.example/", at); err != nil {
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
	if err := tx.rules().PutConfirmation(ctx, rules.Confirmation{RID: "r", At: at}); err != nil {
		return err
	}
	return tx.rules().PutDomain(ctx, rules.Domain{Host: "h", Status: rules.Denied})
}

// wantNothing checks that the database is as empty as when it was made, and that it works.
func wantNothing(t *testing.T, s *Store) {
	t.Helper()
	for _, table := range tables(t, s) {
		query := `SELECT COUNT(*) FROM ` + table
		switch table {
		case "sequences":
			continue
		case "audit_log_head":
			query = `SELECT seq FROM audit_log_head`
		}
		assert.Equal(t, number(t, s, query), 0, "%s", query)
	}
	update(t, s, func(ctx context.Context, tx *Tx) error { return writeAll(ctx, t, tx) })
	want(t, "number of the next change", number(t, s, `SELECT MIN(seq) FROM changes`), 1)
}

func TestTransaction_ErrorRollsBack(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		failed := errors.New("failed")
		err := s.update(t.Context(), func(tx *Tx) error {
			if err := writeAll(t.Context(), t, tx); err != nil {
				return err
			}
			return fmt.Errorf("wrapped: %w", failed)
		})
		assert.True(t, errors.Is(err, failed), "the error of the closure comes back as %v", err)
		wantNothing(t, s)
	})
}

func TestTransaction_PanicRollsBack(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		func() {
			defer func() {
				assert.True(t, recover() != nil, "the panic was swallowed")
			}()
			s.update(t.Context(), func(tx *Tx) error {
				assert.NoError(t, writeAll(t.Context(), t, tx))
				panic("broken")
			})
		}()
		wantNothing(t, s)
	})
}

func TestTransaction_FailedStatementRollsBack(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		err := s.update(t.Context(), func(tx *Tx) error {
			if err := writeAll(t.Context(), t, tx); err != nil {
				return err
			}
			return tx.accounts().PutToken(t.Context(), accounts.Token{Hash: "h"}) // there is one already
		})
		assert.True(t, err != nil, "two tokens have one hash")
		wantNothing(t, s)
	})
}

func TestTransaction_CanceledRollsBack(t *testing.T) {
	for name, after := range map[string]error{"and the closure notices": context.Canceled, "and the closure goes on": nil} {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, s *Store) {
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
				assert.True(t, err != nil, "the transaction of a caller who went away succeeded")
				want(t, "runs", runs, 1)
				wantNothing(t, s)
			})
		})
	}
}

func TestTransaction_CanceledBeforeStart(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for what, run := range map[string]func(context.Context, func(*Tx) error) error{"update": s.update, "view": s.view} {
			err := run(ctx, func(*Tx) error {
				t.Errorf("%s: the closure ran", what)
				return nil
			})
			assert.True(t, errors.Is(err, context.Canceled), "%s: %v", what, err)
		}
		wantNothing(t, s)
	})
}

// A call that ends with its caller fails in the words of the first part that notices. Why the
// caller went away is part of the answer whichever that is.
func TestTransaction_ReturnsCancelCause(t *testing.T) {
	gone := errors.New("the caller is gone")
	// untilIt asks until the end of the caller has come through to the transaction.
	untilIt := func(fails func() error) error {
		for {
			if err := fails(); err != nil {
				return err
			}
		}
	}
	for name, c := range map[string]struct {
		words string
		f     func(ctx context.Context, leave func(), tx *Tx) error // ctx is not the caller's
	}{
		"a statement": {"transaction has already been committed or rolled back", func(ctx context.Context, leave func(), tx *Tx) error {
			leave()
			return untilIt(func() error {
				_, err := tx.exec(ctx, `SELECT 1`)
				return err
			})
		}},
		"rows": {"Rows are closed", func(ctx context.Context, leave func(), tx *Tx) error {
			rows, err := tx.query(ctx, `SELECT 1`)
			if err != nil {
				return err
			}
			defer rows.Close()
			rows.Next()
			leave()
			return untilIt(func() error { return rows.Scan(new(int)) })
		}},
		"what was noted": {"reading the head of the audit log", func(ctx context.Context, leave func(), tx *Tx) error {
			if err := tx.note(ctx, ofMeta, "x", "put", nil); err != nil {
				return err
			}
			leave()
			untilIt(func() error {
				_, err := tx.exec(ctx, `SELECT 1`)
				return err
			})
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, s *Store) {
				for what, run := range map[string]func(context.Context, func(*Tx) error) error{"update": s.update, "view": s.view} {
					ctx, leave := context.WithCancelCause(t.Context())
					err := run(ctx, func(tx *Tx) error { return c.f(t.Context(), func() { leave(gone) }, tx) })
					assert.True(t, errors.Is(err, gone) && strings.Contains(err.Error(), c.words), "%s: %v", what, err)
				}
				wantNothing(t, s)
			})
		})
	}
}

// Also where there is no transaction.
func TestStoreRead_ReturnsCancelCause(t *testing.T) {
	gone := errors.New("the caller is gone")
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx, leave := context.WithCancelCause(t.Context())
		leave(gone)
		asked := map[string]func() error{
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
			asked["a limit"] = func() error { _, err := s.RateLimits().Allow(ctx, "k", 1); return err }
		}
		for what, ask := range asked {
			assert.ErrorIs(t, ask(), gone, "%s", what)
		}
	})
}

func TestTransaction_CanceledWhileWaitingForLock(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		held, gone := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		go func() {
			first <- nodes[0].update(t.Context(), func(tx *Tx) error {
				if err := tx.LockOwner(t.Context(), "wxa"); err != nil {
					return err
				}
				close(held)
				<-gone // ends only after the other has given up
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
			return errors.New("two hold one lock")
		})
		close(gone)
		assert.True(t, errors.Is(err, context.Canceled), "the one who went away: %v", err)
		assert.NoError(t, (<-first))
		want(t, "rules", number(t, nodes[1], `SELECT COUNT(*) FROM rules`), 1)
	})
}

func TestTransaction_LockExclusive(t *testing.T) {
	for what, lock := range map[string]func(*Tx, context.Context, string) error{
		"owner": (*Tx).LockOwner, "origin": (*Tx).LockOrigin, "account": (*Tx).LockAccount,
	} {
		t.Run(what, func(t *testing.T) {
			eachCluster(t, func(t *testing.T, nodes [2]*Store) {
				var holders atomic.Int32
				errs := race(16, func(i int) error {
					return nodes[i%2].update(t.Context(), func(tx *Tx) error {
						if err := lock(tx, t.Context(), "wxa"); err != nil {
							return err
						}
						assert.Equal(t, holders.Add(1), 1, "hold the lock")
						defer holders.Add(-1)
						var one int
						return tx.row(t.Context(), `SELECT 1`).Scan(&one)
					})
				})
				succeeded(t, errs, nil)
			})
		})
	}
}

// conflict returns errors as the database gives them when a transaction lost against another one and may try again.
func conflict(t *testing.T, s *Store, target Target) func() error {
	if s.Engine() == "postgres" {
		code := 0
		return func() error {
			code++
			return &pgconn.PgError{Code: []string{"40001", "40P01"}[code%2]}
		}
	}
	db, err := sql.Open("sqlite", "file:"+target.Dir+"/qrjump.db?_txlock=immediate&_busy_timeout=0")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return func() error { // the closure that asks holds the one write lock
		_, err := db.ExecContext(t.Context(), `UPDATE sequences SET value = 99`)
		assert.True(t, err != nil, "two write at once")
		return err
	}
}

func TestTransaction_RetryCountsOnce(t *testing.T) {
	eachCopy(t, func(t *testing.T, target Target) {
		s := open(t, target)
		lost := conflict(t, s, target)
		runs := 0
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := writeAll(ctx, t, tx); err != nil {
				return err
			}
			if runs++; runs < 3 {
				return fmt.Errorf("reading: %w", lost())
			}
			return nil
		})
		want(t, "runs", runs, 3)
		want(t, "rules", number(t, s, `SELECT COUNT(*) FROM rules`), 1)
		want(t, "changes", number(t, s, `SELECT COUNT(*) FROM changes WHERE kind = 'rule'`), 1)
		want(t, "number of the change", number(t, s, `SELECT seq FROM audit_log_head`), 3)
		want(t, "counted", number(t, s, `SELECT value FROM counters`), 1)
	})
}

func TestTransaction_RetryLimit(t *testing.T) {
	eachCopy(t, func(t *testing.T, target Target) {
		s := open(t, target)
		lost := conflict(t, s, target)
		runs := 0
		err := s.update(t.Context(), func(tx *Tx) error {
			runs++
			if err := writeAll(t.Context(), t, tx); err != nil {
				return err
			}
			return lost()
		})
		assert.True(t, err != nil && s.engine.retryable(err), "error: %v", err)
		want(t, "runs", runs, attempts)
		wantNothing(t, s)
	})
}

func TestTransaction_ErrorNotRetried(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, wanted := range []error{rules.ErrPrefixTaken, context.DeadlineExceeded, sql.ErrNoRows, &pgconn.PgError{Code: "23505"}} {
			runs := 0
			err := s.update(t.Context(), func(*Tx) error {
				runs++
				return wanted
			})
			assert.True(t, errors.Is(err, wanted) && runs == 1, "%v came back as %v after %d runs", wanted, err, runs)
		}
	})
}

func TestTransaction_DeadlockResolved(t *testing.T) {
	// SQLite has one writer, so nobody can wait for the other.
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
			_, err := tx.rules().AddRule(t.Context(), aRule(t, "wxa", fmt.Sprintf("https://h%d.example/", i)), someone)
			return err
		})
	})
	succeeded(t, errs, nil)
	want(t, "runs", runs[0]+runs[1], 3)
	want(t, "rules", number(t, s, `SELECT COUNT(*) FROM rules`), 2)
}

func TestView_SnapshotIsolation(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		count := func(tx *Tx) (n int) {
			t.Helper()
			assert.NoError(t, tx.row(t.Context(), `SELECT COUNT(*) FROM rules`).Scan(&n))
			return n
		}
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			want(t, "before", count(tx), 0)
			addRules(t, nodes[1], aRule(t, "wxa", "https://h.example/"))
			want(t, "after another wrote", count(tx), 0)
			return nil
		})
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			want(t, "the next view", count(tx), 1)
			return nil
		})
	})
}

func TestView_ReadOnlyEnforced(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		assert.True(t, s.view(t.Context(), func(tx *Tx) error { return writeAll(t.Context(), t, tx) }) != nil, "a view wrote")
		wantNothing(t, s)
	})
}

func TestView_CommittedVisibleOnEveryNode(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for i := range 100 {
			update(t, nodes[i%2], func(ctx context.Context, tx *Tx) error {
				_, err := tx.accounts().AddCount(ctx, "wxa", "x", 1)
				return err
			})
			view(t, nodes[1-i%2], func(ctx context.Context, tx *Tx) error {
				n, err := tx.accounts().Count(ctx, "wxa", "x", 1)
				require.True(t, n == i+1, "%d is read after %d was answered", n, i+1)
				return err
			})
		}
	})
}
