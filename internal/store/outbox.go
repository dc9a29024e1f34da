package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// UpdateOutbox implements outbox.Store.
func (s *Store) UpdateOutbox(ctx context.Context, f func(outbox.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.webhooks()) })
}

// ViewOutbox implements outbox.Store.
func (s *Store) ViewOutbox(ctx context.Context, f func(outbox.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.webhooks()) })
}

// rowTable describes one of the outbox tables. All outbox tables have the same structure; SQL statements contain placeholders such as
// {rows}, because the names of the tables and columns differ.
type rowTable struct {
	words    *strings.Replacer
	sequence string
	insert   string // end of an INSERT statement
	inOrder  bool   // only the oldest waiting row of a receiver may be sent
	removed  bool   // a row is deleted when no further attempt follows
	emptied  string // columns that are cleared if the row is not deleted
	took     string // SQL for the delivery time in Unix milliseconds
	due      string // SQL condition: the receiver r.receiver has a row that may be sent now
	isNext   string // SQL condition, beginning with AND: there is no older row that must be sent before this row
}

var rowTables = map[outbox.Kind]rowTable{
	outbox.Pushes: {sequence: "push", emptied: `, sealed = ''`, took: `delivered * sent_at`, due: anyDue,
		words: strings.NewReplacer("{rows}", "pushes", "{receiver}", "component", "{event}", "info_type", "{body}", "sealed",
			"{delivered}", "delivered")}, // 0 or 1
	outbox.Messages: {sequence: "message", inOrder: true, removed: true, took: `delivered_at`,
		due: `(SELECT next_attempt_at FROM {rows} WHERE {receiver} = r.receiver AND next_attempt_at > 0 ORDER BY id LIMIT 1) NOT BETWEEN $1 AND $2`,
		words: strings.NewReplacer("{rows}", "messages", "{receiver}", "account", "{event}", "event", "{body}", "body",
			"{delivered}", "delivered_at")},
	outbox.Deliveries: {sequence: "delivery", isNext: ` AND NOT EXISTS (SELECT 1 FROM {rows} older
			WHERE older.{receiver} = {rows}.{receiver} AND older.order_key = {rows}.order_key AND older.order_key <> '' AND older.id < {rows}.id
			AND older.next_attempt_at > 0 AND +older.next_attempt_at BETWEEN $3 AND $4)`, insert: ` ON CONFLICT (webhook, event) DO NOTHING`, took: `delivered_at`,
		due: `EXISTS (SELECT 1 FROM webhooks w WHERE w.id = r.receiver AND w.enabled = 1) AND ` + anyDue,
		words: strings.NewReplacer("{rows}", "deliveries", "{receiver}", "webhook", "{event}", "event", "{body}", "body",
			"{delivered}", "delivered_at")},
}

const rowColumns = `id, {receiver}, {event}, {body}, appid, masked_body, order_key, created_at, attempts, next_attempt_at, sent_at, status, error, {delivered}, url, response`

// rowArgs returns the values of rowColumns; SaveRow updates the columns from the eighth (created_at) on.
func rowArgs(kind outbox.Kind, r outbox.Row) []any {
	delivered := millis(r.DeliveredAt)
	if kind == outbox.Pushes {
		delivered = flag(delivered != 0)
	}
	return []any{r.ID, r.Receiver, r.Event, r.Body, r.AppID, r.Shown, r.OrderKey, millis(r.CreatedAt), r.Attempts, millis(r.NextAt),
		millis(r.SentAt), r.Status, r.Error, delivered, r.URL, r.Response}
}

var scanOutboxRow = scanner(func(r *outbox.Row) []any {
	return []any{&r.ID, &r.Receiver, &r.Event, &r.Body, &r.AppID, &r.Shown, &r.OrderKey, moment{&r.CreatedAt}, &r.Attempts,
		moment{&r.NextAt}, moment{&r.SentAt}, &r.Status, &r.Error, moment{&r.DeliveredAt}, &r.URL, &r.Response}
})

// reads returns the columns that a query reads from a row.
func (k rowTable) reads() string { return strings.Replace(rowColumns, "{delivered}", k.took, 1) }

// A waiting row is due if its next_attempt_at is not after now, or is after now plus outbox.Farthest. anyDue compares only the earliest and
// the latest next_attempt_at of a receiver's waiting rows, which suffices to know whether any row is due.
const anyDue = `((SELECT next_attempt_at FROM {rows} WHERE {receiver} = r.receiver AND next_attempt_at > 0 ORDER BY next_attempt_at LIMIT 1) < $1
	OR (SELECT next_attempt_at FROM {rows} WHERE {receiver} = r.receiver AND next_attempt_at > 0 ORDER BY next_attempt_at DESC LIMIT 1) > $2)`

func monthRange(now time.Time) (from, to int64) {
	return millis(now) + 1, millis(now.Add(outbox.Farthest))
}

func (t outboxQueries) NewRowID(ctx context.Context, kind outbox.Kind) (int64, error) {
	return t.next(ctx, rowTables[kind].sequence)
}

func (t outboxQueries) AddRows(ctx context.Context, kind outbox.Kind, rows []outbox.Row) error {
	k := rowTables[kind]
	n := 0
	for _, r := range rows {
		if r.ID == 0 {
			n++
		}
	}
	var id int64
	if n > 0 {
		if err := t.row(ctx, `UPDATE sequences SET value = value + $1 WHERE name = $2 RETURNING value - $1`, n,
			k.sequence).Scan(&id); err != nil {
			return err
		}
	}
	_, err := insertPrepared(ctx, t.Tx, k.words.Replace(`INSERT INTO {rows} (`+rowColumns+`)`), k.insert, rows, func(r outbox.Row) []any {
		if r.ID == 0 {
			id++
			r.ID = id
		}
		return rowArgs(kind, r)
	})
	return err
}

func (t outboxQueries) Rows(ctx context.Context, kind outbox.Kind, q outbox.Query) ([]outbox.Row, error) {
	k := rowTables[kind]
	var w criteria
	w.andIf(q.ID != 0, "id = ?", q.ID)
	w.andIf(q.Receiver != "", "{receiver} = ?", q.Receiver)
	w.andIf(q.Event != "", "{event} = ?", q.Event)
	w.andIf(q.Before != 0, "id < ?", q.Before)
	if state, is := map[string]string{outbox.Pending: "next_attempt_at > 0", outbox.Delivered: "{delivered} > 0",
		outbox.Failed: "next_attempt_at = 0 AND {delivered} = 0"}[q.State]; is {
		w.and(state)
	}
	order := ` ORDER BY id DESC`
	if q.ID == 0 && q.Receiver == "" && q.State == outbox.Pending {
		// The plus disables the index on id, so the database sorts the few waiting rows. Without the plus, the database would read
		// in id order all rows that were delivered since the oldest waiting row.
		order = ` ORDER BY +id DESC`
	}
	query := k.words.Replace(`SELECT ` + k.reads() + ` FROM {rows}` + w.String() + order + ` LIMIT ` + w.bind(q.Limit))
	return list(ctx, t.Tx, scanOutboxRow, query, w.args...)
}

// Receivers implements outbox.Tx. The recursive query finds the next receiver with waiting rows by one index lookup, so its cost does not
// depend on the numbers of sent and waiting rows.
func (t outboxQueries) Receivers(ctx context.Context, kind outbox.Kind, now time.Time, limit int) ([]string, error) {
	from, to := monthRange(now)
	return list(ctx, t.Tx, scanText, receiversQuery(kind), from, to, limit)
}

func receiversQuery(kind outbox.Kind) string {
	k := rowTables[kind]
	return k.words.Replace(`WITH RECURSIVE r (receiver) AS (
		SELECT * FROM (SELECT {receiver} FROM {rows} WHERE next_attempt_at > 0 ORDER BY {receiver} LIMIT 1) AS first
		UNION ALL SELECT (SELECT {receiver} FROM {rows} WHERE next_attempt_at > 0 AND {receiver} > r.receiver ORDER BY {receiver} LIMIT 1) FROM r WHERE r.receiver IS NOT NULL)
		SELECT receiver FROM r WHERE receiver IS NOT NULL AND ` + k.due + ` LIMIT $3`)
}

// ClaimRows implements outbox.Tx. If two nodes claim a row at the same time, PostgreSQL checks the condition of the second UPDATE again
// after the first node's commit; the row is then no longer due.
func (t outboxQueries) ClaimRows(ctx context.Context, kind outbox.Kind, receiver string, now, until time.Time, limit int,
) ([]outbox.Row, error) {
	k := rowTables[kind]
	if k.inOrder {
		limit = 1
	}
	// Without this lock, a concurrent claim would not see that this claim takes the oldest row of a code, and would take the next
	// row of the same code.
	if err := t.lock(ctx, allOutbox, string(kind)+" "+receiver); err != nil {
		return nil, err
	}
	from, to := monthRange(now)
	rows, err := list(ctx, t.Tx, scanOutboxRow, claimQuery(k), receiver, millis(until), from, to, limit)
	slices.SortFunc(rows, func(a, b outbox.Row) int { return cmp.Compare(a.ID, b.ID) })
	return rows, err
}

func claimQuery(k rowTable) string {
	// SQLite reads the rows in id order, because of the condition id > 0 and because the plus disables the index on next_attempt_at. With
	// this index, SQLite would read and sort all waiting rows.
	turn := ` AND +next_attempt_at NOT BETWEEN $3 AND $4` + k.isNext
	if k.inOrder {
		turn = ""
	}
	return k.words.Replace(`UPDATE {rows} SET next_attempt_at = $2 WHERE id IN (SELECT id FROM {rows} WHERE {receiver} = $1 AND id > 0 AND next_attempt_at > 0` + turn + ` ORDER BY id LIMIT $5)
		AND next_attempt_at > 0 AND next_attempt_at NOT BETWEEN $3 AND $4 RETURNING ` + k.reads())
}

func (t outboxQueries) SaveRow(ctx context.Context, kind outbox.Kind, r outbox.Row, previous time.Time) (bool, error) {
	k, exceeded := rowTables[kind], r.NextAt.IsZero()
	args := append([]any{r.ID, millis(previous)}, rowArgs(kind, r)[7:]...)
	query := `UPDATE {rows} SET created_at = $3, attempts = $4, next_attempt_at = $5, sent_at = $6, status = $7, error = $8,
		{delivered} = $9, url = $10, response = $11`
	if exceeded && k.removed {
		query, args = `DELETE FROM {rows}`, args[:2]
	} else if exceeded {
		query += k.emptied
	}
	location := ` WHERE id = $1 AND next_attempt_at = $2`
	if !r.DeliveredAt.IsZero() {
		location = ` WHERE id = $1 AND (next_attempt_at = $2 OR next_attempt_at = 0 AND {delivered} = 0)`
	}
	n, err := t.exec(ctx, k.words.Replace(query+location), args...)
	return n == 1, err
}

func (t outboxQueries) DeadLetterRows(ctx context.Context, kind outbox.Kind, receiver string, keep int, fault string) (int, error) {
	k := rowTables[kind]
	const waiting = `SELECT id FROM {rows} WHERE {receiver} = $1 AND next_attempt_at > 0 ORDER BY id`
	// The first and the last id cost little to read, and usually their difference already proves that no more than "keep" rows wait.
	var span int64
	err := t.row(ctx, k.words.Replace(`SELECT COALESCE((`+waiting+` DESC LIMIT 1) - (`+waiting+` LIMIT 1) + 1, 0)`), receiver).Scan(&span)
	if err != nil || span <= int64(keep) {
		return 0, err
	}
	query, args := `UPDATE {rows} SET next_attempt_at = 0, error = $3`+k.emptied, []any{receiver, keep, fault}
	if k.removed {
		query, args = `DELETE FROM {rows}`, args[:2]
	}
	n, err := t.exec(ctx, k.words.Replace(query+` WHERE {receiver} = $1 AND next_attempt_at > 0 AND id <= COALESCE((`+waiting+
		` DESC LIMIT 1 OFFSET $2), 0)`), args...)
	return int(n), err
}
