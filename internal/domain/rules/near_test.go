package rules_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// blockingStore is a store whose reads block until release receives a value.
type blockingStore struct {
	rules.Store
	active  atomic.Int64
	release chan struct{}
}

func (s *blockingStore) ViewRules(ctx context.Context, _ func(rules.Tx) error) error {
	s.active.Add(1)
	defer s.active.Add(-1)
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestNear_SemaphoreOfTwo verifies that at most two callers read the rules near a link at a time, and that waiting callers return when
// their context is done or after a timeout.
func TestNear_SemaphoreOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &blockingStore{release: make(chan struct{})}
		b := &rules.Service{Store: s}
		link, _ := rules.ParseLink("https://h.example/a")
		results := make(chan error, 8)
		for range 5 {
			go func() {
				_, err := b.NearestRules(t.Context(), link)
				results <- err
			}()
		}
		ctx, cancel := context.WithCancel(t.Context())
		for waiting := 5; waiting > 2; waiting-- {
			synctest.Wait()
			require.Equal(t, s.active.Load(), 2, "concurrent reads")
			s.release <- struct{}{}
			require.NoError(t, <-results)
		}
		synctest.Wait()
		go func() {
			_, err := b.NearestRules(ctx, link)
			results <- err
		}()
		synctest.Wait()
		cancel()
		assert.ErrorIs(t, (<-results), context.Canceled, "NearestRules with a canceled context")
		assert.ErrorIs(t, assert.ErrorOf(b.NearestRules(t.Context(), link)), rules.ErrBusy, "NearestRules during two blocked reads")
		close(s.release)
		for range 2 {
			assert.NoError(t, (<-results))
		}
	})
}
