package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestDataFolder_SecondOpenInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Target{Dir: dir})
	require.NoError(t, err)
	// The lock belongs to the open file, so a second Open meets it like a second process.
	_, err = Open(t.Context(), Target{Dir: dir})
	require.True(t, err != nil, "two have one folder")
	want(t, "error", err.Error(), fmt.Sprintf("the data directory %s is in use by another qrjump process", dir))
	addRules(t, s, aRule(t, "wxa", "https://h.example/")) // the first does not notice
	require.NoError(t, s.Close())
	open(t, Target{Dir: dir})
}

// openFolder is what another process says of a folder.
func openFolder(ctx context.Context, dir string) error {
	_, err := Open(ctx, Target{Dir: dir})
	fmt.Println("opened:", err)
	return nil
}

func TestDataFolder_RejectsSecondProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, Target{Dir: dir})
	said, err := proctest.Start(t, proctest.Command("open a folder", dir)).End()
	want := fmt.Sprintf("opened: the data directory %s is in use by another qrjump process\n", dir)
	assert.True(t, said == want && err == nil, "the second process says %q (%v), want %q", said, err, want)
}

func TestDataFolder_SpecialCharacters(t *testing.T) {
	// A folder name with everything that a file: address could trip over.
	dir := filepath.Join(t.TempDir(), strings.Join([]string{"a b", "50%", "x?y=z", "#1", "扫码", "it's"}, "/"))
	require.NoError(t, os.MkdirAll(dir, 0o700))
	s := open(t, Target{Dir: dir})
	addRules(t, s, aRule(t, "wxa", "https://h.example/"))
	assert.NoError(t, assert.ErrorOf(os.Stat(filepath.Join(dir, "qrjump.db"))))
}

func TestDataFolder_RelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("qrjump-data", 0o700))
	s := open(t, Target{Dir: "./qrjump-data"})
	addRules(t, s, aRule(t, "wxa", "https://h.example/"))
	assert.NoError(t, assert.ErrorOf(os.Stat("qrjump-data/qrjump.db")))
}

func TestDataFolder_Missing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	_, err := Open(t.Context(), Target{Dir: dir})
	assert.True(t, err != nil && strings.Contains(err.Error(), dir), "error: %v", err)
}

func TestDataFolder_NotDatabaseFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "qrjump.db")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("this is no database\n", 1000)), 0o600))
	_, err := Open(t.Context(), Target{Dir: dir})
	assert.True(t, err != nil && strings.Contains(err.Error(), dir), "error: %v", err)
	require.NoError(t, os.Remove(file))
	open(t, Target{Dir: dir})
}

// Durable before it is acknowledged: see docs/decisions/0001-sqlite-driver.md.
func TestSQLite_ConnectionPragmas(t *testing.T) {
	s := open(t, newEmbedded(t))
	pragma := func(db interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}, name, wanted string) {
		t.Helper()
		var got string
		require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got))
		want(t, name, got, wanted)
	}
	pragma(s.write, "journal_mode", "wal")
	pragma(s.write, "synchronous", "2") // FULL
	pragma(s.write, "foreign_keys", "1")
	want(t, "writers", s.write.Stats().MaxOpenConnections, 1)
	// Every connection of the pool, not only the first.
	for range 8 {
		c, err := s.read.Conn(t.Context())
		require.NoError(t, err)
		defer c.Close()
		pragma(c, "query_only", "1")
		pragma(c, "journal_mode", "wal")
	}
}

func TestSQLite_ReplacedWriterSettings(t *testing.T) {
	s := open(t, newEmbedded(t))
	// The life of a broken connection in database/sql.
	c, err := s.write.Conn(t.Context())
	require.NoError(t, err)
	c.Raw(func(any) error { return fmt.Errorf("broken: %w", driver.ErrBadConn) })
	c.Close()
	var synchronous int
	require.NoError(t, s.write.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous))
	want(t, "synchronous", synchronous, 2)
}

func TestStatements_NumberedArguments(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var got string
		view(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.row(ctx, `SELECT CAST($2 AS TEXT) || CAST($1 AS TEXT) || CAST($2 AS TEXT)`, "a", "b").Scan(&got)
		})
		want(t, "text", got, "bab")
	})
}

// modernc.org/sqlite works with exactly the modernc.org/libc that its own go.mod names: see docs/decisions/0001-sqlite-driver.md.
func TestSQLite_LibcVersionMatchesDriver(t *testing.T) {
	module := func(path string) (m struct{ Version, GoMod string }) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-json", path).Output()
		require.NoErrorf(t, err, "go list -m %s", path)
		require.NoError(t, json.Unmarshal(out, &m))
		return m
	}
	text, err := os.ReadFile(module("modernc.org/sqlite").GoMod)
	require.NoError(t, err)
	named := regexp.MustCompile(`(?m)^\s*(?:require\s+)?modernc\.org/libc\s+(v\S+)`).FindSubmatch(text)
	require.True(t, named != nil, "the driver names no modernc.org/libc")
	want(t, "modernc.org/libc", module("modernc.org/libc").Version, string(named[1]))
}
