package replica

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// ringingLog is the log of changes of several nodes; it counts the reads, and notifies of the numbers that the test sends.
type ringingLog struct {
	fakeStore
	updates, reads atomic.Int64
	rings          chan int64
	breaks, closed atomic.Bool
}

func newLog() *ringingLog {
	log := &ringingLog{rings: make(chan int64)}
	log.step = func(_ context.Context, name string) error {
		if name == "begin" {
			log.reads.Add(1)
		}
		if log.breaks.Load() {
			panic("while the log was read")
		}
		return nil
	}
	return log
}

func (l *ringingLog) Updates() int64 { return l.updates.Load() }

func (l *ringingLog) Listen(context.Context) (Notifier, error) { return l, nil }

func (l *ringingLog) Wait(ctx context.Context) (int64, error) {
	select {
	case seq := <-l.rings:
		return seq, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (l *ringingLog) Close() {
	time.Sleep(time.Second) // as a connection does that is closed in order
	l.closed.Store(true)
}

// A node reads the log once for all transactions that it ended before, also for one that only saw the change of another node, and not again
// when it is notified of the last change. Follow ends when the connection on which it listens is closed, so that the store can be.
func TestFollow_OneReadForOwnTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		p := followShared(&log.fakeStore)
		p.Changes = log
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		following.Go(func() { p.Follow(ctx) })
		synctest.Wait()
		reads := func(what string, want int64, act func()) {
			t.Helper()
			before := log.reads.Load()
			act()
			synctest.Wait()
			assert.Equal(t, log.reads.Load()-before, want, "reads of the log, %s", what)
		}
		reads("after three transactions", 1, func() {
			for range 4 { // versions 1, 2 and 4 exist, 3 is deleted
				log.commit(0)
			}
			log.updates.Add(3)
			for range 3 {
				p.RefreshRule(ctx, names[0])
			}
		})
		version, _ := p.see(0)
		assert.Equal(t, version, 4, "version of the rule after three transactions")
		reads("notified of the last change", 0, func() { log.rings <- int64(len(log.log)) })
		reads("notified without a number", 1, func() { log.rings <- 0 })
		reads("notified of a later change", 1, func() { log.rings <- int64(len(log.log)) + 1 })
		reads("after a transaction that saw the change of another node", 1, func() {
			log.commit(0)
			log.updates.Add(1)
			p.RefreshRule(ctx, names[0])
		})
		version, _ = p.see(0)
		assert.Equal(t, version, 5, "version of the rule that another node made")
		log.breaks.Store(true)
		reads("after a panic", 1, func() {
			defer func() { assert.True(t, recover() != nil, "the panic did not reach its caller") }()
			log.updates.Add(1)
			p.RefreshRule(ctx, names[0])
		})
		assert.True(t, p.ready() != nil, "after a panic, the memory is said to be complete")
		cancel()
		following.Wait()
		assert.True(t, log.closed.Load(), "Follow ended before its connection did")
	})
}
