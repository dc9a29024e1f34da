package store

import (
	"context"
	"errors"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

func (t codeQueries) AddFirstScans(ctx context.Context, all []codes.FirstScan) error {
	return inPieces(all, func(some []codes.FirstScan) error {
		args := make([]any, 0, 5*len(some))
		for _, f := range some {
			args = append(args, f.Batch, f.Index, millis(f.At), f.Scan, f.User)
		}
		_, err := t.exec(ctx, `INSERT INTO code_scans (batch, idx, first_at, first_scan, first_user) VALUES `+values(len(some), 5)+`
			ON CONFLICT (batch, idx) DO NOTHING`, args...)
		return err
	})
}

func (t codeQueries) FirstScan(ctx context.Context, batch, index int64) (f codes.FirstScan, err error) {
	var at int64
	err = t.row(ctx, `SELECT batch, idx, first_at, first_scan, first_user FROM code_scans WHERE batch = $1 AND idx = $2`, batch, index).
		Scan(&f.Batch, &f.Index, &at, &f.Scan, &f.User)
	f.At = fromMillis(at)
	return f, instead(err, codes.ErrNoFirstScan)
}

func (t codeQueries) EraseFirstScans(ctx context.Context, user string) error {
	_, err := t.exec(ctx, `UPDATE code_scans SET first_user = '' WHERE first_user = $1 AND first_user <> ''`, user)
	return err
}

func (t codeQueries) EraseOpenIDs(ctx context.Context, openIDOf func(account string) string) error {
	for _, table := range schema {
		for _, of := range table.users {
			if of.account == "" {
				continue
			}
			held, err := list(ctx, t.Tx, scanText, `SELECT DISTINCT `+of.account+` FROM `+table.name)
			if err != nil {
				return err
			}
			if err := t.eraseOpenIDs(ctx, table.name, of, held, openIDOf); err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseOpenIDs removes the rows with the openids that one user has with accounts.
func (t codeQueries) eraseOpenIDs(ctx context.Context, table string, of userColumn, held []string,
	openIDOf func(account string) string,
) error {
	if of.is == openIDText {
		query := `DELETE FROM ` + table + ` WHERE ` + of.account + ` = $1 AND REPLACE(` + of.name + `, $2, '') <> ` + of.name
		for _, account := range held {
			if _, err := t.exec(ctx, query, account, openIDOf(account)); err != nil {
				return err
			}
		}
		return nil
	}
	// There are many tickets and no index by owner: so one walk through them serves many accounts.
	for some := range slices.Chunk(held, chunk) {
		var args []any
		for _, account := range some {
			args = append(args, account, openIDOf(account))
		}
		query := `DELETE FROM ` + table + ` WHERE (` + of.account + `, ` + of.name + `) IN (VALUES ` + values(len(some), 2) + `)`
		if _, err := t.exec(ctx, query, args...); err != nil {
			return err
		}
	}
	return nil
}

func (t codeQueries) PutTickets(ctx context.Context, all []codes.Ticket) error {
	return inPieces(all, func(some []codes.Ticket) error {
		args := make([]any, 0, 8*len(some))
		for _, k := range some {
			args = append(args, k.Hash, k.Batch, k.Index, k.OwnerID, k.AppID, k.AppUserID, millis(k.ScannedAt), millis(k.ExpiresAt))
		}
		n, err := t.exec(ctx, `INSERT INTO tickets AS k (hash, batch, idx, owner_id, appid, app_user_id, scanned_at, expires_at) VALUES `+values(len(some), 8)+`
			ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash
			WHERE k.batch = excluded.batch AND k.idx = excluded.idx AND k.app_user_id = excluded.app_user_id AND k.scanned_at = excluded.scanned_at`, args...)
		if err == nil && n != int64(len(some)) {
			err = errors.New("another ticket with the same text is stored already")
		}
		return err
	})
}
