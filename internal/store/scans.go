package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Scans is the scan log in PostgreSQL: it implements scanlog.Log and scanlog.SharedLog.
type Scans struct {
	s    *Store
	id   string
	now  func() time.Time
	log  *slog.Logger
	mu   sync.Mutex
	days map[int64]time.Time // for each day, the time before which no further attempt is made to create its partition
}

// ScansOptions holds the dependencies of Scans other than the database.
type ScansOptions struct {
	Random io.Reader        // random bytes for the id of a new scan log
	Now    func() time.Time // real clock, for the time of an erasure and for creating the partition of the next day
	Log    *slog.Logger
}

// OpenScans opens the scan log in a PostgreSQL database.
func (s *Store) OpenScans(ctx context.Context, o ScansOptions) (*Scans, error) {
	if s.Engine() != "postgres" {
		return nil, errors.New("the embedded database stores scans in journal files, not in tables")
	}
	var id [16]byte
	if _, err := io.ReadFull(o.Random, id[:]); err != nil {
		return nil, fmt.Errorf("creating the scan log ID: %w", err)
	}
	l := &Scans{s: s, now: o.Now, log: o.Log, days: map[int64]time.Time{}}
	var err error
	if l.id, err = s.firstLedger(ctx, hex.EncodeToString(id[:])); err != nil {
		return nil, fmt.Errorf("reading the scan log ID: %w", err)
	}
	return l, nil
}

// firstLedger returns the id of the scan log in the database; if there is none, firstLedger stores and returns the given id.
func (s *Store) firstLedger(ctx context.Context, id string) (first string, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		// Without this lock, two nodes that store an id at the same time would create two scan logs.
		if err := tx.lock(ctx, "ledger", ""); err != nil {
			return err
		}
		first = id
		n, err := tx.exec(ctx, `INSERT INTO scan_logs (id, is_local, counted_offset, last_scan_id)
			SELECT CAST($1 AS TEXT), 1, 0, '' WHERE NOT EXISTS (SELECT 1 FROM scan_logs WHERE is_local = 1)`, id)
		if err != nil || n > 0 {
			return err
		}
		first, err = tx.ledgerHere(ctx)
		return err
	})
	return first, err
}

// ledgerHere returns the id of the scan log in the database or in the files beside the database; "" = no scan log yet.
func (t *Tx) ledgerHere(ctx context.Context) (id string, err error) {
	return scalarOrZero[string](ctx, t, `SELECT id FROM scan_logs WHERE is_local = 1`)
}

// ID implements scanlog.Log.
func (l *Scans) ID() string { return l.id }

// InDatabase tells scanlog.CheckEnd that the log is in the same database as the counts.
func (l *Scans) InDatabase() {}

// Lost implements scanlog.Log: Lost returns false, because the table never replaces a lost scan log.
func (l *Scans) Lost(string) bool { return false }

// Missing implements scanlog.Log.
func (l *Scans) Missing(int64) int64 { return 0 }

const scanColumns = `id, occurred_at, user_hash, source, client, network, region, action, kind, reason, app, version, rule, batch, idx, activation, link`

func scanArgs(e *scanlog.Event) []any {
	user, network := "", ""
	if e.User != (scanlog.UserHash{}) {
		user = hex.EncodeToString(e.User[:])
	}
	if e.Network.IsValid() {
		network = e.Network.String()
	}
	return []any{e.ID.String(), e.OccurredAt.UnixMilli(), user, e.Source, e.Client, network, e.Region, e.Action, e.Kind, e.Reason,
		e.App, e.Version, e.RuleID, e.Batch, e.Index, e.Activation, e.Text}
}

// scanEntry reads the position and the columns of a scan.
func scanEntry(scan func(...any) error) (e scanlog.Entry, err error) {
	var id, user, network string
	var pos int64
	if err := scan(&e.Position, &id, &pos, &user, &e.Source, &e.Client, &network, &e.Region, &e.Action, &e.Kind, &e.Reason, &e.App,
		&e.Version, &e.RuleID, &e.Batch, &e.Index, &e.Activation, &e.Text); err != nil {
		return e, err
	}
	e.OccurredAt = time.UnixMilli(pos).UTC()
	if e.ID, err = scanlog.ParseScanID(id); err != nil {
		return e, fmt.Errorf("scan at offset %d: invalid ID %q: %w", e.Position, id, err)
	}
	if user != "" {
		if n, err := hex.Decode(e.User[:], []byte(user[:min(len(user), 32)])); err != nil || n != len(e.User) || len(user) != 32 {
			return e, fmt.Errorf("scan at offset %d: invalid user hash", e.Position)
		}
	}
	if network != "" {
		if e.Network, err = netip.ParsePrefix(network); err != nil {
			return e, fmt.Errorf("scan at offset %d: invalid network: %w", e.Position, err)
		}
	}
	return e, nil
}

// dayOf returns the day of a scan, which is derived from its id.
func dayOf(id scanlog.ScanID) int64 { return id.Time().UnixMilli() / millisOfDay }

const millisOfDay = 24 * 60 * 60 * 1000

// scansAtOnce is the number of rows that one statement reads or stores.
const scansAtOnce = 5000

// Append stores events that do not come from a node's journal.
func (l *Scans) Append(ctx context.Context, events []scanlog.Event) error {
	return forEach(slices.Chunk(events, 4*scansAtOnce), func(items []scanlog.Event) error { return l.insert(ctx, items, nil) })
}

// Ship implements scanlog.SharedLog.
func (l *Scans) Ship(ctx context.Context, node string, from, to scanlog.Offset, entries []scanlog.Entry) error {
	events := make([]scanlog.Event, len(entries))
	for i := range entries {
		events[i] = entries[i].Event
	}
	return l.insert(ctx, events, func(tx pgx.Tx) error {
		mark, err := shipped(tx.QueryRow(ctx, shippedQuery, node).Scan)
		if err != nil {
			return err
		}
		if mark != from {
			return scanlog.ErrNotThere
		}
		_, err = tx.Exec(ctx, setNode, node, to.Position, to.ID.String())
		return err
	})
}

// Skip records that the scans of a node's journal up to an offset need not be shipped to this scan log, because they were shipped
// to a stream.
func (l *Scans) Skip(ctx context.Context, node string, to scanlog.Offset) error {
	return execute(ctx, l.s, setNode+` WHERE scan_log_nodes.shipped_offset < excluded.shipped_offset`, node, to.Position, to.ID.String())
}

const setNode = `INSERT INTO scan_log_nodes (node, shipped_offset, last_scan_id) VALUES ($1, $2, $3)
	ON CONFLICT (node) DO UPDATE SET shipped_offset = excluded.shipped_offset, last_scan_id = excluded.last_scan_id`

const shippedQuery = `SELECT shipped_offset, last_scan_id FROM scan_log_nodes WHERE node = $1`

func shipped(scan func(...any) error) (m scanlog.Offset, err error) {
	var id string
	switch err := scan(&m.Position, &id); {
	case errors.Is(err, sql.ErrNoRows), errors.Is(err, pgx.ErrNoRows):
		return m, nil
	case err != nil:
		return m, err
	}
	if m.ID, err = scanlog.ParseScanID(id); err != nil {
		return m, fmt.Errorf("decoding the shipped offset of a node: %w", err)
	}
	return m, nil
}

// Shipped implements scanlog.SharedLog.
func (l *Scans) Shipped(ctx context.Context, node string) (scanlog.Offset, error) {
	return viewed(ctx, l.s, func(tx *Tx) (scanlog.Offset, error) { return shipped(tx.row(ctx, shippedQuery, node).Scan) })
}

// insert stores events in one transaction and ignores events that are already stored; fn runs in the same transaction, while no
// other transaction stores events.
func (l *Scans) insert(ctx context.Context, events []scanlog.Event, fn func(pgx.Tx) error) error {
	l.prepare(ctx, events)
	for n := 1; ; n++ {
		err := l.raw(ctx, func(c *pgx.Conn) error { return l.s.insertScans(ctx, c, events, fn) })
		if err == nil || n == attempts || ctx.Err() != nil || !l.s.engine.retryable(err) {
			return err
		}
	}
}

// raw runs f on a connection of the pool; if f panics, database/sql closes the connection.
func (l *Scans) raw(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := l.s.write.Conn(ctx)
	if err != nil {
		return withCause(ctx, err)
	}
	defer conn.Close()
	return withCause(ctx, conn.Raw(func(driver any) error { return f(pgxOf(driver)) }))
}

func (s *Store) insertScans(ctx context.Context, c *pgx.Conn, events []scanlog.Event, fn func(pgx.Tx) error) error {
	tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE IF NOT EXISTS scan_batch (LIKE scan_events) ON COMMIT DELETE ROWS`); err != nil {
		return fmt.Errorf("preparing to store scans: %w", err)
	}
	columns := append([]string{"seq", "day"}, strings.Split(scanColumns, ", ")...)
	n := 0
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "scan_batch"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if n == len(events) {
			return nil, nil
		}
		e := events[n].Sanitized()
		n++
		return append([]any{int64(n), dayOf(e.ID)}, scanArgs(&e)...), nil
	}))
	if err != nil {
		return fmt.Errorf("copying scans: %w", err)
	}
	// The UPDATE locks the sequence until the commit, so that only one transaction at a time stores scans and positions are in
	// commit order: a reader that continues after a position misses no events.
	var last int64
	if err := tx.QueryRow(ctx, `UPDATE sequences SET value = value + $1 WHERE name = 'scan' RETURNING value`,
		len(events)).Scan(&last); err != nil {
		return fmt.Errorf("assigning scan offsets: %w", err)
	}
	if fn != nil {
		if err := fn(tx); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE scan_batch SET user_hash = '', client = '', network = '' FROM scan_log_erasures e
		WHERE scan_batch.user_hash = e.user_hash AND scan_batch.occurred_at <= e.erased_at`); err != nil {
		return fmt.Errorf("anonymizing scans of erased users: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO scan_events (seq, day, `+scanColumns+`)
		SELECT seq + $1, day, `+scanColumns+` FROM scan_batch ORDER BY seq ON CONFLICT (day, id) DO NOTHING`, last-int64(len(events))); err != nil {
		return fmt.Errorf("storing scans: %w", err)
	}
	if err := s.servers.checkPrimary(c); err != nil {
		return fmt.Errorf("storing scans: %w", err) // another server became the primary meanwhile
	}
	if err := committing(c, func() error { return tx.Commit(ctx) }); err != nil {
		return fmt.Errorf("committing scans: %w", err)
	}
	return nil
}

// Days from firstDay to lastDay, in days since 1970, get their own partition. Earlier and later days share one default partition.
const (
	firstDay = 10_000 // 1997
	lastDay  = 60_000 // 2134
)

// partitionRetryDelay is the delay between attempts to create a partition while a long transaction, such as an export, blocks its creation.
const partitionRetryDelay = 10 * time.Minute

// prepare creates the partitions for the days of events and for tomorrow. If a partition cannot be created now, its events go to
// the default partition.
func (l *Scans) prepare(ctx context.Context, events []scanlog.Event) {
	now := l.now()
	today := now.UnixMilli() / millisOfDay
	want := map[int64]bool{today: true, today + 1: true}
	for i := range events {
		want[dayOf(events[i].ID)] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for day := range want {
		if now.Before(l.days[day]) || day < firstDay || day > lastDay {
			continue
		}
		if len(l.days) > 10_000 {
			clear(l.days)
		}
		l.days[day] = now.AddDate(1000, 0, 0)
		err := l.s.update(ctx, func(tx *Tx) error {
			if err := tx.run(ctx, `SET LOCAL lock_timeout = '2s'`); err != nil {
				return err
			}
			return tx.makeDay(ctx, day)
		})
		if err != nil {
			if ctx.Err() != nil {
				delete(l.days, day)
				return
			}
			switch state := sqlState(err); {
			case state == "" || strings.HasPrefix(state, "57"):
				delete(l.days, day) // no error here: if the database is unreachable, the INSERT of the events reports it
				continue
			case state != "23514": // 23514 = the default partition already has scans of the day
				l.days[day] = now.Add(partitionRetryDelay)
			}
			l.log.WarnContext(ctx, "scan partition not created; scans go to the default partition", "day", dayName(day), "error", err)
		}
	}
}

// makeDay creates the partition of a day if it does not exist.
func (t *Tx) makeDay(ctx context.Context, day int64) error {
	return t.runIf(ctx, "scan days",
		fmt.Sprintf(`CREATE TABLE %s PARTITION OF scan_events FOR VALUES FROM (%d) TO (%d)`, dayName(day), day, day+1),
		`SELECT to_regclass($1) IS NULL`, dayName(day))
}

const dayPrefix = "scan_events_d"

func dayName(day int64) string {
	return dayPrefix + time.UnixMilli(day*millisOfDay).UTC().Format("20060102")
}

// End implements scanlog.Log.
func (l *Scans) End(ctx context.Context) (int64, error) {
	return viewed(ctx, l.s, func(tx *Tx) (int64, error) { return tx.scansEnd(ctx) })
}

func (t *Tx) scansEnd(ctx context.Context) (int64, error) {
	return scalar[int64](ctx, t, `SELECT value FROM sequences WHERE name = 'scan'`)
}

// PositionBefore implements scanlog.Log. An event's time differs by at most a day from the time in its id.
func (l *Scans) PositionBefore(ctx context.Context, moment time.Time) (position int64, err error) {
	end, err := l.End(ctx)
	if err != nil {
		return 0, err
	}
	position, err = viewed(ctx, l.s, func(tx *Tx) (int64, error) {
		return scalar[int64](ctx, tx, `SELECT COALESCE(MIN(seq) - 1, $1) FROM scan_events WHERE day >= $2`, end,
			moment.UnixMilli()/millisOfDay-1)
	})
	if err != nil {
		return 0, fmt.Errorf("finding the first scan since %s: %w", moment.UTC().Format(time.RFC3339), err)
	}
	return position, nil
}

// Read implements scanlog.Log.
func (l *Scans) Read(ctx context.Context, start int64) iter.Seq2[scanlog.Entry, error] {
	return l.pages(ctx, start, func(tx *Tx, start, upTo int64) ([]scanlog.Entry, error) { return tx.scansOf(ctx, nil, start, upTo) })
}

// scansOf reads a page of events, restricted to users if any are given.
func (t *Tx) scansOf(ctx context.Context, users []any, start, upTo int64) ([]scanlog.Entry, error) {
	subject := ""
	if len(users) > 0 {
		subject = ` AND user_hash IN (` + t.marks(4, len(users)) + `)`
	}
	return list(ctx, t, scanEntry,
		`SELECT seq, `+scanColumns+` FROM scan_events WHERE seq > $1 AND seq <= $2`+subject+` ORDER BY seq LIMIT $3`,
		append([]any{start, upTo, scansAtOnce}, users...)...)
}

// usersArgs returns the user hashes as hexadecimal text, the form in the column user_hash.
func usersArgs(users scanlog.Users) (args []any) {
	for user := range users {
		if user != (scanlog.UserHash{}) {
			args = append(args, hex.EncodeToString(user[:]))
		}
	}
	return args
}

// scansBetween selects a page of the events in a time range.
const scansBetween = `SELECT seq, ` + scanColumns + ` FROM scan_events WHERE seq > $1 AND seq <= $2 AND day BETWEEN $4 AND $5
	AND occurred_at >= $6 AND occurred_at < $7 ORDER BY seq LIMIT $3`

// ListRange implements scanlog.Log: it reads only the partitions that can contain events of the time range.
func (l *Scans) ListRange(ctx context.Context, start int64, from, to time.Time) iter.Seq2[scanlog.Entry, error] {
	return l.pages(ctx, start, func(tx *Tx, start, upTo int64) (page []scanlog.Entry, err error) {
		err = tx.patiently(func() error {
			page, err = list(ctx, tx, scanEntry, scansBetween, betweenArgs(start, upTo, from, to)...)
			return err
		})
		return page, err
	})
}

// betweenArgs returns the arguments of scansBetween. The day of an event comes from its id, and may be up to a day before or two
// days after the event's own time.
func betweenArgs(start, upTo int64, from, to time.Time) []any {
	return []any{start, upTo, scansAtOnce, from.UnixMilli()/millisOfDay - 1, to.UnixMilli()/millisOfDay + 2, from.UnixMilli(),
		to.UnixMilli()}
}

// ForUsers implements scanlog.Log with a single scan of the table.
func (l *Scans) ForUsers(ctx context.Context, users scanlog.Users, start int64) iter.Seq2[scanlog.Entry, error] {
	vs := usersArgs(users)
	if len(vs) == 0 {
		return func(func(scanlog.Entry, error) bool) {}
	}
	return l.pages(ctx, start, func(tx *Tx, start, upTo int64) (page []scanlog.Entry, err error) {
		err = tx.patiently(func() error {
			page, err = tx.scansOf(ctx, vs, start, upTo)
			return err
		})
		return page, err
	})
}

// pages yields events page by page after a position, until a page is incomplete.
func (l *Scans) pages(ctx context.Context, start int64,
	read func(tx *Tx, start, upTo int64) ([]scanlog.Entry, error)) iter.Seq2[scanlog.Entry, error] {
	upTo, err := l.End(ctx)
	return func(yield func(scanlog.Entry, error) bool) {
		var page []scanlog.Entry
		for start := start; err == nil && start < upTo; start = page[len(page)-1].Position {
			if page, err = viewed(ctx, l.s, func(tx *Tx) ([]scanlog.Entry, error) { return read(tx, start, upTo) }); err != nil {
				break
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
			if len(page) < scansAtOnce {
				return
			}
		}
		if err != nil {
			yield(scanlog.Entry{}, fmt.Errorf("reading the scan log: %w", err))
		}
	}
}

// Find implements scanlog.Log.
func (l *Scans) Find(ctx context.Context, id scanlog.ScanID) (position int64, err error) {
	position, err = viewed(ctx, l.s, func(tx *Tx) (int64, error) {
		return scalar[int64](ctx, tx, `SELECT seq FROM scan_events WHERE day = $1 AND id = $2`, dayOf(id), id.String())
	})
	return position, replaceNoRows(err, scanlog.ErrNoScan)
}

// Forget implements scanlog.Log: it drops the partitions of the days before a time.
func (l *Scans) Forget(ctx context.Context, before time.Time) error {
	first := before.UnixMilli() / millisOfDay
	names, err := viewed(ctx, l.s, func(tx *Tx) ([]string, error) {
		return list(ctx, tx, scanText, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
			WHERE i.inhparent = to_regclass('scan_events') AND c.relname <> 'scan_events_other' AND c.relname < $1 ORDER BY 1`, dayName(first))
	})
	if err != nil {
		return fmt.Errorf("finding expired scans: %w", err)
	}
	for _, name := range names {
		err := l.s.update(ctx, func(tx *Tx) error {
			// DROP TABLE must wait for its lock for a short time only, because readers and writers of scans queue behind it.
			return tx.runAll(ctx, write(`SET LOCAL lock_timeout = '2s'`), write(`DROP TABLE IF EXISTS `+pgx.Identifier{name}.Sanitize()))
		})
		if err != nil {
			return fmt.Errorf("removing the scans of %s: %w", strings.TrimPrefix(name, dayPrefix), err)
		}
	}
	l.mu.Lock()
	for day := range l.days {
		if day < first {
			delete(l.days, day)
		}
	}
	l.mu.Unlock()
	return l.s.update(ctx, func(tx *Tx) error {
		err := tx.patiently(func() error {
			return tx.run(ctx, `DELETE FROM scan_events_other WHERE day < $1`, first)
		})
		if err != nil {
			return err
		}
		return tx.run(ctx, `DELETE FROM scan_log_erasures WHERE erased_at < $1`, before.UnixMilli())
	})
}

// Announce implements scanlog.Log.
func (l *Scans) Announce(ctx context.Context, user scanlog.UserHash) error {
	return l.s.AddErasure(ctx, scanlog.Erasure{User: user, ErasedAt: l.now().UnixMilli()})
}

// Erase implements scanlog.Log. Events from before the erasure that a node ships later are made anonymous when they are stored.
func (l *Scans) Erase(ctx context.Context, users scanlog.Users, upTo int64) (n int64, err error) {
	vs := usersArgs(users)
	if len(vs) == 0 {
		return 0, nil
	}
	for user := range users {
		if err := l.Announce(ctx, user); err != nil {
			return 0, err
		}
	}
	err = l.s.update(ctx, func(tx *Tx) (err error) {
		return tx.patiently(func() error {
			n, err = tx.exec(ctx, `UPDATE scan_events SET user_hash = '', client = '', network = '' WHERE seq <= $1 AND user_hash IN (`+
				tx.marks(2, len(vs))+`)`, append([]any{upTo}, vs...)...)
			return err
		})
	})
	if err != nil {
		return 0, fmt.Errorf("erasing a user: %w", err)
	}
	return n, nil
}

// Erased implements scanlog.SharedLog.
func (l *Scans) Erased(ctx context.Context, start int64) ([]scanlog.Erasure, error) {
	return l.s.Erasures(ctx, start)
}

// AddErasure records that a user was erased, so that older events of the user are made anonymous when a node ships them later.
func (s *Store) AddErasure(ctx context.Context, e scanlog.Erasure) error {
	err := s.update(ctx, func(tx *Tx) error {
		// The UPDATE waits for a transaction that is storing scans; transactions that store scans later see the erasure.
		if _, err := tx.exec(ctx, `UPDATE sequences SET value = value WHERE name = 'scan'`); err != nil {
			return err
		}
		return tx.run(ctx, `INSERT INTO scan_log_erasures (user_hash, erased_at) VALUES ($1, $2)
			ON CONFLICT (user_hash) DO UPDATE SET erased_at = CASE WHEN excluded.erased_at > scan_log_erasures.erased_at THEN excluded.erased_at ELSE scan_log_erasures.erased_at END`,
			hex.EncodeToString(e.User[:]), e.ErasedAt)
	})
	if err != nil {
		return fmt.Errorf("recording an erased user: %w", err)
	}
	return nil
}

// Erasures lists the erasures of users after a time in Unix milliseconds.
func (s *Store) Erasures(ctx context.Context, start int64) ([]scanlog.Erasure, error) {
	return viewed(ctx, s, func(tx *Tx) ([]scanlog.Erasure, error) {
		return list(ctx, tx, func(scan func(...any) error) (e scanlog.Erasure, err error) {
			var hash string
			if err = scan(&hash, &e.ErasedAt); err == nil {
				_, err = hex.Decode(e.User[:], []byte(hash)[:min(len(hash), 32)])
			}
			return e, err
		}, `SELECT user_hash, erased_at FROM scan_log_erasures WHERE erased_at > $1 ORDER BY erased_at, user_hash`, start)
	})
}

// ScansDestination makes the method Load write an archive's scans to files beside the database; begin creates a scan log with a given id.
func (s *Store) ScansDestination(begin func(id string) (*scanlog.Restoring, error)) {
	s.scansInto = begin
}

// loadScans writes the scan_events rows of an archive to files.
func (l *Restore) loadScans(ctx context.Context, r io.Reader) (n int64, err error) {
	id, err := l.tx.ledgerHere(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the scan log ID: %w", err)
	}
	if l.restoring, err = l.scansInto(id); errors.Is(err, scanlog.ErrNotEmpty) {
		return 0, fmt.Errorf("%w: %w", ErrNotEmpty, err)
	} else if err != nil {
		return 0, err
	}
	columns := append([]string{"seq"}, strings.Split(scanColumns, ", ")...)
	// An archive has the column day, which is read and ignored, because the day follows from the id of a scan.
	rows := newRowReader("scan_events", slices.Sorted(slices.Values(append([]string{"day"}, columns...))), r)
	args := make([]any, len(columns))
	for ; ; n++ {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		for i, name := range columns {
			place, _ := slices.BinarySearch(rows.columns, name)
			args[i] = row[place]
		}
		e, err := scanEntry(func(dst ...any) error { return assign(dst, args, columns) })
		if err == nil {
			err = l.restoring.Add(e)
		}
		if err != nil {
			return n, fmt.Errorf("row %d of scan_events: %w", n+1, err)
		}
	}
}

// assign stores the values args of a row in the variables to which the pointers in dst point.
func assign(dst, args []any, columns []string) error {
	for i := range dst {
		ok := false
		switch to := dst[i].(type) {
		case *int64:
			*to, ok = args[i].(int64)
		case *string:
			*to, ok = args[i].(string)
		}
		if !ok {
			return fmt.Errorf("%s has the wrong type", columns[i])
		}
	}
	return nil
}

// lacksRoom reports whether the partition of a day must be created before a row of this day can be stored.
func (l *Restore) lacksRoom(value any) bool {
	day, ok := value.(int64) // the caller rejects a value of another type
	return ok && !l.days[day] && day >= firstDay && day <= lastDay
}

// makeRoom creates the partition of a day.
func (l *Restore) makeRoom(ctx context.Context, day int64) error {
	l.days[day] = true
	return l.tx.makeDay(ctx, day)
}

// finish completes the scan log of the loaded archive and moves its files to their final place.
func (l *Restore) finish(ctx context.Context) error {
	if l.restoring == nil {
		return nil
	}
	end, err := l.tx.scansEnd(ctx)
	if err != nil {
		return fmt.Errorf("reading the offset of the last scan: %w", err)
	}
	err = l.restoring.Finish(end)
	if err == nil {
		l.restoring = nil
	}
	return err
}

// cancel deletes the scan files that a failed load has written.
func (l *Restore) cancel() {
	if l.restoring != nil {
		l.restoring.Cancel()
	}
}
