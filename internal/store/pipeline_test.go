package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestPublish_FourRoundTrips counts the round trips of a publish: the locks with the read, the changes with the head of the audit log, the
// audit log entry, the commit.
func TestPublish_FourRoundTrips(t *testing.T) {
	target := newPostgres(t)
	w := dbtest.NewWire(t, target.URL, nil)
	s := open(t, Target{URL: w.URL})
	s.write.SetMaxOpenConns(1)
	r := newRule(t, "wxa", "https://h.example/")
	update(t, s, func(ctx context.Context, tx *Tx) error {
		return tx.accounts().PutAccount(ctx, accounts.Account{AppID: r.Target})
	})
	r = addRules(t, s, r)[0]
	link, _ := rules.ParseLink("https://h.example/")
	service := false // whether the link of a service account is read, as a publish of its rule does
	publish := func() {
		require.NoError(t, s.UpdateRules(t.Context(), func(tx rules.Tx) error {
			p, err := tx.Publishing(t.Context(), "wxa", link, time.UnixMilli(0))
			if err != nil {
				return err
			}
			if service {
				if _, err := tx.Link(t.Context(), "wxa", r.Target); !errors.Is(err, accounts.ErrNoLink) {
					return err
				}
			}
			if err := tx.PutRule(t.Context(), p.Rule, addMeta); err != nil {
				return err
			}
			return tx.AddPublish(t.Context(), "wxa", r.Prefix.Key, time.UnixMilli(1))
		}))
	}
	publish() // prepares the statements
	check(t, "round trips of a publish", w.Count(publish), 4)
	service = true
	publish()
	check(t, "round trips of a publish with a link", w.Count(publish), 5)
	check(t, "round trips of an empty transaction", w.Count(func() {
		update(t, s, func(context.Context, *Tx) error { return nil })
	}), 0)
	read := func() {
		view(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.rules().Rule(ctx, r.Prefix.Key)
			return err
		})
	}
	read()
	check(t, "round trips of a read", w.Count(read), 1)
}

// TestPipeline_DeferredStatementFails verifies that a queued statement that fails rolls its transaction back, whether the failure is
// detected at the next query or at the commit.
func TestPipeline_DeferredStatementFails(t *testing.T) {
	s := open(t, newPostgres(t))
	ctx := t.Context()
	none := errors.New("no row")
	requireRow := func(n int64) error {
		if n == 0 {
			return none
		}
		return nil
	}
	for name, f := range map[string]func(tx *Tx) error{
		"an invalid statement": func(tx *Tx) error { return tx.execQueued(ctx, nil, `INSERT INTO publishes (owner) VALUES ('x')`) },
		"a statement that changes no row": func(tx *Tx) error {
			return tx.execQueued(ctx, requireRow, `UPDATE publishes SET created_at = 2 WHERE owner = 'nobody'`)
		},
		"a failure detected by a query": func(tx *Tx) error {
			if err := tx.execQueued(ctx, requireRow, `UPDATE publishes SET created_at = 2 WHERE owner = 'nobody'`); err != nil {
				return err
			}
			_, err := tx.rules().Rule(ctx, "x")
			return err
		},
		"a failure that the closure ignores": func(tx *Tx) error {
			if err := tx.execQueued(ctx, nil, `INSERT INTO publishes (owner) VALUES ('x')`); err != nil {
				return err
			}
			_, err := tx.rules().Rule(ctx, "x")
			assert.True(t, err != nil, "the query after a failed statement succeeds")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.update(ctx, func(tx *Tx) error {
				if err := tx.rules().AddPublish(ctx, "wxa", "k", time.UnixMilli(1)); err != nil {
					return err
				}
				return f(tx)
			})
			assert.True(t, err != nil && !errors.Is(err, rules.ErrNoRule), "update() = %v, want the error of the statement", err)
			view(t, s, func(ctx context.Context, tx *Tx) error {
				n, err := tx.rules().PublishesSince(ctx, "wxa", time.Time{})
				check(t, "rows", n, 0)
				return err
			})
		})
	}
}

// TestPipeline_PatientStatementTimeout verifies that tx.patiently disables the read timeout of a connection for its statement only.
func TestPipeline_PatientStatementTimeout(t *testing.T) {
	s := open(t, newPostgres(t))
	s.write.SetMaxOpenConns(1)
	ctx, failed := t.Context(), errors.New("no")
	for name, result := range map[string]error{"after a commit": nil, "after a rollback": failed} {
		var line *deadlineConn
		err := s.update(ctx, func(tx *Tx) error {
			line = tx.pipe.line
			checkWaits := func(name string, wanted bool) {
				t.Helper()
				check(t, name, line.waits.Load(), wanted)
			}
			checkWaits("before the statement", false)
			err := tx.patiently(func() error {
				err := tx.row(ctx, `SELECT 1`).Scan(new(int))
				checkWaits("during the statement", true)
				return err
			})
			checkWaits("after the statement", false)
			assert.Equal(t, tx.patiently(func() error { return failed }), failed, "error of patiently()")
			checkWaits("after a failed statement", false)
			return errors.Join(err, result)
		})
		require.ErrorIs(t, err, result, "the transaction")
		check(t, name, line.waits.Load(), false)
	}
}

// TestPipeline_FailedTransactionDiscarded verifies that queued statements of a failed transaction are not sent in the next one.
func TestPipeline_FailedTransactionDiscarded(t *testing.T) {
	s := open(t, newPostgres(t))
	s.write.SetMaxOpenConns(1)
	failed := errors.New("no")
	err := s.update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.rules().AddPublish(t.Context(), "wxa", "k", time.UnixMilli(1)), failed)
	})
	require.ErrorIs(t, err, failed, "the transaction")
	update(t, s, func(ctx context.Context, tx *Tx) error {
		return tx.rules().AddPublish(ctx, "wxb", "k", time.UnixMilli(1))
	})
	view(t, s, func(ctx context.Context, tx *Tx) error {
		a, err := tx.rules().PublishesSince(ctx, "wxa", time.Time{})
		b, err2 := tx.rules().PublishesSince(ctx, "wxb", time.Time{})
		check(t, "publishes of the failed transaction", a, 0)
		check(t, "publishes of the next transaction", b, 1)
		return errors.Join(err, err2)
	})
}

// delayedEndConn is a client connection that, if delay is set, delays the message that ends a read transaction until release is closed.
type delayedEndConn struct {
	net.Conn
	delay   *atomic.Bool
	release <-chan struct{}
}

func (c delayedEndConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.delay.Load() && bytes.Equal(b[:n], []byte("Q\x00\x00\x00\x08END\x00")) {
		<-c.release
	}
	return n, err
}

// TestView_EndNotAwaited verifies that a read returns before the end of its transaction, and that its connection is in use until then.
func TestView_EndNotAwaited(t *testing.T) {
	var delay atomic.Bool
	release := make(chan struct{})
	w := dbtest.NewWire(t, newPostgres(t).URL, func(c net.Conn) (net.Conn, error) { return delayedEndConn{c, &delay, release}, nil })
	s := open(t, Target{URL: w.URL})
	s.ending.Wait()
	delay.Store(true)
	view(t, s, func(ctx context.Context, tx *Tx) error {
		_, err := tx.rules().CountOwned(ctx, "wxa")
		return err
	})
	check(t, "connections in use while the end is delayed", s.read.Stats().InUse, 1)
	close(release)
	s.ending.Wait()
	check(t, "connections in use after the end", s.read.Stats().InUse, 0)
}

// TestPrefetch_ResultsAndWrites verifies that calls after Prefetch return the prefetched results until the transaction writes.
func TestPrefetch_ResultsAndWrites(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s, newRule(t, "wxa", "https://h.example/"), newRule(t, "wxa", "https://h.example/x"))
		update(t, s, func(ctx context.Context, tx *Tx) error {
			q := tx.rules()
			if err := q.Prefetch(ctx, func() {
				_, _ = q.CountOwned(ctx, "wxa")
				_, _ = q.CountOwned(ctx, "wxb")
				_, _ = q.RulesAt(ctx, []string{"https://h.example/x"})
				_, _ = q.PublishesSince(ctx, "wxa", time.Time{})
			}); err != nil {
				return err
			}
			a, err := q.CountOwned(ctx, "wxa")
			check(t, "rules of wxa", a, 2)
			b, err2 := q.CountOwned(ctx, "wxb")
			check(t, "rules of wxb", b, 0)
			found, err3 := q.RulesAt(ctx, []string{"https://h.example/x"})
			check(t, "rules with the key", len(found), 1)
			n, err4 := q.PublishesSince(ctx, "wxa", time.Time{})
			check(t, "publishes", n, 0)
			if err := errors.Join(err, err2, err3, err4, q.AddPublish(ctx, "wxa", "k", time.UnixMilli(1))); err != nil {
				return err
			}
			n, err = q.PublishesSince(ctx, "wxa", time.Time{})
			check(t, "publishes after one", n, 1)
			return err
		})
	})
}

// TestBearer_CountsCall verifies that a token is read and its call counted in one round trip, for known and unknown tokens.
func TestBearer_CountsCall(t *testing.T) {
	w := dbtest.NewWire(t, newPostgres(t).URL, nil)
	s := open(t, Target{URL: w.URL})
	s.write.SetMaxOpenConns(1)
	token := accounts.Token{Hash: "h", AppID: "wxa", Kind: accounts.Plain, IssuedAt: t0, ExpiresAt: t0.Add(time.Hour)}
	update(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxa"}), tx.accounts().PutToken(ctx, token))
	})
	rate := accounts.Rate{Path: "/p", Limit: 1000}
	for i, c := range []struct {
		hash string
		err  error
	}{{"h", nil}, {"unknown", accounts.ErrNoToken}, {"h", nil}} {
		rate.Counted, rate.Allowed = false, false
		trips := w.Count(func() {
			view(t, s, func(ctx context.Context, tx *Tx) error {
				k, a, err := tx.accounts().Bearer(ctx, c.hash, "wxa", &rate)
				assert.True(t, errors.Is(err, c.err) && (err != nil || k == token && a.AppID == "wxa"),
					"Bearer(%q) = %+v of %q, %v, want %v", c.hash, k, a.AppID, err, c.err)
				return nil
			})
		})
		assert.True(t, rate.Counted && rate.Allowed, "call %d is not counted", i)
		if i > 0 { // the first call prepares the statements
			check(t, "round trips", trips, 1)
		}
		assert.Equal(t, rate.Key("wxa"), "wxa /p", "Key(wxa)")
	}
}

// TestBearer_ConcurrentLookupsCombined verifies that token look-ups that begin while another runs are sent together. Each caller receives
// its result, also if the caller that sends the look-ups is canceled.
func TestBearer_ConcurrentLookupsCombined(t *testing.T) {
	s := open(t, newPostgres(t))
	s.tokens.wait = time.Hour
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		for i := range 4 {
			appid := fmt.Sprint("wx", i)
			err = errors.Join(err, tx.accounts().PutAccount(ctx, accounts.Account{AppID: appid}), tx.accounts().PutToken(ctx,
				accounts.Token{Hash: "hash of " + appid, AppID: appid, Kind: accounts.Plain, IssuedAt: t0, ExpiresAt: t0.Add(time.Hour)}))
		}
		return err
	})
	for _, canceled := range []bool{false, true} {
		s.tokens.running = 1 // a look-up that has no result yet
		var callers sync.WaitGroup
		lookup := func(ctx context.Context, appid string, wanted error) {
			callers.Go(func() {
				err := s.view(ctx, func(tx *Tx) error {
					k, a, err := tx.accounts().Bearer(ctx, "hash of "+appid, "", nil)
					assert.True(t, err != nil || k.AppID == appid && a.AppID == appid,
						"Bearer() of the token of %s = a token of %s", appid, k.AppID)
					return err
				})
				assert.ErrorIs(t, err, wanted, "the look-up for %s", appid)
			})
		}
		queued := func() int {
			s.tokens.mu.Lock()
			defer s.tokens.mu.Unlock()
			if s.tokens.next == nil {
				return 0
			}
			return len(s.tokens.next.queries)
		}
		ctx, cancel := context.WithCancel(t.Context())
		lookup(ctx, "wx0", map[bool]error{true: context.Canceled}[canceled])
		waitFor(t, "the first look-up", func() bool { return queued() == 1 })
		for i := range 8 {
			lookup(t.Context(), fmt.Sprint("wx", i), map[bool]error{true: accounts.ErrNoToken}[i > 3])
		}
		waitFor(t, "all look-ups", func() bool { return queued() == 9 })
		if canceled {
			cancel()
		} else {
			s.tokens.mu.Lock()
			s.tokens.running = 0
			close(s.tokens.next.start)
			s.tokens.mu.Unlock()
		}
		callers.Wait()
		cancel()
		check(t, "queued look-ups", queued(), 0)
	}
}

// TestSlowStatements_LongestKept verifies that slow statements are recorded, and that the 100 slowest are kept.
func TestSlowStatements_LongestKept(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		s.slow.after = 1
		_, err := s.ScanKeys(t.Context())
		recorded := slices.ContainsFunc(s.SlowStatements(), func(r SlowStatement) bool { return strings.Contains(r.Query, " scan_keys") })
		assert.True(t, err == nil && recorded, "SlowStatements() = %v, %v, want the query of scan_keys", s.SlowStatements(), err)
		for n := range 150 {
			s.slow.record(fmt.Sprint("query ", n), time.Duration(n+1)*time.Hour, t0)
		}
		list := s.SlowStatements()
		assert.True(t, len(list) == 100 && list[0].Query == "query 149" && list[99].Query == "query 50",
			"SlowStatements() = %v, want queries 149 to 50", list)
	})
}
