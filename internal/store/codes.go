package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// UpdateCodes implements codes.Store.
func (s *Store) UpdateCodes(ctx context.Context, f func(codes.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.codes()) })
}

// ViewCodes implements codes.Store.
func (s *Store) ViewCodes(ctx context.Context, f func(codes.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.codes()) })
}

func (t codeQueries) LockBatch(ctx context.Context, id int64) error {
	return t.lock(ctx, fmt.Sprintf("batch %d", id), "")
}

const batchColumns = `id, account, isv, codes, start, prefix, version, segment, first_code, first_text, created_at, is_proof,
	template`

func scanBatch(scan func(...any) error) (b codes.Batch, err error) {
	var start, created int64
	var version string
	err = scan(&b.ID, &b.Account, &b.ISV, &b.Count, &start, &b.Prefix, &version, &b.Segment, &b.FirstCode, &b.FirstText, &created,
		&b.IsProof, &b.Template)
	if errors.Is(err, sql.ErrNoRows) {
		return b, codes.ErrNoBatch
	}
	if err == nil && len(version) != 1 {
		return b, fmt.Errorf("application %d: the version %q is not one character", b.ID, version)
	}
	if err == nil {
		b.Version, b.CreatedAt = version[0], fromMillis(created)
		// A batch of imported codes uses no code counters, so AddBatch stores the negative id of the batch as start.
		if b.Imported = start < 0; !b.Imported {
			b.Start = uint64(start)
		}
	}
	return b, err
}

func (t codeQueries) Batch(ctx context.Context, id int64) (codes.Batch, error) {
	return scanBatch(t.row(ctx, `SELECT `+batchColumns+` FROM batches WHERE id = $1`, id).Scan)
}

func (t codeQueries) BatchByISV(ctx context.Context, account, isv string) (codes.Batch, error) {
	return scanBatch(t.row(ctx, `SELECT `+batchColumns+` FROM batches WHERE account = $1 AND isv = $2`, account, isv).Scan)
}

func (t codeQueries) AddBatch(ctx context.Context, b codes.Batch) (codes.Batch, error) {
	id, err := t.batchID(ctx, b.ID)
	if err != nil {
		return b, err
	}
	b.ID = id
	start := int64(b.Start)
	if b.Imported {
		start = -id // the column has a unique index, so each imported batch needs its own value
	}
	_, err = t.exec(ctx, `INSERT INTO batches (`+batchColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		b.ID, b.Account, b.ISV, b.Count, start, b.Prefix, string(b.Version), b.Segment, b.FirstCode, b.FirstText,
		millis(b.CreatedAt), flag(b.IsProof), b.Template)
	if err != nil {
		return b, err
	}
	did := "add"
	if b.Imported {
		did = "import"
	}
	return b, t.noteBatch(ctx, b, start, did)
}

func (t codeQueries) noteBatch(ctx context.Context, b codes.Batch, start int64, did string) error {
	detail := map[string]any{"account": b.Account, "isv": b.ISV, "codes": b.Count,
		"start": start, "prefix": b.Prefix, "version": string(b.Version), "segment": b.Segment}
	if b.Template != "" {
		detail["text"] = b.Template
	}
	return t.note(ctx, ofBatch, strconv.FormatInt(b.ID, 10), did, detail)
}

func (t codeQueries) PutImport(ctx context.Context, b codes.Batch, did string) error {
	err := t.run(ctx, `UPDATE batches SET account = $1, isv = $2, codes = $3, prefix = $4, version = $5, segment = $6, first_code = $7,
		first_text = $8, created_at = $9, template = $10 WHERE id = $11`, b.Account, b.ISV, b.Count, b.Prefix, string(b.Version), b.Segment,
		b.FirstCode, b.FirstText, millis(b.CreatedAt), b.Template, b.ID)
	if err != nil {
		return err
	}
	return t.noteBatch(ctx, b, -b.ID, did)
}

// batchID returns the wanted id, or the next free application_id if wanted is 0.
func (t codeQueries) batchID(ctx context.Context, wanted int64) (int64, error) {
	if wanted != 0 {
		// The update locks the sequence: another transaction that takes the next application_id waits until this transaction ends.
		if _, err := t.exec(ctx, `UPDATE sequences SET value = value WHERE name = 'application'`); err != nil {
			return 0, err
		}
	}
	for {
		id := wanted
		if id == 0 {
			var err error
			if id, err = t.next(ctx, "application"); err != nil {
				return 0, err
			}
		}
		_, err := t.Batch(ctx, id)
		switch {
		case errors.Is(err, codes.ErrNoBatch):
			return id, nil
		case err != nil:
			return 0, err
		case wanted != 0:
			return 0, codes.ErrBatchTaken
		}
	}
}

func (t codeQueries) LockCounter(ctx context.Context) (uint64, error) {
	// An update that changes nothing still locks the row until the commit.
	n, err := scalar[int64](ctx, t.Tx, `UPDATE sequences SET value = value WHERE name = 'code_counter' RETURNING value`)
	return uint64(n), err
}

func (t codeQueries) SetCounter(ctx context.Context, next uint64) error {
	return t.run(ctx, `UPDATE sequences SET value = $1 WHERE name = 'code_counter'`, int64(next))
}

// Batches implements codes.Store.
func (s *Store) Batches(ctx context.Context) iter.Seq2[codes.Batch, error] {
	return pages(ctx, s, pageRows, func(tx *Tx, last codes.Batch, limit int) ([]codes.Batch, error) {
		return list(ctx, tx, scanBatch, `SELECT `+batchColumns+` FROM batches WHERE id > $1 ORDER BY id LIMIT $2`, last.ID, limit)
	})
}

// pageRows is the number of rows that pages holds in memory at a time.
const pageRows = 1000

// pages yields the rows of a query page by page, because PostgreSQL sends all rows of a statement even if the caller stops iterating early.
// The function read returns at most limit rows that follow the row last (zero = the first rows). The first page has at most first rows.
func pages[T any](ctx context.Context, s *Store, first int, read func(tx *Tx, last T, limit int) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last T
		for limit := first; ; limit = pageRows {
			found, err := viewed(ctx, s, func(tx *Tx) ([]T, error) { return read(tx, last, limit) })
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, last = range found {
				if !yield(last, nil) {
					return
				}
			}
			if len(found) < limit {
				return
			}
		}
	}
}

const eventColumns = `seq, batch, action, first_idx, last_idx, codes, binding, occurred_at, from_at, actor, rid, note`

// bindingRecord is a binding in its stored form. Field names must never change, because stored records keep them.
type bindingRecord struct {
	ActivityName string `json:"activity_name,omitempty"`
	ProductBrand string `json:"product_brand,omitempty"`
	ProductTitle string `json:"product_title,omitempty"`
	ProductCode  string `json:"product_code,omitempty"`
	WxaAppID     string `json:"wxa_appid,omitempty"`
	WxaPath      string `json:"wxa_path,omitempty"`
	WxaType      int    `json:"wxa_type,omitempty"`
}

// activationRecord is the JSON content of the column binding. Older programs ignore fields that they do not know.
type activationRecord struct {
	bindingRecord
	Renews *renewed `json:"renews,omitempty"`
}

// renewed is the JSON form of a range of code indexes in the column binding.
type renewed struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func scanEvent(scan func(...any) error) (e codes.Event, err error) {
	var first, last int64
	var set string
	var binding activationRecord
	if err = scan(&e.Seq, &e.Batch, &e.Action, &first, &last, &set, inJSON(&binding), moment{&e.OccurredAt}, moment{&e.From}, &e.Actor,
		&e.RID, &e.Note); err != nil {
		return e, err
	}
	e.Binding, e.Renews = codes.Binding(binding.bindingRecord), (*codes.Range)(binding.Renews)
	if e.Codes, err = codes.DecodeSet(set); err != nil {
		return e, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	return e, nil
}

func (t codeQueries) LastEvents(ctx context.Context) (map[int64]int64, error) {
	return pairs[int64, int64](ctx, t.Tx, `SELECT b.id, e.seq FROM batches b JOIN code_events e ON e.seq =
		(SELECT seq FROM code_events WHERE batch = b.id ORDER BY seq DESC LIMIT 1)`)
}

func (t codeQueries) LastEventAt(ctx context.Context, batch int64) (time.Time, error) {
	ms, err := scalarOrZero[int64](ctx, t.Tx, `SELECT occurred_at FROM code_events WHERE batch = $1 ORDER BY seq DESC LIMIT 1`, batch)
	return fromMillis(ms), err
}

func (t codeQueries) AddEvent(ctx context.Context, e codes.Event) (codes.Event, error) {
	seq, err := t.next(ctx, "code_event")
	if err != nil {
		return e, err
	}
	actor := accounts.ActorFromContext(ctx)
	e.Seq, e.Actor, e.RID = seq, actor.ActorID, actor.RID
	row := eventRowOf(e)
	if err := eventRows.add(ctx, t.Tx, row); err != nil {
		return e, err
	}
	return e, t.noteAt(ctx, e.OccurredAt, ofCodes, strconv.FormatInt(e.Batch, 10), string(e.Action), row.record(e.Codes))
}

// codesRecord is the audit log record of a code event: enough data to prove that the event was not altered.
type codesRecord struct {
	Event  int64  `json:"event"`
	Codes  int64  `json:"codes"`
	Digest string `json:"sha256"`
}

// eventRow is an event in exactly its stored form.
type eventRow struct {
	seq, batch, first, last, at, from     int64
	did, codes, binding, actor, rid, note string
}

var eventRows = mapper[eventRow]{table: "code_events", columns: eventColumns, targets: func(r *eventRow) []any {
	return []any{&r.seq, &r.batch, &r.did, &r.first, &r.last, &r.codes, &r.binding, &r.at, &r.from, &r.actor, &r.rid, &r.note}
}}

func eventRowOf(e codes.Event) eventRow {
	binding, bounds := activationRecord{bindingRecord(e.Binding), (*renewed)(e.Renews)}, e.Codes.Bounds()
	return eventRow{seq: e.Seq, batch: e.Batch, did: string(e.Action), first: bounds.From, last: bounds.To, codes: e.Codes.Encode(),
		binding: inJSON(&binding).text(),
		at:      millis(e.OccurredAt), from: millis(e.From), actor: e.Actor, rid: e.RID, note: e.Note}
}

// record returns the audit log record of an event with the given codes.
func (r eventRow) record(set codes.Set) codesRecord {
	return codesRecord{Event: r.seq, Codes: set.Len(), Digest: r.digest()}
}

func (r eventRow) digest() string {
	h := sha256.New()
	for _, n := range []int64{r.seq, r.batch, r.first, r.last, r.at, r.from} {
		fmt.Fprintf(h, "%d|", n)
	}
	for _, text := range []string{r.did, r.codes, r.binding, r.actor, r.rid, r.note} {
		fmt.Fprintf(h, "%d:%s|", len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (t codeQueries) EventsAt(ctx context.Context, batch, index, prev int64, limit int) ([]codes.Event, error) {
	if prev == 0 {
		prev = math.MaxInt64
	}
	args := []any{batch, prev, index, limit}
	for level := range eventLevels {
		args = append(args, eventBlock(index, level))
	}
	return list(ctx, t.Tx, scanEvent, eventsAt, args...)
}

// eventLevels is the number of block sizes in eventBlocks: blocks of 1, 16, 256, … codes, and one block for all codes of a batch.
const eventLevels = 9

// eventBlocks is the SQL expression for the smallest block that contains all codes of an event; the schema has an index on it. At most 15
// ranges that do not overlap one another have the same smallest block.
const eventBlocks = `CASE
	WHEN first_idx = last_idx THEN first_idx * 16
	WHEN first_idx >> 4 = last_idx >> 4 THEN (first_idx >> 4) * 16 + 1
	WHEN first_idx >> 8 = last_idx >> 8 THEN (first_idx >> 8) * 16 + 2
	WHEN first_idx >> 12 = last_idx >> 12 THEN (first_idx >> 12) * 16 + 3
	WHEN first_idx >> 16 = last_idx >> 16 THEN (first_idx >> 16) * 16 + 4
	WHEN first_idx >> 20 = last_idx >> 20 THEN (first_idx >> 20) * 16 + 5
	WHEN first_idx >> 24 = last_idx >> 24 THEN (first_idx >> 24) * 16 + 6
	WHEN first_idx >> 28 = last_idx >> 28 THEN (first_idx >> 28) * 16 + 7
	ELSE 8 END`

// eventBlock returns the value of eventBlocks for the block of 16^level codes that contains the code with the given index.
func eventBlock(index int64, level int) int64 {
	if level == eventLevels-1 {
		return int64(level)
	}
	return index>>(4*level)*16 + int64(level)
}

// eventsAt selects the newest events of a code with one subquery per block size, so that each subquery reads only a small range of
// an index.
var eventsAt = func() string {
	var parts []string
	for level := range eventLevels {
		parts = append(parts, fmt.Sprintf(`SELECT * FROM (SELECT `+eventColumns+` FROM code_events WHERE batch = $1 AND (`+eventBlocks+`) = $%d
			AND first_idx <= $3 AND last_idx >= $3 AND seq < $2 ORDER BY seq DESC LIMIT $4) AS level%d`, 5+level, level))
	}
	return `SELECT ` + eventColumns + ` FROM (` + strings.Join(parts, ` UNION ALL `) + `) AS near ORDER BY seq DESC LIMIT $4`
}()

func (t codeQueries) EventsAfter(ctx context.Context, batch, start int64) ([]codes.Event, error) {
	return list(ctx, t.Tx, scanEvent, `SELECT `+eventColumns+` FROM code_events WHERE batch = $1 AND seq > $2 ORDER BY seq`, batch, start)
}

// Events implements codes.Store. The first page is small, because many callers stop after a few events.
func (s *Store) Events(ctx context.Context, batch, start int64) iter.Seq2[codes.Event, error] {
	return pages(ctx, s, 100, func(tx *Tx, last codes.Event, limit int) ([]codes.Event, error) {
		var w criteria
		w.andIf(batch != 0, `batch = ?`, batch)
		w.and(`seq > ?`, max(start, last.Seq))
		query := `SELECT ` + eventColumns + ` FROM code_events` + w.String() + ` ORDER BY seq LIMIT ` + w.bind(limit)
		return list(ctx, tx, scanEvent, query, w.args...)
	})
}

var ticketRows = mapper[codes.Ticket]{table: "tickets", notFound: codes.ErrNoTicket,
	columns: "hash, batch, idx, owner_id, appid, app_user_id, scanned_at, expires_at",
	targets: func(k *codes.Ticket) []any {
		return []any{&k.Hash, &k.Batch, &k.Index, &k.OwnerID, &k.AppID, &k.AppUserID, moment{&k.ScannedAt}, moment{&k.ExpiresAt}}
	}}

func (t codeQueries) Ticket(ctx context.Context, hash string) (codes.Ticket, error) {
	return ticketRows.find(ctx, t.Tx, `hash = $1`, hash)
}

func (t codeQueries) ForgetTickets(ctx context.Context, before time.Time, limit int) (int64, error) {
	return t.exec(ctx,
		`DELETE FROM tickets WHERE hash IN (SELECT hash FROM tickets WHERE expires_at < $1 ORDER BY expires_at, hash LIMIT $2)`,
		millis(before), limit)
}

var loginRows = mapper[codes.Login]{table: "logins", key: "hash", columns: "hash, appid, openid, unionid, expires_at, used",
	notFound: codes.ErrNoLogin,
	targets: func(l *codes.Login) []any {
		return []any{&l.Hash, &l.AppID, &l.OpenID, &l.UnionID, moment{&l.ExpiresAt}, &l.Used}
	}}

func (t codeQueries) PutLogin(ctx context.Context, l codes.Login) error {
	return loginRows.put(ctx, t.Tx, l, "appid", "openid", "unionid", "expires_at")
}

func (t codeQueries) Login(ctx context.Context, hash string) (codes.Login, error) {
	return loginRows.find(ctx, t.Tx, `hash = $1`, hash)
}

func (t codeQueries) ForgetLogins(ctx context.Context, before time.Time, limit int) (int64, error) {
	return t.exec(ctx,
		`DELETE FROM logins WHERE hash IN (SELECT hash FROM logins WHERE expires_at < $1 ORDER BY expires_at, hash LIMIT $2)`,
		millis(before), limit)
}
