package store

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestDatabaseURL_InvalidHidesPassword(t *testing.T) {
	for name, text := range map[string]string{
		"a port that is none":    "postgres://qrjump:hunter2@localhost:x/db",
		"an option that is none": "postgres://qrjump:hunter2@localhost:1/db?sslmode=hunter2",
		"another scheme":         "mysql://qrjump:hunter2@localhost/db",
		"no answer":              "postgres://qrjump:hunter2@127.0.0.1:1/db?connect_timeout=2",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), Target{URL: text})
			assert.True(t, err != nil && !strings.Contains(err.Error(), "hunter2"), "error: %v", err)
		})
	}
}

func TestDatabaseURL_WrongPasswordHidden(t *testing.T) {
	u, err := url.Parse(emptyPostgres(t).URL)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "hunter2")
	_, err = Open(t.Context(), Target{URL: u.String()})
	assert.True(t, err != nil && !strings.Contains(err.Error(), "hunter2"), "error: %v", err)
}

func TestPostgres_SynchronousCommit(t *testing.T) {
	s := open(t, emptyPostgres(t))
	var got string
	require.NoError(t, s.write.QueryRowContext(t.Context(), `SHOW synchronous_commit`).Scan(&got))
	want(t, "synchronous_commit", got, "on")
}

func TestPostgres_CurrentSchemaWithoutDDLRights(t *testing.T) {
	target := emptyPostgres(t)
	s := open(t, target)
	u, err := url.Parse(target.URL)
	require.NoError(t, err)
	schema := u.Query().Get("search_path")
	role := "app_" + dbtest.Name(target.URL) + schema
	for _, query := range []string{
		`CREATE ROLE ` + role + ` LOGIN PASSWORD 'p'`,
		`GRANT USAGE ON SCHEMA ` + schema + ` TO ` + role,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + schema + ` TO ` + role,
	} {
		require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), query)))
	}
	t.Cleanup(func() {
		for _, query := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			assert.NoError(t, assert.ErrorOf(s.write.ExecContext(context.Background(), query)))
		}
	})
	u.User = url.UserPassword(role, "p")
	addRules(t, open(t, Target{URL: u.String()}), aRule(t, "wxa", "https://h.example/"))
}

func TestPing_OpenAndClosed(t *testing.T) {
	eachTarget(t, func(t *testing.T, target Target) {
		s, err := Open(t.Context(), target)
		require.NoError(t, err)
		assert.NoError(t, s.Ping(t.Context()))
		assert.NoError(t, s.Close())
		assert.True(t, s.Ping(t.Context()) != nil, "a closed database answers")
	})
}
