package store

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestImportCodes_MeasureCost logs the cost of imported codes if QRJUMP_COSTS is set: bytes on disk, memory, the duration of an import
// compared to an insert of the same rows, and of a scan compared to a scan of a generated code. docs/en/handbook.md has the figures.
func TestImportCodes_MeasureCost(t *testing.T) {
	if os.Getenv("QRJUMP_COSTS") == "" {
		t.Skip("QRJUMP_COSTS is not set")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		const piece, pieces, rounds = 10_000, 5, 3
		p, call := newCodeServices(t, [2]*Store{s, s})[0], addServiceAccount(t, s)
		generated := require.Value(p.Apply(t.Context(), call, codes.Application{ISV: "own", Count: 10_000}))(t)
		var batches []codes.Batch
		for _, isv := range []string{"imported", "plain"} {
			batches = append(batches, beginImport(t, p, isv, rounds*pieces*piece))
		}
		empty := databaseSize(t, s)
		var imported, plain []time.Duration
		for n := range rounds * pieces {
			lines := importLines(0, n*piece, (n+1)*piece-1)
			began := time.Now()
			require.NoError(t, assert.ErrorOf(p.ImportCodes(adminCtx(t), batches[0].ID, 1, strings.NewReader(lines))))
			imported = append(imported, time.Since(began))
			// As many rows of another batch.
			rows := make([]codes.ImportedCode, piece)
			for i := range rows {
				x := int64(n*piece+i)*0x4f1bbcdcbfa53e0b + 1
				rows[i] = codes.ImportedCode{Batch: batches[1].ID, Index: int64(n*piece + i), Code: x & (1<<49 - 1), TextHi: x * 31,
					TextLo: x * 37}
			}
			began = time.Now()
			update(t, s, func(ctx context.Context, tx *Tx) error {
				_, err := tx.codes().AddImported(ctx, rows)
				return err
			})
			plain = append(plain, time.Since(began))
		}
		size := databaseSize(t, s) - empty
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		fresh := codes.NewMemory(s)
		require.NoError(t, fresh.Load(t.Context()))
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(fresh)
		scan := func(text func(int) string) (took []time.Duration) {
			for i := range 2000 {
				text := text(i * 71 % 10_000)
				began := time.Now()
				s, ok := p.Scan(text, "alice", noAccount)
				require.True(t, ok && s.Batch.ID != 0, "Scan(%q) = %+v, %v", text, s, ok)
				took = append(took, time.Since(began))
			}
			return took
		}
		scan(printedText)
		a, b := scan(func(i int) string { return p.Text(generated, int64(i)) }), scan(printedText)
		t.Logf("%s: %d bytes a code; memory of the process %.2f; import %.2f of a plain insert; a scan %.0f of a generated one (%v, %v)",
			s.Engine(), size/(2*rounds*pieces*piece), float64(after.HeapAlloc-before.HeapAlloc)/(rounds*pieces*piece),
			float64(median(imported))/float64(median(plain)), float64(median(b))/float64(median(a)), median(a), median(b))
	})
}

func median(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	return durations[len(durations)/2]
}

// databaseSize returns the size of the SQLite database, or of the PostgreSQL table of imported codes, in bytes.
func databaseSize(t *testing.T, s *Store) (n int64) {
	t.Helper()
	query := `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`
	if s.Engine() == "postgres" {
		query = `SELECT pg_total_relation_size('imported_codes')`
	}
	view(t, s, func(ctx context.Context, tx *Tx) error { return tx.row(ctx, query).Scan(&n) })
	return n
}
