package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/outbox"
)

// UpdateOutbox implements outbox.Store.
func (s *Store) UpdateOutbox(ctx context.Context, f func(outbox.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx) })
}

// ViewOutbox implements outbox.Store.
func (s *Store) ViewOutbox(ctx context.Context, f func(outbox.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx) })
}

// rowColumns are the columns of the tables of rows in the order of outbox.Row:
// their names in pushes, messages and deliveries, what stands for one that a
// table has not, and whether an attempt changes it.
var rowColumns = []struct {
	names  [3]string
	lack   string
	change bool
}{
	{[3]string{"id", "id", "id"}, "", false},
	{[3]string{"component", "account", "webhook"}, "", false},
	{[3]string{"info_type", "", "event"}, "''", false},
	{[3]string{"sealed", "body", "body"}, "", false},
	{[3]string{"created_at", "created_at", "created_at"}, "", true},
	{[3]string{"attempts", "tries", "attempts"}, "", true},
	{[3]string{"next_at", "due_at", "next_at"}, "", true}, // 0 = nothing more is sent
	{[3]string{"sent_at", "", "sent_at"}, "0", true},
	{[3]string{"status", "", "status"}, "0", true},
	{[3]string{"fault", "", "fault"}, "''", true},
	{[3]string{"delivered", "", "delivered_at"}, "0", true}, // of pushes 0 or 1
	{[3]string{"appid", "", ""}, "''", false},
	{[3]string{"url", "", ""}, "''", true},
	{[3]string{"shown", "", ""}, "''", false},
	{[3]string{"answer", "", ""}, "''", true},
}

func rowArgs(kind outbox.Kind, r *outbox.Row) []any {
	delivered := millis(r.DeliveredAt)
	if kind == outbox.Pushes {
		delivered = flag(delivered != 0)
	}
	return []any{r.ID, r.Receiver, r.Event, r.Body, millis(r.CreatedAt), r.Attempts, millis(r.NextAt), millis(r.SentAt), r.Status, r.Fault, delivered,
		r.AppID, r.URL, r.Shown, r.Answer}
}

func scanOutboxRow(scan func(...any) error) (r outbox.Row, err error) {
	var created, next, sent, delivered int64
	err = scan(&r.ID, &r.Receiver, &r.Event, &r.Body, &created, &r.Attempts, &next, &sent, &r.Status, &r.Fault, &delivered,
		&r.AppID, &r.URL, &r.Shown, &r.Answer)
	r.CreatedAt, r.NextAt, r.SentAt, r.DeliveredAt = fromMillis(created), fromMillis(next), fromMillis(sent), fromMillis(delivered)
	return r, err
}

// rowTable is one of the tables of rows.
type rowTable struct {
	kind     outbox.Kind
	at       int // which of the names in rowColumns
	sequence string
	insert   string // ends a statement that adds
	inOrder  bool   // a receiver's oldest row that waits has its turn alone
	removed  bool   // a row of which nothing more is sent is removed
	emptied  string // what such a row loses otherwise
	due      string // of a receiver r: it has a row whose turn it is
}

var rowTables = map[outbox.Kind]rowTable{
	outbox.Pushes: {kind: outbox.Pushes, at: 0, sequence: "push", emptied: `, sealed = ''`, due: anyDue},
	outbox.Messages: {kind: outbox.Messages, at: 1, sequence: "message", inOrder: true, removed: true,
		due: `(SELECT {next} FROM {rows} WHERE {receiver} = r.receiver AND {next} > 0 ORDER BY id LIMIT 1) NOT BETWEEN $1 AND $2`},
	outbox.Deliveries: {kind: outbox.Deliveries, at: 2, sequence: "delivery", insert: ` ON CONFLICT (webhook, event) DO NOTHING`,
		due: `EXISTS (SELECT 1 FROM webhooks w WHERE w.id = r.receiver AND w.enabled = 1) AND ` + anyDue},
}

// A row is due that lies not between a moment after now and one that no row is
// put off to. The first and the last by their times tell it of all.
const anyDue = `((SELECT {next} FROM {rows} WHERE {receiver} = r.receiver AND {next} > 0 ORDER BY {next} LIMIT 1) < $1
	OR (SELECT {next} FROM {rows} WHERE {receiver} = r.receiver AND {next} > 0 ORDER BY {next} DESC LIMIT 1) > $2)`

func between(now time.Time) (from, to int64) {
	return millis(now) + 1, millis(now.Add(outbox.Farthest))
}

// sql is a statement in the words of the table.
func (k rowTable) sql(query string) string {
	return strings.NewReplacer("{rows}", string(k.kind), "{receiver}", rowColumns[1].names[k.at], "{next}", rowColumns[6].names[k.at]).Replace(query)
}

// reads is what is read of a row.
func (k rowTable) reads() string {
	var list []string
	for _, c := range rowColumns {
		switch name := c.names[k.at]; name {
		case "delivered":
			list = append(list, "delivered * sent_at")
		default:
			list = append(list, cmp.Or(name, c.lack))
		}
	}
	return strings.Join(list, ", ")
}

// args are the columns that the table has, or those of them that an attempt may
// change, and their values.
func (k rowTable) args(r outbox.Row, changes bool) (names []string, args []any) {
	all := rowArgs(k.kind, &r)
	for i, c := range rowColumns {
		if name := c.names[k.at]; name != "" && (c.change || !changes) {
			names, args = append(names, name), append(args, all[i])
		}
	}
	return names, args
}

// NewRowID implements outbox.Tx.
func (t *Tx) NewRowID(ctx context.Context, kind outbox.Kind) (int64, error) {
	return t.next(ctx, rowTables[kind].sequence)
}

// AddRows implements outbox.Tx.
func (t *Tx) AddRows(ctx context.Context, kind outbox.Kind, rows []outbox.Row) error {
	k := rowTables[kind]
	without := 0
	for _, r := range rows {
		if r.ID == 0 {
			without++
		}
	}
	var id int64
	if without > 0 {
		if err := t.row(ctx, `UPDATE sequences SET value = value + $1 WHERE name = $2 RETURNING value - $1`, without, k.sequence).Scan(&id); err != nil {
			return err
		}
	}
	return inPieces(rows, func(some []outbox.Row) error {
		var names []string
		var args []any
		for _, r := range some {
			if r.ID == 0 {
				id++
				r.ID = id
			}
			columns, more := k.args(r, false)
			names, args = columns, append(args, more...)
		}
		_, err := t.exec(ctx, k.sql(`INSERT INTO {rows} (`)+strings.Join(names, ", ")+`) VALUES `+values(len(some), len(names))+k.insert, args...)
		return err
	})
}

// Rows implements outbox.Tx.
func (t *Tx) Rows(ctx context.Context, kind outbox.Kind, q outbox.Query) ([]outbox.Row, error) {
	k := rowTables[kind]
	where, args := []string{}, []any{q.Limit}
	filter := func(given bool, condition string, value any) {
		if given {
			args = append(args, value)
			where = append(where, fmt.Sprintf("%s $%d", condition, len(args)))
		}
	}
	filter(q.ID != 0, "id =", q.ID)
	filter(q.Receiver != "", "{receiver} =", q.Receiver)
	filter(q.Event != "", rowColumns[2].names[k.at]+" =", q.Event)
	filter(q.Before != 0, "id <", q.Before)
	if delivered := rowColumns[10].names[k.at]; q.State == outbox.Waiting {
		where = append(where, "{next} > 0")
	} else if q.State == outbox.Delivered {
		where = append(where, delivered+" > 0")
	} else if q.State == outbox.Dead {
		where = append(where, "{next} = 0", delivered+" = 0")
	}
	return list(ctx, t, scanOutboxRow, k.sql(`SELECT `+k.reads()+` FROM {rows}`+conditions(where)+` ORDER BY id DESC LIMIT $1`), args...)
}

// Receivers implements outbox.Tx. It goes from one receiver with rows that wait
// to the next, by an index: what was sent costs nothing, nor how many wait.
func (t *Tx) Receivers(ctx context.Context, kind outbox.Kind, now time.Time, limit int) ([]string, error) {
	from, to := between(now)
	return list(ctx, t, scanText, receiversQuery(kind), from, to, limit)
}

func receiversQuery(kind outbox.Kind) string {
	k := rowTables[kind]
	return k.sql(`WITH RECURSIVE r (receiver) AS (
		SELECT * FROM (SELECT {receiver} FROM {rows} WHERE {next} > 0 ORDER BY {receiver} LIMIT 1) AS first
		UNION ALL SELECT (SELECT {receiver} FROM {rows} WHERE {next} > 0 AND {receiver} > r.receiver ORDER BY {receiver} LIMIT 1) FROM r WHERE r.receiver IS NOT NULL)
		SELECT receiver FROM r WHERE receiver IS NOT NULL AND ` + k.due + ` LIMIT $3`)
}

// ClaimRows implements outbox.Tx. On PostgreSQL a row that another node claims
// at the same time is judged again when that is done: it is not due any more.
func (t *Tx) ClaimRows(ctx context.Context, kind outbox.Kind, receiver string, now, until time.Time, limit int) ([]outbox.Row, error) {
	k := rowTables[kind]
	if k.inOrder {
		limit = 1
	}
	from, to := between(now)
	rows, err := list(ctx, t, scanOutboxRow, claimQuery(k), receiver, millis(until), from, to, limit)
	slices.SortFunc(rows, func(a, b outbox.Row) int { return cmp.Compare(a.ID, b.ID) })
	return rows, err
}

func claimQuery(k rowTable) string {
	// The first id and the plus make SQLite go in the order of ids: by what is due
	// first it would read and sort all that waits.
	turn := ` AND +{next} NOT BETWEEN $3 AND $4`
	if k.inOrder {
		turn = ""
	}
	return k.sql(`UPDATE {rows} SET {next} = $2 WHERE id IN (SELECT id FROM {rows} WHERE {receiver} = $1 AND id > 0 AND {next} > 0` + turn + ` ORDER BY id LIMIT $5)
		AND {next} > 0 AND {next} NOT BETWEEN $3 AND $4 RETURNING ` + k.reads())
}

// SaveRow implements outbox.Tx.
func (t *Tx) SaveRow(ctx context.Context, kind outbox.Kind, r outbox.Row, was time.Time) (bool, error) {
	k, args := rowTables[kind], []any{r.ID, millis(was)}
	query := `UPDATE {rows} SET `
	names, changed := k.args(r, true)
	for i, name := range names {
		query += fmt.Sprintf("%s = $%d, ", name, i+3)
	}
	query = strings.TrimSuffix(query, ", ")
	where := ` WHERE id = $1 AND {next} = $2`
	switch over := r.NextAt.IsZero(); {
	case over && k.removed:
		query, changed = `DELETE FROM {rows}`, nil
	case over:
		query += k.emptied
	}
	if delivered := rowColumns[10].names[k.at]; !r.DeliveredAt.IsZero() && !k.removed {
		where = ` WHERE id = $1 AND ({next} = $2 OR {next} = 0 AND ` + delivered + ` = 0)`
	}
	n, err := t.exec(ctx, k.sql(query+where), append(args, changed...)...)
	return n == 1, err
}

// GiveUpRows implements outbox.Tx.
func (t *Tx) GiveUpRows(ctx context.Context, kind outbox.Kind, receiver string, keep int, fault string) (int, error) {
	k := rowTables[kind]
	const waiting = `SELECT id FROM {rows} WHERE {receiver} = $1 AND {next} > 0 ORDER BY id`
	// Numbers tell cheaply that there cannot be too many, which is the rule.
	var span int64
	err := t.row(ctx, k.sql(`SELECT COALESCE((`+waiting+` DESC LIMIT 1) - (`+waiting+` LIMIT 1) + 1, 0)`), receiver).Scan(&span)
	if err != nil || span <= int64(keep) {
		return 0, err
	}
	query, args := `UPDATE {rows} SET {next} = 0, fault = $3`+k.emptied, []any{receiver, keep, fault}
	if k.removed {
		query, args = `DELETE FROM {rows}`, args[:2]
	}
	n, err := t.exec(ctx, k.sql(query+` WHERE {receiver} = $1 AND {next} > 0 AND id <= COALESCE((`+waiting+` DESC LIMIT 1 OFFSET $2), 0)`), args...)
	return int(n), err
}
