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
	return pairsIn[int64, string](ctx, t.Tx, `SELECT idx, serial FROM code_serials WHERE batch = $1 AND idx IN`, indexes, batch)
}

func (t codeQueries) SerialsByNumber(ctx context.Context, batch int64, numbers []string) (map[string]int64, error) {
	return pairsIn[string, int64](ctx, t.Tx, `SELECT serial, idx FROM code_serials WHERE batch = $1 AND serial IN`, numbers, batch)
}

func (t codeQueries) SerialsBeginning(ctx context.Context, batches []int64, part string, limit int) (found []codes.SerialOf, err error) {
	scan := scanner(func(s *codes.SerialOf) []any { return []any{&s.Batch, &s.Index, &s.Serial.Serial} })
	err = inChunks(batches, func(numbers []int64) error {
		args := appendArgs([]any{part, part + "\U0010FFFF"}, numbers)
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
		return t.run(ctx, `DELETE FROM code_serials WHERE batch = $1 AND idx IN (`+placeholders(2, len(serials))+`)`, args...)
	})
	if err != nil {
		return err
	}
	_, err = insertPrepared(ctx, t.Tx, `INSERT INTO code_serials (batch, idx, serial)`, ``, all, func(s codes.Serial) []any {
		return []any{batch, s.Index, s.Serial}
	})
	return t.noteAfter(ctx, err, ofSerials, strconv.FormatInt(batch, 10), "bind", map[string]any{"codes": len(all),
		"sha256": hex.EncodeToString(sum.Sum(nil))})
}
