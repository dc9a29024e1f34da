package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/qrjump/qrjump/internal/accounts"
)

func scanScanKey(row func(...any) error) (k accounts.ScanKey, err error) {
	var created int64
	err = row(&k.Hash, &k.Name, &k.Namespace, &created)
	k.CreatedAt = fromMillis(created)
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoScanKey
	}
	return k, err
}

// ScanKey implements accounts.ScanKeyStore.
func (s *Store) ScanKey(ctx context.Context, hash string) (k accounts.ScanKey, err error) {
	err = s.view(ctx, func(tx *Tx) (err error) {
		k, err = scanScanKey(tx.row(ctx, `SELECT hash, name, namespace, created_at FROM scan_keys WHERE hash = $1`, hash).Scan)
		return err
	})
	return k, err
}

// ScanKeys implements accounts.ScanKeyStore.
func (s *Store) ScanKeys(ctx context.Context) (keys []accounts.ScanKey, err error) {
	err = s.view(ctx, func(tx *Tx) (err error) {
		keys, err = list(ctx, tx, scanScanKey, `SELECT hash, name, namespace, created_at FROM scan_keys ORDER BY created_at, hash`)
		return err
	})
	return keys, err
}

// PutScanKey implements accounts.ScanKeyStore.
func (s *Store) PutScanKey(ctx context.Context, k accounts.ScanKey) error {
	return s.update(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, `INSERT INTO scan_keys (hash, name, namespace, created_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, namespace = excluded.namespace, created_at = excluded.created_at`,
			k.Hash, k.Name, k.Namespace, millis(k.CreatedAt))
		if err != nil {
			return err
		}
		return tx.note(ctx, ofScanKey, k.Name, "put", map[string]any{"namespace": k.Namespace})
	})
}

// DeleteScanKey implements accounts.ScanKeyStore.
func (s *Store) DeleteScanKey(ctx context.Context, name string) error {
	return s.update(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, `DELETE FROM scan_keys WHERE name = $1`, name)
		if err != nil || n == 0 {
			return err
		}
		return tx.note(ctx, ofScanKey, name, "delete", nil)
	})
}
