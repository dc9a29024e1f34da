package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

func (t codeQueries) Serials(ctx context.Context, batch int64, indexes []int64) (map[int64]string, error) {
	found := map[int64]string{}
	return found, serialsIn(ctx, t.Tx, batch, `idx`, indexes, func(s codes.Serial) { found[s.Index] = s.Serial })
}

func (t codeQueries) SerialsByNumber(ctx context.Context, batch int64, numbers []string) (map[string]int64, error) {
	found := map[string]int64{}
	return found, serialsIn(ctx, t.Tx, batch, `serial`, numbers, func(s codes.Serial) { found[s.Serial] = s.Index })
}

// serialsIn calls f with each serial number of a batch whose column (idx or serial) has one of the wanted values.
func serialsIn[T any](ctx context.Context, t *Tx, batch int64, column string, wanted []T, f func(codes.Serial)) error {
	scan := func(scan func(...any) error) (s codes.Serial, err error) {
		err = scan(&s.Index, &s.Serial)
		return s, err
	}
	return inChunks(wanted, func(items []T) error {
		args := []any{batch}
		for _, item := range items {
			args = append(args, item)
		}
		rows, err := list(ctx, t, scan, `SELECT idx, serial FROM code_serials WHERE batch = $1 AND `+column+` IN (`+
			placeholders(2, len(items))+`)`, args...)
		for _, r := range rows {
			f(r)
		}
		return err
	})
}

func (t codeQueries) SerialsBeginning(ctx context.Context, batches []int64, part string, limit int) (found []codes.SerialOf, err error) {
	scan := func(scan func(...any) error) (s codes.SerialOf, err error) {
		err = scan(&s.Batch, &s.Index, &s.Serial.Serial)
		return s, err
	}
	err = inChunks(batches, func(numbers []int64) error {
		args := []any{part, part + "\U0010FFFF"}
		for _, id := range numbers {
			args = append(args, id)
		}
		rows, err := list(ctx, t.Tx, scan, `SELECT batch, idx, serial FROM code_serials WHERE serial >= $1 AND serial < $2 AND batch IN (`+
			placeholders(3, len(numbers))+fmt.Sprintf(`) LIMIT %d`, limit), args...)
		found = append(found, rows...)
		return err
	})
	return found[:min(len(found), limit)], err
}

// PutSerials implements codes.Tx. The audit log contains a checksum of the serial numbers instead of the numbers.
func (t codeQueries) PutSerials(ctx context.Context, batch int64, all []codes.Serial) error {
	sum := sha256.New()
	err := inChunks(all, func(serials []codes.Serial) error {
		args := []any{batch}
		for _, s := range serials {
			fmt.Fprintf(sum, "%d|%d:%s|", s.Index, len(s.Serial), s.Serial)
			args = append(args, s.Index)
		}
		_, err := t.exec(ctx, `DELETE FROM code_serials WHERE batch = $1 AND idx IN (`+placeholders(2, len(serials))+`)`, args...)
		return err
	})
	if err != nil {
		return err
	}
	err = inChunks(all, func(serials []codes.Serial) error {
		args := make([]any, 0, 3*len(serials))
		for _, s := range serials {
			args = append(args, batch, s.Index, s.Serial)
		}
		_, err := t.exec(ctx, `INSERT INTO code_serials (batch, idx, serial) VALUES `+values(len(serials), 3), args...)
		return err
	})
	if err != nil {
		return err
	}
	return t.note(ctx, ofSerials, strconv.FormatInt(batch, 10), "bind", map[string]any{"codes": len(all),
		"sha256": hex.EncodeToString(sum.Sum(nil))})
}
