package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Before a bulk import writes, it reserves a range of sequence numbers in the audit log. The import writes the entries of its range while
// other transactions append entries after the range. The hash of each entry in the range covers the hash of the previous entry, and the
// entry that publishes the range contains the hash of the range's last entry. Decision 55.

// seqRangeRecord is the JSON detail of two audit entries of a bulk import: the entry that reserves a range of sequence numbers, and
// the entry that publishes the range. JSON field names must never change, because old audit log entries keep them.
type seqRangeRecord struct {
	Rules int64  `json:"rules"`
	Hash  string `json:"hash,omitempty"` // hash of the last entry in the range
}

// bulkRange is the reserved range of audit log entries that the transaction of a bulk import writes.
type bulkRange struct {
	accounts.SeqRange
	next    int64
	counted map[[2]string][]countBucket // rule counts keyed by owner and target, as in the table rule_page_buckets
	edits   int64
	// moved maps owner and target to ids of edited rules: a positive id for a rule that gained the target, a negative id for a rule that
	// lost the target.
	moved map[[2]string][]int64
}

// countBucket is a row of table rule_page_buckets: n rules have ids from first up to, but not including, the first id of the next bucket.
type countBucket struct{ first, n int64 }

// maxBucketRows is the maximum number of rules in a new bucket, as in migrations/00109_first.sql.
const maxBucketRows = 1024

// importing is the id of the advisory lock of a bulk import that writes a reserved range: only one such import runs at a time.
const importing = `hashtextextended('qrjump imports rules ' || coalesce(current_schema(), ''), 0)`

// shortLockTimeout sets a short lock timeout while a bulk import is running: a transaction that has locked the end of the audit log
// must not wait minutes for a row that the import has written and not committed. The statement tries the lock of an import, because a
// search in pg_locks costs as much as ten inserts.
const shortLockTimeout = `SELECT set_config('lock_timeout', CASE WHEN pg_try_advisory_lock_shared(` + importing + `)
	THEN CASE WHEN pg_advisory_unlock_shared(` + importing + `) THEN current_setting('lock_timeout') END ELSE '200ms' END, true)`

// defaultLockTimeout undoes shortLockTimeout, so that statements at the commit may wait longer for a lock.
const defaultLockTimeout = `SET LOCAL lock_timeout TO DEFAULT`

// After a lost session, an import waits in a new session for the advisory lock "importing", which the lost session releases within 15 s.
const (
	importLockTries = 60
	importLockPause = 300 * time.Millisecond
)

// lockImports locks out other bulk imports until the transaction ends. lockImports returns ErrImporting if every attempt fails.
func (t accountQueries) lockImports(ctx context.Context, tries int) error {
	for n := 1; ; n++ {
		var free bool
		if err := t.row(ctx, `SELECT pg_try_advisory_xact_lock(`+importing+`)`).Scan(&free); err != nil || free {
			return err
		}
		if n >= tries {
			return accounts.ErrImporting
		}
		if err := pause(ctx, importLockPause); err != nil {
			return err
		}
	}
}

// pause waits for a duration or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Reserve implements rules.Store.
func (s *Store) Reserve(ctx context.Context, n int) (accounts.SeqRange, error) {
	var reserved accounts.SeqRange
	if !s.Shared() {
		return reserved, nil // SQLite has only one writer at a time, so a reserved range would not let other transactions write
	}
	err := s.update(ctx, func(tx *Tx) error {
		reserved = accounts.SeqRange{}
		if err := tx.accounts().lockImports(ctx, 1); err != nil {
			return err
		}
		if err := tx.lockHead(ctx); err != nil {
			return err
		}
		first := tx.head.seq + 1
		last := tx.head.seq + int64(n)
		tx.head.seq = last
		if err := tx.note(ctx, ofNumbers, replica.FormatSeqRange(first, last), "reserve", seqRangeRecord{Rules: int64(n)}); err != nil {
			return err
		}
		if err := tx.writeQueued(ctx); err != nil {
			return err
		}
		reserved = accounts.SeqRange{First: first, Last: last, Hash: tx.head.hash}
		return nil
	})
	return reserved, err
}

// beginHidden starts to write audit entries under the numbers that Reserve returned, unless writing has already started.
func (t accountQueries) beginHidden(ctx context.Context, reserved accounts.SeqRange) error {
	if t.reservedRange == nil {
		if err := t.lockImports(ctx, importLockTries); err != nil {
			return err
		}
		if err := t.checkReserved(ctx, reserved); err != nil {
			return err
		}
		t.reservedRange = &bulkRange{SeqRange: reserved, next: reserved.First, counted: map[[2]string][]countBucket{},
			moved: map[[2]string][]int64{}}
		if err := t.execQueued(ctx, nil, `SELECT set_config('qrjump.bulk_insert', 'on', true), set_config('qrjump.bulk_update', 'on', true)`); err != nil {
			return err
		}
	}
	return nil
}

func (t accountQueries) AddHidden(ctx context.Context, all []rules.Rule, d rules.ChangeMeta, reserved accounts.SeqRange) error {
	if len(all) == 0 {
		return nil
	}
	if err := t.beginHidden(ctx, reserved); err != nil {
		return err
	}
	a := t.reservedRange
	if a.next+int64(len(all))-1 > a.Last {
		return rules.ErrPrefixTaken // the import has more rules than reserved numbers: the data changed in the meantime
	}
	for i := range all {
		r := &all[i]
		r.ID = a.next + int64(i)
		if err := t.rules().noteRule(ctx, *r, d); err != nil {
			return err
		}
		a.count(r.Owner, "", r.ID)
		if r.Kind == rules.KindService {
			a.count(r.Owner, r.Target, r.ID)
			a.count("", r.Target, r.ID)
		}
	}
	if err := t.rules().insertRules(ctx, all); err != nil {
		return err
	}
	return t.writeApart(ctx)
}

// EditHidden implements rules.Tx. Until storeEdits runs, the edited rules are only in the audit log entries.
func (t accountQueries) EditHidden(ctx context.Context, all []rules.Edit, d rules.ChangeMeta, reserved accounts.SeqRange) error {
	if len(all) == 0 {
		return nil
	}
	if err := t.beginHidden(ctx, reserved); err != nil {
		return err
	}
	a := t.reservedRange
	for _, e := range all {
		t.touched.Add(rules.Epoch(e.Now.Owner))
		if err := t.rules().noteRule(ctx, e.Now, d); err != nil {
			return err
		}
		if from, to := e.Old.Target, e.Now.Target; from != to {
			a.moved[[2]string{e.Now.Owner, from}] = append(a.moved[[2]string{e.Now.Owner, from}], -e.Now.ID)
			a.moved[[2]string{e.Now.Owner, to}] = append(a.moved[[2]string{e.Now.Owner, to}], e.Now.ID)
		}
	}
	a.edits += int64(len(all))
	return t.writeApart(ctx)
}

// storeEdits updates the rules from the audit entries of the reserved range, in one statement. Other transactions do not wait for the rows
// of edited rules: a transaction that changes such a row gets an error instead (see changeRule).
func (t accountQueries) storeEdits(ctx context.Context) error {
	a := t.reservedRange
	if a == nil || a.edits == 0 {
		return nil
	}
	var stored int64
	err := t.patiently(func() (err error) { // an update of a million rules may take more than a minute
		stored, err = t.exec(ctx, `UPDATE rules r SET target = e.target, prefix = e.prefix, path = e.path, occupy = e.occupy::int,
				open_version = e.open_version, test_links = COALESCE(e.test_links::text, 'null'), published = e.published::int,
				updated_at = e.updated_at, published_at = e.published_at
			FROM changes c CROSS JOIN LATERAL json_to_record(c.detail::json) AS e(id bigint, target text, prefix text, path text, occupy boolean,
				open_version bigint, test_links json, published boolean, updated_at bigint, published_at bigint)
			WHERE c.seq BETWEEN $1 AND $2 AND c.action = 'edit' AND r.id = e.id`, a.First, a.Last)
		return err
	})
	if isLocked(outageOf(t.engine, err)) || err == nil && stored != a.edits {
		return fmt.Errorf("rule is locked or was changed concurrently; retry: %w", accounts.ErrConflict)
	}
	return err
}

func (t accountQueries) RecordHidden(ctx context.Context, reserved accounts.SeqRange) error {
	if err := t.beginHidden(ctx, reserved); err != nil {
		return err
	}
	return t.writeApart(ctx)
}

// writeApart writes the audit entries that this transaction has queued so far, with the next sequence numbers of the reserved range.
func (t accountQueries) writeApart(ctx context.Context) error {
	a, entries := t.reservedRange, t.queued
	t.queued = nil
	if a.next+int64(len(entries))-1 > a.Last {
		return accounts.ErrConflict
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
		return fmt.Errorf("writing to the audit log: %w", err)
	}
	return nil
}

// checkReserved returns accounts.ErrConflict if the audit log lacks the entry that reserved the range of sequence numbers: a database
// replica without this entry became the primary, and will assign the same sequence numbers to other entries.
func (t accountQueries) checkReserved(ctx context.Context, reserved accounts.SeqRange) error {
	var hash string
	err := t.row(ctx, `SELECT hash FROM changes WHERE seq = $1`, reserved.Last+1).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) || err == nil && hash != reserved.Hash {
		return fmt.Errorf("the sequence numbers of this import are no longer reserved: %w", accounts.ErrConflict)
	}
	return err
}

// count counts a new rule in the last bucket of its owner and target.
func (a *bulkRange) count(owner, target string, id int64) {
	pair := [2]string{owner, target}
	all := a.counted[pair]
	if n := len(all); n == 0 || all[n-1].n == maxBucketRows && owner != "" {
		all = append(all, countBucket{first: id})
		a.counted[pair] = all
	}
	all[len(all)-1].n++
}

// showTries is the maximum number of one-second attempts of an import to get the lock of all rules, and showPause is the pause
// between two attempts.
const (
	showTries = 60
	showPause = 300 * time.Millisecond
)

// LockForShow implements rules.Tx. LockForShow waits for the lock of all rules in attempts of one second with pauses between them, because
// all transactions that change a rule queue behind a transaction that waits for this lock.
func (t accountQueries) LockForShow(ctx context.Context) error {
	if err := t.storeEdits(ctx); err != nil {
		return err
	}
	return t.lockForShow(ctx, allRules)
}

func (t accountQueries) LockAccountsForShow(ctx context.Context) error {
	return t.lockForShow(ctx, allAccounts)
}

func (t accountQueries) lockForShow(ctx context.Context, full string) error {
	if t.pipe == nil {
		return t.lock(ctx, full, "")
	}
	for n := 1; ; n++ {
		err := t.lockForASecond(ctx, full)
		// SQLSTATE 40P01, a deadlock with a transaction that waits for a row of the import, is handled like 55P03, a lock timeout.
		if state := sqlState(err); state != "55P03" && state != "40P01" || n == showTries {
			return err
		}
		if err := pause(ctx, showPause); err != nil {
			return err
		}
	}
}

func (t accountQueries) lockForASecond(ctx context.Context, full string) error {
	for _, query := range []string{`SAVEPOINT before_showing`, `SET LOCAL lock_timeout = '1s'`, t.engine.holding} {
		if query == "" {
			continue
		}
		if _, err := t.exec(ctx, query); err != nil {
			return err
		}
	}
	if err := t.lock(ctx, full, ""); err != nil {
		_, back := t.exec(ctx, `ROLLBACK TO SAVEPOINT before_showing`)
		return errors.Join(err, back)
	}
	return t.run(ctx, `SET LOCAL lock_timeout TO DEFAULT`)
}

func (t accountQueries) ShowHidden(ctx context.Context) error {
	a := t.reservedRange
	if a == nil || a.next != a.Last+1 {
		return accounts.ErrConflict // the import has fewer rules than reserved numbers
	}
	if err := t.countHidden(ctx); err != nil {
		return fmt.Errorf("counting the rules: %w", err)
	}
	if err := t.lockHead(ctx); err != nil {
		return err
	}
	return t.note(ctx, ofImport, replica.FormatSeqRange(a.First, a.Last), "show", seqRangeRecord{Rules: a.Last - a.First + 1, Hash: a.Hash})
}

// countHidden counts the imported rules, because the triggers that count rules are off during a bulk import. The caller must hold
// the lock of all rules.
func (t accountQueries) countHidden(ctx context.Context) error {
	a := t.reservedRange
	counts, pieces := map[counter]int64{}, map[counter]int64{}
	for pair, all := range a.counted {
		for _, p := range all {
			counts[counter{pair[0], pair[1], 0}] += p.n
			if pair[0] != "" {
				pieces[counter{pair[0], pair[1], p.first}] += p.n
			}
		}
	}
	// Rules that owners added during the import have ids after the reserved range, and may be counted in a bucket that starts
	// before the range.
	owners, err := list(ctx, t.Tx, scanText, `SELECT DISTINCT owner FROM rules WHERE id > $1`, a.Last)
	if err != nil {
		return err
	}
	for pair := range a.counted {
		if pair[0] != "" && slices.Contains(owners, pair[0]) {
			if err := t.splitBucket(ctx, pair[0], pair[1], a.First, a.Last); err != nil {
				return err
			}
		}
	}
	if err := t.countMoved(ctx, counts, pieces); err != nil {
		return err
	}
	if err := t.addCounts(ctx, `rule_counts`, counts); err != nil {
		return err
	}
	return t.addCounts(ctx, `rule_page_buckets`, pieces)
}

// counter identifies a row of table rule_page_buckets; with first = 0, a row of table rule_counts.
type counter struct {
	owner, target string
	first         int64
}

// countMoved adds to counts and pieces the changes of the rule counts that follow from edited targets.
func (t accountQueries) countMoved(ctx context.Context, counts, pieces map[counter]int64) error {
	for pairs := range slices.Chunk(slices.Collect(maps.Keys(t.reservedRange.moved)), chunk) {
		args := make([]any, 0, 2*len(pairs))
		for _, pair := range pairs {
			args = append(args, pair[0], pair[1])
		}
		scan := scanner(func(c *counter) []any { return []any{&c.owner, &c.target, &c.first} })
		stored, err := list(ctx, t.Tx, scan, `SELECT owner, target, first_id FROM rule_page_buckets WHERE (owner, target) IN (`+
			t.rowMarks(len(pairs), 2)+`) ORDER BY first_id`, args...)
		if err != nil {
			return err
		}
		firsts := map[[2]string][]int64{}
		for _, c := range stored {
			pair := [2]string{c.owner, c.target}
			firsts[pair] = append(firsts[pair], c.first)
		}
		for _, pair := range pairs {
			all, ids := firsts[pair], t.reservedRange.moved[pair]
			slices.SortFunc(ids, func(x, y int64) int { return cmp.Compare(max(x, -x), max(y, -y)) })
			for _, id := range ids {
				number := int64(1)
				if id < 0 {
					number, id = -1, -id
				}
				n, is := slices.BinarySearch(all, id)
				if !is && n == 0 { // no bucket starts at or before the id of the rule
					all, n = slices.Insert(all, 0, id), 1
				} else if is {
					n++
				}
				pieces[counter{pair[0], pair[1], all[n-1]}] += number
				counts[counter{pair[0], pair[1], 0}] += number
				counts[counter{"", pair[1], 0}] += number
			}
		}
	}
	return nil
}

// addCounts adds the given differences to the counts in a table of rule counts, and deletes rows whose count is then zero.
func (t accountQueries) addCounts(ctx context.Context, table string, counts map[counter]int64) error {
	maps.DeleteFunc(counts, func(_ counter, n int64) bool { return n == 0 })
	all := slices.SortedFunc(maps.Keys(counts), func(x, y counter) int {
		return cmp.Or(strings.Compare(x.owner, y.owner), strings.Compare(x.target, y.target), cmp.Compare(x.first, y.first))
	})
	columns := []string{"owner", "target", "first_id"}
	if table == `rule_counts` {
		columns = columns[:2]
	}
	key := strings.Join(columns, ", ")
	row := func(c counter) []any { return []any{c.owner, c.target, c.first}[:len(columns)] }
	if _, err := t.addMany(ctx, `INSERT INTO `+table+` AS c (`+key+`, rules)`,
		` ON CONFLICT (`+key+`) DO UPDATE SET rules = c.rules + excluded.rules`,
		len(columns)+1, len(all), func(i int) []any { return append(row(all[i]), counts[all[i]]) }); err != nil {
		return err
	}
	counters := slices.DeleteFunc(all, func(c counter) bool { return counts[c] > 0 })
	return forEach(slices.Chunk(counters, chunk), func(cs []counter) error {
		var args []any
		for _, c := range cs {
			args = append(args, row(c)...)
		}
		return t.run(ctx, `DELETE FROM `+table+` WHERE rules = 0 AND (`+key+`) IN (`+t.rowMarks(len(cs), len(columns))+`)`, args...)
	})
}

// splitBucket splits a bucket that spans the reserved range: the bucket then ends before the range and a new bucket starts after the
// range, since the rules in the range have their own buckets.
func (t accountQueries) splitBucket(ctx context.Context, owner, target string, first, last int64) error {
	var prev, next int64
	if err := t.row(ctx, `SELECT COALESCE(MAX(CASE WHEN first_id < $3 THEN first_id END), 0),
		COALESCE(MIN(CASE WHEN first_id > $4 THEN first_id END), 9223372036854775807)
		FROM rule_page_buckets WHERE owner = $1 AND target = $2`, owner, target, first, last).Scan(&prev, &next); err != nil || prev == 0 {
		return err
	}
	subject, args := ``, []any{owner, last, next}
	if target != "" {
		subject, args = ` AND target = $4 AND kind = '`+string(rules.KindService)+`'`, append(args, target)
	}
	var begins, n int64
	if err := t.row(ctx, `SELECT COALESCE(MIN(id), 0), COUNT(*) FROM rules WHERE owner = $1 AND id > $2 AND id < $3`+subject,
		args...).Scan(&begins, &n); err != nil || n == 0 {
		return err
	}
	return t.runAll(ctx,
		write(`UPDATE rule_page_buckets SET rules = rules - $4 WHERE owner = $1 AND target = $2 AND first_id = $3`, owner, target, prev, n),
		write(`DELETE FROM rule_page_buckets WHERE owner = $1 AND target = $2 AND first_id = $3 AND rules = 0`, owner, target, prev),
		write(`INSERT INTO rule_page_buckets (owner, target, first_id, rules) VALUES ($1, $2, $3, $4)`, owner, target, begins, n))
}

func (t accountQueries) LastChange(ctx context.Context) (int64, error) {
	return scalar[int64](ctx, t.Tx, `SELECT seq FROM audit_log_head WHERE id = 1`)
}

func (t accountQueries) ChangedSince(ctx context.Context, start int64, limit int) ([]accounts.ChangeRef, error) {
	ownRange := accounts.SeqRange{Last: -1}
	if t.reservedRange != nil {
		ownRange = t.reservedRange.SeqRange
	}
	return list(ctx, t.Tx, func(scan func(...any) error) (ref accounts.ChangeRef, err error) {
		var kind, key, detail string
		if err := scan(&ref.Seq, &kind, &key, &detail); err != nil {
			return ref, err
		}
		switch kind {
		case ofRule:
			var record ruleRecord
			err = json.Unmarshal([]byte(detail), &record)
			ref.Rule, ref.Occupies = key, record.Occupy
		case ofAccount, ofComponent:
			ref.Account = key
		case ofLink:
			ref.Account, _, _ = strings.Cut(key, " ")
		case ofDomain, ofImport, ofReset, ofEmptied:
			ref.All = true
		}
		return ref, err
	}, `SELECT seq, kind, key, CASE WHEN kind = '`+ofRule+`' THEN detail ELSE '' END FROM changes
		WHERE seq > $1 AND (seq < $2 OR seq > $3) ORDER BY seq LIMIT $4`, start, ownRange.First, ownRange.Last, limit)
}
