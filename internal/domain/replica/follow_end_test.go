package replica

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// silentLog is a log of changes in which nothing happens.
type silentLog struct{ closed atomic.Bool }

func (l *silentLog) ChangeHead(context.Context) (int64, string, error) { return 0, "", nil }

func (l *silentLog) ChangesFrom(context.Context, int64, int) ([]Change, error) { return nil, nil }

func (l *silentLog) Listen(context.Context) (Notifier, error) { return l, nil }

func (l *silentLog) Commits() int64 { return 0 }

func (l *silentLog) Wait(ctx context.Context) (int64, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

func (l *silentLog) Close() {
	time.Sleep(time.Second) // as a connection does that is closed in order
	l.closed.Store(true)
}

// Issue 12, 12: Follow ends when the connection on which it listens is closed, so that the store can be.
func TestFollow_ConnectionClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &silentLog{}
		c := &Replica{Changes: log, Log: slog.New(slog.DiscardHandler), Now: time.Now, Rules: index.New(), Accounts: NewAccounts()}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Follow(ctx)
			assert.True(t, log.closed.Load(), "Follow ended before its connection did")
		}()
		synctest.Wait()
		cancel()
		<-ended
		time.Sleep(2 * time.Second)
	})
}

// ringingLog is a log of changes that counts its reads and notifies of the numbers that the test sends.
type ringingLog struct {
	fakeStore
	reads atomic.Int64
	rings chan int64
}

func (l *ringingLog) Listen(context.Context) (Notifier, error) { return l, nil }

func (l *ringingLog) Wait(ctx context.Context) (int64, error) {
	select {
	case seq := <-l.rings:
		return seq, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (l *ringingLog) Close() {}

// A node reads the log once for all changes that it committed before, and not again when it is notified of the last one.
func TestFollow_OneReadForOwnChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &ringingLog{rings: make(chan int64)}
		log.step = func(_ context.Context, name string) error {
			if name == "begin" {
				log.reads.Add(1)
			}
			return nil
		}
		p := followShared(&log.fakeStore)
		p.Changes = log
		ctx, cancel := context.WithCancel(t.Context())
		go p.Follow(ctx)
		synctest.Wait()
		reads := func(what string, want int64, act func()) {
			t.Helper()
			before := log.reads.Load()
			act()
			synctest.Wait()
			assert.Equal(t, log.reads.Load()-before, want, "reads of the log, %s", what)
		}
		for range 3 {
			log.commit(0)
		}
		reads("after three commits", 1, func() {
			for range 3 {
				p.RefreshRule(ctx, names[0])
			}
		})
		last := log.Commits()
		reads("notified of the last commit", 0, func() { log.rings <- last })
		reads("notified of an unknown commit", 1, func() { log.rings <- 0 })
		reads("notified of a later commit", 1, func() { log.rings <- last + 1 })
		log.commit(0)
		reads("after one more commit", 1, func() { p.RefreshRule(ctx, names[0]) })
		cancel()
	})
}
