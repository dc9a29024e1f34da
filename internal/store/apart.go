package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/live"
	"github.com/qrjump/qrjump/internal/rules"
)

// An import writes a stretch of the log of changes apart. Its numbers are given out first, its
// entries are chained to each other, and the entry that shows them has their last hash. Decision
// 55.

// stretchRecord is the detail of two entries: the one that gives numbers out, and the one that
// shows what was written under them. Names are kept for ever.
type stretchRecord struct {
	Rules int64  `json:"rules"`
	Hash  string `json:"hash,omitempty"` // of the last entry of the stretch
}

// apart is the stretch that a transaction writes apart.
type apart struct {
	accounts.Numbers
	next    int64
	counted map[[2]string][]piece // by owner and target, as in rule_pieces
}

// piece is one row of rule_pieces.
type piece struct{ first, n int64 }

// pieceRows is how many rules a new piece has at most, as in migrations/00100_first.sql.
const pieceRows = 1024

// importing is the lock that the import holds that writes apart: there is one at a time.
const importing = `hashtextextended('qrjump imports rules ' || coalesce(current_schema(), ''), 0)`

// held is the SQL condition that a row of pg_locks, by its alias in the query, is a lock that a
// session holds.
func held(table, lock string) string {
	return table + `.locktype = 'advisory' AND ` + table + `.objsubid = 1 AND ` + table + `.granted AND ` + table +
		`.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND ((` + table + `.classid::bigint << 32) | ` + table + `.objid::bigint) = ` + lock
}

// hasty makes the transaction wait for a lock for a moment only, if an import is writing apart: a transaction that
// has locked the end of the log must not wait for a row that stays hidden for minutes.
var hasty = `SELECT set_config('lock_timeout', '200ms', true) FROM pg_locks i WHERE ` + held("i", importing) + ` LIMIT 1`

// patient undoes hasty: the commit may wait as long as any other.
const patient = `SET LOCAL lock_timeout TO DEFAULT`

// The server ends a broken session within 15 s. An import that goes on with another session waits
// for that.
const (
	aloneTries = 60
	alonePause = 300 * time.Millisecond
)

// importAlone takes the lock of the one import that writes apart, until the transaction ends. It asks for it so many times.
func (t *Tx) importAlone(ctx context.Context, tries int) error {
	for n := 1; ; n++ {
		var free bool
		if err := t.row(ctx, `SELECT pg_try_advisory_xact_lock(`+importing+`)`).Scan(&free); err != nil || free {
			return err
		}
		if n >= tries {
			return accounts.ErrImporting
		}
		if err := pause(ctx, alonePause); err != nil {
			return err
		}
	}
}

// pause waits between two tries.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Reserve implements rules.Store.
func (s *Store) Reserve(ctx context.Context, n int) (accounts.Numbers, error) {
	var given accounts.Numbers
	if !s.Shared() {
		return given, nil // SQLite has one writer at a time anyway, so writing apart would gain nothing
	}
	err := s.update(ctx, func(tx *Tx) error {
		given = accounts.Numbers{}
		if err := tx.importAlone(ctx, 1); err != nil {
			return err
		}
		if err := tx.lockHead(ctx); err != nil {
			return err
		}
		first := tx.head.seq + 1
		last := tx.head.seq + int64(n)
		tx.head.seq = last
		if err := tx.note(ctx, ofNumbers, live.StretchKey(first, last), "reserve", stretchRecord{Rules: int64(n)}); err != nil {
			return err
		}
		if err := tx.writeNoted(ctx); err != nil {
			return err
		}
		given = accounts.Numbers{First: first, Last: last, Hash: tx.head.hash}
		return nil
	})
	return given, err
}

// beginApart begins to write under numbers of Reserve, unless that has begun already.
func (t *Tx) beginApart(ctx context.Context, under accounts.Numbers) error {
	if t.apart == nil {
		if err := t.importAlone(ctx, aloneTries); err != nil {
			return err
		}
		if err := t.given(ctx, under); err != nil {
			return err
		}
		t.apart = &apart{Numbers: under, next: under.First, counted: map[[2]string][]piece{}}
		if err := t.later(ctx, nil, `SELECT set_config('qrjump.counted', 'apart', true)`); err != nil {
			return err
		}
	}
	return nil
}

// AddApart implements rules.Tx.
func (t *Tx) AddApart(ctx context.Context, all []rules.Rule, d rules.Deed, under accounts.Numbers) error {
	if len(all) == 0 {
		return nil
	}
	if err := t.beginApart(ctx, under); err != nil {
		return err
	}
	a := t.apart
	if a.next+int64(len(all))-1 > a.Last {
		return rules.ErrPrefixTaken // more rules than numbers: something changed meanwhile
	}
	for i := range all {
		r := &all[i]
		r.ID = a.next + int64(i)
		if err := t.noteRule(ctx, *r, d); err != nil {
			return err
		}
		a.count(r.Owner, "", r.ID)
		if r.Kind == rules.Service {
			a.count(r.Owner, r.Target, r.ID)
			a.count("", r.Target, r.ID)
		}
	}
	if err := t.insertRules(ctx, all); err != nil {
		return err
	}
	return t.writeApart(ctx)
}

// NotedApart implements accounts.Tx.
func (t *Tx) NotedApart(ctx context.Context, under accounts.Numbers) error {
	if err := t.beginApart(ctx, under); err != nil {
		return err
	}
	return t.writeApart(ctx)
}

// writeApart writes what was noted so far under the next numbers.
func (t *Tx) writeApart(ctx context.Context) error {
	a, entries := t.apart, t.noted
	t.noted = nil
	if a.next+int64(len(entries))-1 > a.Last {
		return accounts.ErrMoved
	}
	for i := range entries {
		c := &entries[i]
		c.seq = a.next
		c.hash = t.keeping.hash(c.text(a.Hash))
		a.Hash = c.hash
		a.next++
	}
	if _, err := t.addMany(ctx, `INSERT INTO changes (`+changeColumns+`)`, ``, 10, len(entries),
		func(i int) []any { return entries[i].args() }); err != nil {
		return fmt.Errorf("writing down the changes: %w", err)
	}
	return nil
}

// given returns accounts.ErrMoved where the log does not have the entry that gave the numbers out: a replica that lacked
// it took over, and will give them to others.
func (t *Tx) given(ctx context.Context, under accounts.Numbers) error {
	var hash string
	err := t.row(ctx, `SELECT hash FROM changes WHERE seq = $1`, under.Last+1).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) || err == nil && hash != under.Hash {
		return fmt.Errorf("the numbers of this import were taken back: %w", accounts.ErrMoved)
	}
	return err
}

// count adds a rule to the last piece of its owner and target.
func (a *apart) count(owner, target string, id int64) {
	at := [2]string{owner, target}
	all := a.counted[at]
	if n := len(all); n == 0 || all[n-1].n == pieceRows && owner != "" {
		all = append(all, piece{first: id})
		a.counted[at] = all
	}
	all[len(all)-1].n++
}

// showTries is how often an import tries for a second to get the lock of all rules before it gives
// up, and showPause how long it lets others go first between two tries.
const (
	showTries = 60
	showPause = 300 * time.Millisecond
)

// LockToShow implements rules.Tx. While a transaction waits for the lock of all rules, everybody
// who wants to change one waits behind it. So this waits for a second only, and then lets them go
// first.
func (t *Tx) LockToShow(ctx context.Context) error { return t.lockToShow(ctx, allRules) }

// LockAccountsToShow implements accounts.Tx.
func (t *Tx) LockAccountsToShow(ctx context.Context) error { return t.lockToShow(ctx, allAccounts) }

func (t *Tx) lockToShow(ctx context.Context, whole string) error {
	if t.pipe == nil {
		return t.lock(ctx, whole, "")
	}
	for n := 1; ; n++ {
		err := t.lockForASecond(ctx, whole)
		// A deadlock with a transaction that waits for a row of the import is treated like a wait
		// that was too long.
		if refused, is := errors.AsType[*pgconn.PgError](err); !is || refused.Code != "55P03" && refused.Code != "40P01" || n == showTries {
			return err
		}
		if err := pause(ctx, showPause); err != nil {
			return err
		}
	}
}

func (t *Tx) lockForASecond(ctx context.Context, whole string) error {
	for _, query := range []string{`SAVEPOINT before_showing`, `SET LOCAL lock_timeout = '1s'`, t.engine.holding()} {
		if query == "" {
			continue
		}
		if _, err := t.exec(ctx, query); err != nil {
			return err
		}
	}
	if err := t.lock(ctx, whole, ""); err != nil {
		_, back := t.exec(ctx, `ROLLBACK TO SAVEPOINT before_showing`)
		return errors.Join(err, back)
	}
	_, err := t.exec(ctx, `SET LOCAL lock_timeout TO DEFAULT`)
	return err
}

// ShowApart implements rules.Tx.
func (t *Tx) ShowApart(ctx context.Context) error {
	a := t.apart
	if a == nil || a.next != a.Last+1 {
		return accounts.ErrMoved // fewer rules than numbers
	}
	if err := t.countApart(ctx); err != nil {
		return fmt.Errorf("counting the rules: %w", err)
	}
	if err := t.lockHead(ctx); err != nil {
		return err
	}
	return t.note(ctx, ofImport, live.StretchKey(a.First, a.Last), "show", stretchRecord{Rules: a.Last - a.First + 1, Hash: a.Hash})
}

// countApart counts the rules that no trigger counted. Nobody else changes rules meanwhile.
func (t *Tx) countApart(ctx context.Context) error {
	a := t.apart
	if len(a.counted) == 0 {
		return nil
	}
	type counted struct {
		owner, target string
		first, n      int64
	}
	var counts, pieces []counted
	for at, all := range a.counted {
		sum := counted{owner: at[0], target: at[1]}
		for _, p := range all {
			sum.n += p.n
			if at[0] != "" {
				pieces = append(pieces, counted{at[0], at[1], p.first, p.n})
			}
		}
		counts = append(counts, sum)
	}
	// Rules that owners added meanwhile have higher numbers, and may have been counted in a piece
	// that begins before the stretch.
	later, err := list(ctx, t, scanText, `SELECT DISTINCT owner FROM rules WHERE id > $1`, a.Last)
	if err != nil {
		return err
	}
	added := map[string]bool{}
	for _, owner := range later {
		added[owner] = true
	}
	for _, c := range counts {
		if c.owner != "" && added[c.owner] {
			if err := t.cutPiece(ctx, c.owner, c.target, a.First, a.Last); err != nil {
				return err
			}
		}
	}
	byName := func(x, y counted) int {
		return cmp.Or(strings.Compare(x.owner, y.owner), strings.Compare(x.target, y.target), cmp.Compare(x.first, y.first))
	}
	slices.SortFunc(counts, byName)
	slices.SortFunc(pieces, byName)
	if _, err := t.addMany(ctx, `INSERT INTO rule_counts AS c (owner, target, n)`,
		` ON CONFLICT (owner, target) DO UPDATE SET n = c.n + excluded.n`, 3, len(counts),
		func(i int) []any { return []any{counts[i].owner, counts[i].target, counts[i].n} }); err != nil {
		return err
	}
	_, err = t.addMany(ctx, `INSERT INTO rule_pieces (owner, target, first, n)`, ``, 4, len(pieces),
		func(i int) []any { return []any{pieces[i].owner, pieces[i].target, pieces[i].first, pieces[i].n} })
	return err
}

// cutPiece ends, before a stretch, the piece that reaches over it, and begins another after the
// stretch: the rules in the stretch have pieces of their own.
func (t *Tx) cutPiece(ctx context.Context, owner, target string, first, last int64) error {
	var before, behind int64
	if err := t.row(ctx, `SELECT COALESCE(MAX(CASE WHEN first < $3 THEN first END), 0),
		COALESCE(MIN(CASE WHEN first > $4 THEN first END), 9223372036854775807)
		FROM rule_pieces WHERE owner = $1 AND target = $2`, owner, target, first, last).Scan(&before, &behind); err != nil || before == 0 {
		return err
	}
	of, args := ``, []any{owner, last, behind}
	if target != "" {
		of, args = ` AND target = $4 AND kind = '`+string(rules.Service)+`'`, append(args, target)
	}
	var begins, n int64
	if err := t.row(ctx, `SELECT COALESCE(MIN(id), 0), COUNT(*) FROM rules WHERE owner = $1 AND id > $2 AND id < $3`+of,
		args...).Scan(&begins, &n); err != nil || n == 0 {
		return err
	}
	if _, err := t.exec(ctx, `UPDATE rule_pieces SET n = n - $4 WHERE owner = $1 AND target = $2 AND first = $3`, owner, target, before,
		n); err != nil {
		return err
	}
	if _, err := t.exec(ctx, `DELETE FROM rule_pieces WHERE owner = $1 AND target = $2 AND first = $3 AND n = 0`, owner, target,
		before); err != nil {
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO rule_pieces (owner, target, first, n) VALUES ($1, $2, $3, $4)`, owner, target, begins, n)
	return err
}

// LastChange implements rules.Tx.
func (t *Tx) LastChange(ctx context.Context) (seq int64, err error) {
	err = t.row(ctx, `SELECT seq FROM change_head WHERE id = 1`).Scan(&seq)
	return seq, err
}

// ChangedSince implements rules.Tx.
func (t *Tx) ChangedSince(ctx context.Context, after int64, limit int) ([]accounts.Concern, error) {
	own := accounts.Numbers{Last: -1}
	if t.apart != nil {
		own = t.apart.Numbers
	}
	return list(ctx, t, func(scan func(...any) error) (one accounts.Concern, err error) {
		var kind, key, detail string
		if err := scan(&one.Seq, &kind, &key, &detail); err != nil {
			return one, err
		}
		switch kind {
		case ofRule:
			var record ruleRecord
			err = json.Unmarshal([]byte(detail), &record)
			one.Rule, one.Occupies = key, record.Occupy
		case ofAccount, ofComponent:
			one.Account = key
		case ofLink:
			one.Account, _, _ = strings.Cut(key, " ")
		case ofDomain, ofImport, ofReset:
			one.All = true
		}
		return one, err
	}, `SELECT seq, kind, key, CASE WHEN kind = '`+ofRule+`' THEN detail ELSE '' END FROM changes
		WHERE seq > $1 AND (seq < $2 OR seq > $3) ORDER BY seq LIMIT $4`, after, own.First, own.Last, limit)
}
