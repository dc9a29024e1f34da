package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/webhooks"
)

// UpdateWebhooks implements webhooks.Store.
func (s *Store) UpdateWebhooks(ctx context.Context, f func(webhooks.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx) })
}

// ViewWebhooks implements webhooks.Store.
func (s *Store) ViewWebhooks(ctx context.Context, f func(webhooks.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx) })
}

// LastAlarm is the number of the newest alarm; 0 = there is none.
func (s *Store) LastAlarm(ctx context.Context) (last int64, err error) {
	err = s.view(ctx, func(tx *Tx) error { return tx.row(ctx, `SELECT COALESCE(MAX(id), 0) FROM alarms`).Scan(&last) })
	return last, err
}

const webhookColumns = `id, url, secret, wanted, enabled, scans_from, alarms_from, created_at`

func webhookArgs(w *webhooks.Webhook) []any {
	return []any{w.ID, w.URL, w.Secret, inJSON(&w.Wanted).text(), flag(w.Enabled), w.ScansFrom, w.AlarmsFrom, millis(w.CreatedAt)}
}

func scanWebhook(scan func(...any) error) (w webhooks.Webhook, err error) {
	var created int64
	err = scan(&w.ID, &w.URL, &w.Secret, inJSON(&w.Wanted), &w.Enabled, &w.ScansFrom, &w.AlarmsFrom, &created)
	w.CreatedAt = fromMillis(created)
	if errors.Is(err, sql.ErrNoRows) {
		err = webhooks.ErrNoWebhook
	}
	return w, err
}

// NewWebhookID implements webhooks.Tx.
func (t *Tx) NewWebhookID(ctx context.Context) (int64, error) { return t.next(ctx, "webhook") }

// PutWebhook implements webhooks.Tx.
func (t *Tx) PutWebhook(ctx context.Context, w webhooks.Webhook) error {
	if _, err := t.exec(ctx, `INSERT INTO webhooks (`+webhookColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET url = excluded.url, secret = excluded.secret, wanted = excluded.wanted, enabled = excluded.enabled,
			scans_from = excluded.scans_from, alarms_from = excluded.alarms_from, created_at = excluded.created_at`, webhookArgs(&w)...); err != nil {
		return err
	}
	// Its path and query may let somebody in at the receiver's.
	address := ""
	if u, err := url.Parse(w.URL); err == nil && u.Host != "" {
		address = u.Scheme + "://" + u.Host
	}
	return t.note(ctx, ofWebhook, strconv.FormatInt(w.ID, 10), "put", map[string]any{"url": address, "wanted": w.Wanted, "enabled": w.Enabled})
}

// Webhook implements webhooks.Tx.
func (t *Tx) Webhook(ctx context.Context, id int64) (webhooks.Webhook, error) {
	return scanWebhook(t.row(ctx, `SELECT `+webhookColumns+` FROM webhooks WHERE id = $1`, id).Scan)
}

// Webhooks implements webhooks.Tx.
func (t *Tx) Webhooks(ctx context.Context) ([]webhooks.Webhook, error) {
	return list(ctx, t, scanWebhook, `SELECT `+webhookColumns+` FROM webhooks ORDER BY id`)
}

// DeleteWebhook implements webhooks.Tx.
func (t *Tx) DeleteWebhook(ctx context.Context, id int64) error {
	if _, err := t.exec(ctx, `DELETE FROM deliveries WHERE webhook = $1`, id); err != nil {
		return err
	}
	if n, err := t.exec(ctx, `DELETE FROM webhooks WHERE id = $1`, id); err != nil || n == 0 {
		return err
	}
	return t.note(ctx, ofWebhook, strconv.FormatInt(id, 10), "delete", nil)
}

// Position implements webhooks.Tx.
func (t *Tx) Position(ctx context.Context, source string) (position int64, err error) {
	err = t.row(ctx, `SELECT position FROM webhook_readers WHERE name = $1`, source).Scan(&position)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return position, err
}

// Advance implements webhooks.Tx.
func (t *Tx) Advance(ctx context.Context, source string, from, to int64) (bool, error) {
	if _, err := t.exec(ctx, `INSERT INTO webhook_readers (name, position) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING`, source); err != nil {
		return false, err
	}
	n, err := t.exec(ctx, `UPDATE webhook_readers SET position = $3 WHERE name = $1 AND position = $2`, source, from, to)
	return n == 1, err
}

const deliveryColumns = `id, webhook, event, body, created_at, attempts, next_at, sent_at, status, fault, delivered_at`

func deliveryArgs(d *webhooks.Delivery) []any {
	return []any{d.ID, d.Webhook, d.Event, d.Body, millis(d.CreatedAt), d.Attempts, millis(d.NextAt), millis(d.SentAt), d.Status, d.Fault, millis(d.DeliveredAt)}
}

func scanDelivery(scan func(...any) error) (d webhooks.Delivery, err error) {
	var created, next, sent, delivered int64
	err = scan(&d.ID, &d.Webhook, &d.Event, &d.Body, &created, &d.Attempts, &next, &sent, &d.Status, &d.Fault, &delivered)
	d.CreatedAt, d.NextAt, d.SentAt, d.DeliveredAt = fromMillis(created), fromMillis(next), fromMillis(sent), fromMillis(delivered)
	if errors.Is(err, sql.ErrNoRows) {
		err = webhooks.ErrNoDelivery
	}
	return d, err
}

// AddDeliveries implements webhooks.Tx.
func (t *Tx) AddDeliveries(ctx context.Context, all []webhooks.Delivery) error {
	if len(all) == 0 {
		return nil
	}
	var last int64
	if err := t.row(ctx, `UPDATE sequences SET value = value + $1 WHERE name = 'delivery' RETURNING value`, len(all)).Scan(&last); err != nil {
		return err
	}
	id := last - int64(len(all))
	return inPieces(all, func(some []webhooks.Delivery) error {
		args := make([]any, 0, 11*len(some))
		for _, d := range some {
			id++
			d.ID = id
			args = append(args, deliveryArgs(&d)...)
		}
		_, err := t.exec(ctx, `INSERT INTO deliveries (`+deliveryColumns+`) VALUES `+values(len(some), 11)+`
			ON CONFLICT (webhook, event) DO NOTHING`, args...)
		return err
	})
}

// GiveUpOldest implements webhooks.Tx.
func (t *Tx) GiveUpOldest(ctx context.Context, webhook int64, keep int, fault string) (int, error) {
	// Numbers tell cheaply that there cannot be too many, which is the rule.
	var span int64
	if err := t.row(ctx, `SELECT COALESCE(MAX(id) - MIN(id) + 1, 0) FROM deliveries WHERE webhook = $1 AND next_at > 0`, webhook).Scan(&span); err != nil || span <= int64(keep) {
		return 0, err
	}
	n, err := t.exec(ctx, `UPDATE deliveries SET next_at = 0, fault = $3 WHERE webhook = $1 AND next_at > 0 AND id <=
		COALESCE((SELECT id FROM deliveries WHERE webhook = $1 AND next_at > 0 ORDER BY id DESC LIMIT 1 OFFSET $2), 0)`, webhook, keep, fault)
	return int(n), err
}

// Due implements webhooks.Tx.
func (t *Tx) Due(ctx context.Context, now time.Time, limit int) ([]int64, error) {
	return list(ctx, t, scanID, `SELECT w.id FROM webhooks w WHERE w.enabled = 1 AND EXISTS
		(SELECT 1 FROM deliveries d WHERE d.webhook = w.id AND d.next_at > 0 AND d.next_at <= $1
		UNION ALL SELECT 1 FROM deliveries d WHERE d.webhook = w.id AND d.next_at > $2) ORDER BY w.id LIMIT $3`, millis(now), millis(now.Add(webhooks.Farthest)), limit)
}

func scanID(scan func(...any) error) (id int64, err error) {
	err = scan(&id)
	return id, err
}

// DueOf implements webhooks.Tx.
func (t *Tx) DueOf(ctx context.Context, webhook int64, now time.Time, limit int) ([]webhooks.Delivery, error) {
	// Its first id and the plus make SQLite go in the order of deliveries_turn:
	// by what is due first it would read and sort all that waits.
	return list(ctx, t, scanDelivery, `SELECT `+deliveryColumns+` FROM deliveries WHERE webhook = $1 AND id > 0 AND next_at > 0 AND (+next_at <= $2 OR +next_at > $3)
		ORDER BY id LIMIT $4`, webhook, millis(now), millis(now.Add(webhooks.Farthest)), limit)
}

// SaveDelivery implements webhooks.Tx.
func (t *Tx) SaveDelivery(ctx context.Context, d webhooks.Delivery, was time.Time) (bool, error) {
	n, err := t.exec(ctx, `UPDATE deliveries SET created_at = $2, attempts = $3, next_at = $4, sent_at = $5, status = $6, fault = $7, delivered_at = $8
		WHERE id = $1 AND next_at = $9`, d.ID, millis(d.CreatedAt), d.Attempts, millis(d.NextAt), millis(d.SentAt), d.Status, d.Fault, millis(d.DeliveredAt), millis(was))
	return n == 1, err
}

// Delivery implements webhooks.Tx.
func (t *Tx) Delivery(ctx context.Context, id int64) (webhooks.Delivery, error) {
	return scanDelivery(t.row(ctx, `SELECT `+deliveryColumns+` FROM deliveries WHERE id = $1`, id).Scan)
}

// Deliveries implements webhooks.Tx.
func (t *Tx) Deliveries(ctx context.Context, q webhooks.Query) ([]webhooks.Delivery, error) {
	var where []string
	args := []any{q.Limit}
	filter := func(condition string, value int64) {
		args = append(args, value)
		where = append(where, fmt.Sprintf("%s $%d", condition, len(args)))
	}
	if q.Webhook != 0 {
		filter("webhook =", q.Webhook)
	}
	if q.Before != 0 {
		filter("id <", q.Before)
	}
	switch q.State {
	case "waiting":
		where = append(where, "next_at > 0")
	case "delivered":
		where = append(where, "delivered_at > 0")
	case "dead":
		where = append(where, "next_at = 0 AND delivered_at = 0")
	}
	return list(ctx, t, scanDelivery, `SELECT `+deliveryColumns+` FROM deliveries`+conditions(where)+` ORDER BY id DESC LIMIT $1`, args...)
}

// CountForgettable implements webhooks.Tx.
func (t *Tx) CountForgettable(ctx context.Context, before time.Time) (n int, err error) {
	err = t.row(ctx, `SELECT COUNT(*) FROM (SELECT 1 AS one FROM deliveries WHERE next_at = 0 AND created_at < $1 LIMIT 1) AS found`, millis(before)).Scan(&n)
	return n, err
}

// ForgetDeliveries implements webhooks.Tx.
func (t *Tx) ForgetDeliveries(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := t.exec(ctx, `DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE next_at = 0 AND created_at < $1 ORDER BY created_at LIMIT $2)`,
		millis(before), limit)
	return int(n), err
}
