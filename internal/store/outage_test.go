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

// wantOutage wants one line that says what happened, where, and what to do.
func wantOutage(t *testing.T, err error, what string) {
	t.Helper()
	out, is := errors.AsType[*errcode.Unavailable](err)
	require.True(t, is && out.Condition == what, "got %v, want an outage that %s", err, what)
	text := err.Error()
	assert.True(t, out.Do != "" && strings.Contains(out.Location, ":") && !strings.Contains(text, "\n") && strings.Contains(text, out.Do),
		"it says %q", text)
	code, detail := errcode.FromError(err)
	assert.True(t, code == errcode.SystemError && detail == "", "on the wire it is %v %q", code, detail)
}

func TestPostgresOutage_ByErrorCode(t *testing.T) {
	e := postgresEngine{path: "db:5432/q"}
	for code, what := range map[string]string{
		"25006": "is read-only", "53100": "cannot write to its disk", "58030": "cannot write to its disk", "53200": "is out of memory",
		"53300": "has no free connections", "57P01": "ended the session", "57P02": "crashed and ended all sessions",
		"57P03": "does not accept connections yet",
		"55P03": "did not grant a lock in time", "57014": "cancelled a statement", "28P01": "rejects the login of qrjump",
		"3D000": "does not exist", "08006": "closed the connection", "25P03": "terminated a session that was idle",
	} {
		t.Run(code, func(t *testing.T) {
			wantOutage(t, outageOf(e, fmt.Errorf("committing: %w", &pgconn.PgError{Code: code, Message: "two\nlines"})), what)
		})
	}
	for name, c := range map[string]struct {
		err  error
		what string
	}{
		"a connection that broke off": {io.ErrUnexpectedEOF, "does not respond"},
		"nothing listens":             {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "does not respond"},
		"a call that took too long":   {context.DeadlineExceeded, "did not answer in time"},
		"a replica":                   {fmt.Errorf("connecting: %w", pgconn.ErrReadOnlyConnection), "is read-only"},
		"a stranger": {&tls.CertificateVerificationError{Err: errors.New("unknown")},
			"has a certificate that is not trusted"},
	} {
		t.Run(name, func(t *testing.T) { wantOutage(t, outageOf(e, c.err), c.what) })
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
			assert.True(t, got == err, "got %v", got)
		})
	}
}

// admin works beside the store under test, as an operator does.
func admin(t *testing.T, target Target) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), target.URL)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func mustDo(t *testing.T, c *pgx.Conn, query string) {
	t.Helper()
	require.NoErrorf(t, assert.ErrorOf(c.Exec(context.WithoutCancel(t.Context()), query)), "%s", query)
}

// with sets a parameter of a URL.
func with(t *testing.T, target Target, name, value string) Target {
	target.URL = dbtest.WithOption(target.URL, name, value)
	return target
}

func TestPostgresOutage_ReadOnly(t *testing.T) {
	target := newPostgres(t)
	open(t, target) // makes the tables
	s, err := connect(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	// Of all sessions that begin from now on: one that refuses changes is used once.
	dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(target.URL)+` SET default_transaction_read_only = on`)
	s.write.SetMaxIdleConns(0)
	wantOutage(t, s.Ping(t.Context()), "is read-only")
	wantOutage(t, s.update(t.Context(), func(tx *Tx) error { return tx.note(t.Context(), ofMeta, "x", "put", nil) }), "is read-only")
	_, err = Open(t.Context(), with(t, target, "default_transaction_read_only", "on"))
	wantOutage(t, err, "is read-only")
	_, err = Open(t.Context(), with(t, with(t, target, "default_transaction_read_only", "on"), "target_session_attrs", "read-write"))
	wantOutage(t, err, "is read-only")
}

func TestPostgresOutage_TooManyConnections(t *testing.T) {
	target := newPostgres(t)
	c := admin(t, target)
	role := "few_" + dbtest.Name(target.URL)
	mustDo(t, c, `CREATE ROLE `+role+` LOGIN PASSWORD 'p' CONNECTION LIMIT 0`)
	t.Cleanup(func() { mustDo(t, c, `DROP ROLE `+role) })
	u, err := url.Parse(target.URL)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "p")
	_, err = connect(t.Context(), Target{URL: u.String()})
	wantOutage(t, err, "has no free connections")
}

func TestPostgresLock_TimeoutFromURL(t *testing.T) {
	target := newPostgres(t)
	var got string
	s := open(t, with(t, target, "lock_timeout", ""))
	require.NoError(t, s.write.QueryRowContext(t.Context(), `SHOW lock_timeout`).Scan(&got))
	want(t, "lock_timeout", got, "10s")
	s = open(t, with(t, target, "lock_timeout", "50ms"))
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
	wantOutage(t, s.update(t.Context(), func(tx *Tx) error { return tx.LockAccount(t.Context(), "wxa") }), "did not grant a lock in time")
	// Also one that was not waited for at once.
	wantOutage(t, s.update(t.Context(), func(tx *Tx) error {
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
	want(t, "without a word", open(t, target).write.Stats().MaxOpenConnections, 32)
	want(t, "as the URL says", open(t, with(t, target, "pool_max_conns", "7")).write.Stats().MaxOpenConnections, 7)
	for _, text := range []string{"3", "1001", "many", "-1"} {
		_, err := Open(t.Context(), with(t, target, "pool_max_conns", text))
		assert.True(t, err != nil && strings.Contains(err.Error(), "pool_max_conns"), "%s: %v", text, err)
	}
}

// TLS as the URL says it: a server that shows a certificate of an authority of its own, before the one of the test.
func TestPostgresDial_TLS(t *testing.T) {
	target := newPostgres(t)
	open(t, target)
	url, authority := withTLS(t, target)
	s := open(t, with(t, with(t, url, "sslmode", "verify-ca"), "sslrootcert", authority))
	assert.NoError(t, s.Ping(t.Context()))
	_, stranger := withTLS(t, target)
	for _, mode := range []string{"verify-ca", "verify-full"} {
		_, err := Open(t.Context(), with(t, with(t, url, "sslmode", mode), "sslrootcert", stranger))
		wantOutage(t, err, "has a certificate that is not trusted")
	}
	// The certificate names another host.
	_, err := Open(t.Context(), with(t, with(t, url, "sslmode", "verify-full"), "sslrootcert", authority))
	wantOutage(t, err, "has a certificate that is not trusted")
	// The server of the test speaks no TLS.
	_, err = Open(t.Context(), with(t, target, "sslmode", "require"))
	assert.True(t, err != nil, "a connection without TLS passed as one with it")
}

// withTLS puts TLS before a server.
func withTLS(t *testing.T, target Target) (tlsTarget Target, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db.example"},
		DNSNames:  []string{"db.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	authority = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	w := dbtest.NewWire(t, target.URL, func(c net.Conn) (net.Conn, error) {
		// The client asks for TLS before it begins.
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
