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

	"github.com/qrjump/qrjump/internal/webhooks"
)

func TestAWebhookAndItsDeliveriesComeBackAsTheyWere(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		full := webhooks.Webhook{ID: 7, URL: "https://a.example/?x=" + spice, Secret: "sealed", Enabled: true, ScansFrom: 3, AlarmsFrom: 4, CreatedAt: at,
			Wanted: webhooks.Wanted{Codes: []webhooks.Codes{{Batch: 1, From: 2, To: -1}}, Rules: []int64{1 << 40}, Alarms: true}}
		zero := webhooks.Webhook{ID: 7}
		for _, w := range []webhooks.Webhook{zero, full, zero, full} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.PutWebhook(ctx, w) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.Webhook(ctx, 7)
				want(t, "webhook", got, w)
				return err
			})
		}
		d := webhooks.Delivery{Webhook: 7, Event: "scan_1", Body: `{"a":` + spice, CreatedAt: at, Attempts: 3, NextAt: at.Add(time.Hour), SentAt: at, Status: 500, Fault: spice}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.AddDeliveries(ctx, []webhooks.Delivery{d}); err != nil {
				return err
			}
			again := d
			again.Body = "another body of the same event"
			if err := tx.AddDeliveries(ctx, []webhooks.Delivery{again}); err != nil {
				return err
			}
			again.Webhook = 8
			return tx.AddDeliveries(ctx, []webhooks.Delivery{again})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			list, err := tx.Deliveries(ctx, webhooks.Query{Webhook: 7, Limit: 10})
			if err != nil || len(list) != 1 {
				t.Fatalf("%+v %v", list, err)
			}
			d.ID = list[0].ID
			want(t, "delivery", list[0], d)
			if due, err := tx.DueOf(ctx, 7, at, 10); err != nil || len(due) != 0 {
				t.Errorf("due too early: %v %v", due, err)
			}
			for state, n := range map[string]int{"": 2, "waiting": 2, "delivered": 0, "dead": 0} {
				if list, err := tx.Deliveries(ctx, webhooks.Query{State: state, Limit: 10}); err != nil || len(list) != n {
					t.Errorf("%q: %v %v", state, list, err)
				}
			}
			due, err := tx.Due(ctx, at.Add(time.Hour), 10)
			want(t, "due", due, []int64{7})
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			saved := d
			saved.NextAt, saved.DeliveredAt, saved.Status = time.Time{}, at, 200
			if ok, err := tx.SaveDelivery(ctx, saved, at); err != nil || ok {
				t.Errorf("saved over another's: %v %v", ok, err)
			}
			if ok, err := tx.SaveDelivery(ctx, saved, d.NextAt); err != nil || !ok {
				t.Errorf("not saved: %v %v", ok, err)
			}
			got, err := tx.Delivery(ctx, d.ID)
			want(t, "saved", got, saved)
			if n, err := tx.CountForgettable(ctx, at); err != nil || n != 0 {
				t.Errorf("%d %v", n, err)
			}
			if n, err := tx.ForgetDeliveries(ctx, at.Add(1), 10); err != nil || n != 0 {
				t.Errorf("forgot %d %v", n, err)
			}
			if n, err := tx.CountForgettable(ctx, at.Add(time.Millisecond)); err != nil || n != 1 {
				t.Errorf("%d %v", n, err)
			}
			if n, err := tx.ForgetDeliveries(ctx, at.Add(time.Millisecond), 10); err != nil || n != 1 {
				t.Errorf("forgot %d %v", n, err)
			}
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.DeleteWebhook(ctx, 7) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			if _, err := tx.Webhook(ctx, 7); !errors.Is(err, webhooks.ErrNoWebhook) {
				t.Errorf("%v", err)
			}
			if _, err := tx.Delivery(ctx, d.ID); !errors.Is(err, webhooks.ErrNoDelivery) {
				t.Errorf("%v", err)
			}
			return nil
		})
	})
}

// Two nodes that read the same events queue each of them once.
func TestAnEventIsQueuedOnce(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			return tx.PutWebhook(ctx, webhooks.Webhook{ID: 1, Enabled: true, URL: "x", Secret: "x"})
		})
		const events = 60
		var both sync.WaitGroup
		for _, s := range nodes {
			for range 2 {
				both.Go(func() {
					for {
						done := false
						err := s.UpdateWebhooks(t.Context(), func(tx webhooks.Tx) error {
							position, err := tx.Position(t.Context(), "scans")
							if done = position == events; err != nil || done {
								return err
							}
							ok, err := tx.Advance(t.Context(), "scans", position, position+3)
							if err != nil || !ok {
								return err
							}
							for n := position; n < position+3; n++ {
								if err := tx.AddDeliveries(t.Context(), []webhooks.Delivery{{Webhook: 1, Event: fmt.Sprint("e", n), Body: "{}", CreatedAt: at, NextAt: at}}); err != nil {
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
			list, err := tx.DueOf(ctx, 1, at, 1000)
			var names []string
			for i, d := range list {
				names = append(names, d.Event)
				if i > 0 && d.ID <= list[i-1].ID {
					t.Error("not in order")
				}
			}
			if slices.Sort(names); len(slices.Compact(names)) != events || len(list) != events {
				t.Errorf("%d queued, %d different", len(list), len(slices.Compact(names)))
			}
			return err
		})
	})
}

// More than may wait: the oldest go, of that webhook only.
func TestTheOldestDeliveriesAreGivenUp(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			var list []webhooks.Delivery
			for n := range 300 {
				list = append(list, webhooks.Delivery{Webhook: 1 + int64(n%2), Event: fmt.Sprint("e", n), Body: "{}", CreatedAt: at, NextAt: at})
			}
			if err := tx.AddDeliveries(ctx, list); err != nil {
				return err
			}
			for keep, want := range map[int]int{300: 0, 150: 0} {
				if n, err := tx.GiveUpOldest(ctx, 1, keep, "too many"); err != nil || n != want {
					t.Errorf("keep %d: %d %v", keep, n, err)
				}
			}
			n, err := tx.GiveUpOldest(ctx, 1, 140, "too many")
			if n != 10 {
				t.Errorf("gave up %d", n)
			}
			return err
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			dead, err := tx.Deliveries(ctx, webhooks.Query{State: "dead", Limit: 1000})
			if err != nil || len(dead) != 10 || dead[0].Event != "e18" || dead[9].Event != "e0" || dead[0].Webhook != 1 || dead[0].Fault != "too many" {
				t.Errorf("%+v %v", dead, err)
			}
			due, err := tx.DueOf(ctx, 1, at, 3)
			if err != nil || len(due) != 3 || due[0].Event != "e20" || due[2].Event != "e24" {
				t.Errorf("%+v %v", due, err)
			}
			return err
		})
	})
}

// The address of a webhook is half a secret: the audit log, which forgets
// nothing, has its host.
func TestTheAuditLogHasNoPathOfAWebhook(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.PutWebhook(ctx, webhooks.Webhook{ID: 7, URL: "https://me:word@hooks.example:8443/services/T0/hidden?key=hidden#hidden"})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			var detail string
			err := tx.row(ctx, `SELECT detail FROM changes ORDER BY seq DESC LIMIT 1`).Scan(&detail)
			if !strings.Contains(detail, `"https://hooks.example:8443"`) || strings.Contains(detail, "hidden") || strings.Contains(detail, "word") {
				t.Errorf("%s", detail)
			}
			return err
		})
	})
}
