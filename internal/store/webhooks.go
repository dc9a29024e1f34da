package store

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
)

// Webhooks begins transactions on webhooks.
func (s *Store) Webhooks() accounts.Transactions[webhooks.Tx] {
	return transactions[webhooks.Tx]{s, func(tx *Tx) webhooks.Tx { return tx.webhooks() }}
}

// LastAlarm returns the number of the newest alarm or change of an alarm; 0 = none.
func (s *Store) LastAlarm(ctx context.Context) (int64, error) {
	return viewed(ctx, s, func(tx *Tx) (int64, error) {
		return scalar[int64](ctx, tx, `SELECT value FROM sequences WHERE name = 'alarm'`)
	})
}

var webhookRows = mapper[webhooks.Webhook]{table: "webhooks", key: "id", notFound: webhooks.ErrNoWebhook,
	columns: "id, url, secret, filter, enabled, first_scan_offset, first_alarm_id, created_at",
	targets: func(w *webhooks.Webhook) []any {
		return []any{&w.ID, &w.URL, &w.Secret, inJSON(&w.Filter), &w.Enabled, &w.AfterScanOffset, &w.AfterAlarmID, moment{&w.CreatedAt}}
	}}

func (t webhookQueries) LockWebhooks(ctx context.Context) error { return t.lock(ctx, "webhooks", "") }

func (t webhookQueries) NewWebhookID(ctx context.Context) (int64, error) {
	return t.next(ctx, "webhook")
}

func (t webhookQueries) PutWebhook(ctx context.Context, w webhooks.Webhook) error {
	if err := webhookRows.put(ctx, t.Tx, w); err != nil {
		return err
	}
	// The path and query of the URL may contain a secret of the receiver.
	address := ""
	if u, err := url.Parse(w.URL); err == nil && u.Host != "" {
		address = u.Scheme + "://" + u.Host
	}
	return t.note(ctx, ofWebhook, strconv.FormatInt(w.ID, 10), "put",
		map[string]any{"url": address, "wanted": w.Filter, "enabled": w.Enabled})
}

func (t webhookQueries) Webhook(ctx context.Context, id int64) (webhooks.Webhook, error) {
	return webhookRows.find(ctx, t.Tx, `id = $1`+t.keepWebhooks(), id)
}

func (t webhookQueries) Webhooks(ctx context.Context) ([]webhooks.Webhook, error) {
	rows := webhookRows
	rows.columns += `, COALESCE((SELECT MIN(created_at) FROM deliveries
		WHERE webhook = webhooks.id AND next_attempt_at > 0 AND error <> ''), 0)`
	rows.targets = func(w *webhooks.Webhook) []any { return append(webhookRows.targets(w), moment{&w.FailingSince}) }
	return rows.all(ctx, t.Tx, `ORDER BY id`+t.keepWebhooks())
}

// keepWebhooks returns the SQL with which a transaction that reads webhooks delays their deletion until it ends: a transaction that adds
// deliveries must not add them for a deleted webhook.
func (t webhookQueries) keepWebhooks() string {
	if t.engine.sharesRows && !t.readOnly {
		return ` FOR KEY SHARE OF webhooks`
	}
	return ""
}

// MissingIDs returns which of the given rules and applications do not exist.
func (s *Store) MissingIDs(ctx context.Context, rules, batches []int64) (noRules, noBatches []int64, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		if noRules, err = tx.webhooks().absent(ctx, "rules", rules); err == nil {
			noBatches, err = tx.webhooks().absent(ctx, "batches", batches)
		}
		return err
	})
	return noRules, noBatches, err
}

// absent returns the given ids that have no row in a table, in the given order.
func (t webhookQueries) absent(ctx context.Context, table string, ids []int64) ([]int64, error) {
	found, err := listAt(ctx, t.Tx, scanNumber, `SELECT id FROM `+table+` WHERE id IN`, ``, ids)
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	return slices.DeleteFunc(slices.Clone(ids), func(id int64) bool {
		_, is := slices.BinarySearch(found, id)
		return is
	}), nil
}

func (t webhookQueries) DeleteWebhook(ctx context.Context, id int64) error {
	// The deletion of the webhook waits for transactions that add deliveries for the webhook, so the deliveries are deleted second.
	err := t.remove(ctx, nil, ofWebhook, strconv.FormatInt(id, 10), `DELETE FROM webhooks WHERE id = $1`, id)
	if err != nil {
		return err
	}
	return t.run(ctx, `DELETE FROM deliveries WHERE webhook = $1`, id)
}

func (t webhookQueries) Position(ctx context.Context, source string) (int64, error) {
	return scalarOrZero[int64](ctx, t.Tx, `SELECT read_offset FROM webhook_readers WHERE name = $1`, source)
}

func (t webhookQueries) Advance(ctx context.Context, source string, from, to int64) (bool, error) {
	if _, err := t.exec(ctx, `INSERT INTO webhook_readers (name, read_offset) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING`,
		source); err != nil {
		return false, err
	}
	n, err := t.exec(ctx, `UPDATE webhook_readers SET read_offset = $3 WHERE name = $1 AND read_offset = $2`, source, from, to)
	return n == 1, err
}

func (t webhookQueries) LockReader(ctx context.Context, source string) error {
	if _, err := t.exec(ctx, `INSERT INTO webhook_readers (name, read_offset) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING`,
		source); err != nil {
		return err
	}
	return t.run(ctx, `UPDATE webhook_readers SET read_offset = read_offset WHERE name = $1`, source)
}

func (t webhookQueries) Checkpoint(ctx context.Context, source string) (mark string, err error) {
	return scalarOrZero[string](ctx, t.Tx, `SELECT checkpoint FROM webhook_readers WHERE name = $1`, source)
}

func (t webhookQueries) PutMark(ctx context.Context, source, mark string) error {
	return t.run(ctx, `UPDATE webhook_readers SET checkpoint = $2 WHERE name = $1`, source, mark)
}

func (t webhookQueries) Counting(ctx context.Context) (ledger string, err error) {
	state, err := t.statistics().StatisticsState(ctx)
	return state.LogID, err
}

// StartReader implements webhooks.Tx. Scans that are counted while StartReader runs are older than the webhook and need not be delivered.
func (t webhookQueries) StartReader(ctx context.Context) error {
	for _, statement := range [...]string{
		`UPDATE webhook_readers SET checkpoint = '', read_offset = COALESCE((SELECT counted_offset FROM statistics_state WHERE id = 1), 0)
			WHERE name = '` + webhooks.ScanSource + `'`,
		`UPDATE scan_logs SET webhook_offset = -1`,
		`DELETE FROM webhook_offsets`,
		`INSERT INTO webhook_offsets (node, contiguous_to, extra) SELECT node, contiguous_to, extra FROM aggregation_offsets`,
		`INSERT INTO webhook_offsets (node, contiguous_to, extra) VALUES ('` + everyJournal + `', 0, '')`,
	} {
		if _, err := t.exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// AdoptCountedOffsets implements webhooks.Tx. One statement reads and stores the offsets, so no scan is counted between the two steps.
func (t webhookQueries) AdoptCountedOffsets(ctx context.Context, from, to int64) error {
	const reached = ` WHERE EXISTS (SELECT 1 FROM statistics_state WHERE id = 1 AND counted_offset BETWEEN $1 AND $2) `
	return t.run(ctx, `INSERT INTO webhook_offsets (node, contiguous_to, extra) SELECT node, contiguous_to, extra FROM aggregation_offsets`+reached+
		`UNION ALL SELECT '`+everyJournal+`', 0, ''`+reached+`ON CONFLICT (node) DO NOTHING`, from, to)
}

// CountForgettable implements webhooks.Tx. ORDER BY makes PostgreSQL use an index: otherwise a generic plan would read all deliveries to
// find an old one.
func (t webhookQueries) CountForgettable(ctx context.Context, before time.Time) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM (SELECT 1 AS one FROM deliveries WHERE next_attempt_at = 0 AND created_at < $1
		ORDER BY created_at LIMIT 1) AS found`, millis(before))
}

func (t webhookQueries) ForgetDeliveries(ctx context.Context, before time.Time, limit int) (int, error) {
	n,
		err := t.exec(ctx,
		`DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE next_attempt_at = 0 AND created_at < $1 ORDER BY created_at LIMIT $2)`,
		millis(before), limit)
	return int(n), err
}
