package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

var packageRows = mapper[codes.PrintPackage]{table: "packages", key: "id", notFound: codes.ErrNoPackage,
	columns: "id, batch, first_idx, last_idx, spare_count, proof_batch_id, printer, recipients, formats, overlapping, reason, " +
		"created_by, created_at, download_count, spoiled, recalled_at, recalled_by",
	targets: func(p *codes.PrintPackage) []any {
		return []any{&p.ID, &p.Batch, &p.Codes.From, &p.Codes.To, &p.Spare, &p.Proofs, &p.Printer, inJSON(&p.Recipients), packageParts{p},
			inJSON(&p.ReprintOf), &p.Reason, &p.MadeBy, moment{&p.MadeAt}, &p.Sent, codeSet{&p.Spoiled}, moment{&p.RecalledAt},
			&p.RecalledBy}
	}}

// packageParts maps the column with a print package's file formats: a JSON list, or an object that also has the label drawing options.
type packageParts struct{ p *codes.PrintPackage }

type drawingParts struct {
	Formats []string        `json:"formats"`
	Drawing json.RawMessage `json:"drawing"`
}

func (c packageParts) text() string {
	if c.p.Drawing == "" {
		return inJSON(&c.p.Formats).text()
	}
	return inJSON(&drawingParts{c.p.Formats, json.RawMessage(c.p.Drawing)}).text()
}

// Scan implements sql.Scanner.
func (c packageParts) Scan(src any) error {
	if text, is := src.(string); !is || !strings.HasPrefix(text, "{") {
		c.p.Drawing = ""
		return inJSON(&c.p.Formats).Scan(src)
	}
	var parts drawingParts
	err := inJSON(&parts).Scan(src)
	c.p.Formats, c.p.Drawing = parts.Formats, string(parts.Drawing)
	return err
}

// codeSet maps a column that holds a set of code indexes.
type codeSet struct{ s *codes.Set }

func (c codeSet) text() string { return c.s.Encode() }

// Scan implements sql.Scanner.
func (c codeSet) Scan(src any) (err error) {
	text, is := src.(string)
	if !is {
		return fmt.Errorf("unexpected column type %T of a code set", src)
	}
	*c.s, err = codes.DecodeSet(text)
	return err
}

func (t codeQueries) NewPackageID(ctx context.Context) (int64, error) { return t.next(ctx, "package") }

func (t codeQueries) Packages(ctx context.Context, q codes.PackageQuery) ([]codes.PrintPackage, error) {
	waiting := ""
	if q.Pending {
		waiting = ` AND download_count = 0 AND recalled_at = 0`
	}
	return packageRows.all(ctx, t.Tx, `WHERE id > $1 AND (batch = $2 OR $2 = 0)
		AND ($3 = '' OR batch IN (SELECT id FROM batches WHERE account = $3))`+waiting+` ORDER BY id LIMIT $4`, q.After, q.Batch, q.Account,
		q.Limit)
}

func (t codeQueries) PackagesWithin(ctx context.Context, batch int64, r codes.Range) ([]codes.PrintPackage, error) {
	return packageRows.all(ctx, t.Tx, `WHERE batch = $1 AND first_idx <= $2 AND last_idx >= $3 ORDER BY id`, batch, r.To, r.From)
}

func (t codeQueries) PrintPackage(ctx context.Context, id int64) (codes.PrintPackage, error) {
	return packageRows.find(ctx, t.Tx, `id = $1`, id)
}

func (t codeQueries) PutPackage(ctx context.Context, p codes.PrintPackage, did string) error {
	err := packageRows.put(ctx, t.Tx, p)
	return t.noteAfter(ctx, err, ofPackage, strconv.FormatInt(p.ID, 10), did, map[string]any{"batch": p.Batch, "from": p.Codes.From,
		"to": p.Codes.To, "printer": p.Printer, "recipients": p.Recipients, "proofs": p.Proofs, "overlapping_packages": p.ReprintOf,
		"reason": p.Reason, "download_count": p.Sent, "spoiled": p.Spoiled.Len()})
}
