// Package store keeps the rows that must survive the process: all SQL, for SQLite or
// PostgreSQL, behind the interfaces that the domain packages declare.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Store is an open database.
type Store struct {
	write, read *sql.DB
	engine      dialect
	close       []func() error
	fence       *atomic.Pointer[fence]
	keeping     keeping
	beside      scanlog.Log                                     // has the scans of an embedded database; nil = the database has them
	elsewhere   scanlog.Log                                     // has scans in place of the table; nil = the table has them
	scansInto   func(id string) (*scanlog.Restoring, error)     // begins the ledger of an archive; nil = into the database
	listen      func(context.Context) (replica.Notifier, error) // nil = no other process writes
	// rings when nodes are asked for their scans; nil = there are no other nodes
	asked     chan struct{}
	migrating func() (*sql.DB, error)                        // connections for work that changes whole tables
	loading   func(context.Context) (*sql.DB, func(), error) // connections that fill an empty database, alone in it until func is called
	patient   *deadlines                                     // how long connections wait for a word; nil = as long as it takes
	servers   *servers                                       // the servers of PostgreSQL; nil = the database is embedded
	// told of commits that change identities; nil = nothing remembers identities
	epochs    *accounts.Epochs
	trouble   writeHealth
	together  groupCommitter
	migration struct {
		files    fs.FS                              // instead of the program's, in a test; nil = the program's
		patience time.Duration                      // how long a migration waits for a lock; 0 = migrationPatience
		waits    func(what string, until time.Time) // called when a migration waited in vain and will try again; nil = nothing is called
	}
}

// dialect holds the differences between the two databases.
type dialect interface {
	// name is "sqlite" or "postgres".
	name() string
	// lock returns the statement by which transactions that lock the same part of a whole wait for each
	// other; part "" = all of it. It is "" where they wait anyway.
	lock(whole, part string) (query string, args []any)
	// begin begins the transaction of a Tx.
	begin(ctx context.Context, db beginner, t *Tx) error
	// retryable reports whether a failed transaction may succeed when it is run again.
	retryable(err error) bool
	// lost reports whether an error means that an open session ended, and with it everything that
	// it had not begun to commit.
	lost(err error) bool
	// lasting returns the statement that lets a transaction stand still for minutes between two
	// statements, and gives it what bulk work needs; "" = none is needed.
	lasting() string
	// holding returns the statement that makes the database end the transaction soon if it is idle from here on, because it holds a
	// lock that all others need; "" = none waits, or the operator set the time.
	holding() string
	// sharesRows reports whether one transaction may wait for a row of another.
	sharesRows() bool
	// lasted returns the statement that undoes lasting after the transaction; "" = its end did that.
	lasted() string
	// room returns an error while the database cannot write some more to its disk.
	room(ctx context.Context, t *Tx) error
	// outage says, for an error of the database, which database it is, what happened and what to
	// do; "" = the error is another.
	outage(err error) (where, what, do string)
	// lockOut keeps every other process out until the transaction ends. ErrInUse.
	lockOut(ctx context.Context, t *Tx) error
	// overwrite makes the database wipe texts that are replaced from now on, where it can.
	overwrite(ctx context.Context, db *sql.DB) error
	// unindex drops the indexes of an empty database that are made faster after its rows are
	// stored; index makes them.
	unindex(ctx context.Context, t *Tx) (index func() error, err error)
	// replication returns the number of servers that are named, and the query that asks whether commits wait for replicas, and for
	// how many; 0 and "" = the database has none.
	replication() (hosts int, query string)
	// readOnlyQuery asks whether changes are refused.
	readOnlyQuery() string
	// rowsAtOnce returns the number of rows that one statement stores best.
	rowsAtOnce() int
	// tablesQuery lists the tables of the schema.
	tablesQuery() string
	// headQuery reads the last change and locks it until the transaction ends.
	headQuery() string
	// sameHead returns the statement that writes the last change as it is, and fails at once where another transaction has it.
	sameHead() string
	// writeLast runs the last insert of changes ("" = none), stores which change is the last, and
	// makes the commit ring the bell of the nodes that follow.
	writeLast(ctx context.Context, t *Tx, h head, insert string, args []any) error
}

// Target says which database to open.
type Target struct {
	// URL is postgres://…; "" is the embedded database in Dir.
	URL string
	// Dir is the data folder, which exists.
	Dir string
	// Check is called before the schema is brought up to date, with the version of the schema; 0 =
	// there is none yet. After an error of Check the database stays as it was. nil = nothing is
	// checked.
	Check func(ctx context.Context, s *Store, schema int64) error
	// Waits is called each time a migration does not get a lock, with what holds it and until when
	// it is tried again. nil = nothing is called.
	Waits func(what string, until time.Time)

	alone bool
}

// Open opens the database and brings its schema up to date. A schema newer
// than this program's is refused.
func Open(ctx context.Context, t Target) (*Store, error) {
	s, err := connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, s.Abort)() // a commit of a migration may wait for a replica
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

// connect opens the database whatever its schema.
func connect(ctx context.Context, t Target) (*Store, error) {
	switch {
	case t.URL == "":
		return openSQLite(ctx, t.Dir)
	case strings.HasPrefix(t.URL, "postgres://"), strings.HasPrefix(t.URL, "postgresql://"):
		return openPostgres(ctx, t)
	}
	return nil, fmt.Errorf("database: want a postgres:// URL, or none for the embedded database")
}

// Engine is "sqlite" or "postgres".
func (s *Store) Engine() string { return s.engine.name() }

// Shared reports whether other processes may write to the database.
func (s *Store) Shared() bool { return s.listen != nil }

// Abort lets no call wait for the database for longer than a moment from now on, because the process ends. The outcome of an
// interrupted commit is unknown; PostgreSQL completes it as soon as its replica has it.
func (s *Store) Abort() {
	if s.patient != nil {
		s.patient.end()
	}
}

// Close waits for running transactions and closes the database.
func (s *Store) Close() error { return shut(s.close) }

func shut(all []func() error) error {
	var errs []error
	for _, f := range all {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// Tx is one transaction. It implements the Tx of every domain package.
type Tx struct {
	sql statements
	end interface {
		Commit() error
		Rollback() error
	}
	pipe *pipe // the connection of sql on PostgreSQL; nil on SQLite, where no statement waits

	engine  dialect
	keeping keeping

	noted []change // not written yet
	head  *head    // the last change, once it is locked
	moved bool     // the head was moved by this transaction

	prepared map[string]*sql.Stmt // the statements of kept, by their text

	expected *auditlog.Precondition // what a caller expects to be unchanged, checked when the head is locked; nil = nothing
	touched  accounts.ChangeSet     // the accounts whose identity or rules it changes
	once     bool                   // a caller may have received a part of its results: so it is not run again
	twice    bool                   // doing it twice has the same effect as once
	looks    bool                   // it changes nothing
	apart    *bulkRange             // what it writes apart; nil = nothing
	lasts    bool                   // it is bulk work
	member   *pendingChange         // its place among several changes in one transaction; nil = it is a transaction of its own
}

// statements run in a transaction.
type statements interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// attempts is the number of times that a transaction that lost a race is run.
const attempts = 20

// update runs f in one durable transaction: when it returns nil, what f wrote
// survives a crash. It may run f again after a conflict, or where its session
// was ended before the commit was sent.
func (s *Store) update(ctx context.Context, f func(*Tx) error) error {
	if tx, ok := ctx.Value(oneKey{}).(*Tx); ok {
		return f(tx)
	}
	return s.updateOn(ctx, s.write, f)
}

// beginner is a database, or one connection to it.
type beginner interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

func (s *Store) updateOn(ctx context.Context, db beginner, f func(*Tx) error) error {
	for n := 1; ; n++ {
		err := s.onLive(ctx, db, func() error { return s.run(ctx, db, false, f) })
		if err == nil || n == attempts || ctx.Err() != nil || !s.engine.retryable(err) {
			return s.trouble.remember(s.outage(err))
		}
	}
}

// InTx makes one transaction of everything that f does through the store with
// the context it is given: all of it is stored, or nothing. It may run f again
// after a conflict.
func (s *Store) InTx(ctx context.Context, f func(context.Context) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.Join(ctx)) })
}

// Join implements accounts.Tx.
func (t *Tx) Join(ctx context.Context) context.Context { return context.WithValue(ctx, oneKey{}, t) }

// oneKey is the context key of the transaction to which calls belong.
type oneKey struct{}

// view runs f on one consistent state. It may run f again where its session was
// ended.
func (s *Store) view(ctx context.Context, f func(*Tx) error) error {
	if tx, ok := ctx.Value(oneKey{}).(*Tx); ok {
		return f(tx)
	}
	return s.outage(s.onLive(ctx, s.read, func() error { return s.run(ctx, s.read, true, f) }))
}

func (s *Store) run(ctx context.Context, db beginner, looks bool, f func(*Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The end of ctx ends the transaction, but not a commit: the outcome of an interrupted commit would be unknown.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	attached := context.AfterFunc(ctx, end)
	t := &Tx{engine: s.engine, keeping: s.keeping, looks: looks}
	err := s.engine.begin(life, db, t)
	if err != nil {
		return &sessionLostError{error: withCause(ctx, fmt.Errorf("beginning a transaction: %w", err))}
	}
	defer func() {
		t.end.Rollback()
		if t.lasts {
			s.lasted(ctx, db)
		}
	}()
	if err = f(t); err == nil {
		err = t.writeNotes(life)
	}
	if err != nil {
		// Where ctx ended, the session may be in use elsewhere already.
		if err = withCause(ctx, err); attached() && t.pipe.ended() && !t.once {
			err = &sessionLostError{error: err}
		}
		return err
	}
	if !attached() {
		return context.Cause(ctx)
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
		_, unsent := errors.AsType[*unsentError](err)
		unsent = unsent || stoodStill(err)
		if err = fmt.Errorf("committing: %w", err); t.pipe.ended() && !t.once {
			err = &sessionLostError{err, !unsent && !t.twice && !t.looks}
		}
		return err
	}
	if t.expected != nil {
		t.expected.Met()
	}
	return nil
}

// lasted ends what lasting began.
func (s *Store) lasted(ctx context.Context, db beginner) {
	if query := s.engine.lasted(); query != "" {
		// Where it fails, the connection keeps more memory than it needs.
		_, _ = db.ExecContext(context.WithoutCancel(ctx), query)
	}
}

// withCause adds to an error why ctx ended, if it did. A call that ended with ctx fails with errors
// of many kinds: of a finished transaction, a closed statement, a closed connection.
func withCause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Epochs returns those of this store; nil where other processes write too, because this one hears too
// late of their commits. To be called once, before anything is written.
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

// ViewAccounts implements accounts.Store.
func (s *Store) ViewAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.accounts()) })
}

// UpdatePeople implements people.Store.
func (s *Store) UpdatePeople(ctx context.Context, f func(iam.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.iam()) })
}

// ViewPeople implements people.Store.
func (s *Store) ViewPeople(ctx context.Context, f func(iam.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.iam()) })
}

// UpdateAppearances implements appearance.Store.
func (s *Store) UpdateAppearances(ctx context.Context, f func(branding.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.branding()) })
}

// ViewAppearances implements appearance.Store.
func (s *Store) ViewAppearances(ctx context.Context, f func(branding.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.branding()) })
}

// UpdateRules implements rules.Store.
func (s *Store) UpdateRules(ctx context.Context, f func(rules.Tx) error) error {
	return s.update(ctx, func(tx *Tx) error { return f(tx.rules()) })
}

// ViewRules implements rules.Store.
func (s *Store) ViewRules(ctx context.Context, f func(rules.Tx) error) error {
	return s.view(ctx, func(tx *Tx) error { return f(tx.rules()) })
}

// sanitizeText turns a text that PostgreSQL cannot hold (NUL, invalid UTF-8) into NULL, on SQLite too:
// NULL equals nothing that is stored, and no column takes it.
func sanitizeText(args []any) []any {
	for i, arg := range args {
		if s, ok := arg.(string); ok && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			args = slices.Clone(args)
			args[i] = nil
		}
	}
	return args
}

// list runs a query and collects what scan makes of each row.
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

// scalar runs a query that answers one value.
func scalar[T any](ctx context.Context, t *Tx, query string, args ...any) (T, error) {
	var value T
	err := t.row(ctx, query, args...).Scan(&value)
	return value, err
}

// viewed returns what read makes of a view of the store.
func viewed[T any](ctx context.Context, s *Store, read func(*Tx) (T, error)) (value T, err error) {
	err = s.view(ctx, func(tx *Tx) (err error) {
		value, err = read(tx)
		return err
	})
	return value, err
}

// replaceNoRows returns none in place of sql.ErrNoRows, and every other error as it is.
func replaceNoRows(err, missing error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return err
}

// remove runs a statement that deletes a thing, and notes that. It returns none where there was no such thing.
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

// listAt is list for many keys, which follow the IN that a query ends with.
func listAt[T any](ctx context.Context, t *Tx, scan func(func(...any) error) (T, error), query, tail string, keys []string) (all []T,
	err error) {
	err = inPieces(keys, func(names []string) error {
		args := make([]any, len(names))
		for i, key := range names {
			args[i] = key
		}
		found, err := list(ctx, t, scan, query+` (`+t.marks(1, len(args))+`)`+tail, args...)
		all = append(all, found...)
		return err
	})
	return all, err
}

// LockAccount implements accounts.Tx.
func (t *Tx) LockAccount(ctx context.Context, appid string) error {
	return t.lock(ctx, allAccounts, "account "+appid)
}

// LockAccounts implements accounts.Tx.
func (t *Tx) LockAccounts(ctx context.Context) error {
	if err := t.bulk(ctx); err != nil {
		return err
	}
	return t.lock(ctx, allAccounts, "")
}

// lock makes transactions that lock the same part of something wait for each other;
// "" makes all transactions that lock a part of it wait, and waits for them.
func (t *Tx) lock(ctx context.Context, full, part string) error {
	if t.member != nil {
		if full != allRules || !slices.Contains(t.member.parts[:], part) {
			return t.member.goAlone()
		}
		return nil
	}
	if query, args := t.engine.lock(full, part); query != "" {
		_, err := t.exec(ctx, query, args...)
		return err
	}
	return nil
}

// The things that have parts to lock.
const (
	allRules    = "all rules"
	allAccounts = "all accounts"
	allGS1      = "all GS1 links"
	allOutbox   = "all rows of an outbox"
)

func ownerPart(appid string) string   { return "owner " + appid }
func originPart(origin string) string { return "origin " + origin }

// LockOwner implements rules.Tx.
func (t *Tx) LockOwner(ctx context.Context, appid string) error {
	return t.lock(ctx, allRules, ownerPart(appid))
}

// LockOrigin implements rules.Tx.
func (t *Tx) LockOrigin(ctx context.Context, origin string) error {
	return t.lock(ctx, allRules, originPart(origin))
}

// LockRules implements rules.Tx.
func (t *Tx) LockRules(ctx context.Context) error {
	if err := t.bulk(ctx); err != nil {
		return err
	}
	return t.lock(ctx, allRules, "")
}

// bulk gives the transaction what bulk work needs. It may not stand still longer than any other,
// since others wait for its locks.
func (t *Tx) bulk(ctx context.Context) error {
	if t.pipe != nil {
		return nil
	}
	return t.lasting(ctx)
}

// lasting lets the transaction stand still for minutes between two statements. It is for work that
// holds no lock and whose caller has much to do with each row.
func (t *Tx) lasting(ctx context.Context) error {
	query := t.engine.lasting()
	if query == "" || t.looks && t.pipe == nil {
		return nil
	}
	t.lasts = true
	return t.execQueued(ctx, nil, query)
}

// DisableTimeout implements accounts.Tx and stats.Tx.
func (t *Tx) DisableTimeout(ctx context.Context) error {
	t.once = true
	return t.lasting(ctx)
}

// MarkIdempotent implements codes.Tx.
func (t *Tx) MarkIdempotent() { t.twice = true }

// next gives out a number; numbers are in the order of commits.
func (t *Tx) next(ctx context.Context, sequence string) (int64, error) {
	return scalar[int64](ctx, t, `UPDATE sequences SET value = value + 1 WHERE name = $1 RETURNING value`, sequence)
}

// Times are kept as Unix milliseconds, the zero time as 0.

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

// asJSON is a column that holds a list or a map as JSON.
type asJSON[T any] struct{ v *T }

func inJSON[T any](v *T) asJSON[T] { return asJSON[T]{v} }

func (j asJSON[T]) text() string {
	b, err := json.Marshal(j.v)
	if err != nil {
		panic(err) // only lists and maps of texts and numbers are stored so
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
