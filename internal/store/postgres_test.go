package store

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestDatabaseURL_InvalidHidesPassword(t *testing.T) {
	for name, text := range map[string]string{
		"an invalid port":     "postgres://qrjump:hunter2@localhost:x/db",
		"an invalid option":   "postgres://qrjump:hunter2@localhost:1/db?sslmode=hunter2",
		"another scheme":      "mysql://qrjump:hunter2@localhost/db",
		"an unreachable host": "postgres://qrjump:hunter2@127.0.0.1:1/db?connect_timeout=2",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), Target{URL: text})
			assert.True(t, err != nil && !strings.Contains(err.Error(), "hunter2"), "Open() = %v, want an error without the password", err)
		})
	}
}

func TestDatabaseURL_WrongPasswordHidden(t *testing.T) {
	u, err := url.Parse(newEmptyPostgres(t).URL)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "hunter2")
	_, err = Open(t.Context(), Target{URL: u.String()})
	assert.True(t, err != nil && !strings.Contains(err.Error(), "hunter2"), "Open() = %v, want an error without the password", err)
}

func TestPostgres_SynchronousCommit(t *testing.T) {
	s := open(t, newEmptyPostgres(t))
	var got string
	require.NoError(t, s.write.QueryRowContext(t.Context(), `SHOW synchronous_commit`).Scan(&got))
	check(t, "synchronous_commit", got, "on")
}

func TestPostgres_CurrentSchemaWithoutDDLRights(t *testing.T) {
	target := newEmptyPostgres(t)
	s := open(t, target)
	u := require.Value(url.Parse(target.URL))(t)
	schema := u.Query().Get("search_path")
	role := "app_" + dbtest.Name(target.URL) + schema
	for _, query := range []string{
		`CREATE ROLE ` + role + ` LOGIN PASSWORD 'p'`,
		`GRANT USAGE ON SCHEMA ` + schema + ` TO ` + role,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + schema + ` TO ` + role,
	} {
		mustExec(t, s, query)
	}
	t.Cleanup(func() {
		for _, query := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			assert.NoError(t, assert.ErrorOf(s.write.ExecContext(context.Background(), query)))
		}
	})
	u.User = url.UserPassword(role, "p")
	addRules(t, open(t, Target{URL: u.String()}), newRule(t, "wxa", "https://h.example/"))
}

func TestPing_OpenAndClosed(t *testing.T) {
	forEachEmptyDatabase(t, func(t *testing.T, target Target) {
		s := require.Value(Open(t.Context(), target))(t)
		assert.NoError(t, s.Ping(t.Context()))
		assert.NoError(t, s.Close())
		assert.True(t, s.Ping(t.Context()) != nil, "Ping() of a closed store = nil, want an error")
	})
}

// TestOpen_PgBouncer opens a database through PgBouncer with its default settings, and with settings that it must ignore for a connection.
func TestOpen_PgBouncer(t *testing.T) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not installed")
	}
	behind := require.Value(url.Parse(dbtest.Database(t)))(t)
	password, _ := behind.User.Password()
	for _, mode := range []string{"session", "transaction", "statement"} {
		for _, ignored := range []string{"", "ignore_startup_parameters = extra_float_digits, lock_timeout, statement_timeout, " +
			"synchronous_commit, idle_in_transaction_session_timeout, tcp_user_timeout, tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count\n"} {
			t.Run(fmt.Sprintf("%s, ignores %v", mode, ignored != ""), func(t *testing.T) {
				free := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
				_, port, _ := net.SplitHostPort(free.Addr().String())
				free.Close()
				file := filepath.Join(t.TempDir(), "pgbouncer.ini")
				config := fmt.Sprintf("[databases]\npooled = host=%s port=%s dbname=%s user=%s password=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"+
					"listen_port = %s\nunix_socket_dir =\nauth_type = any\nuser = nobody\npool_mode = %s\n%s", behind.Hostname(),
					behind.Port(),
					strings.TrimPrefix(behind.Path, "/"), behind.User.Username(), password, port, mode, ignored)
				require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
				pooler := exec.CommandContext(t.Context(), program, file)
				output, err := pooler.StderrPipe()
				if err == nil {
					err = pooler.Start()
				}
				require.NoError(t, err)
				var log strings.Builder
				for b := make([]byte, 4096); !strings.Contains(log.String(), "process up"); {
					n, err := output.Read(b)
					log.Write(b[:n])
					require.True(t, err == nil, "pgbouncer ended: %s", log.String())
				}
				_, err = Open(t.Context(), Target{URL: "postgres://any@127.0.0.1:" + port + "/pooled?sslmode=disable"})
				want := "database 127.0.0.1:" + port + "/pooled: the connection goes through a connection pooler: connect to PostgreSQL " +
					"directly"
				assert.True(t, err != nil && err.Error() == want, "Open() = %v, want %s", err, want)
			})
		}
	}
}

// TestOpen_MissingFile verifies the error for a URL with a file that does not exist.
func TestOpen_MissingFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "ca.pem")
	address := "postgres://u:secret@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=" + url.QueryEscape(missing)
	_, err := Open(t.Context(), Target{URL: address})
	want := "database: sslrootcert of the URL names a file that cannot be read: open " + missing + ": no such file or directory"
	assert.True(t, err != nil && err.Error() == want, "Open() = %v, want %s", err, want)
}
