package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
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
		if errors.Is(err, sql.ErrNoRows) {
			err = rules.ErrNoChange
		}
		return c, err
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
	var found []rules.Change
	err := s.view(ctx, func(tx *Tx) error {
		found = nil
		for left := keys; len(left) > 0; {
			n := min(chunk, len(left))
			changes, err := list(ctx, tx, scanRuleChange, rulesAsOf(n), append(appendArgs(nil, left[:n]), millis(t))...)
			if err != nil {
				return err
			}
			found, left = append(found, changes...), left[n:]
		}
		return nil
	})
	return found, err
}

// rulesAsOf returns a query for the last change of each of n keys up to a point in time, which is the last argument. The query reads the
// changes of each key from the newest to the oldest, and stops at the first change at or before the point in time.
func rulesAsOf(n int) string {
	return `SELECT ` + ruleChangeColumns + ` FROM changes WHERE seq IN (SELECT (SELECT c.seq FROM changes c WHERE c.kind = '` + ofRule +
		`' AND c.key = asked.column1 AND c.occurred_at <= $` + strconv.Itoa(n+1) +
		` ORDER BY c.seq DESC LIMIT 1) FROM (VALUES ` + values(n, 1) +
		`) AS asked)`
}

// lastChange returns the last change of an object up to a point in time.
func (t *Tx) lastChange(ctx context.Context, kind, key string, instant time.Time) (c change, found bool, err error) {
	c, err = scanChange(t.row(ctx, `SELECT `+changeColumns+
		` FROM changes WHERE kind = $1 AND key = $2 AND occurred_at <= $3 ORDER BY seq DESC LIMIT 1`, kind, key, millis(instant)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		// For an object that is older than the audit log, the log begins with an entry that has the action 'found'.
		c, err = scanChange(t.row(ctx, `SELECT `+changeColumns+
			` FROM changes WHERE kind = $1 AND key = $2 AND action = 'found' ORDER BY seq LIMIT 1`, kind, key).Scan)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return change{}, false, nil
	}
	return c, err == nil, err
}

// AccountAsOf implements auditlog.Store.
func (s *Store) AccountAsOf(ctx context.Context, appid string, t time.Time) (pastOf auditlog.AsOf, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		pastOf = auditlog.AsOf{}
		c, found, err := tx.lastChange(ctx, ofAccount, appid, t)
		if err != nil || !found {
			return err
		}
		pastOf.Seq = c.seq
		if c.did == "delete" {
			return nil
		}
		var r accountRecord
		if err := json.Unmarshal([]byte(c.detail), &r); err != nil {
			return fmt.Errorf("change %d: %w", c.seq, err)
		}
		pastOf.Account = accounts.Account{AppID: appid, Kind: r.Kind, Name: r.Name, Subject: r.Subject, Certified: r.Certified,
			Versions: r.Versions, JumpOpen: r.JumpOpen,
			Features: r.Features, Members: r.Members, MessageURL: r.MessageURL, IPAllowlist: r.IPAllowlist, SecretFrozen: r.SecretFrozen,
			CreatedAt: fromMillis(r.CreatedAt)}
		pastOf.Known = true
		return nil
	})
	return pastOf, err
}

// LinkedAsOf implements auditlog.Store.
func (s *Store) LinkedAsOf(ctx context.Context, service, miniProgram string, t time.Time) (linked bool, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		linked = false
		c, found, err := tx.lastChange(ctx, ofLink, linkKey(service, miniProgram), t)
		if err != nil || !found || c.did == "delete" {
			return err
		}
		var r linkRecord
		if err := json.Unmarshal([]byte(c.detail), &r); err != nil {
			return fmt.Errorf("change %d: %w", c.seq, err)
		}
		linked = r.Status == accounts.LinkDone
		return nil
	})
	return linked, err
}

// ChangesAfter implements auditlog.Store.
func (s *Store) ChangesAfter(ctx context.Context, items []auditlog.Name, t time.Time, limit int) ([]auditlog.Entry, error) {
	if len(items) == 0 {
		return nil, nil
	}
	var found []change
	err := s.view(ctx, func(tx *Tx) error {
		found = nil
		for left := items; len(left) > 0; {
			n := min(chunk, len(left))
			args := []any{millis(t), limit}
			var names []string
			for _, name := range left[:n] {
				args = append(args, name.Kind, name.Key)
				names = append(names, fmt.Sprintf("(kind = $%d AND key = $%d)", len(args)-1, len(args)))
			}
			changes, err := list(ctx, tx, scanChange,
				`SELECT `+changeColumns+` FROM changes WHERE occurred_at > $1 AND (`+strings.Join(names, " OR ")+
					`) ORDER BY seq LIMIT $2`, args...)
			if err != nil {
				return err
			}
			found, left = append(found, changes...), left[n:]
		}
		return nil
	})
	return entries(found), err
}
