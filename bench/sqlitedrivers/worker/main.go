// Command worker runs one workload with one SQLite driver, chosen by build tag, in a process of its own.
// It prints the wall and the CPU nanoseconds of the timed part; only package sqlitedrivers reads them.
package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	publishes = 400     // transactions of workload publish
	readPairs = 6_000   // point reads by hash and by text, all goroutines together
	readers   = 4       // goroutines of workload read
	manyRules = 200_000 // rows of workloads load and stream
)

var schema = []string{
	`CREATE TABLE rule (id BIGINT PRIMARY KEY, prefix TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, path TEXT NOT NULL,
		state BIGINT NOT NULL, occupy BIGINT NOT NULL, created_at BIGINT NOT NULL, changed_at BIGINT NOT NULL)`,
	`CREATE INDEX rule_owner ON rule (owner, id)`,
	`CREATE TABLE history (id BIGINT PRIMARY KEY, rule BIGINT NOT NULL REFERENCES rule (id), at BIGINT NOT NULL, what TEXT NOT NULL)`,
	`CREATE INDEX history_rule ON history (rule, at)`,
	`CREATE TABLE quota (id BIGINT PRIMARY KEY, owner TEXT NOT NULL, at BIGINT NOT NULL)`,
	`CREATE INDEX quota_owner ON quota (owner, at)`,
	`CREATE TABLE token (hash BLOB PRIMARY KEY, account TEXT NOT NULL, expires_at BIGINT NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE account (appid TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL)`,
	`CREATE TABLE member (account TEXT NOT NULL, person TEXT NOT NULL, role TEXT NOT NULL, PRIMARY KEY (account, person))`,
	`CREATE TABLE batch (id BIGINT PRIMARY KEY, owner TEXT NOT NULL, first BIGINT NOT NULL, count BIGINT NOT NULL)`,
	`CREATE INDEX batch_owner ON batch (owner, id)`,
	`CREATE TABLE activation (id BIGINT PRIMARY KEY, batch BIGINT NOT NULL, start BIGINT NOT NULL, stop BIGINT NOT NULL)`,
	`CREATE INDEX activation_batch ON activation (batch, start)`,
	`CREATE TABLE ticket (hash BLOB PRIMARY KEY, scan BIGINT NOT NULL, user TEXT NOT NULL, at BIGINT NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE scan (id BIGINT PRIMARY KEY, at BIGINT NOT NULL, what TEXT NOT NULL)`,
	`CREATE TABLE rollup (hour BIGINT NOT NULL, activity TEXT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (hour, activity))`,
	`CREATE TABLE migration (name TEXT PRIMARY KEY, at BIGINT NOT NULL)`,
}

func main() {
	log.SetFlags(0)
	work := flag.String("work", "", "publish, read, load, stream or open")
	dir := flag.String("dir", "", "folder of the database")
	flag.Parse()
	path := filepath.Join(*dir, "bench.db")
	ctx := context.Background()
	w, r := open(ctx, path)
	var timed func()
	switch *work {
	case "open":
		migrate(ctx, w)
		must(r.PingContext(ctx))
		return
	case "publish":
		migrate(ctx, w)
		fill(ctx, w, 5_000)
		timed = func() { publishMany(ctx, w) }
	case "read":
		migrate(ctx, w)
		fill(ctx, w, 20_000)
		timed = func() { readWhileWriting(ctx, w, r) }
	case "load":
		migrate(ctx, w)
		timed = func() { fill(ctx, w, manyRules) }
	case "stream":
		timed = func() { stream(ctx, r) }
	default:
		log.Fatalf("unknown work %q", *work)
	}
	cpu, start := cpuTime(), time.Now()
	timed()
	fmt.Println(time.Since(start).Nanoseconds(), (cpuTime() - cpu).Nanoseconds())
	must(r.Close())
	must(w.Close())
}

func open(ctx context.Context, path string) (writer, reader *sql.DB) {
	writer, err := sql.Open(driverName, writerDSN(path))
	must(err)
	writer.SetMaxOpenConns(1)
	must(writer.PingContext(ctx))
	reader, err = sql.Open(driverName, readerDSN(path))
	must(err)
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return writer, reader
}

func migrate(ctx context.Context, db *sql.DB) {
	update(ctx, db, func(tx *sql.Tx) {
		for _, text := range schema {
			_, err := tx.ExecContext(ctx, text)
			must(err)
		}
	})
	// Every measurement starts by proving that the connection is what the product needs.
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		must(db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got))
		if got != want {
			log.Fatalf("%s is %s, want %s", pragma, got, want)
		}
	}
}

func update(ctx context.Context, db *sql.DB, f func(*sql.Tx)) {
	tx, err := db.BeginTx(ctx, nil)
	must(err)
	f(tx)
	must(tx.Commit())
}

func prefixOf(i int) string {
	return fmt.Sprintf("https://shop%03d.example/t/%08d/", i%500, i)
}

func tokenOf(i int) []byte {
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i)))
	return sum[:]
}

// filler brings a rule row to about 300 bytes.
var filler = "pages/table/table?" + strings.Repeat("parameter=value&", 13)

const insertRule = `INSERT INTO rule (id, prefix, owner, path, state, occupy, created_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`

func ruleArgs(i int) []any {
	return []any{i, prefixOf(i), fmt.Sprintf("wx%016d", i%50), filler, 2, 1, 1763600000000 + i, 1763600000000 + i}
}

// fill puts n rules, and one token and one quota row for every tenth of them, in one transaction.
func fill(ctx context.Context, db *sql.DB, n int) {
	update(ctx, db, func(tx *sql.Tx) {
		rule, err := tx.PrepareContext(ctx, insertRule)
		must(err)
		for i := range n {
			_, err := rule.ExecContext(ctx, ruleArgs(i)...)
			must(err)
			if i%10 == 0 {
				_, err = tx.ExecContext(ctx, `INSERT INTO token (hash, account, expires_at) VALUES (?1, ?2, ?3)`, tokenOf(i), "wx1", i)
				must(err)
				_, err = tx.ExecContext(ctx, `INSERT INTO quota (id, owner, at) VALUES (?1, ?2, ?3)`, i, fmt.Sprintf("wx%016d", i%50), 1763600000000+i)
				must(err)
			}
		}
		must(rule.Close())
	})
}

// publish is the product's typical write: look up, count, insert a rule and its history, commit.
// The statements are not prepared in advance, because the store will not do so either.
func publish(ctx context.Context, db *sql.DB, i int) {
	update(ctx, db, func(tx *sql.Tx) {
		var id, spent int
		err := tx.QueryRowContext(ctx, `SELECT id FROM rule WHERE prefix = ?1`, prefixOf(i)).Scan(&id)
		if err != sql.ErrNoRows {
			log.Fatalf("rule %d: %v", i, err)
		}
		must(tx.QueryRowContext(ctx, `SELECT count(*) FROM quota WHERE owner = ?1 AND at >= ?2`,
			fmt.Sprintf("wx%016d", i%50), 1763600002000).Scan(&spent))
		_, err = tx.ExecContext(ctx, insertRule, ruleArgs(i)...)
		must(err)
		_, err = tx.ExecContext(ctx, `INSERT INTO history (id, rule, at, what) VALUES (?1, ?2, ?3, ?4)`, i, i, 1763600000000+i, "published")
		must(err)
	})
}

func publishMany(ctx context.Context, db *sql.DB) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // requests can always be cancelled
	defer cancel()
	for i := range publishes {
		publish(ctx, db, 1_000_000+i)
	}
}

// readWhileWriting times a fixed number of reads; meanwhile a writer publishes 200 times a second at most,
// so that a quick writer does not make its own driver's readers look slow.
func readWhileWriting(ctx context.Context, w, r *sql.DB) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for i := 2_000_000; ; i++ {
			select {
			case <-stop:
				return
			case <-pace.C:
				publish(ctx, w, i)
			}
		}
	}()
	var wg sync.WaitGroup
	for g := range readers {
		wg.Go(func() {
			for n := range readPairs / readers {
				i := (n*readers + g) * 7919 % 2_000 * 10
				var account, path string
				must(r.QueryRowContext(ctx, `SELECT account FROM token WHERE hash = ?1`, tokenOf(i)).Scan(&account))
				must(r.QueryRowContext(ctx, `SELECT path FROM rule WHERE prefix = ?1`, prefixOf(i)).Scan(&path))
			}
		})
	}
	wg.Wait()
	close(stop)
	<-stopped
}

func stream(ctx context.Context, db *sql.DB) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	rows, err := db.QueryContext(ctx, `SELECT id, prefix, owner, path, state, occupy, created_at, changed_at FROM rule ORDER BY id`)
	must(err)
	n := 0
	for rows.Next() {
		var id, state, occupy, created, changed int64
		var prefix, owner, path string
		must(rows.Scan(&id, &prefix, &owner, &path, &state, &occupy, &created, &changed))
		n++
	}
	must(rows.Err())
	if n != manyRules {
		log.Fatalf("streamed %d rules", n)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func must(err error) {
	if err != nil {
		log.Output(2, "worker "+driverName+": "+err.Error())
		os.Exit(1)
	}
}
