package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// sealed lists every column with sealed texts, the columns that identify its rows, and a prefix. The argument "place" of sealer.Key.Seal is
// the prefix followed by the values of the identifying columns, joined by "/". After a rotation of the master key, the texts of a column
// that is missing here would be unreadable; a test compares this list with the code.
var sealed = []sealedColumn{
	{"access_tokens", "sealed", []string{"hash"}, "access_tokens/"},
	{"accounts", "marketcode_key", []string{"appid"}, "accounts/marketcode_key/"},
	{"components", "message_token", []string{"appid"}, "components/message_token/"},
	{"components", "encoding_aes_key", []string{"appid"}, "components/encoding_aes_key/"},
	{"grants", "refresh_token", []string{"component", "appid"}, "grants/refresh_token/"},
	{"people", "totp", []string{"name"}, "people/totp/"},
	{"pushes", "sealed", []string{"id"}, "pushes/"},
	{"webhooks", "secret", []string{"id"}, "webhooks/secret/"},
}

type sealedColumn struct {
	table, column string
	keys          []string
	place         string
}

// ErrInUse is returned if exclusive use of the database is needed but another process uses it.
var ErrInUse = errors.New("the database is in use by a running qrjump: stop all qrjump processes first")

// OpenAlone works like Open, with exclusive use of the database and the data folder. ErrInUse.
func OpenAlone(ctx context.Context, t Target) (*Store, error) {
	t.alone = true
	s, err := connect(ctx, t)
	if err != nil {
		return nil, err
	}
	err = retryWhileInUse(ctx, func() error {
		return s.update(ctx, func(tx *Tx) error { return tx.engine.lockOut(ctx, tx) })
	})
	if err == nil {
		err = s.checkAndMigrate(ctx, t)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// retryWhileInUse runs f, and retries it for up to ten seconds while it fails with ErrInUse: PostgreSQL needs a moment to notice that a
// process has ended, and seconds if a commit was in progress on a busy disk.
func retryWhileInUse(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if !errors.Is(err, ErrInUse) || n == 200 {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Resealed counts what Reseal changed.
type Resealed struct {
	Secrets   int
	Snapshots int64 // deleted snapshots of the emulator
}

// Reseal replaces every sealed text in one transaction with exclusive use of the database: texts in table sealing_keys by the result of
// key(), all other texts by the result of column(). Reseal deletes the saved states, because their texts are sealed with the old key.
// ErrInUse. Reseal may call key() and column() again after a conflict.
func (s *Store) Reseal(ctx context.Context, key func(name, sealed string) (string, error),
	column func(place, sealed string) (string, error)) (done Resealed, err error) {
	if err := s.engine.overwrite(ctx, s.write); err != nil {
		return done, fmt.Errorf("enabling overwriting of deleted data: %w", err)
	}
	err = s.update(ctx, func(tx *Tx) error {
		done = Resealed{}
		if err := tx.engine.lockOut(ctx, tx); err != nil {
			return err
		}
		for _, c := range sealed {
			err := tx.reseal(ctx, c.table, c.column, c.keys, func(names []string, old string) (string, error) {
				done.Secrets++
				return column(c.place+strings.Join(names, "/"), old)
			})
			if err != nil {
				return fmt.Errorf("re-encrypting %s.%s: %w", c.table, c.column, err)
			}
		}
		err := tx.reseal(ctx, "sealing_keys", "sealed", []string{"name"}, func(names []string, old string) (string, error) {
			return key(names[0], old)
		})
		if err != nil {
			return err
		}
		if done.Snapshots, err = tx.exec(ctx, `DELETE FROM snapshots`); err != nil {
			return err
		}
		return tx.note(ctx, ofKeys, "", "rotate", map[string]any{"secrets": done.Secrets, "snapshots": done.Snapshots})
	})
	return done, err
}

// resealPage is the number of rows that are held in memory at a time.
const resealPage = 500

type sealedRow struct {
	keys []any
	text string
}

// reseal replaces the text in a column of every row in which the column is not empty.
func (t *Tx) reseal(ctx context.Context, table, column string, keys []string, anew func(names []string, old string) (string, error)) error {
	columns := strings.Join(keys, ", ")
	scan := func(scan func(...any) error) (r sealedRow, err error) {
		r.keys = make([]any, len(keys))
		dst := []any{&r.text}
		for i := range r.keys {
			dst = append(dst, &r.keys[i])
		}
		err = scan(dst...)
		return r, err
	}
	rest, last := "", []any(nil)
	for {
		rows, err := list(ctx, t, scan, fmt.Sprintf(`SELECT %s, %s FROM %s WHERE %s <> ''%s ORDER BY %s LIMIT %d`,
			column, columns, table, column, rest, columns, resealPage), last...)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			names, args, texts := make([]string, len(keys)), []any{""}, make([]string, len(keys))
			for i, k := range keys {
				names[i] = fmt.Sprint(r.keys[i])
				args = append(args, r.keys[i])
				texts[i] = fmt.Sprintf("%s = $%d", k, i+2)
			}
			text, err := anew(names, r.text)
			if err != nil {
				return err
			}
			args[0] = text
			if _, err := t.exec(ctx, fmt.Sprintf(`UPDATE %s SET %s = $1 WHERE %s`, table, column, strings.Join(texts, " AND ")),
				args...); err != nil {
				return err
			}
		}
		last = rows[len(rows)-1].keys
		marks := make([]string, len(keys))
		for i := range marks {
			marks[i] = fmt.Sprintf("$%d", i+1)
		}
		rest = fmt.Sprintf(` AND (%s) > (%s)`, columns, strings.Join(marks, ", "))
	}
}

// Fence sets the sealed key that this process works with. If the master key is rotated while the process is disconnected, the
// process cannot connect again, because it would seal with a deleted key.
func (s *Store) Fence(name, sealed string) { s.fence.Store(&fence{name, sealed}) }

type fence struct{ name, sealed string }
