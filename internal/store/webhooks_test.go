package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestWebhookStore_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := webhooks.Webhook{ID: 7, URL: "https://a.example/?x=" + special, Secret: "sealed", Enabled: true, AfterScanOffset: 3,
			AfterAlarmID: 4, CreatedAt: t0,
			Filter: webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, From: 2, To: -1}}, Rules: []int64{1 << 40}, Alarms: true}}
		zero := webhooks.Webhook{ID: 7}
		for _, w := range []webhooks.Webhook{zero, full, zero, full} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().PutWebhook(ctx, w) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.webhooks().Webhook(ctx, 7)
				check(t, "webhook", got, w)
				return err
			})
		}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().AddRows(ctx, outbox.Deliveries,
				[]outbox.Row{{Receiver: "7", Event: "e", CreatedAt: t0}, {Receiver: "8", Event: "e", CreatedAt: t0}})
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			n, err := tx.webhooks().CountForgettable(ctx, t0)
			check(t, "deliveries to delete", n, 0)
			forgot, err2 := tx.webhooks().ForgetDeliveries(ctx, t0, 10)
			check(t, "deleted deliveries", forgot, 0)
			return errors.Join(err, err2)
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().DeleteWebhook(ctx, 7) })
		update(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.webhooks().Webhook(ctx, 7)), webhooks.ErrNoWebhook, "a deleted webhook")
			n, err := tx.webhooks().CountForgettable(ctx, t0.Add(time.Millisecond))
			check(t, "deliveries to delete", n, 1)
			forgot, err2 := tx.webhooks().ForgetDeliveries(ctx, t0.Add(time.Millisecond), 10)
			check(t, "deleted deliveries", forgot, 1) // the other was deleted with its webhook
			return errors.Join(err, err2)
		})
	})
}

// TestWebhookStore_TestCallPrecondition verifies that the test of a webhook, which has no audit log entry, checks the precondition of the
// call.
func TestWebhookStore_TestCallPrecondition(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		hook := webhooks.Webhook{ID: 7, URL: "https://a.example/", Secret: "sealed", CreatedAt: t0}
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().PutWebhook(ctx, hook) })
		read, _, err := s.ChangeHead(t.Context())
		require.NoError(t, err)
		ctx := auditlog.WithPrecondition(t.Context(), read, auditlog.Name{Key: "7"})
		send := func() error {
			return s.Webhooks().Update(ctx, func(tx webhooks.Tx) error {
				return tx.AddRows(ctx, outbox.Deliveries, []outbox.Row{{Receiver: "7", Event: "test", CreatedAt: t0}})
			})
		}
		assert.NoErrorf(t, send(), "a test of an unchanged webhook")
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().PutWebhook(ctx, hook) })
		assert.ErrorIs(t, send(), auditlog.ErrMoved, "a test of a changed webhook")
		check(t, "test deliveries", queryInt(t, s, `SELECT COUNT(*) FROM deliveries`), 1)
	})
}

// TestWebhookStore_DeletedWhileQueueing deletes a webhook on a second node while the first node adds deliveries for the webhook. No
// delivery remains.
func TestWebhookStore_DeletedWhileQueueing(t *testing.T) {
	for name, read := range map[string]func(webhooks.Tx) error{
		"all webhooks": func(tx webhooks.Tx) error { return assert.ErrorOf(tx.Webhooks(t.Context())) },
		"one webhook":  func(tx webhooks.Tx) error { return assert.ErrorOf(tx.Webhook(t.Context(), 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
				update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
					return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 1, Enabled: true, URL: "x", Secret: "x"})
				})
				deleted, queued := make(chan struct{}), nodes[1].write.Stats().WaitCount
				require.NoError(t, nodes[0].Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
					err := read(tx)
					go func() {
						defer close(deleted)
						assert.NoErrorf(t, nodes[1].Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
							return tx.DeleteWebhook(t.Context(), 1)
						}), "deletion of the webhook")
					}()
					waitFor(t, "the deletion to wait, or to end", func() bool {
						return isClosed(deleted) || nodes[1].write.Stats().WaitCount > queued || countLockWaiters(t, nodes[1]) > 0
					})
					rows := []outbox.Row{{Receiver: "1", Event: "e", CreatedAt: t0}}
					return errors.Join(err, tx.AddRows(t.Context(), outbox.Deliveries, rows))
				}))
				<-deleted
				check(t, "deliveries of the deleted webhook", queryInt(t, nodes[0], `SELECT COUNT(*) FROM deliveries`), 0)
			})
		})
	}
}

// TestWebhookStore_EventQueuedOnce reads the same events on two nodes concurrently. Each event is queued once.
func TestWebhookStore_EventQueuedOnce(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 1, Enabled: true, URL: "x", Secret: "x"})
		})
		const events = 60
		var readers sync.WaitGroup
		for _, s := range nodes {
			for range 2 {
				readers.Go(func() {
					for {
						done := false
						err := s.Webhooks().Update(t.Context(), func(tx webhooks.Tx) error {
							position, err := tx.Position(t.Context(), "scans")
							if done = position == events; err != nil || done {
								return err
							}
							ok, err := tx.Advance(t.Context(), "scans", position, position+3)
							if err != nil || !ok {
								return err
							}
							for n := position; n < position+3; n++ {
								if err := tx.AddRows(t.Context(), outbox.Deliveries,
									[]outbox.Row{{Receiver: "1", Event: fmt.Sprint("e", n), Body: "{}", CreatedAt: t0,
										NextAt: t0}}); err != nil {
									return err
								}
							}
							return nil
						})
						if err != nil {
							t.Error(err)
							return
						}
						if done {
							return
						}
					}
				})
			}
		}
		readers.Wait()
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			list, err := tx.webhooks().Rows(ctx, outbox.Deliveries, outbox.Query{Limit: 1000})
			names := slices.Compact(slices.Sorted(slices.Values(mapSlice(list, rowEvent))))
			assert.True(t, slices.IsSortedFunc(list, func(a, b outbox.Row) int { return int(b.ID - a.ID) }), "deliveries are not in order")
			assert.True(t, len(names) == events && len(list) == events, "%d deliveries of %d events, want %d of %d", len(list), len(names),
				events, events)
			return err
		})
	})
}

// TestWebhookStore_AuditLogHidesPath verifies that the audit log, which is never deleted, has the host of a webhook only: its URL may
// contain secrets.
func TestWebhookStore_AuditLogHidesPath(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 7,
				URL: "https://me:word@hooks.example:8443/services/T0/hidden?key=hidden#hidden"})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			var detail string
			err := tx.row(ctx, `SELECT detail FROM changes ORDER BY seq DESC LIMIT 1`).Scan(&detail)
			assert.True(t, strings.Contains(detail, `"https://hooks.example:8443"`) && !strings.Contains(detail, "hidden") &&
				!strings.Contains(detail, "word"), "audit log entry = %s, want the host only", detail)
			return err
		})
	})
}
