package store

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/qrjump/qrjump/internal/domain/replica"
)

// oldestPostgres is the oldest supported server version.
const oldestPostgres = 150000

// openPostgres opens a database on a PostgreSQL server, shared with other processes or exclusively.
func openPostgres(ctx context.Context, t Target) (*Store, error) {
	config, err := pgx.ParseConfig(t.URL)
	if err != nil {
		return nil, unreadURL(t.URL, err)
	}
	hosts := hostsOf(config)
	server := postgresEngine{path: strings.Join(hosts, ",") + "/" + config.Database} // without user and password
	engine := postgresDialect(server, len(hosts))
	engine.lasting, engine.holding = limitSessions(config, t.alone)
	limit, err := poolSize(config)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, connectTime)
	way := connecting{patient: &deadlines{}, fence: &atomic.Pointer[fence]{}, alone: t.alone,
		servers: &servers{configs: eachServer(config), highest: map[string]int64{}}}
	way.patient.Store(t.alone)
	way.servers.poll(ctx, startGrace)
	way.servers.closeTo = way.patient.closeTo
	config.ValidateConnect = way.servers.enter(config.ValidateConnect)
	bells := config.Copy()
	bells.DialFunc = dialer.DialContext
	var db *sql.DB
	closing := []func() error{func() error { return db.Close() }}
	if t.alone || t.LockDir {
		lock, err := lockFolder(t.Dir)
		if err != nil {
			return nil, err
		}
		closing = append(closing, lock.Unlock)
	}
	db = way.openPool(config, limit)
	if err := server.fit(ctx, db); err != nil {
		return nil, errors.Join(err, shut(closing))
	}
	var reads *readReplica
	if t.ReadURL != "" {
		if reads, err = way.openReplica(t.ReadURL, limit, t.ReplicaFailed); err != nil {
			return nil, errors.Join(err, shut(closing))
		}
		closing = append([]func() error{reads.db.Close}, closing...)
	}
	asked := make(chan struct{}, 1)
	return &Store{database: &database{replica: reads, shipRequests: asked, write: db, read: db, engine: engine, fence: way.fence,
		close: closing, patient: way.patient, servers: way.servers,
		listen: func(ctx context.Context) (replica.Notifier, error) {
			bell, err := listen(ctx, bells, way.servers, asked)
			return bell, outageOf(server, err)
		},
		migrating: func() (*sql.DB, error) { // no lock timeout: other nodes may lock the tables for long
			config := config.Copy()
			config.RuntimeParams["lock_timeout"] = "0"
			return way.open(config), nil
		},
		loading: func(context.Context) (*sql.DB, func(), error) {
			db.SetMaxIdleConns(0) // an idle connection would keep the advisory lock "users", and lockOut would return ErrInUse
			return db, func() { db.SetMaxIdleConns(limit) }, nil
		}}}, nil
}

// unreadURL returns the reason why a database URL is invalid. unreadURL drops the error of the URL parser, which may quote the password,
// but keeps an error about an unreadable certificate file.
func unreadURL(text string, err error) error {
	file, is := errors.AsType[*fs.PathError](err)
	u, _ := url.Parse(text)
	if is && u != nil {
		for _, name := range []string{"sslrootcert", "sslcert", "sslkey"} {
			if u.Query().Get(name) == file.Path {
				return fmt.Errorf("database: %s of the URL names a file that cannot be read: %w", name, file)
			}
		}
	}
	return errors.New("database: the postgres:// URL cannot be read")
}

// errPooled is the error for a database behind PgBouncer or another connection pooler. Locks, LISTEN and session settings require
// that a connection always uses the same server process.
var errPooled = errors.New("the connection goes through a connection pooler: connect to PostgreSQL directly")

// checkDirect returns errPooled unless the process id that the server sent at the start of the connection is the id of the process
// that executes queries: a pooler sends an invented id.
func checkDirect(ctx context.Context, c *pgx.Conn) error {
	var pid uint32
	err := c.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	if err == nil && pid != c.PgConn().PID() {
		err = errPooled
	}
	return err
}

// pooled reports whether a connection failed because the URL leads to a connection pooler. PgBouncer reports unknown startup parameters as
// a protocol violation (SQLSTATE 08P01); PostgreSQL never does so.
func pooled(err error) bool {
	return errors.Is(err, errPooled) || wraps[*pgconn.ConnectError](err) && sqlState(err) == "08P01"
}

// CheckUnused returns an error if another session uses the database of a postgres:// URL.
func CheckUnused(ctx context.Context, address string) error {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return unreadURL(address, err)
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	var pid int
	var program string
	// Background processes of PostgreSQL have no usesysid.
	err = c.QueryRow(ctx, `SELECT pid, COALESCE(application_name, '') FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL LIMIT 1`).Scan(&pid, &program)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("session %d (%s) uses the database %s: give a restored copy without other connections", pid,
			cmp.Or(program, "without a name"), config.Database)
	}
	return err
}

// limitSessions sets the session timeouts in config, and returns the statements that lengthen (lasting) or shorten (holding) the
// idle timeout of one transaction.
func limitSessions(config *pgx.ConnConfig, exclusive bool) (lasting, holding string) {
	// With this setting, PostgreSQL acknowledges a commit only after the commit is flushed to disk, also on synchronous replicas.
	config.RuntimeParams["synchronous_commit"] = "on"
	config.RuntimeParams["application_name"] = cmp.Or(config.RuntimeParams["application_name"], "qrjump")
	// There is no statement timeout, because it would interrupt a commit that waits for a replica, and PostgreSQL would report the commit
	// as successful. The timeout of an API call (20 s) and the silence timeout (a minute) limit statements instead.
	config.RuntimeParams["statement_timeout"] = "0"
	for _, name := range []string{idleTimeout, silentNodeTimeout} {
		if config.RuntimeParams[name] == "" {
			lasting += `, set_config('` + name + `', '` + lastingIdle + `', true)`
		}
	}
	if config.RuntimeParams[idleTimeout] == "" {
		holding = `SELECT set_config('` + idleTimeout + `', '` + holdingIdle + `', true)`
	}
	for name, bound := range bounds {
		config.RuntimeParams[name] = cmp.Or(config.RuntimeParams[name], bound)
	}
	if exclusive { // no other transaction waits during exclusive use
		config.RuntimeParams["lock_timeout"], config.RuntimeParams[idleTimeout], config.RuntimeParams[silentNodeTimeout] = "0", "0", "0"
		return "", ""
	}
	return strings.Replace(lasting, ",", "SELECT", 1), holding
}

// connecting holds the parameters for connecting to a database.
type connecting struct {
	patient *deadlines
	fence   *atomic.Pointer[fence]
	servers *servers
	alone   bool
}

// openPool returns a pool of at most limit connections.
func (w connecting) openPool(config *pgx.ConnConfig, limit int) *sql.DB {
	db := w.open(config)
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

func (w connecting) open(config *pgx.ConnConfig) *sql.DB {
	dial := func(_ context.Context, connConfig *pgx.ConnConfig) error {
		dial, stands := w.patient.listening()
		connConfig.DialFunc = dial
		if enter := connConfig.ValidateConnect; enter != nil {
			connConfig.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
				err := enter(ctx, c)
				stands(c)
				return err
			}
		}
		return nil
	}
	return sql.OpenDB(stdlib.GetConnector(*config, stdlib.OptionBeforeConnect(dial),
		stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
			err := checkDirect(ctx, c)
			if err == nil && !w.alone {
				err = enter(ctx, c, w.fence.Load())
			}
			if err != nil {
				closeAbruptly(c) // pgx would leave the connection open, so its session would keep the advisory lock "users"
			}
			return err
		}), stdlib.OptionResetSession(func(_ context.Context, c *pgx.Conn) error { return usable(c, w.servers) })))
}

// fit returns an error if the server is behind a pooler, unreachable, too old or read-only.
func (e postgresEngine) fit(ctx context.Context, db *sql.DB) error {
	var version int
	var readOnly bool
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('transaction_read_only')::bool").
		Scan(&version, &readOnly)
	switch {
	case pooled(err):
		return fmt.Errorf("database %s: %w", e.path, errPooled)
	case err != nil:
		return fmt.Errorf("opening the database: %w", outageOf(e, err))
	case version < oldestPostgres:
		return fmt.Errorf("database %s is PostgreSQL %d: 15 or later is needed", e.path, version/10000)
	case readOnly:
		return outageOf(e, errReadOnly)
	}
	return nil
}

// bounds maps session timeouts to default values, for timeouts that the URL does not set. The timeouts end the session of a node
// that died or hangs while it holds a lock: for example, a lock on the end of the audit log blocks the changes of all nodes.
var bounds = map[string]string{
	"lock_timeout":            "10s",
	idleTimeout:               "15s",
	silentNodeTimeout:         "60s",
	"tcp_keepalives_idle":     "30",
	"tcp_keepalives_interval": "10",
	"tcp_keepalives_count":    "3",
}

// The setting idleTimeout limits how long a session may be idle in a transaction, and silentNodeTimeout how long results may stay
// unacknowledged by the client. lastingIdle is the value of both settings in a transaction that called Tx.lasting, and holdingIdle
// the value of idleTimeout in a transaction that has locked the end of the audit log. A running node sends the next statement
// within milliseconds; if the server ends its session anyway, the node repeats the work in another session (session_lost.go).
const (
	idleTimeout       = "idle_in_transaction_session_timeout"
	silentNodeTimeout = "tcp_user_timeout"
	lastingIdle       = "5min"
	holdingIdle       = "5s"
)

// defaultConns is the maximum number of connections per node, without the LISTEN connection; pool_max_conns in the URL replaces it.
// minConns and maxConns limit pool_max_conns. Some operations need several connections at once, so minConns is 4.
const (
	defaultConns, minConns, maxConns = 32, 4, 1000
	connsParameter                   = "pool_max_conns"
)

// poolSize returns the value of pool_max_conns and removes it from the parameters that are sent to the server.
func poolSize(config *pgx.ConnConfig) (int, error) {
	text, given := config.RuntimeParams[connsParameter]
	if !given {
		return defaultConns, nil
	}
	delete(config.RuntimeParams, connsParameter)
	n, err := strconv.Atoi(text)
	if err != nil || n < minConns || n > maxConns {
		return 0, fmt.Errorf("database: %s of the URL is %.20q: want %d to %d", connsParameter, text, minConns, maxConns)
	}
	return n, nil
}

func hostsOf(config *pgx.ConnConfig) []string {
	hosts := []string{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	for _, f := range config.Fallbacks {
		if host := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// notificationListener is a separate connection that listens for notifications of changes.
type notificationListener struct {
	conn  *pgx.Conn
	asked chan<- struct{} // channel with a buffer of one value
}

func listen(ctx context.Context, config *pgx.ConnConfig, all *servers, asked chan<- struct{}) (replica.Notifier, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to listen for changes: %w", err)
	}
	b := notificationListener{conn, asked}
	var channel string
	if err = conn.QueryRow(ctx, `SELECT quote_ident(`+bell+`)`).Scan(&channel); err == nil {
		_, err = conn.Exec(ctx, `LISTEN `+channel)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("listening for changes: %w", err)
	}
	if all != nil {
		all.bell.Store(conn)
	}
	return b, nil
}

// Wait implements replica.Notifier.
func (b notificationListener) Wait(ctx context.Context) (int64, error) {
	for {
		rung, err := b.conn.WaitForNotification(ctx)
		if err != nil {
			return 0, err
		}
		if rung.Payload != shipRequest {
			seq, _ := strconv.ParseInt(rung.Payload, 10, 64) // 0 if the payload is not the number of a change
			return seq, nil
		}
		select {
		case b.asked <- struct{}{}:
		default: // an earlier request has not been received from the channel yet
		}
	}
}

// Close implements replica.Notifier.
func (b notificationListener) Close() { closeAbruptly(b.conn) }

// closeAbruptly closes a connection immediately. The server notices the end of the connection and ends the session.
func closeAbruptly(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// users is SQL for the id of the advisory lock that all connections of running servers share; each schema of a database has its own lock.
const users = `hashtextextended('qrjump uses ' || coalesce(current_schema(), ''), 0)`

// usable returns an error if a pooled connection must not be reused. A connection with default_transaction_read_only = on is
// unusable: it stays read-only even after new connections accept changes. A connection to an old primary, which a promoted server
// has replaced, is unusable too.
func usable(c *pgx.Conn, all *servers) error {
	if c.PgConn().ParameterStatus("default_transaction_read_only") == "on" || all.checkPrimary(c) != nil {
		return driver.ErrBadConn
	}
	// The server was a standby when the connection was made, and was promoted since: a new connection must check its timeline.
	if st, _ := c.PgConn().CustomData()[statusKey].(serverStatus); st.system != "" && st.timeline == 0 &&
		c.PgConn().ParameterStatus("in_hot_standby") == "off" {
		return driver.ErrBadConn
	}
	return nil
}

// enter checks a new connection. enter rejects the connection while another process has exclusive use of the database, or if the
// master key was rotated since this process read its sealed key.
func enter(ctx context.Context, c *pgx.Conn, known *fence) error {
	var free bool
	if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock_shared(`+users+`)`).Scan(&free); err != nil {
		return err
	}
	if !free {
		return errors.New("the master key of the database is being rotated: try again when the rotation is complete")
	}
	if known == nil {
		return nil
	}
	var sealed string
	if err := c.QueryRow(ctx, `SELECT sealed FROM sealing_keys WHERE name = $1`, known.name).Scan(&sealed); err != nil {
		return fmt.Errorf("reading the key %s: %w", known.name, err)
	}
	if sealed != known.sealed {
		return errors.New("the master key of the database was rotated while this process was disconnected: restart this process")
	}
	return nil
}

// makeBinary creates the collation "binary", which SQLite has built in.
func makeBinary(ctx context.Context, t *Tx) error {
	return t.runIf(ctx, "collation binary", `CREATE COLLATION "binary" FROM pg_catalog."C"`, `SELECT to_regcollation('"binary"') IS NULL`)
}

// onePlan makes PostgreSQL use one plan for all values of a statement until the transaction ends. Without values the planner expects
// many rows, for which it would compile the plan at each execution.
const onePlan = `set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true)`

// postgresDialect returns the dialect of a server; the caller sets the fields lasting and holding: they depend on the URL.
func postgresDialect(server postgresEngine, hosts int) *dialect {
	return &dialect{engine: server, name: "postgres", sharesRows: true, rowsAtOnce: 200, hosts: hosts,
		// sync_state is NULL for a role without the privilege to read replication details; then every replica is counted.
		replication: `SELECT wanted, CASE WHEN wanted THEN (SELECT COUNT(*) FROM pg_stat_replication
			WHERE COALESCE(sync_state, 'sync') IN ('sync', 'quorum')) ELSE 0 END
			FROM (SELECT current_setting('synchronous_standby_names') <> '' AS wanted) AS w`,
		indexPlan: `SELECT ` + onePlan + `, set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
			set_config('enable_mergejoin', 'off', true)`,
		readOnlyQuery: `SELECT current_setting('transaction_read_only')::bool`,
		tablesQuery: `SELECT table_name FROM information_schema.tables
			WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`,
		headQuery: `SELECT seq, hash FROM audit_log_head WHERE id = 1 FOR UPDATE`,
		sameHead: `WITH head AS (SELECT id FROM audit_log_head WHERE id = 1 FOR UPDATE NOWAIT)
			UPDATE audit_log_head SET seq = seq WHERE id IN (SELECT id FROM head)`}
}

// postgresEngine implements engine; path contains the servers and the database of the URL, for error messages.
type postgresEngine struct{ path string }

func lockNumber(text string) int64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return int64(h.Sum64())
}

// unindex keeps the indexes: a COPY of sorted rows into tables with indexes is fast enough.
func (postgresEngine) unindex(context.Context, *Tx) (func() error, error) {
	return func() error { return nil }, nil
}

// lock returns a statement that takes advisory locks until the transaction ends. A transaction that locks a part of a set of rows, such as
// the rules of one owner, also takes a shared lock on the whole set. If two names have the same hash, they share a lock; the only effect is
// that their transactions wait for each other.
func (postgresEngine) lock(full, part string) (query string, args []any) {
	if part == "" {
		return "SELECT pg_advisory_xact_lock($1)", []any{lockNumber(full)}
	}
	return "SELECT pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock($2)", []any{lockNumber(full), lockNumber(part)}
}

func (postgresEngine) lockOut(ctx context.Context, t *Tx) error {
	var exclusive bool
	if err := t.row(ctx, `SELECT pg_try_advisory_xact_lock(`+users+`)`).Scan(&exclusive); err != nil {
		return err
	}
	if !exclusive {
		return ErrInUse
	}
	return nil
}

// overwrite does nothing: PostgreSQL removes old row versions when VACUUM runs.
func (postgresEngine) overwrite(context.Context, *sql.DB) error { return nil }

// begin queues BEGIN with the isolation level: repeatable read for a read-only transaction; read committed for a change, so a change must
// lock rows that must stay the same between two of its statements.
func (postgresEngine) begin(ctx context.Context, db beginner, t *Tx) error {
	begin := "begin isolation level read committed"
	if t.readOnly {
		begin = "begin isolation level repeatable read read only"
	}
	p, err := newPipe(ctx, db, begin)
	if err == nil {
		p.slow, t.sql, t.end, t.pipe = t.slow, p.conn, p, p
	}
	return err
}

// retryable reports whether an error is a serialization failure or a deadlock.
func (postgresEngine) retryable(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01"
}

// lost reports whether err means that an open session was lost, not that the server rejected a statement or timed out. If a
// connection could not be made, only SQLSTATE 57P01 counts: an administrator ended the session while it started.
func (postgresEngine) lost(err error) bool {
	switch state := sqlState(err); {
	case state == "57P01":
		return true
	case wraps[*pgconn.ConnectError](err):
		return false
	case state != "":
		return strings.HasPrefix(state, "08") || slices.Contains([]string{"57P02", "57P05", "25P03"}, state)
	}
	return !pgconn.Timeout(err) && !errors.Is(err, os.ErrDeadlineExceeded) && lostConnection(err)
}

// room returns an error if the disk is full: the rows of its query exceed work_mem, so that the server writes them to a temporary file.
func (postgresEngine) room(ctx context.Context, t *Tx) error {
	if _, err := t.exec(ctx, `SET LOCAL work_mem = '64kB'`); err != nil {
		return err
	}
	var n int
	return t.row(ctx, `SELECT count(*) FROM generate_series(1, 50000)`).Scan(&n)
}

// bell is an SQL expression for the name of the NOTIFY channel on which the nodes of a schema learn of changes.
const bell = `'qrjump_' || md5(coalesce(current_schema(), ''))`

// writeLast runs insert, updates audit_log_head and notifies the nodes in a single statement, because all writers wait for the
// locked row of audit_log_head; PostgreSQL sends the notification when the transaction commits.
func (postgresEngine) writeLast(ctx context.Context, t *Tx, h head, insert string, args []any) error {
	n := len(args)
	query := fmt.Sprintf(`WITH head AS (UPDATE audit_log_head SET seq = $%d, hash = $%d WHERE id = 1)`, n+1, n+2)
	if insert != "" {
		query += `, queued AS (` + insert + `)`
	}
	query += fmt.Sprintf(` SELECT pg_notify(`+bell+`, $%d)`, n+3)
	// An error of the queued statement is returned by the commit.
	return t.execQueued(ctx, nil, query, append(args, h.seq, h.hash, strconv.FormatInt(h.seq, 10))...)
}
