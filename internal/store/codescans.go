package store

import (
	"context"
	"errors"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

func (t codeQueries) AddFirstScans(ctx context.Context, all []codes.FirstScan) error {
	return inChunks(all, func(scans []codes.FirstScan) error {
		args := make([]any, 0, 5*len(scans))
		for _, f := range scans {
			args = append(args, f.Batch, f.Index, millis(f.At), f.Scan, f.User)
		}
		return t.run(ctx, `INSERT INTO code_scans (batch, idx, first_at, first_scan, first_user) VALUES `+values(len(scans), 5)+`
			ON CONFLICT (batch, idx) DO NOTHING`, args...)
	})
}

var firstScanRows = mapper[codes.FirstScan]{table: "code_scans", notFound: codes.ErrNoFirstScan,
	columns: "batch, idx, first_at, first_scan, first_user",
	targets: func(f *codes.FirstScan) []any { return []any{&f.Batch, &f.Index, moment{&f.At}, &f.Scan, &f.User} }}

func (t codeQueries) FirstScan(ctx context.Context, batch, index int64) (codes.FirstScan, error) {
	return firstScanRows.find(ctx, t.Tx, `batch = $1 AND idx = $2`, batch, index)
}

func (t codeQueries) EraseFirstScans(ctx context.Context, user string) error {
	return t.run(ctx, `UPDATE code_scans SET first_user = '' WHERE first_user = $1 AND first_user <> ''`, user)
}

func (t codeQueries) EraseOpenIDs(ctx context.Context, openIDOf func(account string) string) error {
	for _, table := range schema {
		for _, user := range table.users {
			if user.account == "" {
				continue
			}
			held, err := list(ctx, t.Tx, scanText, `SELECT DISTINCT `+user.account+` FROM `+table.name)
			if err != nil {
				return err
			}
			if err := t.eraseOpenIDs(ctx, table.name, user, held, openIDOf); err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseOpenIDs deletes the rows of a table in which column contains one of the user's openids; "held" lists the accounts of these openids.
func (t codeQueries) eraseOpenIDs(ctx context.Context, table string, column userColumn, held []string, openIDOf func(account string) string,
) error {
	if column.is == openIDText {
		query := `DELETE FROM ` + table + ` WHERE ` + column.account + ` = $1 AND REPLACE(` + column.name + `, $2, '') <> ` + column.name
		for _, account := range held {
			if _, err := t.exec(ctx, query, account, openIDOf(account)); err != nil {
				return err
			}
		}
		return nil
	}
	// One statement deletes rows for many accounts, because each statement scans the whole table: tickets have no index on the openid.
	for names := range slices.Chunk(held, chunk) {
		var args []any
		for _, account := range names {
			args = append(args, account, openIDOf(account))
		}
		query := `DELETE FROM ` + table + ` WHERE (` + column.account + `, ` + column.name + `) IN (VALUES ` + values(len(names), 2) + `)`
		if _, err := t.exec(ctx, query, args...); err != nil {
			return err
		}
	}
	return nil
}

func (t codeQueries) PutTickets(ctx context.Context, all []codes.Ticket) error {
	return inChunks(all, func(tickets []codes.Ticket) error {
		args := make([]any, 0, 8*len(tickets))
		for _, k := range tickets {
			args = append(args, k.Hash, k.Batch, k.Index, k.OwnerID, k.AppID, k.AppUserID, millis(k.ScannedAt), millis(k.ExpiresAt))
		}
		n, err := t.exec(ctx, `INSERT INTO tickets AS k (hash, batch, idx, owner_id, appid, app_user_id, scanned_at, expires_at) VALUES `+values(len(tickets), 8)+`
			ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash
			WHERE k.batch = excluded.batch AND k.idx = excluded.idx AND k.app_user_id = excluded.app_user_id AND k.scanned_at = excluded.scanned_at`, args...)
		if err == nil && n != int64(len(tickets)) {
			err = errors.New("a ticket with the same text is already stored")
		}
		return err
	})
}
