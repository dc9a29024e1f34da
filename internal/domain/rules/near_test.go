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

// heldStore is a store whose reads stand still.
type heldStore struct {
	rules.Store
	inside  atomic.Int64
	release chan struct{}
}

func (s *heldStore) ViewRules(ctx context.Context, _ func(rules.Tx) error) error {
	s.inside.Add(1)
	defer s.inside.Add(-1)
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Two at most read the rules near a link; the others wait their turn, and not for ever. Issue 12, 6.
func TestNear_SemaphoreOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &heldStore{release: make(chan struct{})}
		b := &rules.Service{Store: s}
		link, _ := rules.ParseLink("https://h.example/a")
		ended := make(chan error, 8)
		for range 5 {
			go func() {
				_, err := b.NearestRules(t.Context(), link)
				ended <- err
			}()
		}
		gone, leave := context.WithCancel(t.Context())
		for waiting := 5; waiting > 2; waiting-- {
			synctest.Wait()
			require.Equal(t, s.inside.Load(), 2, "read at once")
			s.release <- struct{}{}
			require.NoError(t, <-ended)
		}
		synctest.Wait()
		go func() {
			_, err := b.NearestRules(gone, link)
			ended <- err
		}()
		synctest.Wait()
		leave()
		assert.ErrorIs(t, (<-ended), context.Canceled, "a caller that left")
		assert.ErrorIs(t, assert.ErrorOf(b.NearestRules(t.Context(), link)), rules.ErrBusy, "while two stand still")
		close(s.release)
		for range 2 {
			assert.NoError(t, (<-ended))
		}
	})
}
