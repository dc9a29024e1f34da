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

// The subjects of changes. Names are kept for ever.
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

// keeping holds the dependencies of a Store for writing changes.
type keeping struct {
	now  func() time.Time
	sign func(text string) string
}

// ConfigureChangeLog sets the clock that dates changes and the keyed hash that chains them: an attacker with only the database
// cannot forge a chain. Without it changes have time 0 and a plain hash. To be called before anything is written.
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

// change is one row of the log.
type change struct {
	seq                                           int64
	at                                            int64
	kind, key, actor, via, rid, did, detail, hash string
}

const changeColumns = `seq, at, kind, key, actor, via, rid, did, detail, hash`

func (c *change) args() []any {
	return []any{c.seq, c.at, c.kind, c.key, c.actor, c.via, c.rid, c.did, c.detail, c.hash}
}

func scanChange(scan func(...any) error) (c change, err error) {
	err = scan(&c.seq, &c.at, &c.kind, &c.key, &c.actor, &c.via, &c.rid, &c.did, &c.detail, &c.hash)
	return c, err
}

// text returns the text of which the hash of a change is made; it has the hash before it. Lengths keep
// the columns apart.
func (c *change) text(prev string) string {
	b := make([]byte, 0, 200+len(prev)+len(c.key)+len(c.detail))
	b = append(b, "change v1"...)
	for _, part := range [...]string{prev, strconv.FormatInt(c.seq, 10), strconv.FormatInt(c.at, 10), c.kind, c.key, c.actor, c.via,
		c.rid,
		c.did, c.detail} {
		b = strconv.AppendInt(append(b, '|'), int64(len(part)), 10)
		b = append(append(b, ':'), part...)
	}
	return string(b)
}

// head is the last change.
type head struct {
	seq  int64
	hash string
}

// note adds a change to those that the transaction will write into the log.
func (t *Tx) note(ctx context.Context, kind, key, did string, detail any) error {
	return t.noteAt(ctx, t.keeping.clockNow(), kind, key, did, detail)
}

func (t *Tx) noteAt(ctx context.Context, instant time.Time, kind, key, did string, detail any) error {
	if !slices.Contains(auditlog.Kinds, kind) {
		return fmt.Errorf("a change of the kind %q: nobody could ask for it", kind)
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
	t.noted = append(t.noted, change{at: millis(instant), kind: kind, key: key, actor: actor.ActorID, via: actor.Via, rid: actor.RID, did: did,
		detail: text})
	return nil
}

// lockHead makes every other writer of changes wait until this transaction ends. It is the last of
// all locks, so that they wait for a moment only. An add of a rule takes it earlier, by nextChange,
// because the rule has the number of its change.
func (t *Tx) lockHead(ctx context.Context) error {
	if t.head != nil || t.member != nil {
		return nil
	}
	if query := t.engine.holding(); query != "" {
		if err := t.execQueued(ctx, nil, query); err != nil {
			return fmt.Errorf("looking for the last change: %w", err)
		}
	}
	var h head
	if err := t.rowQueued(ctx, t.engine.headQuery()).Scan(&h.seq, &h.hash); err != nil {
		return fmt.Errorf("looking for the last change: %w", err)
	}
	if err := t.unmoved(ctx, h); err != nil {
		return err
	}
	t.head = &h
	return nil
}

// unmoved returns history.ErrMoved where something changed that the caller expects to be unchanged.
// The head is locked, so later changes wait for this transaction.
func (t *Tx) unmoved(ctx context.Context, h head) error {
	expected := auditlog.PreconditionFromContext(ctx)
	if expected == nil {
		return nil
	}
	t.expected = expected
	if h.seq <= expected.Since {
		return nil
	}
	// Everything since then is read by its numbers, however long the log is.
	const most = 1000
	firstNames, err := list(ctx, t, func(scan func(...any) error) (name auditlog.Name, err error) {
		err = scan(&name.Kind, &name.Key)
		return name, err
	}, `SELECT kind, key FROM changes WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, expected.Since, h.seq, most)
	if err != nil {
		return fmt.Errorf("looking for what changed meanwhile: %w", err)
	}
	// An import shows changes with lower numbers, which a caller that read before it may have
	// missed.
	if len(firstNames) == most || slices.ContainsFunc(firstNames, func(n auditlog.Name) bool { return n.Kind == ofImport || expected.Names(n) }) {
		return auditlog.ErrMoved
	}
	return nil
}

// nextChange returns the number that the next change noted will have.
func (t *Tx) nextChange(ctx context.Context) (int64, error) {
	if t.member != nil {
		return 0, t.member.goAlone()
	}
	if err := t.lockHead(ctx); err != nil {
		return 0, err
	}
	return t.head.seq + int64(len(t.noted)) + 1, nil
}

// chainNoted gives what was noted so far its numbers and hashes.
func (t *Tx) chainNoted(ctx context.Context) ([]change, error) {
	if len(t.noted) == 0 {
		return nil, nil
	}
	if err := t.lockHead(ctx); err != nil {
		return nil, err
	}
	rows := t.noted
	t.noted = nil
	for i := range rows {
		c := &rows[i]
		prev := t.head.hash
		if c.kind == ofReset {
			prev = "" // what was before is gone
		}
		c.seq = t.head.seq + 1
		c.hash = t.keeping.hash(c.text(prev))
		t.head.seq, t.head.hash, t.moved = c.seq, c.hash, true
	}
	return rows, nil
}

// insertsBut stores all rows except the last ones, for which it returns the statement.
func (t *Tx) insertsBut(ctx context.Context, rows []change) (query string, args []any, err error) {
	const columns = 10
	limit := t.engine.rowsAtOnce()
	for len(rows) > 0 {
		if query != "" {
			if _, err := t.exec(ctx, query, args...); err != nil {
				return "", nil, fmt.Errorf("writing down the changes: %w", err)
			}
		}
		n := min(limit, len(rows))
		query, args = `INSERT INTO changes (`+changeColumns+`) VALUES `+t.rowMarks(n, columns), make([]any, 0, n*columns)
		for i := range n {
			args = append(args, rows[i].args()...)
		}
		rows = rows[n:]
	}
	return query, args, nil
}

// writeNoted stores what was noted so far, for statements of the same transaction
// that read it.
func (t *Tx) writeNoted(ctx context.Context) error {
	rows, err := t.chainNoted(ctx)
	if err == nil && len(rows) > 0 {
		_, err = t.addMany(ctx, `INSERT INTO changes (`+changeColumns+`)`, ``, 10, len(rows), func(i int) []any { return rows[i].args() })
	}
	if err != nil {
		return fmt.Errorf("writing down the changes: %w", err)
	}
	return nil
}

// writeNotes returns the last thing before a commit: the log is complete, and a node
// that follows it hears of it with the commit.
func (t *Tx) writeNotes(ctx context.Context) error {
	rows, err := t.chainNoted(ctx)
	if err == nil && !t.moved && !t.looks && auditlog.PreconditionFromContext(ctx) != nil {
		err = t.lockHead(ctx) // what the log does not have is guarded too, such as the test of a webhook
		t.expected = nil      // what the same call changes afterwards does not follow from it
	}
	if err != nil || !t.moved {
		return err
	}
	query, args, err := t.insertsBut(ctx, rows)
	if err != nil {
		return err
	}
	if err := t.engine.writeLast(ctx, t, *t.head, query, args); err != nil {
		return fmt.Errorf("writing down the last change: %w", err)
	}
	return nil
}

// Note implements history.Store.
func (s *Store) Note(ctx context.Context, kind, key, did string, detail any) error {
	return s.update(ctx, func(tx *Tx) error { return tx.note(ctx, kind, key, did, detail) })
}

// ChangeHead returns the number and the hash of the last change; 0 and "" before the
// first one.
func (s *Store) ChangeHead(ctx context.Context) (seq int64, hash string, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		return tx.row(ctx, `SELECT seq, hash FROM change_head WHERE id = 1`).Scan(&seq, &hash)
	})
	return seq, hash, err
}

// nowRule selects, for a change, its rule as it is now; zeros where there is none.
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
		case "id", "occupy", "open_version", "published", "created_at", "changed_at", "published_at":
			empty = "0"
		}
		fmt.Fprintf(&b, "COALESCE(r.%s, %s)", name, empty)
	}
	return b.String()
}()

// ChangesFrom implements live.ChangeLog.
func (s *Store) ChangesFrom(ctx context.Context, from int64, limit int) ([]replica.Change, error) {
	// The rules as they are now come with the same query, so that both are of one moment.
	rows := stream(ctx, s, func(row func(...any) error) (c replica.Change, err error) {
		var stored bool
		var unread error
		r, err := scanRule(func(dst ...any) error {
			unread = row(append([]any{&c.Seq, &c.Hash, &c.Kind, &c.Key, &stored}, dst...)...)
			return unread
		})
		if !stored {
			return c, unread
		}
		if c.Damaged = err; err == nil {
			c.Rule = &r
		}
		return c, nil
	}, `SELECT c.seq, c.hash, c.kind, c.key, CASE WHEN r.id IS NULL THEN 0 ELSE 1 END, `+nowRule+`
		FROM changes c LEFT JOIN rules r ON c.kind = '`+ofRule+`' AND r.key = c.key WHERE c.seq >= $1 ORDER BY c.seq LIMIT $2`, from, limit)
	var list []replica.Change
	for c, err := range rows {
		if err != nil {
			return nil, fmt.Errorf("reading what changed: %w", err)
		}
		list = append(list, c)
	}
	return list, nil
}

// Listen implements live.ChangeLog.
func (s *Store) Listen(ctx context.Context) (replica.Notifier, error) {
	if s.listen == nil {
		return nil, errors.New("no other process writes to this database")
	}
	return s.listen(ctx)
}
