package store

import (
	"context"
	"errors"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

func (t codeQueries) AddFirstScans(ctx context.Context, all []codes.FirstScan) error {
	_, err := firstScanRows.addPrepared(ctx, t.Tx, all, ` ON CONFLICT (batch, idx) DO NOTHING`)
	return err
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
		return forEach(slices.Values(held), func(account string) error { return t.run(ctx, query, account, openIDOf(account)) })
	}
	// One statement deletes rows for many accounts, because each statement scans the whole table: tickets have no index on the openid.
	return forEach(slices.Chunk(held, chunk), func(names []string) error {
		var args []any
		for _, account := range names {
			args = append(args, account, openIDOf(account))
		}
		return t.run(ctx, `DELETE FROM `+table+` WHERE (`+column.account+`, `+column.name+`) IN (VALUES `+t.rowMarks(len(names), 2)+`)`,
			args...)
	})
}

func (t codeQueries) PutTickets(ctx context.Context, all []codes.Ticket) error {
	n, err := ticketRows.addPrepared(ctx, t.Tx, all, ` ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash
		WHERE tickets.batch = excluded.batch AND tickets.idx = excluded.idx AND tickets.app_user_id = excluded.app_user_id
			AND tickets.scanned_at = excluded.scanned_at`)
	if err == nil && n != int64(len(all)) {
		err = errors.New("a ticket with the same text is already stored")
	}
	return err
}
