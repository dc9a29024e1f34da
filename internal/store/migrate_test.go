package store

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestMigration_DoesNotBlockWriters migrates while a transaction of another node holds a lock that the migration needs. Changes of other
// nodes do not wait, and the migration ends after the transaction.
func TestMigration_DoesNotBlockWriters(t *testing.T) {
	// The migrations and another one, which creates an index of the rules and drops another.
	files := fstest.MapFS{}
	names := require.Value(fs.Glob(Migrations, "migrations/*.sql"))(t)
	for _, name := range names {
		text := require.Value(fs.ReadFile(Migrations, name))(t)
		files[name] = &fstest.MapFile{Data: text}
	}
	files["migrations/99999_one_more.sql"] = &fstest.MapFile{Data: []byte(`-- +goose Up
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
			s := require.Value(connect(t.Context(), newEmptyPostgres(t)))(t)
			t.Cleanup(func() { s.Close() })
			require.NoError(t, s.migrateTo(t.Context(), NewestSchema()))
			writer := require.Value(s.write.BeginTx(t.Context(), nil))(t)
			defer writer.Rollback()
			require.NoError(t, assert.ErrorOf(writer.ExecContext(t.Context(), held)))
			messages, done := make(chan string, 1000), make(chan error, 1)
			s.migration.files, s.migration.patience = files, 20*time.Millisecond
			s.migration.waits = func(message string, until time.Time) { messages <- message }
			go func() { done <- s.migrateTo(context.WithoutCancel(t.Context()), 99999) }()
			for range 3 { // the migration retries
				select {
				case message := <-messages:
					assert.Contains(t, message, "has the oldest transaction, open since 20", "message of a migration that waits")
				case err := <-done:
					t.Fatalf("migrateTo() = %v, want it to wait", err)
				}
			}
			// A change of another node waits for the migration for at most its short lock timeout.
			_, err := s.write.ExecContext(t.Context(), `UPDATE rules SET id = id WHERE id = 0`)
			assert.NoErrorf(t, err, "a change during the migration")
			_, err = writer.ExecContext(t.Context(), `UPDATE rules SET id = id WHERE id = 0`)
			assert.NoErrorf(t, err, "a change in the transaction for which the migration waits")
			require.NoError(t, writer.Commit())
			require.NoError(t, <-done)
		})
	}
}
