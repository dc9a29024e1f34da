package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// newSeedRows returns n rows of the table seeds.
func newSeedRows(n int) []string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"applied_at":%d,"hash":"%08d"}`, i, i)
	}
	return rows
}

func joinLines(rows []string) string { return strings.Join(rows, "\n") + "\n" }

func TestLoad_BrokenRowNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		empty := exportTables(t, s)
		all := maps.Clone(empty)
		seeds := newSeedRows(testscope.Select(20_000, 12_400))
		for name, broken := range map[string]string{
			"no JSON":                `{"applied_at":1,"hash":`,
			"two rows on a line":     `{"applied_at":1,"hash":"a"}{"applied_at":1,"hash":"b"}`,
			"an unknown column":      `{"applied_at":1,"hash":"a","x":1}`,
			"a missing column":       `{"applied_at":1}`,
			"another column":         `{"applied_at":1,"hush":"a"}`,
			"a fraction":             `{"applied_at":1.5,"hash":"a"}`,
			"null":                   `{"applied_at":null,"hash":"a"}`,
			"a NUL in a text":        `{"applied_at":1,"hash":"\u0000"}`,
			"an earlier row":         seeds[0],
			"the previous row":       seeds[12_344],
			"an array":               `[1,"a"]`,
			"a number beyond 64 bit": `{"applied_at":9223372036854775808,"hash":"a"}`,
		} {
			rows := slices.Clone(seeds)
			rows[12_345] = broken
			all["seeds"] = joinLines(rows)
			err := loadTables(t, s, all)
			assert.True(t, err != nil && strings.Contains(err.Error(), "row 12346 of seeds"),
				"Load() of %s = %v, want row 12346", name, err)
			check(t, "rows after "+name, exportTables(t, s), empty)
		}
		all["seeds"] = joinLines(seeds)
		require.NoError(t, loadTables(t, s, all))
		check(t, "seeds", exportTables(t, s)["seeds"], all["seeds"])
	})
}

// TestLoad_PostgresRejectsWrongType loads values of the wrong type, which SQLite would store unchanged.
func TestLoad_PostgresRejectsWrongType(t *testing.T) {
	s := open(t, newPostgres(t))
	all := exportTables(t, s)
	for _, broken := range []string{`{"applied_at":1,"hash":2}`, `{"applied_at":"x","hash":"a"}`, `{"applied_at":"","hash":"a"}`} {
		rows := newSeedRows(3000)
		rows[1500] = broken
		all["seeds"] = joinLines(rows)
		err := loadTables(t, s, all)
		assert.True(t, err != nil && strings.Contains(err.Error(), "row 1501 of seeds"), "Load() of %s = %v, want row 1501", broken, err)
	}
}

// TestLoad_CopyTextEscaping loads texts that have a meaning in the text format of COPY, with lengths around those of its buffers.
func TestLoad_CopyTextEscaping(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		all := exportTables(t, s)
		texts := []string{"", `\.`, `\N`, `\\`, "\r", "\n", "\t", "\r\n", "a\tb\\tc", `"`, "NULL", "\u007f", "\u0001", "扫码😀", "\u2028",
			"\uFFFD", "<&>"}
		for _, n := range []int{1<<15 - 1, 1 << 15, 1 << 16, 1 << 18} {
			texts = append(texts, strings.Repeat("x", n), strings.Repeat("\\\n扫", n))
		}
		slices.Sort(texts)
		var b strings.Builder
		lines := json.NewEncoder(&b)
		lines.SetEscapeHTML(false)
		for i, text := range texts {
			// The long text is the value, because an index key cannot be long.
			require.NoError(t, lines.Encode(map[string]any{"name": fmt.Sprintf("%02d", i), "value": text}))
		}
		all["meta"] = b.String()
		require.NoError(t, loadTables(t, s, all))
		got := exportTables(t, s)["meta"]
		assert.True(t, got == all["meta"], "%d bytes are read after %d were loaded, or other bytes", len(got), len(all["meta"]))
	})
}

// TestLoad_ScanPartitions loads scans of several days in mixed order, which are in several partitions. Errors have the number of the row.
func TestLoad_ScanPartitions(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		empty := exportTables(t, s)
		all := maps.Clone(empty)
		row := map[string]any{}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			columns, err := tx.columns(ctx, "scan_events")
			for _, name := range columns {
				row[name] = ""
			}
			return err
		})
		for _, name := range []string{"activation", "occurred_at", "batch", "idx", "rule"} {
			row[name] = 0
		}
		var rows []string
		for n := range int64(60) {
			// The last of these days does not have its own partition.
			row["day"] = []int64{20_000, 20_001, 20_000, 20_002, 1}[n/3%5]
			row["seq"], row["id"] = n+1, fmt.Sprintf("id%08d", n+1)
			b := require.Value(json.Marshal(row))(t)
			rows = append(rows, string(b))
		}
		all["scan_events"] = joinLines(rows)
		for name, broken := range map[string]string{"no JSON": "{", "a duplicate row": rows[40],
			"an incomplete row of a new day": `{"day":20005}`} {
			invalid := slices.Clone(rows)
			invalid[41] = broken
			all["scan_events"] = joinLines(invalid)
			err := loadTables(t, s, all)
			assert.True(t, err != nil && strings.Contains(err.Error(), "row 42 of scan_events"),
				"Load() of %s = %v, want row 42", name, err)
			check(t, "rows after "+name, exportTables(t, s), empty)
		}
		all["scan_events"] = joinLines(rows)
		require.NoError(t, loadTables(t, s, all))
		check(t, "scans", exportTables(t, s)["scan_events"], all["scan_events"])
		if s.Engine() == "postgres" {
			check(t, "scans in the partition of a day", queryInt(t, s, `SELECT COUNT(*) FROM `+dayName(20_000)), 24)
			check(t, "scans in the partition of other days", queryInt(t, s, `SELECT COUNT(*) FROM scan_events_other`), 12)
		}
	})
}

func TestLoad_ContextCanceled(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		empty := exportTables(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := retryLoad(ctx, s, func(l *Restore) error {
			_, err := l.LoadRows(ctx, "seeds", &cancelingReader{rows: newSeedRows(20_000), cancel: cancel})
			return err
		})
		assert.ErrorIs(t, err, context.Canceled, "a canceled Load")
		// PostgreSQL rejects other connections until it closes the canceled one.
		for s.Ping(t.Context()) != nil && t.Context().Err() == nil {
		}
		check(t, "rows", exportTables(t, s), empty)
	})
}

// cancelingReader calls cancel after half of its rows.
type cancelingReader struct {
	rows   []string
	n      int
	cancel func()
}

func (r *cancelingReader) Read(p []byte) (int, error) {
	if r.n == len(r.rows) {
		return 0, io.EOF
	}
	if r.n == len(r.rows)/2 {
		r.cancel()
	}
	r.n++
	return copy(p, r.rows[r.n-1]+"\n"), nil
}

func TestCopyLine_FromErrorContext(t *testing.T) {
	for where, line := range map[string]int64{
		"COPY seeds, line 12346":                              12346,
		`COPY seeds, line 7, column applied_at: "99 bottles"`: 7,
		"COPY seeds, Zeile 3, Spalte at":                      3,
		"seedsのCOPY、行 4":                                      4,
		"COPY seeds, line 9223372036854775807: \"...\"\n":     9223372036854775807,
		"":           0,
		"COPY seeds": 0,
	} {
		check(t, where, copyLine(where, "seeds"), line)
	}
}

// FuzzARowOfAnArchive verifies that writtenRow, the fast path, accepts only rows that anyRow accepts, with the same values.
func FuzzARowOfAnArchive(f *testing.F) {
	for _, line := range []string{`{"applied_at":1,"hash":"a"}` + "\n", `{"applied_at":-9223372036854775808,"hash":"\"\\\u2028\ud800"}`,
		`{"applied_at":-0,"hash":""}`, `{"applied_at":01,"hash":""}`,
		`{"applied_at":-,"hash":"a"}`, `{"applied_at":1,"hash":"a"} `, `{"hash":"a","applied_at":1}`,
		`{"applied_at":1,"applied_at":2,"hash":"a"}`, `{"applied_at":1e2,"hash":"a"}`,
		"{\"applied_at\":1,\"hash\":\"\xff\"}",
		"{\"applied_at\":1,\"hash\":\"\t\"}", `{"applied_at":1,"hash":"\`, `{"applied_at":1,"hash":"\x"}`,
		`{"applied_at":1,"hash":"a"}}`, `{"applied_at":1,"hash":"扫`, `{"applied_at":`,
		``, `null`} {
		f.Add([]byte(line))
	}
	columns := []string{"applied_at", "hash"}
	heads := newRowReader("seeds", columns, nil).heads
	f.Fuzz(func(t *testing.T, line []byte) {
		args := make([]any, len(columns))
		if !writtenRow(line, heads, args) {
			return
		}
		simple, err := anyRow(line, columns)
		require.NoErrorf(t, err, "anyRow(%q), which writtenRow accepts", line)
		check(t, "row", args, simple)
	})
}

// TestWriteRows_FastPathDecoding verifies that writtenRow accepts all rows of WriteRows.
func TestWriteRows_FastPathDecoding(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		fillTables(t, s)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for table, rows := range exportTables(t, s) {
				columns, err := tx.columns(ctx, table)
				if err != nil {
					return err
				}
				r := newRowReader(table, columns, strings.NewReader(rows))
				for line := range strings.Lines(rows) {
					assert.True(t, writtenRow([]byte(line), r.heads, r.args), "writtenRow(%s) of table %s = false, want true", line, table)
				}
			}
			return nil
		})
	})
}

// zeroReader is an endless line, as a small gzip file may contain.
type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// TestReadRows_RejectsMalformedRow verifies that malformed rows are rejected with few allocations, and an endless row by its length.
func TestReadRows_RejectsMalformedRow(t *testing.T) {
	columns := []string{"applied_at", "hash"}
	for _, line := range []string{`{"applied_at":[` + strings.Repeat("0,", 1<<16), `{"applied_at":` + strings.Repeat("[", 1<<16),
		`{` + strings.Repeat(`"a":1,`, 1<<16)} {
		allocations := testing.AllocsPerRun(1, func() {
			assert.True(t, assert.ErrorOf(anyRow([]byte(line), columns)) != nil, "anyRow(%.20s…) = nil, want an error", line)
		})
		assert.True(t, !(allocations > 50), "anyRow(%.20s…) makes %v allocations, want at most 50", line, allocations)
	}
	_, err := newRowReader("seeds", columns, zeroReader{}).next()
	assert.True(t, err != nil && err.Error() == "row 1 of seeds: longer than 16 MiB", "next() of an endless line = %v", err)
}

func TestWriteRows_MatchesEncodingJSON(t *testing.T) {
	texts := []string{"", "plain", `"`, `\`, `a"b\c`, "\n", "a\tb\"", "\x00", "\x1f", "\x7f", "é", "扫一扫", "\u2028", "a\u2029\"b",
		"\u2027\u202a", "\xe2\x80",
		"\xff", "a\"\xe2", `{"kind":"mini_program","name":"<a>&"}`, "😀\\", strings.Repeat(`x"`, 100)}
	random, parts := rand.New(rand.NewPCG(14, 7)), texts
	for range 5000 {
		var b strings.Builder
		for range random.IntN(12) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		texts = append(texts, b.String())
	}
	for _, text := range texts {
		var written bytes.Buffer
		e := json.NewEncoder(&written)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(text))
		got := string(appendText([]byte("before "), text))
		require.True(t, got+"\n" == "before "+written.String(), "appendText(%q) = %s, want %s", text, got, written.String())
		line := append(appendText(nil, text), '}')
		if got, n := writtenText(line); utf8.ValidString(text) && (got != text || n != len(line)-1) {
			t.Fatalf("writtenText(%s) = %q, %d, want %q", line, got, n, text)
		}
	}
}

// TestArchive_ShortScanLog exports scans up to a position that the scan log has not reached, as at a server that lacks the last scans.
func TestArchive_ShortScanLog(t *testing.T) {
	j := require.Value(scanlog.OpenJournal(t.TempDir(), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})}))(t)
	defer j.Close()
	list := make([]scanlog.Event, 3)
	for i := range list {
		list[i].ID[15] = byte(i + 1)
		list[i].OccurredAt = list[i].ID.Time()
	}
	require.NoError(t, j.Append(t.Context(), list))
	for upTo, want := range map[int64]int64{2: 2, 3: 3, 4: 0} {
		n, err := (&externalScans{log: j, upTo: upTo}).rows(t.Context(), io.Discard)
		assert.True(t, n == want && (err != nil) == (upTo > 3), "rows() up to position %d of 3 = %d, %v, want %d", upTo, n, err, want)
	}
}
