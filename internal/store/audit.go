package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Entries implements auditlog.Store.
func (s *Store) Entries(ctx context.Context, q auditlog.Query) ([]auditlog.Entry, error) {
	var w criteria
	// The query selects a range of the index on (kind, seq) or (actor, seq). With only the condition kind = $1, PostgreSQL would search the
	// log in order of seq, and read almost the whole log if all matches were at its end.
	stretch := ""
	switch {
	case q.Key == "" && q.Actor == "" && q.Kind != "":
		stretch = "kind"
	case q.Key == "" && q.Actor != "" && q.Kind == "":
		stretch = "actor"
	}
	order, direction := " ORDER BY ", ""
	if q.Newest {
		direction = " DESC"
	}
	if stretch != "" {
		value := w.bind(cmp.Or(q.Kind, q.Actor))
		// PostgreSQL can estimate how many rows match (kind, seq) >= ($1, $2), but not how many match a comparison with > or <.
		w.and("("+stretch+", seq) >= ("+value+", ?)", q.After+1)
		w.and("("+stretch+", seq) <= ("+value+", ?)", cmp.Or(q.Before, math.MaxInt64)-1)
		order += stretch + direction + ", "
	} else {
		w.andIf(q.After > 0, "seq > ?", q.After)
		w.andIf(q.Before > 0, "seq < ?", q.Before)
		w.andIf(q.Kind != "", "kind = ?", q.Kind)
		w.andIf(q.Key != "", "key = ?", q.Key)
		w.andIf(q.Actor != "", "actor = ?", q.Actor)
	}
	query := `SELECT ` + changeColumns + ` FROM changes` + w.String() + order + "seq" + direction + ` LIMIT ` + w.bind(q.Limit)
	found, err := viewed(ctx, s, func(tx *Tx) ([]change, error) { return list(ctx, tx, scanChange, query, w.args...) })
	return entries(found), err
}

func entries(found []change) []auditlog.Entry {
	list := make([]auditlog.Entry, len(found))
	for i, c := range found {
		list[i] = auditlog.Entry{Seq: c.seq, OccurredAt: fromMillis(c.at), Kind: c.kind, Key: c.key, Actor: c.actor, Via: c.via, RID: c.rid,
			Action: c.did, Detail: json.RawMessage(c.detail), Hash: c.hash}
	}
	return list
}

// VerifyChanges implements auditlog.Store.
func (s *Store) VerifyChanges(ctx context.Context) (auditlog.Checked, error) {
	var done auditlog.Checked
	err := s.view(ctx, func(tx *Tx) error {
		v := verification{tx: tx}
		// Queries that compare a whole table with the audit log may take longer than the silence timeout.
		err := tx.patiently(func() error { return v.run(ctx) })
		done = v.Checked
		fault, found := errors.AsType[auditlog.Inconsistency](err)
		if found {
			done.FirstError = &fault
			return nil
		}
		return err
	})
	return done, err
}

// verification is the state of one verification of the whole audit log.
type verification struct {
	tx *Tx
	auditlog.Checked
	events int64 // number of the last code event that was compared
	// The reserved ranges, keyed by their first sequence number.
	stretches map[int64]*stretch
	within    *stretch // reserved range that is being verified; nil = none
}

// stretch is a reserved range of the audit log, which a bulk import wrote.
type stretch struct {
	first, last int64
	hash        string // first the hash of the entry that reserved the range, later the hash of the last verified entry in the range
	read, shown bool
}

func faultAt(seq int64, format string, args ...any) error {
	return auditlog.Inconsistency{Seq: seq, Text: fmt.Sprintf(format, args...)}
}

// verifyPage is the number of changes that are held in memory at a time.
const verifyPage = 1000

func (v *verification) run(ctx context.Context) error {
	var last head
	if err := v.tx.row(ctx, `SELECT seq, hash FROM audit_log_head WHERE id = 1`).Scan(&last.seq, &last.hash); errors.Is(err,
		sql.ErrNoRows) {
		return faultAt(0, "the row with the head of the audit log is missing")
	} else if err != nil {
		return err
	}
	if err := v.findReservedRanges(ctx); err != nil {
		return err
	}
	for {
		page, err := list(ctx, v.tx, scanChange, `SELECT `+changeColumns+` FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2`, v.Seq,
			verifyPage)
		if err != nil {
			return err
		}
		for i := range page {
			if err := v.link(&page[i]); err != nil {
				return err
			}
		}
		if err := v.codes(ctx, page); err != nil {
			return err
		}
		if len(page) < verifyPage {
			break
		}
	}
	switch {
	case v.Seq < last.seq && (v.Changes > 0 || last.hash != ""):
		return faultAt(v.Seq+1, "it is missing: the last change is %d, but the log ends with %d", last.seq, v.Seq)
	case v.Seq > last.seq, v.Hash != last.hash:
		return faultAt(v.Seq, "it is not the recorded last change (%d)", last.seq)
	}
	for _, s := range v.stretches {
		if s.read && !s.shown {
			return faultAt(s.first, "changes up to %d were written by an import without a record of its completion", s.last)
		}
	}
	return v.present(ctx)
}

// findReservedRanges finds the reserved ranges of the audit log. The method link verifies the entries that reserve ranges.
func (v *verification) findReservedRanges(ctx context.Context) error {
	given, err := list(ctx, v.tx, scanChange, `SELECT `+changeColumns+` FROM changes WHERE kind = '`+ofNumbers+`' ORDER BY seq`)
	v.stretches = make(map[int64]*stretch, len(given))
	for _, c := range given {
		if first, last, ok := replica.ParseSeqRange(c.key); ok && last+1 == c.seq {
			v.stretches[first] = &stretch{first: first, last: last, hash: c.hash}
		}
	}
	return err
}

// checkHidden verifies a change in a reserved range. The change's hash must cover the hash of the previous change in the range; for the
// first change, it must cover the hash of the entry that reserved the range. is = false means that the change is outside all ranges.
func (v *verification) checkHidden(c *change) (is bool, err error) {
	s := v.stretches[v.Seq+1]
	switch {
	case v.within != nil:
		s = v.within
	case s == nil || c.seq > s.last: // the change is outside all reserved ranges, or in a range that was never written
		return false, nil
	}
	if c.seq != v.Seq+1 {
		return true, faultAt(v.Seq+1, "it is missing")
	}
	if hash := v.tx.keeping.hash(c.text(s.hash)); hash != c.hash {
		return true, faultAt(c.seq, "it or its position was altered: the hash does not match")
	}
	s.read, s.hash, v.within = true, c.hash, s
	if c.seq == s.last {
		v.within = nil
	}
	v.Changes, v.Seq = v.Changes+1, c.seq
	return true, nil
}

// shows verifies the audit log entry with which a bulk import publishes its reserved range.
func (v *verification) shows(c *change) error {
	first, last, _ := replica.ParseSeqRange(c.key)
	s := v.stretches[first]
	var record seqRangeRecord
	switch {
	case json.Unmarshal([]byte(c.detail), &record) != nil || s == nil || s.last != last || s.shown:
		return faultAt(c.seq, "it publishes a range of changes that was not reserved")
	case !s.read:
		return faultAt(first, "it and the changes up to %d are missing", last)
	case s.hash != record.Hash:
		return faultAt(last, "it is not the last change of the import")
	}
	s.shown = true
	return nil
}

// link verifies that a change follows the previous change in the hash chain.
func (v *verification) link(c *change) error {
	if is, err := v.checkHidden(c); is {
		return err
	}
	s := v.stretches[v.Seq+1]
	unwritten := s != nil && c.seq == s.last+1 && c.kind == ofNumbers
	switch {
	case v.Changes > 0 && c.seq != v.Seq+1 && !unwritten:
		return faultAt(v.Seq+1, "it is missing")
	case v.Changes == 0 && c.seq != 1 && c.kind != ofReset:
		return faultAt(c.seq, "it is not the first change of a log: earlier changes are missing")
	case v.Changes > 0 && c.kind == ofReset:
		return faultAt(c.seq, "a reset can only be the first change of a log")
	}
	if hash := v.tx.keeping.hash(c.text(v.Hash)); hash != c.hash {
		return faultAt(c.seq, "it or its position was altered: the hash does not match")
	}
	if v.Changes == 0 {
		v.FirstSeq = c.seq
	}
	v.Changes, v.Seq, v.Hash = v.Changes+1, c.seq, c.hash
	if c.kind == ofImport {
		return v.shows(c)
	}
	return nil
}

// codes compares the changes of a page that describe code events with the events stored in the batches; both are in commit order.
func (v *verification) codes(ctx context.Context, page []change) error {
	for i := range page {
		c := &page[i]
		if c.kind != ofCodes {
			continue
		}
		var record codesRecord
		if err := json.Unmarshal([]byte(c.detail), &record); err != nil {
			return faultAt(c.seq, "its detail is not valid JSON")
		}
		found, err := list(ctx, v.tx, eventRows.scan, `SELECT `+eventColumns+
			` FROM code_events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT 1`, v.events, record.Event)
		if err != nil {
			return err
		}
		if len(found) == 0 || found[0].seq != record.Event || found[0].digest() != record.Digest {
			return faultAt(c.seq, "the code event %d was altered or is missing", record.Event)
		}
		v.events = record.Event
	}
	return nil
}

// present compares the stored rows with the last change of each row.
func (v *verification) present(ctx context.Context) error {
	var n int64
	switch err := v.tx.row(ctx, `SELECT seq FROM code_events WHERE seq > $1 ORDER BY seq LIMIT 1`, v.events).Scan(&n); {
	case err == nil:
		return faultAt(0, "the code event %d is not in the audit log", n)
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	err := compareRows(ctx, v, ofRule, "rules", "key", ruleColumns, scanRule, func(r rules.Rule, logged ruleRecord) (string, bool) {
		return r.Prefix.Text, reflect.DeepEqual(logged, recordOf(r))
	})
	if err != nil {
		return err
	}
	return compareRows(ctx, v, ofAccount, "accounts", "appid", accountRows.columns, accountRows.scan,
		func(a accounts.Account, logged accountRecord) (string, bool) {
			logged.NewSecret, logged.NewPackageKey = false, false
			return a.AppID, reflect.DeepEqual(logged, accountRecordOf(a, a))
		})
}

// lastOf returns SQL that joins a table with the last change of each of its rows.
func lastOf(kind, table, key string) string {
	return ` FROM ` + table + ` x LEFT JOIN changes c ON c.kind = '` + kind + `' AND c.key = x.` + key +
		` AND c.seq = (SELECT MAX(seq) FROM changes WHERE kind = '` + kind + `' AND key = x.` + key + `)`
}

// checkRemoved returns a fault if a row is missing from the table but the last audit log entry for this row is not a deletion.
func (v *verification) checkRemoved(ctx context.Context, kind, table, key string) error {
	var seq int64
	var name string
	err := v.tx.row(ctx, `SELECT c.seq, c.key FROM changes c WHERE c.kind = '`+kind+`' AND c.action NOT IN ('delete', 'force_delete')
		AND c.seq = (SELECT MAX(seq) FROM changes WHERE kind = c.kind AND key = c.key)
		AND NOT EXISTS (SELECT 1 FROM `+table+` x WHERE x.`+key+` = c.key) ORDER BY c.seq LIMIT 1`).Scan(&seq, &name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return faultAt(seq, "the %s %.200s is missing, and the audit log has no deletion of it", kind, name)
}

// compareRows compares the rows of a table with the record in the last change of each row. The function compare returns the name of a row,
// and whether the row equals the record.
func compareRows[T, R any](ctx context.Context, v *verification, kind, table, key, columns string,
	scan func(func(...any) error) (T, error), compare func(row T, logged R) (name string, equal bool)) error {
	rows, err := v.tx.query(ctx, `SELECT COALESCE(c.seq, 0), COALESCE(c.action, ''), COALESCE(c.detail, ''), `+qualified("x", columns)+
		lastOf(kind, table, key))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var did, detail string
		row, err := scan(func(dst ...any) error { return rows.Scan(append([]any{&seq, &did, &detail}, dst...)...) })
		if err != nil {
			return err
		}
		var logged R
		unreadable := seq > 0 && json.Unmarshal([]byte(detail), &logged) != nil
		switch name, equal := compare(row, logged); {
		case seq == 0:
			return faultAt(0, "the %s %.200s is not in the audit log", kind, name)
		case unreadable, !equal, did == "delete", did == "force_delete":
			return faultAt(seq, "the %s %.200s differs from what this change stored", kind, name)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	return v.checkRemoved(ctx, kind, table, key)
}
