package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

const ruleChangeColumns = `seq, occurred_at, actor, via_component, rid, action, detail`

func (t ruleQueries) RuleChange(ctx context.Context, seq int64) (change, oldChange rules.Change, err error) {
	if err := t.writeQueued(ctx); err != nil {
		return change, oldChange, err
	}
	fn := func(query string, args ...any) (rules.Change, error) {
		c, err := scanRuleChange(t.row(ctx, `SELECT `+ruleChangeColumns+` FROM changes WHERE kind = '`+ofRule+`' AND `+query, args...).Scan)
		return c, replaceNoRows(err, rules.ErrNoChange)
	}
	if change, err = fn(`seq = $1`, seq); err != nil {
		return change, oldChange, err
	}
	oldChange, err = fn(`key = $1 AND seq < $2 ORDER BY seq DESC LIMIT 1`, change.Rule.Prefix.Key, seq)
	if errors.Is(err, rules.ErrNoChange) {
		return change, rules.Change{}, nil
	}
	return change, oldChange, err
}

// RulesAsOf implements auditlog.Store.
func (s *Store) RulesAsOf(ctx context.Context, keys []string, t time.Time) ([]rules.Change, error) {
	return viewed(ctx, s, func(tx *Tx) ([]rules.Change, error) {
		return listChunks(ctx, tx, scanRuleChange, slices.Chunk(keys, chunk), func(part []string) (string, []any) {
			return rulesAsOf(len(part)), append(appendArgs(nil, part), millis(t))
		})
	})
}

// rulesAsOf returns a query for the last change of each of n keys up to a point in time, which is the last argument. The query reads the
// changes of each key from the newest to the oldest, and stops at the first change at or before the point in time.
func rulesAsOf(n int) string {
	return `SELECT ` + ruleChangeColumns + ` FROM changes WHERE seq IN (SELECT (SELECT c.seq FROM changes c WHERE c.kind = '` + ofRule +
		`' AND c.key = asked.column1 AND c.occurred_at <= $` + strconv.Itoa(n+1) +
		` ORDER BY c.seq DESC LIMIT 1) FROM (VALUES (` +
		strings.ReplaceAll(placeholders(1, n), ", ", "), (") + `)) AS asked)`
}

// AccountAsOf implements auditlog.Store.
func (s *Store) AccountAsOf(ctx context.Context, appid string, t time.Time) (auditlog.AsOf, error) {
	return viewed(ctx, s, func(tx *Tx) (pastOf auditlog.AsOf, err error) {
		var r accountRecord
		pastOf.Seq, pastOf.Known, err = tx.recordAsOf(ctx, ofAccount, appid, t, &r)
		if pastOf.Known {
			pastOf.Account = accounts.Account{AppID: appid, Kind: r.Kind, Name: r.Name, Subject: r.Subject, Certified: r.Certified,
				Versions: r.Versions, JumpOpen: r.JumpOpen, Features: r.Features, Members: r.Members, MessageURL: r.MessageURL,
				IPAllowlist: r.IPAllowlist, SecretFrozen: r.SecretFrozen, CreatedAt: fromMillis(r.CreatedAt)}
		}
		return pastOf, err
	})
}

// LinkedAsOf implements auditlog.Store.
func (s *Store) LinkedAsOf(ctx context.Context, service, miniProgram string, t time.Time) (bool, error) {
	return viewed(ctx, s, func(tx *Tx) (bool, error) {
		var r linkRecord
		_, exists, err := tx.recordAsOf(ctx, ofLink, linkKey(service, miniProgram), t, &r)
		return exists && r.Status == accounts.LinkDone, err
	})
}

// recordAsOf reads the record of an object in its last change up to a point in time; exists is false if the object did not exist then.
func (t *Tx) recordAsOf(ctx context.Context, kind, key string, instant time.Time, record any) (seq int64, exists bool, err error) {
	c, err := scanChange(t.row(ctx, `SELECT `+changeColumns+
		` FROM changes WHERE kind = $1 AND key = $2 AND occurred_at <= $3 ORDER BY seq DESC LIMIT 1`, kind, key, millis(instant)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		// For an object that is older than the audit log, the log begins with an entry that has the action 'found'.
		c, err = scanChange(t.row(ctx, `SELECT `+changeColumns+
			` FROM changes WHERE kind = $1 AND key = $2 AND action = 'found' ORDER BY seq LIMIT 1`, kind, key).Scan)
	}
	if err != nil || c.did == "delete" {
		return c.seq, false, replaceNoRows(err, nil)
	}
	if err := json.Unmarshal([]byte(c.detail), record); err != nil {
		return c.seq, false, fmt.Errorf("change %d: %w", c.seq, err)
	}
	return c.seq, true, nil
}

// ChangesAfter implements auditlog.Store.
func (s *Store) ChangesAfter(ctx context.Context, items []auditlog.Name, t time.Time, limit int) ([]auditlog.Entry, error) {
	if len(items) == 0 {
		return nil, nil
	}
	found, err := viewed(ctx, s, func(tx *Tx) ([]change, error) {
		return listChunks(ctx, tx, scanChange, slices.Chunk(items, chunk), func(part []auditlog.Name) (query string, args []any) {
			args = []any{millis(t), limit}
			var names []string
			for _, name := range part {
				names = append(names, `(kind = `+bind(&args, name.Kind)+` AND key = `+bind(&args, name.Key)+`)`)
			}
			return `SELECT ` + changeColumns + ` FROM changes WHERE occurred_at > $1 AND (` + strings.Join(names, " OR ") +
				`) ORDER BY seq LIMIT $2`, args
		})
	})
	return entries(found), err
}
