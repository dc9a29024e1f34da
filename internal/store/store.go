// Package store persists all durable data: it contains all SQL, for SQLite and PostgreSQL, behind the interfaces that the domain
// packages declare.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Store is an open database.
type Store struct {
	*database
	tx *Tx // the transaction that all calls join; nil = every call has its own transaction
}

// database is an open database with the state that all transactions of this process share.
type database struct {
	write, read *sql.DB
	engine      *dialect
	close       []func() error
	fence       *atomic.Pointer[fence]
	keeping     keeping
	// scan log in which an embedded database keeps its scans; nil = the scans are in the database
	embedded scanlog.Log
	external scanlog.Log // scan log in place of table scan_events; nil = the table has the scans
	// creates the scan log for the scans of a loaded archive; nil = the scans go to table scan_events
	scansInto func(id string) (*scanlog.Restoring, error)
	listen    func(context.Context) (replica.Notifier, error) // opens the listener for changes; nil = no other process writes
	// receives a value when a node requests the scans of all nodes; nil = there are no other nodes
	shipRequests chan struct{}
	migrating    func() (*sql.DB, error) // opens connections for work that changes whole tables
	// opens connections that fill an empty database, with exclusive use until the returned function is called
	loading func(context.Context) (*sql.DB, func(), error)
	patient *deadlines // read timeouts of the connections; nil = no timeouts
	servers *servers   // the PostgreSQL servers; nil = embedded database
	// incremented by commits that change cached data; nil = no data is cached
	epochs    *accounts.Epochs
	health    writeHealth
	slow      slowStatements
	replica   *readReplica // for reads that may be stale; nil = none
	committed atomic.Int64 // newest audit log entry that this node committed
	updates   atomic.Int64 // number of update transactions of this node that have ended, whatever their outcome
	committer groupCommitter
	tokens    queryCombiner  // look-ups of access tokens
	ending    sync.WaitGroup // goroutines that end read-only transactions
	migration struct {
		files    fs.FS                              // migration files of a test; nil = the program's files
		patience time.Duration                      // time that a migration waits for a lock; 0 = migrationPatience
		waits    func(what string, until time.Time) // called when a migration did not get a lock and will retry; nil = no call
	}
}

// dialect describes one of the two databases: its engine, its properties and its statements.
type dialect struct {
	engine
	name       string // "sqlite" or "postgres"
	sharesRows bool   // a transaction can wait for a row lock of another transaction
	rowsAtOnce int    // optimal number of rows for one INSERT statement
	// lasting allows a transaction to be idle for minutes between two statements, and configures it for bulk work; "" = not needed.
	lasting string
	lasted  string // undoes the effect of lasting; "" = not needed, because the settings end with the transaction
	// holding shortens the idle timeout of a transaction that is about to lock the end of the audit log, for which all writers
	// wait; "" = transactions never wait for this lock, or the URL sets the timeout.
	holding string
	// indexPlan makes the queries of a transaction use one plan for all values, with indexes only; "" = not needed.
	indexPlan     string
	hosts         int    // number of servers in the URL; 0 = embedded database
	replication   string // query for whether commits wait for replicas and for how many; "" = no replicas
	readOnlyQuery string // query for whether the database is read-only
	tablesQuery   string // query that lists the tables of the schema
	headQuery     string // query that reads the newest entry of the audit log and locks the entry until the transaction ends
	// sameHead rewrites the newest entry of the audit log unchanged, and fails at once if another transaction has locked the entry.
	sameHead string
}

// engine is the code that differs between the two databases.
type engine interface {
	// lock returns the statement with which a transaction locks a part of a set of rows; part "" = the whole set. The statement is "" if
	// only one transaction writes at a time.
	lock(whole, part string) (query string, args []any)
	// begin starts a transaction on db and stores it in t.
	begin(ctx context.Context, db beginner, t *Tx) error
	// retryable reports whether a transaction that failed with err may succeed if it runs again.
	retryable(err error) bool
	// lost reports whether err means that the session of a transaction ended; the transaction is undone unless its COMMIT was sent.
	lost(err error) bool
	// room returns an error if the disk of the database has no free space for writes.
	room(ctx context.Context, t *Tx) error
	// outage wraps the error of an unavailable database in an errcode.Unavailable, and returns other errors unchanged.
	outage(err error) error
	// lockOut blocks all other processes until the transaction ends. ErrInUse.
	lockOut(ctx context.Context, t *Tx) error
	// overwrite makes the database overwrite the old bytes of texts that are replaced later, if the database supports this.
	overwrite(ctx context.Context, db *sql.DB) error
	// unindex drops the indexes of an empty database that are faster to build after its rows are stored; the function that unindex returns
	// builds these indexes.
	unindex(ctx context.Context, t *Tx) (index func() error, err error)
	// writeLast runs the last INSERT of audit log entries ("" = none), stores h as the newest entry in audit_log_head, and makes
	// the commit notify the other nodes.
	writeLast(ctx context.Context, t *Tx, h head, insert string, args []any) error
}

// Target selects the database to open.
type Target struct {
	// URL is a postgres:// URL; "" = the embedded database in Dir.
	URL string
	// ReadURL is a postgres:// URL of a read replica of URL, for the reads of WithReplica; "" = none.
	ReadURL string
	// ReplicaFailed is called when the read replica fails, after which reads use the primary for ten seconds; nil = no call.
	ReplicaFailed func(error)
	// Dir is the data folder, which must exist.
	Dir string
	// LockDir locks Dir with PostgreSQL, too: two nodes that write one scan journal would lose scans.
	LockDir bool
	// Open calls Check before it migrates the schema, with the current schema version; 0 = no schema yet. If Check returns an
	// error, the database stays unchanged; nil = no check.
	Check func(ctx context.Context, s *Store, schema int64) error
	// Waits is called each time a migration fails to get a lock, with a text about the probable holder of the lock and the time
	// until which the migration retries; nil = no call.
	Waits func(what string, until time.Time)

	alone bool
}

// Open opens the database and migrates its schema. Open returns an error if the schema is newer than this program's.
func Open(ctx context.Context, t Target) (*Store, error) {
	s, err := connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, s.Abort)() // when ctx ends, Abort ends a commit that waits for a replica
	if err := s.checkAndMigrate(ctx, t); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) checkAndMigrate(ctx context.Context, t Target) error {
	s.migration.waits = t.Waits
	if t.Check != nil {
		schema, err := s.checkedSchema(ctx)
		if err == nil {
			err = t.Check(ctx, s, schema)
		}
		if err != nil {
			return err
		}
	}
	return s.migrateTo(ctx, NewestSchema())
}

// connect opens the database without checking its schema.
func connect(ctx context.Context, t Target) (*Store, error) {
	switch {
	case t.URL == "":
		return openSQLite(ctx, t.Dir)
	case strings.HasPrefix(t.URL, "postgres://"), strings.HasPrefix(t.URL, "postgresql://"):
		return openPostgres(ctx, t)
	}
	return nil, fmt.Errorf("database: want a postgres:// URL, or none for the embedded database")
}

// Engine returns "sqlite" or "postgres".
func (s *Store) Engine() string { return s.engine.name }

// Shared reports whether other processes may write to the database.
func (s *Store) Shared() bool { return s.listen != nil }

// Abort sets the read timeout of all PostgreSQL connections to a second or less and rejects new connections, because the process ends. The
// outcome of a commit that times out is unknown; PostgreSQL completes such a commit when the replica has stored it.
func (s *Store) Abort() {
	if s.patient != nil {
		s.patient.end()
	}
}

// Close waits for running transactions and closes the database.
func (s *Store) Close() error {
	s.ending.Wait()
	return shut(s.close)
}

func shut(all []func() error) error {
	var errs []error
	for _, f := range all {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// Tx is one database transaction, and the base of the types that implement the Tx interfaces of the domain packages.
type Tx struct {
	sql statements
	end interface {
		Commit() error
		Rollback() error
	}
	pipe *pipe           // connection for statements on PostgreSQL; nil on SQLite, where statements are not queued
	slow *slowStatements // nil = not recorded

	tokens *queryCombiner // queries of a token in the first round trip

	engine  *dialect
	keeping keeping

	queued []change // audit log entries that are not written yet
	head   *head    // newest entry of the audit log, once this transaction has locked it
	moved  bool     // this transaction has added entries to the audit log

	expected      *auditlog.Precondition // precondition that was checked after locking the newest audit log entry; nil = none
	touched       accounts.ChangeSet     // accounts whose identity or rules this transaction changes
	partlyRead    bool                   // a caller may have received part of the results, so the transaction must not run again
	idempotent    bool                   // the transaction is idempotent: it may run again even if it was committed
	readOnly      bool                   // the transaction is read-only
	ended         bool                   // a goroutine ends the transaction and returns the connection
	reservedRange *bulkRange             // reserved range of the audit log that a bulk import fills; nil = none
	lasts         bool                   // the method lasting was called
	known         []*question            // queries that Prefetch has sent or collects, with their results
	recording     bool                   // Prefetch collects queries
	groupChange   *pendingChange         // change in a group that shares one transaction; nil = separate transaction
}

// statements is the interface for running SQL statements in a transaction.
type statements interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// attempts is the maximum number of runs of a transaction that fails because of a serialization conflict or deadlock.
const attempts = 20

// update runs f in one durable transaction: when update returns nil, the changes of f survive a crash. f may run again after a
// serialization conflict, or if the session was lost before COMMIT was sent.
func (s *Store) update(ctx context.Context, f func(*Tx) error) error {
	if s.tx != nil {
		return f(s.tx)
	}
	return s.updateOn(ctx, s.write, f)
}

// beginner is a *sql.DB or a *sql.Conn, on which a transaction can begin.
type beginner interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

func (s *Store) updateOn(ctx context.Context, db beginner, f func(*Tx) error) error {
	for n := 1; ; n++ {
		err := s.onLive(ctx, db, func() error { return s.run(ctx, db, false, f) })
		if err == nil || n == attempts || ctx.Err() != nil || !s.engine.retryable(err) {
			return s.health.record(s.outage(err))
		}
	}
}

// InTx runs f in one transaction: all calls of the store passed to f are committed together or rolled back. f must not keep this store: it
// is invalid after f has returned. f may run again after a serialization conflict.
func (s *Store) InTx(ctx context.Context, f func(*Store) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(&Store{s.database, tx}) })
}

// view runs f on one consistent snapshot. f may run again if its session was lost.
func (s *Store) view(ctx context.Context, f func(*Tx) error) error {
	if s.tx != nil {
		return f(s.tx)
	}
	if s.replica != nil {
		if done, err := s.replica.view(ctx, s, f); done {
			return s.outage(err)
		}
	}
	return s.outage(s.onLive(ctx, s.read, func() error { return s.run(ctx, s.read, true, f) }))
}

func (s *Store) run(ctx context.Context, db beginner, looks bool, f func(*Tx) error) (err error) {
	name := "update transaction"
	if looks {
		name = "read transaction"
	}
	ctx, ended := tracing.Start(ctx, tracing.Client, name, slog.String("db.system.name", s.engine.name))
	defer func() { ended(err) }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The end of ctx ends the transaction but never a running commit, whose outcome would be unknown.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	attached := context.AfterFunc(ctx, end)
	t := &Tx{engine: s.engine, keeping: s.keeping, slow: &s.slow, tokens: &s.tokens, readOnly: looks}
	err = s.engine.begin(life, db, t)
	if err != nil {
		return &sessionLostError{error: withCause(ctx, fmt.Errorf("beginning a transaction: %w", err))}
	}
	if !looks {
		defer s.updates.Add(1)
	}
	defer func() {
		if t.ended {
			return
		}
		t.end.Rollback()
		if t.lasts {
			s.lasted(ctx, db)
		}
	}()
	if err = f(t); err == nil {
		err = t.writeRemaining(life)
	}
	if err != nil {
		// If attached() is false, ctx has ended, and the connection is not tested because another caller may already use it.
		err = withCause(ctx, err)
		if attached() && t.pipe.ended() && !t.partlyRead {
			err = &sessionLostError{error: err}
		}
		return err
	}
	if !attached() {
		return context.Cause(ctx)
	}
	if looks && t.pipe != nil && t.pipe.pooled && !t.pipe.unbegun() {
		t.ended = true
		s.ending.Go(func() { t.pipe.finish(context.WithoutCancel(ctx)) })
		return nil
	}
	if s.epochs != nil && t.touched != (accounts.ChangeSet{}) {
		s.epochs.BeginCommit(&t.touched)
		defer s.epochs.EndCommit(&t.touched)
	}
	if t.pipe != nil && !looks {
		if err := s.servers.checkPrimary(t.pipe.pg); err != nil {
			return err // another server became the primary meanwhile
		}
	}
	if err := t.end.Commit(); err != nil {
		// After a timeout of a session that was idle in a transaction (25P03), the transaction is not committed: COMMIT was not received.
		unsent := wraps[*unsentError](err) || sqlState(err) == "25P03"
		err = fmt.Errorf("committing: %w", err)
		if t.pipe.ended() && !t.partlyRead {
			err = &sessionLostError{err, !unsent && !t.idempotent && !t.readOnly}
		}
		return err
	}
	if t.expected != nil {
		t.expected.Met()
	}
	for t.moved {
		last := s.committed.Load()
		if last >= t.head.seq || s.committed.CompareAndSwap(last, t.head.seq) {
			break
		}
	}
	return nil
}

// lasted undoes, on the connection db, the settings that the method Tx.lasting has made.
func (s *Store) lasted(ctx context.Context, db beginner) {
	if query := s.engine.lasted; query != "" {
		// An error is ignored: the connection then only uses more memory than necessary.
		_, _ = db.ExecContext(context.WithoutCancel(ctx), query)
	}
}

// withCause adds to an error the reason why ctx ended, if ctx has ended. After the end of ctx, a call fails with various errors:
// finished transaction, closed statement, closed connection.
func withCause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Epochs returns the epochs that commits of this store advance; nil if other processes also write to the database, because this
// process notices their commits too late. Epochs must be called once, before the first write.
func (s *Store) Epochs() *accounts.Epochs {
	if s.Shared() {
		return nil
	}
	s.epochs = &accounts.Epochs{}
	return s.epochs
}

// UpdateAccounts implements accounts.Store.
func (s *Store) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.accounts()) })
}

// CodesTx returns the code queries of a transaction that UpdateAccounts passed to its function; it panics for any other tx.
func CodesTx(tx accounts.Tx) codes.Tx { return tx.(accountQueries).Tx.codes() }

// ViewAccounts implements accounts.Store.
func (s *Store) ViewAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.accounts()) })
}

// transactions implements accounts.Transactions with the queries of a domain.
type transactions[Q any] struct {
	store   *Store
	queries func(*Tx) Q
}

func (t transactions[Q]) Update(ctx context.Context, f func(Q) error) error {
	return t.store.update(ctx, func(tx *Tx) error { return f(t.queries(tx)) })
}

func (t transactions[Q]) View(ctx context.Context, f func(Q) error) error {
	return t.store.view(ctx, func(tx *Tx) error { return f(t.queries(tx)) })
}

// People begins transactions on people, keys, sessions and login links.
func (s *Store) People() accounts.Transactions[iam.Tx] {
	return transactions[iam.Tx]{s, func(tx *Tx) iam.Tx { return tx.iam() }}
}

// Appearances begins transactions on appearances of accounts.
func (s *Store) Appearances() accounts.Transactions[branding.Tx] {
	return transactions[branding.Tx]{s, func(tx *Tx) branding.Tx { return tx.branding() }}
}

// UpdateRules implements rules.Store.
func (s *Store) UpdateRules(ctx context.Context, f func(rules.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.rules()) })
}

// ViewRules implements rules.Store.
func (s *Store) ViewRules(ctx context.Context, f func(rules.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.rules()) })
}

// sanitizeText replaces a text that PostgreSQL cannot store (NUL, invalid UTF-8) by NULL, on SQLite too: NULL matches no stored
// value and every column rejects it.
func sanitizeText(args []any) []any {
	for i, arg := range args {
		if s, ok := arg.(string); ok && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			args = slices.Clone(args)
			args[i] = nil
		}
	}
	return args
}

// list runs a query and collects the result of scan for each row.
func list[T any](ctx context.Context, t *Tx, scan func(func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.queryQueued(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		item, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, rows.Err()
}

// pairs runs a query with two columns, and returns a map from the values of the first column to those of the second.
func pairs[K comparable, V any](ctx context.Context, t *Tx, query string, args ...any) (map[K]V, error) {
	all := map[K]V{}
	_, err := list(ctx, t, func(scan func(...any) error) (key K, err error) {
		var value V
		err = scan(&key, &value)
		all[key] = value
		return key, err
	}, query, args...)
	return all, err
}

// pairsIn is like pairs, for many keys: it appends some keys per query to the query text, which ends with IN, and to the arguments.
func pairsIn[K comparable, V any](ctx context.Context, t *Tx, query string, keys []K, args ...any) (map[K]V, error) {
	found := map[K]V{}
	return found, inChunks(keys, func(items []K) error {
		rows, err := pairs[K, V](ctx, t, query+` (`+placeholders(len(args)+1, len(items))+`)`, appendArgs(slices.Clip(args), items)...)
		maps.Copy(found, rows)
		return err
	})
}

// scalar runs a query that returns a single value.
func scalar[T any](ctx context.Context, t *Tx, query string, args ...any) (T, error) {
	var value T
	err := t.row(ctx, query, args...).Scan(&value)
	return value, err
}

// scalarOrZero is like scalar, but returns the zero value if the query returns no row.
func scalarOrZero[T any](ctx context.Context, t *Tx, query string, args ...any) (T, error) {
	value, err := scalar[T](ctx, t, query, args...)
	return value, replaceNoRows(err, nil)
}

// viewed returns the result of read on a snapshot of the store.
func viewed[T any](ctx context.Context, s *Store, read func(*Tx) (T, error)) (value T, err error) {
	err = s.view(ctx, func(tx *Tx) (err error) {
		value, err = read(tx)
		return err
	})
	return value, err
}

// execute runs one statement in a transaction of its own.
func execute(ctx context.Context, s *Store, query string, args ...any) error {
	return s.update(ctx, func(tx *Tx) error { return tx.run(ctx, query, args...) })
}

// replaceNoRows returns the error missing if err is sql.ErrNoRows, and otherwise err.
func replaceNoRows(err, missing error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return err
}

// remove runs a statement that deletes an object, and queues an audit log entry. If there is no such object, it returns the error missing.
func (t *Tx) remove(ctx context.Context, missing error, kind, key, query string, args ...any) error {
	n, err := t.exec(ctx, query, args...)
	if err != nil {
		return err
	}
	if n == 0 {
		return missing
	}
	return t.note(ctx, kind, key, "delete", nil)
}

// listAt collects rows like list, for many keys: it appends up to chunk keys per query to the query text, which ends with IN. The last key
// is repeated until the number of keys is a power of two, so that there are few different statements and the database keeps them prepared.
func listAt[T, K any](ctx context.Context, t *Tx, scan func(func(...any) error) (T, error), query, tail string, keys []K) (all []T,
	err error) {
	return listChunks(ctx, t, scan, slices.Chunk(keys, chunk), func(names []K) (string, []any) {
		args := make([]any, 1<<bits.Len(uint(len(names)-1)))
		for i := range args {
			args[i] = names[min(i, len(names)-1)]
		}
		return query + ` (` + t.marks(1, len(args)) + `)` + tail, args
	})
}

// listChunks collects rows like list; statement returns the query for a chunk of keys, with its arguments.
func listChunks[T, K any](ctx context.Context, t *Tx, scan func(func(...any) error) (T, error), chunks iter.Seq[[]K],
	statement func([]K) (query string, args []any)) (all []T, err error) {
	err = forEach(chunks, func(keys []K) error {
		query, args := statement(keys)
		found, err := list(ctx, t, scan, query, args...)
		all = append(all, found...)
		return err
	})
	return all, err
}

// jsonField returns SQL for a field of the JSON object in a column; NULL = the object does not have the field.
func (t *Tx) jsonField(column, field string) string {
	if t.engine.name == "postgres" {
		return `CAST(` + column + ` AS json) ->> '` + field + `'`
	}
	return `json_extract(` + column + `, '$.` + field + `')`
}

// runIf runs a statement that changes the schema if the result of the query condition is true, so that a process without the privilege for
// the statement can start if the statement has taken effect. The lock prevents two processes from running the statement at the same time.
func (t *Tx) runIf(ctx context.Context, lock, statement, condition string, args ...any) error {
	if err := t.lock(ctx, lock, ""); err != nil {
		return err
	}
	if applies, err := scalar[bool](ctx, t, condition, args...); err != nil || !applies {
		return err
	}
	return t.run(ctx, statement)
}

// withoutReadTimeouts turns the read timeouts of the connections off; the returned function turns them on again.
func (s *Store) withoutReadTimeouts() (restore func()) {
	if s.patient == nil || s.patient.Swap(true) {
		return func() {}
	}
	return func() { s.patient.Store(false) }
}

// bulk configures the transaction for bulk work. bulk does not lengthen the idle timeout, because other transactions wait for the
// locks of a bulk transaction.
func (t *Tx) bulk(ctx context.Context) error {
	if t.pipe != nil {
		return nil
	}
	return t.lasting(ctx)
}

// lasting allows the transaction to be idle for minutes between two statements, for callers that have no locks and may need long
// for each row.
func (t *Tx) lasting(ctx context.Context) error {
	query := t.engine.lasting
	if query == "" || t.readOnly && t.pipe == nil {
		return nil
	}
	t.lasts = true
	return t.execQueued(ctx, nil, query)
}

// DisableTimeout implements accounts.Tx and stats.Tx.
func (t *Tx) DisableTimeout(ctx context.Context) error {
	t.partlyRead = true
	return t.lasting(ctx)
}

// MarkIdempotent implements accounts.Tx and codes.Tx.
func (t *Tx) MarkIdempotent() {
	t.idempotent = true
	if t.pipe != nil {
		t.pipe.lastWithCommit = true
	}
}

// next returns the next number of a sequence; numbers are in commit order.
func (t *Tx) next(ctx context.Context, sequence string) (int64, error) {
	return scalar[int64](ctx, t, `UPDATE sequences SET value = value + 1 WHERE name = $1 RETURNING value`, sequence)
}

// Times are stored as Unix milliseconds, and the zero time as 0.

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// asJSON maps a column that holds a list or a map as JSON.
type asJSON[T any] struct{ v *T }

func inJSON[T any](v *T) asJSON[T] { return asJSON[T]{v} }

func (j asJSON[T]) text() string {
	b, err := json.Marshal(j.v)
	if err != nil {
		panic(err) // only lists and maps of texts and numbers are stored as JSON
	}
	return string(b)
}

// Scan implements sql.Scanner.
func (j asJSON[T]) Scan(src any) error {
	switch s := src.(type) {
	case string:
		return json.Unmarshal([]byte(s), j.v)
	case []byte:
		return json.Unmarshal(s, j.v)
	}
	return fmt.Errorf("a JSON column holds %T", src)
}
