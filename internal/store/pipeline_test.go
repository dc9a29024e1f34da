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

// A publish waits for these: the locks with the read behind them, the changes with the head of the log, the entry, the commit.
func TestPublish_FourRoundTrips(t *testing.T) {
	target := newPostgres(t)
	w := dbtest.NewWire(t, target.URL, nil)
	s := open(t, Target{URL: w.URL})
	s.write.SetMaxOpenConns(1)
	r := aRule(t, "wxa", "https://h.example/")
	update(t, s, func(ctx context.Context, tx *Tx) error {
		return tx.accounts().PutAccount(ctx, accounts.Account{AppID: r.Target})
	})
	r = addRules(t, s, r)[0]
	link, _ := rules.ParseLink("https://h.example/")
	service := false // whether the link of a service account is asked for, as a publish of its rule does
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
			if err := tx.PutRule(t.Context(), p.Rule, someone); err != nil {
				return err
			}
			return tx.AddPublish(t.Context(), "wxa", r.Prefix.Key, time.UnixMilli(1))
		}))
	}
	publish() // the statements are prepared
	want(t, "round trips", w.Count(publish), 4)
	service = true
	publish()
	want(t, "round trips where a link is asked for", w.Count(publish), 5)
	want(t, "round trips of a transaction that does nothing", w.Count(func() {
		update(t, s, func(context.Context, *Tx) error { return nil })
	}), 0)
	look := func() {
		view(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.rules().Rule(ctx, r.Prefix.Key)
			return err
		})
	}
	look()
	want(t, "round trips of a look", w.Count(look), 1)
}

// A statement that waits and fails takes all of its transaction with it, wherever that shows: at the next question, or at the commit.
func TestPipeline_DeferredStatementFails(t *testing.T) {
	s := open(t, newPostgres(t))
	ctx := t.Context()
	none := errors.New("no row")
	some := func(n int64) error {
		if n == 0 {
			return none
		}
		return nil
	}
	for name, f := range map[string]func(tx *Tx) error{
		"a statement that cannot be": func(tx *Tx) error { return tx.execQueued(ctx, nil, `INSERT INTO publishes (owner) VALUES ('x')`) },
		"one that changes no row": func(tx *Tx) error {
			return tx.execQueued(ctx, some, `UPDATE publishes SET created_at = 2 WHERE owner = 'nobody'`)
		},
		"one before a question": func(tx *Tx) error {
			if err := tx.execQueued(ctx, some, `UPDATE publishes SET created_at = 2 WHERE owner = 'nobody'`); err != nil {
				return err
			}
			_, err := tx.rules().Rule(ctx, "x")
			return err
		},
		"one whose failure is ignored": func(tx *Tx) error {
			if err := tx.execQueued(ctx, nil, `INSERT INTO publishes (owner) VALUES ('x')`); err != nil {
				return err
			}
			_, err := tx.rules().Rule(ctx, "x")
			assert.True(t, err != nil, "the question was answered")
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
			assert.True(t, err != nil && !errors.Is(err, rules.ErrNoRule), "got %v", err)
			view(t, s, func(ctx context.Context, tx *Tx) error {
				n, err := tx.rules().PublishesSince(ctx, "wxa", time.Time{})
				want(t, "rows", n, 0)
				return err
			})
		})
	}
}

// No silence ends a statement that may read long; the next one is bounded again,
// and so are the end of its transaction and the next transaction of its connection.
func TestPipeline_PatientStatementTimeout(t *testing.T) {
	s := open(t, newPostgres(t))
	s.write.SetMaxOpenConns(1)
	ctx, failed := t.Context(), errors.New("no")
	for what, ends := range map[string]error{"a commit": nil, "the end of a failed transaction": failed} {
		var line *deadlineConn
		err := s.update(ctx, func(tx *Tx) error {
			line = tx.pipe.line
			patient := func(what string, wanted bool) {
				t.Helper()
				want(t, what, line.waits.Load(), wanted)
			}
			patient("at first", false)
			var one int
			err := tx.patiently(func() error {
				err := tx.row(ctx, `SELECT 1`).Scan(&one)
				patient("a question", true)
				return err
			})
			patient("after it", false)
			assert.Equal(t, tx.patiently(func() error { return failed }), failed, "a failure is gone")
			patient("after one that failed", false)
			return errors.Join(err, ends)
		})
		require.True(t, errors.Is(err, ends), "%v", err)
		want(t, what, line.waits.Load(), false)
	}
}

// Statements that a connection holds back do not come out in the next transaction.
func TestPipeline_FailedTransactionDiscarded(t *testing.T) {
	s := open(t, newPostgres(t))
	s.write.SetMaxOpenConns(1)
	failed := errors.New("no")
	err := s.update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.rules().AddPublish(t.Context(), "wxa", "k", time.UnixMilli(1)), failed)
	})
	require.True(t, errors.Is(err, failed), "%v", err)
	update(t, s, func(ctx context.Context, tx *Tx) error {
		return tx.rules().AddPublish(ctx, "wxb", "k", time.UnixMilli(1))
	})
	view(t, s, func(ctx context.Context, tx *Tx) error {
		a, err := tx.rules().PublishesSince(ctx, "wxa", time.Time{})
		b, err2 := tx.rules().PublishesSince(ctx, "wxb", time.Time{})
		want(t, "of the failed one", a, 0)
		want(t, "of the next one", b, 1)
		return errors.Join(err, err2)
	})
}

// heldEnd is a connection of a client whose message that ends a read is held back until release is closed, once holds is set.
type heldEnd struct {
	net.Conn
	holds   *atomic.Bool
	release <-chan struct{}
}

func (c heldEnd) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.holds.Load() && bytes.Equal(b[:n], []byte("Q\x00\x00\x00\x08END\x00")) {
		<-c.release
	}
	return n, err
}

// The result of a read does not wait for the end of its transaction, and the connection is not used before that end.
func TestView_EndNotAwaited(t *testing.T) {
	var holds atomic.Bool
	release := make(chan struct{})
	w := dbtest.NewWire(t, newPostgres(t).URL, func(c net.Conn) (net.Conn, error) { return heldEnd{c, &holds, release}, nil })
	s := open(t, Target{URL: w.URL})
	s.ending.Wait()
	holds.Store(true)
	view(t, s, func(ctx context.Context, tx *Tx) error {
		_, err := tx.rules().CountOwned(ctx, "wxa")
		return err
	})
	want(t, "connections in use while the end is held back", s.read.Stats().InUse, 1)
	close(release)
	s.ending.Wait()
	want(t, "connections in use after the end", s.read.Stats().InUse, 0)
}

// TestPrefetch_ResultsAndWrites checks that calls after Prefetch return the results that were read in one round trip, until the
// transaction writes.
func TestPrefetch_ResultsAndWrites(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s, aRule(t, "wxa", "https://h.example/"), aRule(t, "wxa", "https://h.example/x"))
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
			want(t, "rules of wxa", a, 2)
			b, err2 := q.CountOwned(ctx, "wxb")
			want(t, "rules of wxb", b, 0)
			found, err3 := q.RulesAt(ctx, []string{"https://h.example/x"})
			want(t, "rules with the key", len(found), 1)
			n, err4 := q.PublishesSince(ctx, "wxa", time.Time{})
			want(t, "publishes", n, 0)
			if err := errors.Join(err, err2, err3, err4, q.AddPublish(ctx, "wxa", "k", time.UnixMilli(1))); err != nil {
				return err
			}
			n, err = q.PublishesSince(ctx, "wxa", time.Time{})
			want(t, "publishes after one", n, 1)
			return err
		})
	})
}

// A token is read and its call counted in one round trip, whether the token is known or not.
func TestBearer_CountsCall(t *testing.T) {
	w := dbtest.NewWire(t, newPostgres(t).URL, nil)
	s := open(t, Target{URL: w.URL})
	s.write.SetMaxOpenConns(1)
	token := accounts.Token{Hash: "h", AppID: "wxa", Kind: accounts.Plain, IssuedAt: at, ExpiresAt: at.Add(time.Hour)}
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
		if i > 0 { // the statements are prepared
			want(t, "round trips", trips, 1)
		}
		limited := rate.Key("wxa")
		assert.True(t, limited == "wxa /p", "Key = %q, want wxa /p", limited)
	}
}

// While a look-up of a token runs, further look-ups wait and are sent together. Each caller receives its result, also if the caller that
// sends the look-ups has gone away.
func TestBearer_ConcurrentLookupsCombined(t *testing.T) {
	s := open(t, newPostgres(t))
	s.tokens.wait = time.Hour
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		for i := range 4 {
			appid := fmt.Sprint("wx", i)
			err = errors.Join(err, tx.accounts().PutAccount(ctx, accounts.Account{AppID: appid}), tx.accounts().PutToken(ctx,
				accounts.Token{Hash: "hash of " + appid, AppID: appid, Kind: accounts.Plain, IssuedAt: at, ExpiresAt: at.Add(time.Hour)}))
		}
		return err
	})
	for _, gone := range []bool{false, true} {
		s.tokens.running = 1 // a look-up that has no result yet
		var callers sync.WaitGroup
		ask := func(ctx context.Context, appid string, wanted error) {
			callers.Go(func() {
				err := s.view(ctx, func(tx *Tx) error {
					k, a, err := tx.accounts().Bearer(ctx, "hash of "+appid, "", nil)
					assert.True(t, err != nil || k.AppID == appid && a.AppID == appid, "the token of %s is of %s", appid, k.AppID)
					return err
				})
				assert.True(t, errors.Is(err, wanted), "%s: %v, want %v", appid, err, wanted)
			})
		}
		collected := func() int {
			s.tokens.mu.Lock()
			defer s.tokens.mu.Unlock()
			if s.tokens.next == nil {
				return 0
			}
			return len(s.tokens.next.queries)
		}
		ctx, leave := context.WithCancel(t.Context())
		ask(ctx, "wx0", map[bool]error{true: context.Canceled}[gone])
		waitFor(t, "the first look-up", func() bool { return collected() == 1 })
		for i := range 8 {
			ask(t.Context(), fmt.Sprint("wx", i), map[bool]error{true: accounts.ErrNoToken}[i > 3])
		}
		waitFor(t, "all look-ups", func() bool { return collected() == 9 })
		if gone {
			leave()
		} else {
			s.tokens.mu.Lock()
			s.tokens.running = 0
			close(s.tokens.next.start)
			s.tokens.mu.Unlock()
		}
		callers.Wait()
		leave()
		want(t, "waiting look-ups", collected(), 0)
	}
}

// Issue 48, 6: slow statements are recorded on both databases, and of more than 100 those with the longest run.
func TestSlowStatements_LongestKept(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		s.slow.after = 1
		_, err := s.ScanKeys(t.Context())
		recorded := slices.ContainsFunc(s.SlowStatements(), func(r SlowStatement) bool { return strings.Contains(r.Query, " scan_keys") })
		assert.True(t, err == nil && recorded, "SlowStatements() = %v, %v, want the query of scan_keys", s.SlowStatements(), err)
		for n := range 150 {
			s.slow.record(fmt.Sprint("query ", n), time.Duration(n+1)*time.Hour, at)
		}
		list := s.SlowStatements()
		assert.True(t, len(list) == 100 && list[0].Query == "query 149" && list[99].Query == "query 50", "SlowStatements() = %v", list)
	})
}
