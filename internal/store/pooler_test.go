package store

import (
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

// TestOpen_PgBouncer opens a database through the real PgBouncer, with the settings that it lets through and as it is installed.
func TestOpen_PgBouncer(t *testing.T) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not installed")
	}
	behind, err := url.Parse(dbtest.Database(t))
	require.NoError(t, err)
	password, _ := behind.User.Password()
	for _, mode := range []string{"session", "transaction", "statement"} {
		for _, ignored := range []string{"", "ignore_startup_parameters = extra_float_digits, lock_timeout, statement_timeout, " +
			"synchronous_commit, idle_in_transaction_session_timeout, tcp_user_timeout, tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count\n"} {
			t.Run(fmt.Sprintf("%s, ignores %v", mode, ignored != ""), func(t *testing.T) {
				free, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				_, port, _ := net.SplitHostPort(free.Addr().String())
				free.Close()
				file := filepath.Join(t.TempDir(), "pgbouncer.ini")
				config := fmt.Sprintf("[databases]\npooled = host=%s port=%s dbname=%s user=%s password=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"+
					"listen_port = %s\nunix_socket_dir =\nauth_type = any\nuser = nobody\npool_mode = %s\n%s", behind.Hostname(), behind.Port(),
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
				want := "database 127.0.0.1:" + port + "/pooled: a connection pooler is in front of PostgreSQL: connect directly"
				assert.True(t, err != nil && err.Error() == want, "Open() = %v, want %s", err, want)
			})
		}
	}
}

// TestOpen_MissingFile names files of a URL that are not there.
func TestOpen_MissingFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "ca.pem")
	_, err := Open(t.Context(), Target{URL: "postgres://u:secret@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=" + url.QueryEscape(missing)})
	want := "database: sslrootcert of the URL names a file that cannot be read: open " + missing + ": no such file or directory"
	assert.True(t, err != nil && err.Error() == want, "Open() = %v, want %s", err, want)
}
