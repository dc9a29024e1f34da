package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

var scanKeyRows = mapper[accounts.ScanKey]{table: "scan_keys", key: "name", notFound: accounts.ErrNoScanKey,
	columns: "hash, name, namespace, created_at",
	targets: func(k *accounts.ScanKey) []any {
		return []any{&k.Hash, &k.Name, &k.Namespace, moment{&k.CreatedAt}}
	}}

// ScanKey implements accounts.ScanKeyStore.
func (s *Store) ScanKey(ctx context.Context, hash string) (accounts.ScanKey, error) {
	return viewed(ctx, s, func(tx *Tx) (accounts.ScanKey, error) {
		return scanKeyRows.find(ctx, tx, `hash = $1`, hash)
	})
}

// ScanKeys implements accounts.ScanKeyStore.
func (s *Store) ScanKeys(ctx context.Context) ([]accounts.ScanKey, error) {
	return viewed(ctx, s, func(tx *Tx) ([]accounts.ScanKey, error) {
		return scanKeyRows.all(ctx, tx, `ORDER BY created_at, hash`)
	})
}

// PutScanKey implements accounts.ScanKeyStore.
func (s *Store) PutScanKey(ctx context.Context, k accounts.ScanKey) error {
	return s.update(ctx, func(tx *Tx) error {
		if err := scanKeyRows.put(ctx, tx, k); err != nil {
			return err
		}
		return tx.note(ctx, ofScanKey, k.Name, "put", map[string]any{"namespace": k.Namespace})
	})
}

// DeleteScanKey implements accounts.ScanKeyStore.
func (s *Store) DeleteScanKey(ctx context.Context, name string) error {
	return s.update(ctx, func(tx *Tx) error {
		return tx.remove(ctx, nil, ofScanKey, name, `DELETE FROM scan_keys WHERE name = $1`, name)
	})
}
