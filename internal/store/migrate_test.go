package store

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A transaction of another node holds what a migration needs. Changes that come meanwhile go on, and the migration is done when that
// transaction ends.
func TestMigration_DoesNotBlockWriters(t *testing.T) {
	// The program's migrations and one more, which makes an index of the rules and drops another.
	more := fstest.MapFS{}
	names, err := fs.Glob(Migrations, "migrations/*.sql")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(Migrations, name)
		require.NoError(t, err)
		more[name] = &fstest.MapFile{Data: text}
	}
	more["migrations/99999_one_more.sql"] = &fstest.MapFile{Data: []byte(`-- +goose Up
-- postgres strongest lock: LOCK TABLE rules IN ACCESS EXCLUSIVE MODE;
CREATE INDEX idx_rules_created_at_id ON rules (created_at, id);
DROP INDEX idx_rules_target_id;
`)}
	for name, held := range map[string]string{
		"a reader that will write": `SELECT COUNT(*) FROM rules`,
		"a writer":                 `LOCK TABLE rules IN ROW EXCLUSIVE MODE`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := connect(t.Context(), emptyPostgres(t))
			require.NoError(t, err)
			t.Cleanup(func() { s.Close() })
			require.NoError(t, s.migrateTo(t.Context(), NewestSchema()))
			other, err := s.write.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer other.Rollback()
			require.NoError(t, assert.ErrorOf(other.ExecContext(t.Context(), held)))
			said, done := make(chan string, 1000), make(chan error, 1)
			s.migration.files, s.migration.patience = more, 20*time.Millisecond
			s.migration.waits = func(what string, until time.Time) { said <- what }
			go func() { done <- s.migrateTo(context.WithoutCancel(t.Context()), 99999) }()
			for range 3 { // it tries more than once
				select {
				case what := <-said:
					assert.True(t, strings.Contains(what, "has the oldest transaction, open since 20"), "it says %q", what)
				case err := <-done:
					t.Fatalf("it did not wait: %v", err)
				}
			}
			// Another node's change stands behind the migration for a moment at most.
			_, err = s.write.ExecContext(t.Context(), `UPDATE rules SET id = id WHERE id = 0`)
			assert.NoErrorf(t, err, "a change beside it")
			_, err = other.ExecContext(t.Context(), `UPDATE rules SET id = id WHERE id = 0`)
			assert.NoErrorf(t, err, "the transaction that it waits for")
			require.NoError(t, other.Commit())
			require.NoError(t, <-done)
		})
	}
}
