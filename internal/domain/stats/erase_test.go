package stats_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// gatedLog tells when a user's scan is read, and goes on when it is let.
type gatedLog struct {
	*scantest.Memory
	user    scanlog.UserHash
	reached chan struct{}
	let     chan struct{}
}

func (l *gatedLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range l.Memory.Read(ctx, after) {
			if l.reached != nil && e.User == l.user {
				l.reached <- struct{}{}
				<-l.let
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

// watchedStore knows whether a transaction that writes is open.
type watchedStore struct {
	stats.Store
	open bool
}

func (s *watchedStore) UpdateStatistics(ctx context.Context, f func(stats.Tx) error) error {
	return s.Store.UpdateStatistics(ctx, func(tx stats.Tx) error {
		s.open = true
		defer func() { s.open = false }()
		return f(tx)
	})
}

// farLog is a log on the other side of a network.
type farLog struct {
	*scantest.Memory
	t     *testing.T
	store *watchedStore
	id    string
}

func (l *farLog) asked(what string) {
	assert.True(l.t, !l.store.open, "the log is asked for %s within a transaction that writes", what)
}

func (l *farLog) ID() string {
	l.asked("its id")
	return l.id
}

func (l *farLog) End(ctx context.Context) (int64, error) {
	l.asked("its end")
	return l.Memory.End(ctx)
}

func (l *farLog) Find(ctx context.Context, id scanlog.ScanID) (int64, error) {
	l.asked("a scan")
	return l.Memory.Find(ctx, id)
}

func (l *farLog) Read(ctx context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	l.asked("its scans")
	return l.Memory.Read(ctx, after)
}

func (l *farLog) ForUsers(ctx context.Context, users scanlog.Users, after int64) iter.Seq2[scanlog.Entry, error] {
	l.asked("a user's scans")
	return l.Memory.ForUsers(ctx, users, after)
}

// Issue 12, 12: nothing waits for a network within a transaction that writes.
func TestErase_NoLogReadInTransaction(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(12, 13)), Now: began, Users: 20}
		watched := &watchedStore{Store: s}
		for _, id := range []string{"one", "another", "one"} { // back to where it was, which looks for a scan
			log := &farLog{&scantest.Memory{}, t, watched, id}
			require.NoError(t, log.Append(t.Context(), events.Take(300)))
			c := scantest.NewCounter(watched, log)
			require.NoError(t, c.CatchUpAndSave(t.Context()))
			require.NoError(t, assert.ErrorOf(c.Erase(t.Context(), scanlog.UserHash{1})))
		}
	})
}

// Issue 12, 12: while the ledger is read for a user who is erased, scans are
// counted on and questions are answered; what comes meanwhile is counted too.
func TestErase_NonBlocking(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(12, 12)), Now: began, Users: 20}
		log := &gatedLog{Memory: &scantest.Memory{}, let: make(chan struct{})}
		c := scantest.NewCounter(s, log)
		more := func() {
			t.Helper()
			var list []scanlog.Event
			for range 200 {
				list = append(list, events.Next())
			}
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
			assert.True(t, err == nil, "%v", err)
		case <-time.After(time.Minute):
			t.Error("a question waits for an erasure")
		}
		go func() { // lets everything else be read
			for {
				select {
				case log.let <- struct{}{}:
				case <-reached:
				case <-t.Context().Done():
					return
				}
			}
		}()
		require.NoError(t, <-erased)
		more()
		require.NoError(t, c.CatchUp(t.Context()))
		r, err := (verify.Recounter{Counter: c}).Run(t.Context())
		assert.True(t, err == nil && r.Differences == 0, "%+v, %v", r, err)
	})
}

// asked is a context that notes that it was asked for its end, as Erase does once a user is in the queue.
type asked struct {
	context.Context
	note func()
}

func (c *asked) Done() <-chan struct{} {
	c.note()
	return c.Context.Done()
}

// Issue 14: users whose erasures wait for another are erased in one pass.
func TestErase_PendingMergedIntoOnePass(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		events := &scantest.Traffic{Random: rand.New(rand.NewPCG(14, 7)), Now: began, Users: 20}
		log := &gatedLog{Memory: &scantest.Memory{}, let: make(chan struct{})}
		require.NoError(t, log.Append(t.Context(), events.Take(300)))
		want := map[scanlog.UserHash]int64{}
		for _, e := range events.Sent {
			if e.User != (scanlog.UserHash{}) {
				want[e.User]++
				log.user = e.User
			}
		}
		c := scantest.NewCounter(s, log)
		require.NoError(t, c.CatchUp(t.Context()))
		erase := func(ctx context.Context, user scanlog.UserHash, ended chan<- error) {
			n, err := c.Erase(ctx, user)
			if err == nil && n != want[user] {
				err = fmt.Errorf("%d scans were erased, want %d", n, want[user])
			}
			ended <- err
		}
		log.reached = make(chan struct{})
		leaving, leave := context.WithCancel(t.Context())
		first, given := make(chan error, 1), make(chan error, 1)
		go erase(t.Context(), log.user, first)
		<-log.reached // it is held up in its pass
		reached, others := log.reached, make(chan error, len(want))
		var queued sync.WaitGroup
		queued.Add(len(want))
		go erase(&asked{leaving, sync.OnceFunc(queued.Done)}, scanlog.UserHash{1}, given)
		for user := range want {
			if user != log.user {
				go erase(&asked{t.Context(), sync.OnceFunc(queued.Done)}, user, others)
			}
		}
		queued.Wait()
		leave()
		assert.True(t, (<-given) != nil, "a caller who left was told of an erasure")
		go func() { // lets everything else be read
			for {
				select {
				case log.let <- struct{}{}:
				case <-reached:
				case <-t.Context().Done():
					return
				}
			}
		}()
		assert.NoError(t, (<-first))
		for range len(want) - 1 {
			assert.NoError(t, (<-others))
		}
		if log.Reads > 4 { // counting, two passes, and what came meanwhile
			t.Errorf("the ledger was read %d times for %d users", log.Reads, len(want))
		}
		noDifference(t, c)
		for _, e := range log.Entries {
			assert.Equal(t, e.User, scanlog.UserHash{}, "still there")
		}
	})
}
