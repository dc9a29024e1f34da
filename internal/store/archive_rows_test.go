package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// manySeeds are more rows than are on the way to the database at a time.
func manySeeds(n int) []string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"applied_at":%d,"hash":"%08d"}`, i, i)
	}
	return rows
}

func linesOf(rows []string) string { return strings.Join(rows, "\n") + "\n" }

func TestLoad_BrokenRowNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	eachBackend(t, func(t *testing.T, s *Store) {
		empty := rowsOf(t, s)
		all := maps.Clone(empty)
		seeds := manySeeds(20_000)
		for name, broken := range map[string]string{
			"no JSON":                `{"applied_at":1,"hash":`,
			"two rows in a line":     `{"applied_at":1,"hash":"a"}{"applied_at":1,"hash":"b"}`,
			"a column too many":      `{"applied_at":1,"hash":"a","x":1}`,
			"a column too few":       `{"applied_at":1}`,
			"another column":         `{"applied_at":1,"hush":"a"}`,
			"a broken number":        `{"applied_at":1.5,"hash":"a"}`,
			"nothing":                `{"applied_at":null,"hash":"a"}`,
			"what no text can be":    `{"applied_at":1,"hash":"\u0000"}`,
			"a row that there is":    seeds[0],
			"the row before, again":  seeds[12_344],
			"an array":               `[1,"a"]`,
			"a number beyond 64 bit": `{"applied_at":9223372036854775808,"hash":"a"}`,
		} {
			rows := slices.Clone(seeds)
			rows[12_345] = broken
			all["seeds"] = linesOf(rows)
			err := load(t, s, all)
			assert.True(t, err != nil && strings.Contains(err.Error(), "row 12346 of seeds"), "%s: %v", name, err)
			want(t, "rows after "+name, rowsOf(t, s), empty)
		}
		all["seeds"] = linesOf(seeds)
		require.NoError(t, load(t, s, all))
		want(t, "seeds", rowsOf(t, s)["seeds"], all["seeds"])
	})
}

// SQLite would keep them as they are.
func TestLoad_PostgresRejectsWrongType(t *testing.T) {
	s := open(t, newPostgres(t))
	all := rowsOf(t, s)
	for _, broken := range []string{`{"applied_at":1,"hash":2}`, `{"applied_at":"x","hash":"a"}`, `{"applied_at":"","hash":"a"}`} {
		rows := manySeeds(3000)
		rows[1500] = broken
		all["seeds"] = linesOf(rows)
		err := load(t, s, all)
		assert.True(t, err != nil && strings.Contains(err.Error(), "row 1501 of seeds"), "%s: %v", broken, err)
	}
}

// Texts that the text format of COPY has a meaning for, of all lengths.
func TestLoad_CopyTextEscaping(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		all := rowsOf(t, s)
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
			// A key of an index is not long.
			require.NoError(t, lines.Encode(map[string]any{"name": fmt.Sprintf("%02d", i), "value": text}))
		}
		all["meta"] = b.String()
		require.NoError(t, load(t, s, all))
		got := rowsOf(t, s)["meta"]
		assert.True(t, got == all["meta"], "%d bytes came back as %d, or as others", len(all["meta"]), len(got))
	})
}

// A day that comes again does not need its partition again; a row is counted through all of them.
func TestLoad_ScanPartitions(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		empty := rowsOf(t, s)
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
			// The last of these days has no partition of its own.
			row["day"] = []int64{20_000, 20_001, 20_000, 20_002, 1}[n/3%5]
			row["seq"], row["id"] = n+1, fmt.Sprintf("id%08d", n+1)
			b, err := json.Marshal(row)
			require.NoError(t, err)
			rows = append(rows, string(b))
		}
		all["scan_events"] = linesOf(rows)
		for name, broken := range map[string]string{"no JSON": "{", "a row that there is": rows[40],
			"a first one of its day": `{"day":20005}`} {
			some := slices.Clone(rows)
			some[41] = broken
			all["scan_events"] = linesOf(some)
			err := load(t, s, all)
			assert.True(t, err != nil && strings.Contains(err.Error(), "row 42 of scan_events"), "%s: %v", name, err)
			want(t, "rows after "+name, rowsOf(t, s), empty)
		}
		all["scan_events"] = linesOf(rows)
		require.NoError(t, load(t, s, all))
		want(t, "scans", rowsOf(t, s)["scan_events"], all["scan_events"])
		if s.Engine() == "postgres" {
			want(t, "scans in the partition of a day", number(t, s, `SELECT COUNT(*) FROM `+dayName(20_000)), 24)
			want(t, "scans in the partition of other days", number(t, s, `SELECT COUNT(*) FROM scan_events_other`), 12)
		}
	})
}

func TestLoad_ContextCanceled(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		empty := rowsOf(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := loadInto(ctx, s, func(l *Restore) error {
			_, err := l.LoadRows(ctx, "seeds", &ending{rows: manySeeds(20_000), end: cancel})
			return err
		})
		assert.True(t, errors.Is(err, context.Canceled), "%v", err)
		// PostgreSQL lets nobody in until it notices that the connection is gone.
		for s.Ping(t.Context()) != nil && t.Context().Err() == nil {
		}
		want(t, "rows", rowsOf(t, s), empty)
	})
}

// ending calls end in the middle of its rows.
type ending struct {
	rows []string
	n    int
	end  func()
}

func (e *ending) Read(p []byte) (int, error) {
	if e.n == len(e.rows) {
		return 0, io.EOF
	}
	if e.n == len(e.rows)/2 {
		e.end()
	}
	e.n++
	return copy(p, e.rows[e.n-1]+"\n"), nil
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
		want(t, where, copyLine(where, "seeds"), line)
	}
}

// The fast way to read a row knows no other rows than the simple one.
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
		require.NoErrorf(t, err, "%q is no row", line)
		want(t, "row", args, simple)
	})
}

// Rows of WriteRows are read the fast way, with any texts.
func TestWriteRows_FastPathDecoding(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		fillAll(t, s)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for table, rows := range rowsOf(t, s) {
				columns, err := tx.columns(ctx, table)
				if err != nil {
					return err
				}
				r := newRowReader(table, columns, strings.NewReader(rows))
				for line := range strings.Lines(rows) {
					assert.True(t, writtenRow([]byte(line), r.heads, r.args), "%s: %s", table, line)
				}
			}
			return nil
		})
	})
}

// zeros is a line without an end, as a gzip of a few bytes may hold it.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// Issue 28: what no row has takes no memory, and a row that does not end is refused.
func TestReadRows_RejectsMalformedRow(t *testing.T) {
	columns := []string{"applied_at", "hash"}
	for _, line := range []string{`{"applied_at":[` + strings.Repeat("0,", 1<<16), `{"applied_at":` + strings.Repeat("[", 1<<16),
		`{` + strings.Repeat(`"a":1,`, 1<<16)} {
		got := testing.AllocsPerRun(1, func() {
			assert.True(t, assert.ErrorOf(anyRow([]byte(line), columns)) != nil, "%.20s is a row", line)
		})
		assert.True(t, !(got > 50), "%.20s takes %v allocations", line, got)
	}
	_, err := newRowReader("seeds", columns, zeros{}).next()
	assert.True(t, err != nil && err.Error() == "row 1 of seeds: longer than 16 MiB", "a line without an end: %v", err)
}

func TestWriteRows_MatchesEncodingJSON(t *testing.T) {
	texts := []string{"", "plain", `"`, `\`, `a"b\c`, "\n", "a\tb\"", "\x00", "\x1f", "\x7f", "é", "扫一扫", "\u2028", "a\u2029\"b",
		"\u2027\u202a", "\xe2\x80",
		"\xff", "a\"\xe2", `{"kind":"mini_program","name":"<a>&"}`, "😀\\", strings.Repeat(`x"`, 100)}
	chance, parts := rand.New(rand.NewPCG(14, 7)), texts
	for range 5000 {
		var b strings.Builder
		for range chance.IntN(12) {
			b.WriteString(parts[chance.IntN(len(parts))])
		}
		texts = append(texts, b.String())
	}
	for _, text := range texts {
		var written bytes.Buffer
		e := json.NewEncoder(&written)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(text))
		got := string(appendText([]byte("before "), text))
		require.True(t, got+"\n" == "before "+written.String(), "%q: %s, not %s", text, got, written.String())
		line := append(appendText(nil, text), '}')
		if got, n := writtenText(line); utf8.ValidString(text) && (got != text || n != len(line)-1) {
			t.Fatalf("%q is read as %q from %d bytes of %s", text, got, n, line)
		}
	}
}
