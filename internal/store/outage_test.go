package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// checkOutage reports an error unless err is an outage with the condition, whose text is one line with the location and the remedy.
func checkOutage(t *testing.T, err error, condition string) {
	t.Helper()
	outage, ok := errors.AsType[*errcode.Unavailable](err)
	require.True(t, ok && outage.Condition == condition, "error = %v, want an outage that %s", err, condition)
	text := err.Error()
	assert.True(t, outage.Do != "" && strings.Contains(outage.Location, ":") && !strings.Contains(text, "\n") &&
		strings.Contains(text, outage.Do), "error = %q, want one line with the location and %q", text, outage.Do)
	code, detail := errcode.FromError(err)
	assert.True(t, code == errcode.SystemError && detail == "", "FromError() = %v, %q, want %v", code, detail, errcode.SystemError)
}

func TestPostgresOutage_ByErrorCode(t *testing.T) {
	e := postgresEngine{path: "db:5432/q"}
	for code, condition := range map[string]string{
		"25006": "is read-only", "53100": "cannot write to its disk", "58030": "cannot write to its disk", "53200": "is out of memory",
		"53300": "has no free connections", "57P01": "ended the session", "57P02": "crashed and ended all sessions",
		"57P03": "does not accept connections yet",
		"55P03": "did not grant a lock in time", "57014": "cancelled a statement", "28P01": "rejects the login of qrjump",
		"3D000": "does not exist", "08006": "closed the connection", "25P03": "terminated a session that was idle",
	} {
		t.Run(code, func(t *testing.T) {
			checkOutage(t, outageOf(e, fmt.Errorf("committing: %w", &pgconn.PgError{Code: code, Message: "two\nlines"})), condition)
		})
	}
	for name, c := range map[string]struct {
		err       error
		condition string
	}{
		"a connection that broke off": {io.ErrUnexpectedEOF, "does not respond"},
		"nothing listens":             {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "does not respond"},
		"a call that took too long":   {context.DeadlineExceeded, "did not answer in time"},
		"a replica":                   {fmt.Errorf("connecting: %w", pgconn.ErrReadOnlyConnection), "is read-only"},
		"a stranger": {&tls.CertificateVerificationError{Err: errors.New("unknown")},
			"has a certificate that is not trusted"},
	} {
		t.Run(name, func(t *testing.T) { checkOutage(t, outageOf(e, c.err), c.condition) })
	}
	for name, err := range map[string]error{
		"a conflict":             &pgconn.PgError{Code: "40001"},
		"a row that there is":    &pgconn.PgError{Code: "23505"},
		"a fault of the program": &pgconn.PgError{Code: "42601"},
		"the caller went away":   context.Canceled,
		"a decision":             errcode.InvalidArgs.WithDetail(0, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			got := outageOf(e, err)
			assert.True(t, got == err, "outageOf(%v) = %v, want the same error", err, got)
		})
	}
}

// connectAdmin opens a connection that does not belong to the store under test.
func connectAdmin(t *testing.T, target Target) *pgx.Conn {
	t.Helper()
	c := require.Value(pgx.Connect(t.Context(), target.URL))(t)
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func mustExecConn(t *testing.T, c *pgx.Conn, query string) {
	t.Helper()
	require.NoErrorf(t, assert.ErrorOf(c.Exec(context.WithoutCancel(t.Context()), query)), "%s", query)
}

// withOption sets a parameter of the URL.
func withOption(target Target, name, value string) Target {
	target.URL = dbtest.WithOption(target.URL, name, value)
	return target
}

func TestPostgresOutage_ReadOnly(t *testing.T) {
	target := newPostgres(t)
	open(t, target)
	s, err := connect(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	// The setting applies to new sessions; the store does not reuse a session that rejects changes.
	dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(target.URL)+` SET default_transaction_read_only = on`)
	s.write.SetMaxIdleConns(0)
	checkOutage(t, s.Ping(t.Context()), "is read-only")
	checkOutage(t, s.update(t.Context(), func(tx *Tx) error { return tx.note(t.Context(), ofMeta, "x", "put", nil) }), "is read-only")
	_, err = Open(t.Context(), withOption(target, "default_transaction_read_only", "on"))
	checkOutage(t, err, "is read-only")
	_, err = Open(t.Context(), withOption(withOption(target, "default_transaction_read_only", "on"), "target_session_attrs", "read-write"))
	checkOutage(t, err, "is read-only")
}

func TestPostgresOutage_TooManyConnections(t *testing.T) {
	target := newPostgres(t)
	c := connectAdmin(t, target)
	role := "few_" + dbtest.Name(target.URL)
	mustExecConn(t, c, `CREATE ROLE `+role+` LOGIN PASSWORD 'p' CONNECTION LIMIT 0`)
	t.Cleanup(func() { mustExecConn(t, c, `DROP ROLE `+role) })
	u, err := url.Parse(target.URL)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "p")
	_, err = connect(t.Context(), Target{URL: u.String()})
	checkOutage(t, err, "has no free connections")
}

func TestPostgresLock_TimeoutFromURL(t *testing.T) {
	target := newPostgres(t)
	var got string
	s := open(t, withOption(target, "lock_timeout", ""))
	require.NoError(t, s.write.QueryRowContext(t.Context(), `SHOW lock_timeout`).Scan(&got))
	check(t, "lock_timeout", got, "10s")
	s = open(t, withOption(target, "lock_timeout", "50ms"))
	held, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.update(t.Context(), func(tx *Tx) error {
			if err := tx.LockAccount(t.Context(), "wxa"); err != nil {
				return err
			}
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	checkOutage(t, s.update(t.Context(), func(tx *Tx) error { return tx.LockAccount(t.Context(), "wxa") }), "did not grant a lock in time")
	// A lock that is requested in a pipelined statement.
	checkOutage(t, s.update(t.Context(), func(tx *Tx) error {
		query, args := tx.engine.lock(allAccounts, "account wxa")
		if err := tx.execQueued(t.Context(), nil, query, args...); err != nil {
			return err
		}
		_, err := tx.rules().Rule(t.Context(), "x")
		return err
	}), "did not grant a lock in time")
	close(release)
	require.NoError(t, <-done)
}

func TestPostgresPool_MaxConnsFromURL(t *testing.T) {
	target := newPostgres(t)
	check(t, "default of pool_max_conns", open(t, target).write.Stats().MaxOpenConnections, 32)
	check(t, "pool_max_conns of the URL", open(t, withOption(target, "pool_max_conns", "7")).write.Stats().MaxOpenConnections, 7)
	for _, text := range []string{"3", "1001", "many", "-1"} {
		_, err := Open(t.Context(), withOption(target, "pool_max_conns", text))
		assert.True(t, err != nil && strings.Contains(err.Error(), "pool_max_conns"), "pool_max_conns=%s: error = %v", text, err)
	}
}

// TestPostgresDial_TLS verifies sslmode and sslrootcert with a TLS proxy whose certificate is signed by itself.
func TestPostgresDial_TLS(t *testing.T) {
	target := newPostgres(t)
	open(t, target)
	url, authority := newTLSProxy(t, target)
	s := open(t, withOption(withOption(url, "sslmode", "verify-ca"), "sslrootcert", authority))
	assert.NoError(t, s.Ping(t.Context()))
	_, otherAuthority := newTLSProxy(t, target)
	for _, mode := range []string{"verify-ca", "verify-full"} {
		_, err := Open(t.Context(), withOption(withOption(url, "sslmode", mode), "sslrootcert", otherAuthority))
		checkOutage(t, err, "has a certificate that is not trusted")
	}
	// The certificate is for another host.
	_, err := Open(t.Context(), withOption(withOption(url, "sslmode", "verify-full"), "sslrootcert", authority))
	checkOutage(t, err, "has a certificate that is not trusted")
	// The server does not support TLS.
	_, err = Open(t.Context(), withOption(target, "sslmode", "require"))
	assert.True(t, err != nil, "Open() with sslmode=require succeeds on a connection without TLS")
}

// newTLSProxy starts a proxy that accepts TLS connections for a server.
func newTLSProxy(t *testing.T, target Target) (tlsTarget Target, authority string) {
	t.Helper()
	key := require.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db.example"},
		DNSNames:  []string{"db.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der := require.Value(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	authority = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	w := dbtest.NewWire(t, target.URL, func(c net.Conn) (net.Conn, error) {
		// The client sends an SSLRequest first.
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			return nil, err
		}
		if _, err := c.Write([]byte("S")); err != nil {
			return nil, err
		}
		return tls.Server(c, config), nil
	})
	return Target{URL: w.URL}, authority
}
