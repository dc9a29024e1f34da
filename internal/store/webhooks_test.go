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
	eachBackend(t, func(t *testing.T, s *Store) {
		full := webhooks.Webhook{ID: 7, URL: "https://a.example/?x=" + spice, Secret: "sealed", Enabled: true, AfterScanOffset: 3,
			AfterAlarmID: 4, CreatedAt: at,
			Filter: webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, From: 2, To: -1}}, Rules: []int64{1 << 40}, Alarms: true}}
		zero := webhooks.Webhook{ID: 7}
		for _, w := range []webhooks.Webhook{zero, full, zero, full} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().PutWebhook(ctx, w) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.webhooks().Webhook(ctx, 7)
				want(t, "webhook", got, w)
				return err
			})
		}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().AddRows(ctx, outbox.Deliveries,
				[]outbox.Row{{Receiver: "7", Event: "e", CreatedAt: at}, {Receiver: "8", Event: "e", CreatedAt: at}})
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			n, err := tx.webhooks().CountForgettable(ctx, at)
			want(t, "forgettable", n, 0)
			forgot, err2 := tx.webhooks().ForgetDeliveries(ctx, at, 10)
			want(t, "forgotten", forgot, 0)
			return errors.Join(err, err2)
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().DeleteWebhook(ctx, 7) })
		update(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.webhooks().Webhook(ctx, 7)
			assert.True(t, errors.Is(err, webhooks.ErrNoWebhook), "%v", err)
			n, err := tx.webhooks().CountForgettable(ctx, at.Add(time.Millisecond))
			want(t, "forgettable", n, 1)
			forgot, err2 := tx.webhooks().ForgetDeliveries(ctx, at.Add(time.Millisecond), 10)
			want(t, "forgotten", forgot, 1) // the other went with its webhook
			return errors.Join(err, err2)
		})
	})
}

// The test of a webhook is in no log of changes. It is guarded nevertheless, by each transaction of the call, under the lock of the head.
func TestWebhookStore_TestCallPrecondition(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		hook := webhooks.Webhook{ID: 7, URL: "https://a.example/", Secret: "sealed", CreatedAt: at}
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().PutWebhook(ctx, hook) })
		read, _, err := s.ChangeHead(t.Context())
		require.NoError(t, err)
		ctx := auditlog.WithPrecondition(t.Context(), read, auditlog.Name{Key: "7"})
		send := func() error {
			return s.Webhooks().Update(ctx, func(tx webhooks.Tx) error {
				return tx.AddRows(ctx, outbox.Deliveries, []outbox.Row{{Receiver: "7", Event: "test", CreatedAt: at}})
			})
		}
		err = send()
		assert.NoErrorf(t, err, "a test of the webhook that was read: %v, want success", err)
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.webhooks().PutWebhook(ctx, hook) })
		err = send()
		assert.ErrorIs(t, err, auditlog.ErrMoved, "a test of a webhook that changed since: %v, want %v", err, auditlog.ErrMoved)
		want(t, "tests", number(t, s, `SELECT COUNT(*) FROM deliveries`), 1)
	})
}

// Two nodes that read the same events queue each of them once.
func TestWebhookStore_EventQueuedOnce(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 1, Enabled: true, URL: "x", Secret: "x"})
		})
		const events = 60
		var both sync.WaitGroup
		for _, s := range nodes {
			for range 2 {
				both.Go(func() {
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
									[]outbox.Row{{Receiver: "1", Event: fmt.Sprint("e", n), Body: "{}", CreatedAt: at,
										NextAt: at}}); err != nil {
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
		both.Wait()
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			list, err := tx.webhooks().Rows(ctx, outbox.Deliveries, outbox.Query{Limit: 1000})
			var names []string
			for i, d := range list {
				names = append(names, d.Event)
				assert.True(t, i <= 0 || d.ID < list[i-1].ID, "not in order")
			}
			if slices.Sort(names); len(slices.Compact(names)) != events || len(list) != events {
				t.Errorf("%d queued, %d different", len(list), len(slices.Compact(names)))
			}
			return err
		})
	})
}

// The address of a webhook is half a secret: the audit log, which forgets nothing, has its host.
func TestWebhookStore_AuditLogHidesPath(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 7,
				URL: "https://me:word@hooks.example:8443/services/T0/hidden?key=hidden#hidden"})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			var detail string
			err := tx.row(ctx, `SELECT detail FROM changes ORDER BY seq DESC LIMIT 1`).Scan(&detail)
			assert.True(t, strings.Contains(detail, `"https://hooks.example:8443"`) && !strings.Contains(detail, "hidden") &&
				!strings.Contains(detail, "word"), "%s", detail)
			return err
		})
	})
}
