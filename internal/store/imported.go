package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

var importedRows = mapper[codes.ImportedCode]{table: "imported_codes", columns: "batch, idx, code, text_hi, text_lo, token",
	notFound: codes.ErrNoImported,
	targets: func(c *codes.ImportedCode) []any {
		return []any{&c.Batch, &c.Index, &c.Code, &c.TextHi, &c.TextLo, &c.Token}
	}}

func (t codeQueries) ImportedCodes(ctx context.Context, batch int64, r codes.Range) ([]codes.ImportedCode, error) {
	return importedRows.all(ctx, t.Tx, `WHERE batch = $1 AND idx >= $2 AND idx <= $3 ORDER BY idx`, batch, r.From, r.To)
}

func (t codeQueries) ImportedByText(ctx context.Context, hi, lo int64) (codes.ImportedCode, error) {
	return importedRows.find(ctx, t.Tx, `text_hi = $1 AND text_lo = $2`, hi, lo)
}

// maxSameCharacters is the maximum number of imported codes that a lookup reads if their nine-character codes are equal.
const maxSameCharacters = 16

func (t codeQueries) ImportedByCode(ctx context.Context, code int64) ([]codes.ImportedCode, error) {
	return importedRows.all(ctx, t.Tx, `WHERE code = $1 ORDER BY batch LIMIT $2`, code, maxSameCharacters)
}

func (t codeQueries) RemoveImported(ctx context.Context, batch int64, r codes.Range) error {
	return t.runAll(ctx, write(`DELETE FROM imported_codes WHERE batch = $1 AND idx >= $2 AND idx <= $3`, batch, r.From, r.To),
		write(`DELETE FROM code_serials WHERE batch = $1 AND idx >= $2 AND idx <= $3`, batch, r.From, r.To))
}

func (t codeQueries) Scanned(ctx context.Context, batch int64) (scanned bool, err error) {
	var n int64
	err = t.row(ctx, `SELECT CASE WHEN EXISTS (SELECT 1 FROM code_scans WHERE batch = $1) OR EXISTS (SELECT 1 FROM code_counts WHERE batch = $1)
		THEN 1 ELSE 0 END`, batch).Scan(&n)
	return n == 1, err
}

func (t codeQueries) ForgetFirstScans(ctx context.Context, batch int64, r codes.Range) error {
	return t.run(ctx, `DELETE FROM code_scans WHERE batch = $1 AND idx >= $2 AND idx <= $3`, batch, r.From, r.To)
}

func (t codeQueries) AddImported(ctx context.Context, all []codes.ImportedCode) (int64, error) {
	if err := t.bulk(ctx); err != nil {
		return 0, err
	}
	return t.addMany(ctx, `INSERT INTO imported_codes (`+importedRows.columns+`)`, ` ON CONFLICT DO NOTHING`, 6, len(all),
		func(i int) []any { return importedRows.args(&all[i]) })
}
