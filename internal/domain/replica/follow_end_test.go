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

// notifyingLog is the change log of several nodes. It counts reads, and sends the notifications of the test.
type notifyingLog struct {
	fakeStore
	updates, reads atomic.Int64
	notifications  chan int64
	panics, closed atomic.Bool
}

func newNotifyingLog() *notifyingLog {
	log := &notifyingLog{notifications: make(chan int64)}
	log.step = func(_ context.Context, name string) error {
		if name == "begin" {
			log.reads.Add(1)
		}
		if log.panics.Load() {
			panic("read of the log")
		}
		return nil
	}
	return log
}

func (l *notifyingLog) Updates() int64 { return l.updates.Load() }

func (l *notifyingLog) Listen(context.Context) (Notifier, error) { return l, nil }

func (l *notifyingLog) Wait(ctx context.Context) (int64, error) {
	select {
	case seq := <-l.notifications:
		return seq, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (l *notifyingLog) Close() {
	time.Sleep(time.Second) // as a connection does that is closed in order
	l.closed.Store(true)
}

// TestFollow_OneReadForOwnTransactions verifies that a node reads the log once for all its completed transactions, also for one that saw
// the change of another node, and not again when it is notified of the last change. Follow must return after its connection is closed, so
// that the store can be closed.
func TestFollow_OneReadForOwnTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newNotifyingLog()
		p := newSharedProtocol(&log.fakeStore)
		p.Changes = log
		ctx, cancel := context.WithCancel(t.Context())
		var following sync.WaitGroup
		following.Go(func() { p.Follow(ctx) })
		synctest.Wait()
		checkReads := func(name string, want int64, act func()) {
			t.Helper()
			before := log.reads.Load()
			act()
			synctest.Wait()
			assert.Equal(t, log.reads.Load()-before, want, "reads of the log, %s", name)
		}
		checkReads("after three transactions", 1, func() {
			for range 4 { // versions 1, 2 and 4 exist, 3 is deleted
				log.commit(0)
			}
			log.updates.Add(3)
			for range 3 {
				p.RefreshRule(ctx, names[0])
			}
		})
		version, _ := p.read(0)
		assert.Equal(t, version, 4, "version of the rule after three transactions")
		checkReads("notified of the last change", 0, func() { log.notifications <- int64(len(log.log)) })
		checkReads("notified without a number", 1, func() { log.notifications <- 0 })
		checkReads("notified of a later change", 1, func() { log.notifications <- int64(len(log.log)) + 1 })
		checkReads("after a transaction that saw the change of another node", 1, func() {
			log.commit(0)
			log.updates.Add(1)
			p.RefreshRule(ctx, names[0])
		})
		version, _ = p.read(0)
		assert.Equal(t, version, 5, "version of the rule that another node changed")
		log.panics.Store(true)
		checkReads("after a panic", 1, func() {
			defer func() { assert.True(t, recover() != nil, "recover() = nil, want the panic to reach the caller") }()
			log.updates.Add(1)
			p.RefreshRule(ctx, names[0])
		})
		assert.True(t, p.ready() != nil, "ready() after a panic = nil, want an error")
		cancel()
		following.Wait()
		assert.True(t, log.closed.Load(), "Follow() returns before its connection is closed, want after it")
	})
}
