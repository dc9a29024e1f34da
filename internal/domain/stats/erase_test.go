package stats_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// gatedLog signals reached before it yields a scan of the user, and blocks until it receives from proceed.
type gatedLog struct {
	*scantest.Memory
	user    scanlog.UserHash
	reached chan struct{}
	proceed chan struct{}
}

// openGate lets all further scans be read, for a log that blocks on the channel reached.
func (l *gatedLog) openGate(ctx context.Context, reached chan struct{}) {
	for {
		select {
		case l.proceed <- struct{}{}:
		case <-reached:
		case <-ctx.Done():
			return
		}
	}
}

func (l *gatedLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range l.Memory.Read(ctx, after) {
			if l.reached != nil && e.User == l.user {
				l.reached <- struct{}{}
				<-l.proceed
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (l *gatedLog) ForUsers(ctx context.Context, users scanlog.Users, after int64) iter.Seq2[scanlog.Entry, error] {
	return scantest.ForUsers(l.Read(ctx, after), users)
}

// txStore records whether a write transaction is open.
type txStore struct {
	stats.Store
	open bool
}

func (s *txStore) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.Store.UpdateStatistics(ctx, func(tx stats.Tx) error {
		s.open = true
		defer func() { s.open = false }()
		return f(tx)
	})
}

// remoteLog is a log behind a network: it fails the test if it is used within a write transaction.
type remoteLog struct {
	*scantest.Memory
	t     *testing.T
	store *txStore
}

func (l *remoteLog) check(method string) {
	assert.True(l.t, !l.store.open, "%s() is called within a write transaction, want no call", method)
}

func (l *remoteLog) ID() string {
	l.check("ID")
	return l.Memory.ID()
}

func (l *remoteLog) End(ctx context.Context) (int64, error) {
	l.check("End")
	return l.Memory.End(ctx)
}

func (l *remoteLog) Find(ctx context.Context, id scanlog.ScanID) (int64, error) {
	l.check("Find")
	return l.Memory.Find(ctx, id)
}

func (l *remoteLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	l.check("Read")
	return l.Memory.Read(ctx, after)
}

func (l *remoteLog) ForUsers(ctx context.Context, users scanlog.Users, after int64) iter.Seq2[scanlog.Entry, error] {
	l.check("ForUsers")
	return l.Memory.ForUsers(ctx, users, after)
}

// TestErase_NoLogReadInTransaction verifies that counting and erasing do not wait for the scan log within a write transaction.
func TestErase_NoLogReadInTransaction(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(12, 13)), Now: began, Users: 20}
		watched := &txStore{Store: s}
		for _, name := range []string{"first", "second", "first"} { // a return to the first log calls Find
			log := &remoteLog{&scantest.Memory{Name: name}, t, watched}
			require.NoError(t, log.Append(t.Context(), events.Take(300)))
			c := scantest.NewAggregator(watched, log)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			require.NoError(t, assert.ErrorOf(c.Erase(t.Context(), scanlog.UserHash{1})))
		}
	})
}

// TestErase_NonBlocking verifies that scans are counted and queries are answered while an erasure reads the scan log.
func TestErase_NonBlocking(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(12, 12)), Now: began, Users: 20}
		log := &gatedLog{Memory: &scantest.Memory{}, proceed: make(chan struct{})}
		c := scantest.NewAggregator(s, log)
		more := func() {
			t.Helper()
			list := events.Take(200)
			for _, e := range list {
				if log.user == (scanlog.UserHash{}) {
					log.user = e.User
				}
			}
			require.NoError(t, log.Append(t.Context(), list))
		}
		more()
		require.NoError(t, c.CatchUp(t.Context()))
		log.reached = make(chan struct{})
		erased := make(chan error, 1)
		go func() {
			_, err := c.Erase(t.Context(), log.user)
			erased <- err
		}()
		<-log.reached
		reached := log.reached
		answered := make(chan error, 1)
		go func() {
			_, err := c.Execute(t.Context(), stats.Question{From: began.AddDate(0, -1, 0), To: began.AddDate(1, 0, 0), Metric: stats.Users})
			answered <- err
		}()
		select {
		case err := <-answered:
			assert.NoError(t, err)
		case <-time.After(time.Minute):
			t.Error("a query is not answered within a minute, want it not to wait for the erasure")
		}
		go log.openGate(t.Context(), reached)
		require.NoError(t, <-erased)
		more()
		require.NoError(t, c.CatchUp(t.Context()))
		r, err := (verify.Recounter{Counter: c}).Run(t.Context())
		assert.True(t, err == nil && r.Differences == 0, "recount = %+v, %v, want no difference", r, err)
	})
}

// observedContext calls onDone when Done is called, as Erase does once the user is queued.
type observedContext struct {
	context.Context
	onDone func()
}

func (c *observedContext) Done() <-chan struct{} {
	c.onDone()
	return c.Context.Done()
}

// TestErase_PendingMergedIntoOnePass verifies that erasures that wait for a running one are merged into a single pass over the scan log.
func TestErase_PendingMergedIntoOnePass(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 7)), Now: began, Users: 20}
		log := &gatedLog{Memory: &scantest.Memory{}, proceed: make(chan struct{})}
		require.NoError(t, log.Append(t.Context(), events.Take(300)))
		want := map[scanlog.UserHash]int64{}
		for _, e := range events.Sent {
			if e.User != (scanlog.UserHash{}) {
				want[e.User]++
				log.user = e.User
			}
		}
		c := scantest.NewAggregator(s, log)
		require.NoError(t, c.CatchUp(t.Context()))
		erase := func(ctx context.Context, user scanlog.UserHash, ended chan<- error) {
			n, err := c.Erase(ctx, user)
			if err == nil && n != want[user] {
				err = fmt.Errorf("Erase() = %d, want %d", n, want[user])
			}
			ended <- err
		}
		log.reached = make(chan struct{})
		canceled, cancel := context.WithCancel(t.Context())
		first, abandoned := make(chan error, 1), make(chan error, 1)
		go erase(t.Context(), log.user, first)
		<-log.reached // the first pass blocks
		reached, others := log.reached, make(chan error, len(want))
		var queued sync.WaitGroup
		queued.Add(len(want))
		go erase(&observedContext{canceled, sync.OnceFunc(queued.Done)}, scanlog.UserHash{1}, abandoned)
		for user := range want {
			if user != log.user {
				go erase(&observedContext{t.Context(), sync.OnceFunc(queued.Done)}, user, others)
			}
		}
		queued.Wait()
		cancel()
		assert.True(t, (<-abandoned) != nil, "Erase() with a canceled context succeeds, want an error")
		go log.openGate(t.Context(), reached)
		assert.NoError(t, <-first)
		for range len(want) - 1 {
			assert.NoError(t, <-others)
		}
		// The log is read for counting, for two passes and for scans that arrived during the passes.
		assert.True(t, log.Reads <= 4, "the log was read %d times for %d users, want at most 4", log.Reads, len(want))
		checkRecount(t, c)
		for _, e := range log.Entries {
			assert.Equal(t, e.User, scanlog.UserHash{}, "user of an erased entry")
		}
	})
}

// TestErase_FormerZone verifies that an erasure reaches the users of days that were counted in an earlier time zone.
func TestErase_FormerZone(t *testing.T) {
	scantest.WithStore(t, func(t *testing.T, s *store.Store) {
		log, r, user := &scantest.Memory{}, rand.New(rand.NewPCG(15, 7)), scanlog.UserHash{7}
		c := scantest.NewAggregator(s, log)
		var keys []stats.UsersKey
		old := began.AddDate(-2, 0, 0) // retention removes a scan of this time
		require.NoError(t, log.Append(t.Context(), []scanlog.Event{{ID: scantest.ID(old, r), OccurredAt: old, Source: "scan"}}))
		for _, zone := range []int{14, -12, 8, 0} {
			set := settings.Defaults()
			set.UTCOffsetHours = zone
			c.Settings.Set(set)
			for n := range 24 {
				scannedAt := began.Add(time.Duration(n) * time.Hour)
				event := scanlog.Event{ID: scantest.ID(scannedAt, r), OccurredAt: scannedAt, Source: "scan", User: user}
				require.NoError(t, log.Append(t.Context(), []scanlog.Event{event}))
				day := timebucket.Day(timebucket.Hour(scannedAt), int64(zone))
				keys = append(keys, stats.UsersKey{Day: day}, stats.UsersKey{Day: stats.MonthSketches + timebucket.Month(day)})
			}
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			require.NoError(t, c.Forget(t.Context(), began.AddDate(-1, 0, 0)))
		}
		require.NoError(t, assert.ErrorOf(c.Erase(t.Context(), user)))
		require.NoError(t, s.ViewStatistics(t.Context(), func(tx stats.Tx) error {
			rows, err := tx.UsersRows(t.Context(), keys)
			assert.True(t, len(rows) > 0, "UsersRows() has no row")
			for key, row := range rows {
				users := require.Value(row.Merged())(t)
				assert.True(t, !users.Replace(user, 1), "the users of %+v contain the erased user", key)
			}
			return err
		}))
	})
}
