package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// The descriptions of a database outage that operators read in errors and at /readyz, as in "database NAME is read-only".
const (
	readOnlyDatabase   = "is read-only"
	silentDatabase     = "does not respond"
	fullDatabase       = "has a full disk"
	unwritableDatabase = "cannot write to its disk"
	brokenDatabase     = "cannot be read or written"
	lockedDatabase     = "did not grant a lock in time"
	lateDatabase       = "did not answer in time"
	stoppedDatabase    = "ended the session"
	crashedDatabase    = "crashed and ended all sessions"
	startingDatabase   = "does not accept connections yet"
	brokenConnection   = "closed the connection"
	crowdedDatabase    = "has no free connections"
	oldDatabase        = "is an old primary"
	tiedDatabase       = "has two servers that accept writes"
)

// Causes lists the reasons for which changes fail, as label values of a metric.
var Causes = []string{"away", "late", "lock", "disk", "read_only", "primaries", "connections", "other"}

func causeOf(kind string) string {
	switch kind {
	case silentDatabase, stoppedDatabase, crashedDatabase, startingDatabase, brokenConnection:
		return "away"
	case lateDatabase:
		return "late"
	case lockedDatabase:
		return "lock"
	case fullDatabase, unwritableDatabase, brokenDatabase:
		return "disk"
	case readOnlyDatabase:
		return "read_only"
	case crowdedDatabase:
		return "connections"
	}
	if strings.HasPrefix(kind, oldDatabase) || strings.HasPrefix(kind, tiedDatabase) {
		return "primaries"
	}
	return "other"
}

// errReadOnly reports that the database is read-only, according to its response to a query.
var errReadOnly = errors.New("the database rejects writes")

// outage wraps an error of an unavailable database in an *errcode.Unavailable with advice for the operator, and returns all other
// errors unchanged.
func (s *Store) outage(err error) error { return outageOf(s.engine, err) }

func outageOf(e engine, err error) error {
	if err == nil {
		return nil
	}
	if wraps[*errcode.Unavailable](err) {
		return err
	}
	return e.outage(err)
}

// wraps reports whether err wraps an error of type E.
func wraps[E error](err error) bool {
	_, found := errors.AsType[E](err)
	return found
}

// sqlState returns the SQLSTATE with which PostgreSQL rejected a statement or connection; "" = err is no answer of a server.
func sqlState(err error) string {
	if refused, is := errors.AsType[*pgconn.PgError](err); is {
		return refused.Code
	}
	return ""
}

// outage classifies errors of PostgreSQL by their SQLSTATE.
func (e postgresEngine) outage(err error) error {
	unavailable := func(what, do string) error {
		if what == "" {
			return err
		}
		return &errcode.Unavailable{Location: "database " + e.path, Condition: what, Do: do, Err: err}
	}
	if old, is := errors.AsType[*oldPrimaryError](err); is {
		return unavailable(old.advice(),
			"stop one of the servers and make it a replica of the other; nodes reconnect when they reach the remaining primary")
	}
	switch state := sqlState(err); {
	case state != "":
		return unavailable(refusal(state))
	case errors.Is(err, errReadOnly), errors.Is(err, pgconn.ErrReadOnlyConnection), errors.Is(err, pgconn.ErrStandbyConnection):
		return unavailable(refusal("25006"))
	case errors.Is(err, context.Canceled):
		return err // the client disconnected
	case errors.Is(err, context.DeadlineExceeded):
		return unavailable(lateDatabase, "check whether it waits for a lock, its disk, or a replica that must confirm commits")
	case untrusted(err):
		return unavailable("has a certificate that is not trusted",
			"set sslrootcert=FILE in the URL to its CA certificate; sslmode=verify-full requires the host name in the certificate")
	case lostConnection(err):
		return unavailable(silentDatabase, "check that it is running and reachable from here; nodes reconnect automatically")
	}
	return err
}

// refusal describes the outage that a SQLSTATE indicates, and what an operator can do; both are "" if there is no outage.
func refusal(code string) (what, do string) {
	switch code {
	case "25006":
		return readOnlyDatabase,
			"it is a replica or configured as read-only: add the primary and target_session_attrs=read-write to the URL, or turn off " +
				"default_transaction_read_only"
	case "57P01":
		return stoppedDatabase, "it is stopping, or an administrator terminated the session; nodes reconnect automatically"
	case "57P02":
		return crashedDatabase, "the log of PostgreSQL says why; nodes reconnect automatically"
	case "57P03":
		return startingDatabase, "it is starting, recovering or stopping; nodes reconnect automatically"
	case "25P03", "57P05":
		return "terminated a session that was idle",
			"a node stopped responding during a transaction (a paused machine?); it recovers automatically"
	case "53300":
		return crowdedDatabase, "raise max_connections (or the limit of the role), or give each node fewer: pool_max_conns=… in the URL"
	case "53100", "58030":
		return unwritableDatabase, "free disk space, or repair the disk; see the log of PostgreSQL"
	case "53200":
		return "is out of memory", "give it more memory, or lower its memory settings"
	case "55P03":
		return lockedDatabase,
			"find a long transaction in pg_stat_activity and terminate it; lock_timeout=… in the URL sets the maximum wait"
	case "57014":
		return "cancelled a statement",
			"an administrator called pg_cancel_backend, or the role or the database has a statement_timeout: set it to 0"
	case "28000", "28P01":
		return "rejects the login of qrjump", "check user and password of the URL and pg_hba.conf"
	case "3D000":
		return "does not exist", "create it with createdb, or correct the URL"
	case "42501":
		return "denied permission to the role", "grant the role access to the tables, or run this step as their owner"
	case "42704":
		return "does not recognize a setting of the URL", "correct the URL"
	}
	if strings.HasPrefix(code, "08") {
		return brokenConnection, "check that it is running and reachable from here"
	}
	return "", ""
}

// lostConnection reports whether err means that the connection to the database server was lost or could not be made.
func lostConnection(err error) bool {
	return wraps[*pgconn.ConnectError](err) || wraps[net.Error](err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) ||
		pgconn.SafeToRetry(err)
}

// untrusted reports whether the server failed to prove its identity (TLS).
func untrusted(err error) bool {
	return wraps[*tls.CertificateVerificationError](err) || wraps[x509.UnknownAuthorityError](err) ||
		wraps[x509.CertificateInvalidError](err) || wraps[x509.HostnameError](err)
}

// outage classifies errors of SQLite by their result code.
func (e sqliteEngine) outage(err error) error {
	fault, is := errors.AsType[*sqlite.Error](err)
	if !is {
		return err
	}
	u := &errcode.Unavailable{Location: "the database in " + e.dir, Err: err}
	switch fault.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		u.Condition, u.Do = fullDatabase, "free disk space; no restart is needed"
	case sqlite3.SQLITE_READONLY:
		u.Condition, u.Do = readOnlyDatabase, "make the folder and its files writable for this user"
	case sqlite3.SQLITE_IOERR:
		u.Condition, u.Do = brokenDatabase, "check the disk and the system log"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		u.Condition, u.Do = "is corrupted", "stop the server, keep a copy of the folder, and restore an export"
	default:
		return err
	}
	return u
}
