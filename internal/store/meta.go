package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Lock blocks other transactions that lock the same name, until the transaction of s ends; InTx must have created s.
func (s *Store) Lock(ctx context.Context, name string) error {
	return s.update(ctx, func(tx *Tx) error { return tx.lock(ctx, "server "+name, "") })
}

// Meta returns a named value of the server; "" if the value does not exist.
func (s *Store) Meta(ctx context.Context, name string) (string, error) {
	return viewed(ctx, s, func(tx *Tx) (string, error) {
		return scalarOrZero[string](ctx, tx, `SELECT value FROM meta WHERE name = $1`, name)
	})
}

// NewestMeta returns a page of the values whose names start with a prefix in begins, and the total number of these values. Each prefix ends
// in a slash. The values are JSON; they are sorted by the UTC time in the JSON field whose name is in "actor", newest first.
func (s *Store) NewestMeta(ctx context.Context, begins []string, actor string, offset, limit int) (values []string, total int, err error) {
	var names []string
	var args []any
	for _, begin := range begins {
		args = append(args, begin, begin[:len(begin)-1]+"0")
		names = append(names, fmt.Sprintf("name >= $%d AND name < $%d", len(args)-1, len(args)))
	}
	from := ` FROM meta WHERE (` + strings.Join(names, ") OR (") + `)`
	err = s.view(ctx, func(tx *Tx) error {
		if err := tx.row(ctx, `SELECT COUNT(*)`+from, args...).Scan(&total); err != nil {
			return err
		}
		values, err = list(ctx, tx, scanText, `SELECT value`+from+
			fmt.Sprintf(` ORDER BY %s DESC, name LIMIT %d OFFSET %d`, tx.jsonField(`value`, actor), limit, offset), args...)
		return err
	})
	return values, total, err
}

// PutMeta stores a named value of the server.
func (s *Store) PutMeta(ctx context.Context, name, value string) error {
	return s.update(ctx, func(tx *Tx) error {
		err := tx.run(ctx, `INSERT INTO meta (name, value) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
		return tx.noteAfter(ctx, err, ofMeta, name, "put", map[string]any{"value": value})
	})
}

// SealedKey returns a sealed key; "" if the key does not exist.
func (s *Store) SealedKey(ctx context.Context, name string) (string, error) {
	return viewed(ctx, s, func(tx *Tx) (string, error) {
		return scalarOrZero[string](ctx, tx, `SELECT sealed FROM sealing_keys WHERE name = $1`, name)
	})
}

// FirstSealedKey returns a sealed key; if the key does not exist, FirstSealedKey stores its argument "first" as the key. Processes that
// start at the same time get the same key.
func (s *Store) FirstSealedKey(ctx context.Context, name, first string) (sealed string, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		err := tx.run(ctx, `INSERT INTO sealing_keys (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, first)
		if err != nil {
			return err
		}
		return tx.row(ctx, `SELECT sealed FROM sealing_keys WHERE name = $1`, name).Scan(&sealed)
	})
	return sealed, err
}

// Seeded reports whether the content of a seed was already applied.
func (s *Store) Seeded(ctx context.Context, hash string) (bool, error) {
	n, err := viewed(ctx, s, func(tx *Tx) (int, error) {
		return scalar[int](ctx, tx, `SELECT COUNT(*) FROM seeds WHERE hash = $1`, hash)
	})
	return n > 0, err
}

// PutSeeded records that the content of a seed was applied.
func (s *Store) PutSeeded(ctx context.Context, hash string, t time.Time) error {
	return s.update(ctx, func(tx *Tx) error {
		err := tx.run(ctx, `INSERT INTO seeds (hash, applied_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, hash, millis(t))
		return tx.noteAfter(ctx, err, ofSeed, hash, "apply", nil)
	})
}

// Reset deletes all rows except those of tables that a reset of the emulator keeps, and starts a new audit log.
func (s *Store) Reset(ctx context.Context) error {
	return s.update(ctx, func(tx *Tx) error {
		if err := tx.empty(ctx); err != nil {
			return err
		}
		return tx.beginLog(ctx, "reset", nil)
	})
}

// empty deletes the data that a reset of the emulator deletes. empty waits for the running transactions of other nodes, because
// rows that they commit later would survive the reset.
func (t *Tx) empty(ctx context.Context) error {
	for _, lock := range []func(context.Context) error{t.LockAccounts, t.LockRules, t.statistics().LockStatistics} {
		if err := lock(ctx); err != nil {
			return err
		}
	}
	t.touched.AddAll()
	for _, table := range schema {
		if table.keptOnReset {
			continue
		}
		if _, err := t.exec(ctx, `DELETE FROM `+table.name); err != nil {
			return err
		}
	}
	return nil
}

// beginLog starts an empty audit log with its first entry. Sequence numbers continue after a reset, so that a node that follows the
// log reads the new first entry and reloads all data.
func (t *Tx) beginLog(ctx context.Context, did string, detail any) error {
	t.queued = nil
	return t.note(ctx, ofReset, "", did, detail)
}
