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

func (l *silentLog) Wait(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
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
