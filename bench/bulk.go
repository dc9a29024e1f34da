package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite"
)

// bulk measures imports against plain inserts of the same rows into the same tables, and an export and its restore against
// writing the same bytes.
func (b *bench) bulk(ctx context.Context) error {
	b.peer("modernc.org/sqlite, prepared inserts of one row each")
	n := b.scaled(1_000_000, 20_000)
	rounds := min(b.rounds, 5)
	if n > 200_000 {
		rounds = min(rounds, 3)
	}
	kinds := []bulkKind{
		{"accounts, half of them with a link", "accounts", bulkAccounts(n / 10), n / 10, []string{"accounts", "links", "changes"}},
		{"rules of Mini Programs", "rules", bulkRules(n, n/10, false), n, []string{"rules", "changes"}},
		{"rules of service accounts", "rules", bulkRules(n/10, n/10, true), n / 10, []string{"rules", "changes"}},
	}
	took, anchor := make([][]float64, len(kinds)), make([][]float64, len(kinds))
	var export, copied, packed, restored []float64
	for range rounds {
		data := filepath.Join(b.work, "bulk")
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		for i, kind := range kinds {
			seconds, err := b.bulkImport(ctx, data, kind)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			took[i] = append(took[i], seconds)
			if seconds, err = plainInserts(data, b.work, kind.tables, kind.n); err != nil {
				return fmt.Errorf("plain inserts of %s: %w", kind.name, err)
			}
			anchor[i] = append(anchor[i], seconds)
		}
		e, err := b.bulkExport(ctx, data)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		export, copied, packed, restored = append(export, e.export), append(copied, e.copied), append(packed, e.packed),
			append(restored, e.restored)
	}
	for i, kind := range kinds {
		b.row(Row{What: fmt.Sprintf("import of %s %s, processor time", sizeName(kind.n), kind.name),
			Anchor: "plain inserts of the same rows", Values: ratios(took[i], anchor[i]), Main: i == 1, Target: target(true, 3)})
		b.note("%s: %.0f µs of processor time each, a plain insert %.0f (medians).", kind.name,
			quantile(took[i], 0.5)/float64(kind.n)*1e6, quantile(anchor[i], 0.5)/float64(kind.n)*1e6)
	}
	b.row(Row{What: "export of the whole, wall time", Anchor: "writing the same bytes, flushed", Values: ratios(export, copied)})
	b.row(Row{What: "export of the whole, wall time", Anchor: "gzip of the same bytes", Values: ratios(export, packed)})
	b.row(Row{What: "restoring, wall time", Anchor: "writing the same bytes, flushed", Values: ratios(restored, copied)})
	return nil
}

// bulkKind is one kind of import.
type bulkKind struct {
	name, path string
	lines      []byte
	n          int
	tables     []string // tables that the import writes
}

func bulkApp(i int) string { return fmt.Sprintf("wx%016d", i) }

// bulkAccounts returns n import lines: Mini Programs, each followed by a service account linked to it.
func bulkAccounts(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		kind, linked := "mini_program", ""
		if i%2 == 1 {
			kind, linked = "service_account", fmt.Sprintf(`,"linked":["%s"]`, bulkApp(i-1))
		}
		fmt.Fprintf(&b, `{"appid":"%s","kind":"%s","name":"Bench","subject":"company","certified":true,"versions":["release"]%s}`+"\n",
			bulkApp(i), kind, linked)
	}
	return b.Bytes()
}

func bulkRules(n, accounts int, service bool) []byte {
	var b bytes.Buffer
	for i := range n {
		owner := i * 7919 % (accounts / 2) * 2
		if service {
			fmt.Fprintf(&b, `{"owner":"%s","appid":"%s","prefix":"http://weixin.qq.com/q/%08d","path":"pages/index","published":true}`+"\n",
				bulkApp(owner+1), bulkApp(owner), i)
			continue
		}
		fmt.Fprintf(&b, `{"owner":"%s","prefix":"https://h%d.example/shop/%d/","path":"pages/index/index","published":true}`+"\n",
			bulkApp(owner), owner%5000, i)
	}
	return b.Bytes()
}

// bulkImport returns the processor time that a server spends on an import, in seconds.
func (b *bench) bulkImport(ctx context.Context, data string, kind bulkKind) (float64, error) {
	q, err := b.serve(ctx, serve{data: data, core: -1})
	if err != nil {
		return 0, err
	}
	defer q.stop()
	before, err := cpu(q.pid())
	if err != nil {
		return 0, err
	}
	text, err := q.bulkPost(ctx, "/import/"+kind.path, "application/x-ndjson", kind.lines)
	if err != nil {
		return 0, err
	}
	var done struct{ Added int }
	if err := json.Unmarshal(text, &done); err != nil || done.Added != kind.n {
		return 0, fmt.Errorf("%d added, not %d: %w", done.Added, kind.n, err)
	}
	after, err := cpu(q.pid())
	return (after - before).Seconds(), err
}

func (q *qrjump) bulkPost(ctx context.Context, path, kind string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.url+"/admin/v1"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := (&http.Client{}).Do(req) // no timeout
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", path, res.Status, text)
	}
	return text, err
}

// plainInserts removes the last n rows of each table from a copy of the database, inserts them again in one transaction
// and returns the processor time of the inserts in seconds.
func plainInserts(data, work string, tables []string, n int) (float64, error) {
	file := filepath.Join(work, "plain.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(file + suffix)
	}
	if out, err := exec.Command("cp", filepath.Join(data, "qrjump.db"), file).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_pragma=temp_store(memory)")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	rows := make([][][]any, len(tables))
	for i, table := range tables {
		if rows[i], err = lastRows(db, table, n); err != nil {
			return 0, err
		}
		if _, err := db.Exec("DELETE FROM "+table+" WHERE rowid IN (SELECT rowid FROM "+table+" ORDER BY rowid DESC LIMIT ?)",
			len(rows[i])); err != nil {
			return 0, err
		}
	}
	before := processTime()
	tx, err := db.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	for i, table := range tables {
		if len(rows[i]) == 0 {
			continue
		}
		insert, err := tx.Prepare("INSERT INTO " + table + " VALUES (?" + strings.Repeat(", ?", len(rows[i][0])-1) + ")")
		if err != nil {
			return 0, err
		}
		for _, row := range rows[i] {
			if _, err := insert.Exec(row...); err != nil {
				return 0, err
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	return (processTime() - before).Seconds(), nil
}

func lastRows(db *sql.DB, table string, n int) (all [][]any, err error) {
	if table == "changes" {
		n += n / 2 // the audit log has rows for links too
	}
	rows, err := db.Query("SELECT * FROM (SELECT * FROM "+table+" ORDER BY rowid DESC LIMIT ?) ORDER BY 1", n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// processTime returns the processor time of this process.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bulkTimes are wall times in seconds.
type bulkTimes struct{ export, copied, packed, restored float64 }

func (b *bench) bulkExport(ctx context.Context, data string) (t bulkTimes, err error) {
	q, err := b.serve(ctx, serve{data: data, core: -1})
	if err != nil {
		return t, err
	}
	defer q.stop()
	began := time.Now()
	archive, err := q.bulkPost(ctx, "/export", "application/json", []byte(`{"passphrase":"bench passphrase"}`))
	if err != nil {
		return t, err
	}
	t.export = time.Since(began).Seconds()
	file := filepath.Join(b.work, "bulk.tar.gz")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		return t, err
	}
	unpack, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return t, err
	}
	unpacked, err := io.ReadAll(unpack)
	if err != nil {
		return t, err
	}
	began = time.Now()
	plain, err := os.Create(filepath.Join(b.work, "bulk.tar"))
	if err != nil {
		return t, err
	}
	defer plain.Close()
	if _, err := plain.Write(unpacked); err != nil {
		return t, err
	}
	if err := plain.Sync(); err != nil {
		return t, err
	}
	t.copied = time.Since(began).Seconds()
	began = time.Now()
	pack := gzip.NewWriter(io.Discard)
	if _, err := pack.Write(unpacked); err != nil {
		return t, err
	}
	t.packed = time.Since(began).Seconds()
	into := filepath.Join(b.work, "restored")
	if err := os.RemoveAll(into); err != nil {
		return t, err
	}
	began = time.Now()
	cmd := exec.CommandContext(ctx, b.server, "import", file, "--data", into)
	cmd.Env = append(os.Environ(), "QRJUMP_PASSPHRASE=bench passphrase")
	if out, err := cmd.CombinedOutput(); err != nil {
		return t, fmt.Errorf("restoring: %w: %s", err, out)
	}
	t.restored = time.Since(began).Seconds()
	return t, nil
}
