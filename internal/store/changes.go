package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/replica"
)

// The kinds of subjects of changes in the audit log. The values of the constants must never change: old entries contain them.
const (
	ofRule       = replica.RuleChange
	ofAccount    = replica.AccountChange
	ofLink       = replica.LinkChange
	ofBatch      = replica.BatchChange
	ofCodes      = replica.CodesChange
	ofMeta       = replica.MetaChange
	ofScanKey    = replica.ScanKeyChange
	ofReset      = replica.ResetChange
	ofEmptied    = replica.EmptiedChange
	ofAppearance = replica.AppearanceChange
	ofGS1        = replica.GS1Change
	ofComponent  = "component"
	ofGrant      = "grant"
	ofTokens     = "tokens"
	ofDomain     = "domain"
	ofQRCode     = "qrcode"
	ofSeed       = "seed"
	ofWebhook    = "webhook"
	ofPerson     = "person"
	ofAdminKey   = "admin_key"
	ofKeys       = "keys"
	ofPackage    = "package"
	ofAlarm      = "alarm"
	ofSerials    = "serials"
	ofNumbers    = "numbers"
	ofImport     = replica.ImportChange
)

// keeping contains the clock and the hash function with which a Store writes its audit log.
type keeping struct {
	now  func() time.Time
	sign func(text string) string
}

// ConfigureChangeLog sets the clock for the times of audit log entries, and the keyed hash that chains the entries: an attacker who
// can write to the database but lacks the key cannot forge a chain. Without ConfigureChangeLog, changes have time 0 and an unkeyed
// hash. ConfigureChangeLog must be called before the first write.
func (s *Store) ConfigureChangeLog(now func() time.Time, sign func(text string) string) {
	s.keeping = keeping{now, sign}
}

func (k keeping) clockNow() time.Time {
	if k.now == nil {
		return time.Time{}
	}
	return k.now()
}

func (k keeping) hash(text string) string {
	if k.sign != nil {
		return k.sign(text)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// change is one row of the audit log.
type change struct {
	seq                                           int64
	at                                            int64
	kind, key, actor, via, rid, did, detail, hash string
}

const changeColumns = `seq, occurred_at, kind, key, actor, via_component, rid, action, detail, hash`

func (c *change) args() []any {
	return []any{c.seq, c.at, c.kind, c.key, c.actor, c.via, c.rid, c.did, c.detail, c.hash}
}

var scanChange = scanner(func(c *change) []any {
	return []any{&c.seq, &c.at, &c.kind, &c.key, &c.actor, &c.via, &c.rid, &c.did, &c.detail, &c.hash}
})

// text returns the text that is hashed for a change; it includes the previous hash. Length prefixes separate the columns unambiguously.
func (c *change) text(prev string) string {
	b := make([]byte, 0, 200+len(prev)+len(c.key)+len(c.detail))
	b = append(b, "change v1"...)
	for _, part := range [...]string{prev, strconv.FormatInt(c.seq, 10), strconv.FormatInt(c.at, 10), c.kind, c.key, c.actor, c.via,
		c.rid, c.did, c.detail} {
		b = strconv.AppendInt(append(b, '|'), int64(len(part)), 10)
		b = append(append(b, ':'), part...)
	}
	return string(b)
}

// head is the sequence number and the hash of the newest entry of the audit log.
type head struct {
	seq  int64
	hash string
}

// note adds a change to the list t.queued, which the transaction writes to the audit log before it commits.
func (t *Tx) note(ctx context.Context, kind, key, did string, detail any) error {
	return t.noteAt(ctx, t.keeping.clockNow(), kind, key, did, detail)
}

// noteAfter is like note, for a change that a statement has made; it returns err, the error of the statement, if err is not nil.
func (t *Tx) noteAfter(ctx context.Context, err error, kind, key, did string, detail any) error {
	if err != nil {
		return err
	}
	return t.note(ctx, kind, key, did, detail)
}

func (t *Tx) noteAt(ctx context.Context, instant time.Time, kind, key, did string, detail any) error {
	if !slices.Contains(auditlog.Kinds, kind) {
		return fmt.Errorf("unknown change kind %q", kind)
	}
	text := "{}"
	if detail != nil {
		b, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		text = string(b)
	}
	actor := accounts.ActorFromContext(ctx)
	t.queued = append(t.queued, change{at: millis(instant), kind: kind, key: key, actor: actor.ActorID, via: actor.Via,
		rid: actor.RID, did: did, detail: text})
	return nil
}

// lockHead locks the end of the audit log, so that all other writers of changes wait until this transaction ends. A transaction calls
// lockHead after it has taken all its other locks, so that other writers wait for a moment only. The id of a rule is the sequence number of
// the change that added it, so a transaction that adds a rule locks the end of the audit log before it inserts the rule (nextChange).
func (t *Tx) lockHead(ctx context.Context) error {
	if t.head != nil || t.groupChange != nil {
		return nil
	}
	if query := t.engine.holding; query != "" {
		if err := t.execQueued(ctx, nil, query); err != nil {
			return fmt.Errorf("reading the head of the audit log: %w", err)
		}
	}
	var h head
	if err := t.row(ctx, t.engine.headQuery).Scan(&h.seq, &h.hash); err != nil {
		return fmt.Errorf("reading the head of the audit log: %w", err)
	}
	if err := t.unmoved(ctx, h); err != nil {
		return err
	}
	t.head = &h
	return nil
}

// unmoved returns auditlog.ErrMoved if the precondition in ctx requires that some data is unchanged, but this data was changed. The caller
// has locked the end of the audit log, so no other transaction commits a change before this transaction ends.
func (t *Tx) unmoved(ctx context.Context, h head) error {
	expected := auditlog.PreconditionFromContext(ctx)
	if expected == nil {
		return nil
	}
	t.expected = expected
	if h.seq <= expected.Since {
		return nil
	}
	// Only the changes after expected.Since are read, however long the log is.
	const most = 1000
	scan := scanner(func(name *auditlog.Name) []any { return []any{&name.Kind, &name.Key} })
	firstNames, err := list(ctx, t, scan, `SELECT kind, key FROM changes WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, expected.Since, h.seq, most)
	if err != nil {
		return fmt.Errorf("reading concurrent changes: %w", err)
	}
	// An import publishes entries whose numbers may be below expected.Since, so every import counts as a change of the data.
	if len(firstNames) == most || slices.ContainsFunc(firstNames,
		func(n auditlog.Name) bool { return n.Kind == ofImport || expected.Names(n) }) {
		return auditlog.ErrMoved
	}
	return nil
}

// nextChange locks the end of the audit log and returns the sequence number that the next queued change will get.
func (t *Tx) nextChange(ctx context.Context) (int64, error) {
	if t.groupChange != nil {
		return 0, t.groupChange.rejectGrouping()
	}
	if err := t.lockHead(ctx); err != nil {
		return 0, err
	}
	return t.head.seq + int64(len(t.queued)) + 1, nil
}

// chainQueued assigns sequence numbers and hashes to the changes in t.queued, empties this list and returns the changes.
func (t *Tx) chainQueued(ctx context.Context) ([]change, error) {
	if len(t.queued) == 0 {
		return nil, nil
	}
	if err := t.lockHead(ctx); err != nil {
		return nil, err
	}
	rows := t.queued
	t.queued = nil
	for i := range rows {
		c := &rows[i]
		prev := t.head.hash
		if c.kind == ofReset {
			prev = "" // a reset starts a new hash chain
		}
		c.seq = t.head.seq + 1
		c.hash = t.keeping.hash(c.text(prev))
		t.head.seq, t.head.hash, t.moved = c.seq, c.hash, true
	}
	return rows, nil
}

// insertsBut inserts rows with several INSERT statements; the last of these statements is not run, but returned with its arguments.
func (t *Tx) insertsBut(ctx context.Context, rows []change) (query string, args []any, err error) {
	for chunk := range slices.Chunk(rows, t.engine.rowsAtOnce) {
		if query != "" {
			if _, err := t.exec(ctx, query, args...); err != nil {
				return "", nil, fmt.Errorf("writing to the audit log: %w", err)
			}
		}
		all := make([][]any, len(chunk))
		for i := range chunk {
			all[i] = chunk[i].args()
		}
		query, args = t.insertRows(`INSERT INTO changes (`+changeColumns+`)`, all)
	}
	return query, args, nil
}

// writeQueued writes the changes queued so far to the audit log, so that later statements of the transaction can read them.
func (t *Tx) writeQueued(ctx context.Context) error {
	rows, err := t.chainQueued(ctx)
	if err == nil && len(rows) > 0 {
		_, err = t.addMany(ctx, `INSERT INTO changes (`+changeColumns+`)`, ``, 10, len(rows), func(i int) []any { return rows[i].args() })
	}
	if err != nil {
		return fmt.Errorf("writing to the audit log: %w", err)
	}
	return nil
}

// writeRemaining writes the remaining queued changes as the last step before the commit; the commit notifies the nodes that follow the log.
func (t *Tx) writeRemaining(ctx context.Context) error {
	rows, err := t.chainQueued(ctx)
	if err == nil && !t.moved && !t.readOnly && auditlog.PreconditionFromContext(ctx) != nil {
		err = t.lockHead(ctx) // checks the precondition of a call that adds no log entry, such as a webhook test
		t.expected = nil      // the client is not told that the precondition was met: changes after this point are not checked
	}
	if err != nil || !t.moved {
		return err
	}
	query, args, err := t.insertsBut(ctx, rows)
	if err != nil {
		return err
	}
	if err := t.engine.writeLast(ctx, t, *t.head, query, args); err != nil {
		return fmt.Errorf("writing the head of the audit log: %w", err)
	}
	return nil
}

// Note implements auditlog.Store.
func (s *Store) Note(ctx context.Context, kind, key, did string, detail any) error {
	return s.update(ctx, func(tx *Tx) error { return tx.note(ctx, kind, key, did, detail) })
}

// ChangeHead returns the number and the hash of the last change; 0 and "" for an empty log. It returns an error if the log does not contain
// that change.
func (s *Store) ChangeHead(ctx context.Context) (seq int64, hash string, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		var present bool
		err := tx.row(ctx, `SELECT h.seq, h.hash, CASE WHEN h.seq = 0 OR EXISTS
			(SELECT 1 FROM changes c WHERE c.seq = h.seq AND c.hash = h.hash) THEN 1 ELSE 0 END
			FROM audit_log_head h WHERE h.id = 1`).Scan(&seq, &hash, &present)
		if err == nil && !present {
			err = fmt.Errorf("the audit log lacks its last change, %d: the database was altered or damaged; restore a backup", seq)
		}
		return err
	})
	return seq, hash, err
}

// nowRule is the SQL column list for the current version of a change's rule; the columns are zero or empty if the rule does not exist.
var nowRule = func() string {
	var b strings.Builder
	for i, name := range strings.Split(ruleColumns, ",") {
		if i > 0 {
			b.WriteString(", ")
		}
		empty := "''"
		switch name = strings.TrimSpace(name); name {
		case "test_links":
			empty = "'null'"
		case "id", "occupy", "open_version", "published", "created_at", "updated_at", "published_at":
			empty = "0"
		}
		fmt.Fprintf(&b, "COALESCE(r.%s, %s)", name, empty)
	}
	return b.String()
}()

// Updates implements replica.ChangeLog.
func (s *Store) Updates() int64 { return s.updates.Load() }

// ChangesFrom implements replica.ChangeLog.
func (s *Store) ChangesFrom(ctx context.Context, from int64, limit int) ([]replica.Change, error) {
	scan := func(row func(...any) error) (c replica.Change, err error) {
		var stored bool
		var unread error
		r, err := scanRule(func(dst ...any) error {
			unread = row(append([]any{&c.Seq, &c.Hash, &c.Kind, &c.Key, &stored}, dst...)...)
			return unread
		})
		if !stored {
			return c, unread
		}
		c.Damaged = err
		if err == nil {
			c.Rule = &r
		}
		return c, nil
	}
	changes, err := viewed(ctx, s, func(tx *Tx) ([]replica.Change, error) {
		if s.engine.indexPlan != "" {
			if err := tx.execQueued(ctx, nil, s.engine.indexPlan); err != nil {
				return nil, err
			}
		}
		// The current rules come from the same query as the changes, so that rules and changes belong to the same snapshot.
		return list(ctx, tx, scan, `SELECT c.seq, c.hash, c.kind, c.key, CASE WHEN r.id IS NULL THEN 0 ELSE 1 END, `+nowRule+`
			FROM changes c LEFT JOIN rules r ON c.kind = '`+ofRule+`' AND r.key = c.key WHERE c.seq >= $1 ORDER BY c.seq LIMIT $2`,
			from, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("reading changes: %w", err)
	}
	return changes, nil
}

// Listen implements replica.ChangeLog.
func (s *Store) Listen(ctx context.Context) (replica.Notifier, error) {
	if s.listen == nil {
		return nil, errors.New("an embedded database has no change notifications")
	}
	return s.listen(ctx)
}
