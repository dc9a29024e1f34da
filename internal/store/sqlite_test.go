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
	// The lock belongs to the open file, so that a second Open in the same process fails too.
	_, err = Open(t.Context(), Target{Dir: dir})
	check(t, "error", fmt.Sprint(err), fmt.Sprintf("the data directory %s %v", dir, ErrFolderInUse))
	addRules(t, s, newRule(t, "wxa", "https://h.example/")) // the first store is still usable
	require.NoError(t, s.Close())
	open(t, Target{Dir: dir})
	unusable := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(unusable, "qrjump.db"), 0o700))
	_, err = Open(t.Context(), Target{Dir: unusable})
	assert.Contains(t, fmt.Sprint(err), "qrjump.db: is a directory", "the error of a database that cannot be opened")
}

// openFolder opens a data directory in another process and prints the error.
func openFolder(ctx context.Context, dir string) error {
	_, err := Open(ctx, Target{Dir: dir})
	fmt.Println("opened:", err)
	return nil
}

func TestDataFolder_RejectsSecondProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, Target{Dir: dir})
	output, err := proctest.Start(t, proctest.Command("open a folder", dir)).End()
	want := fmt.Sprintf("opened: the data directory %s %v\n", dir, ErrFolderInUse)
	assert.True(t, output == want && err == nil, "output of the second process = %q, %v, want %q", output, err, want)
}

func TestDataFolder_SpecialCharacters(t *testing.T) {
	// A path with characters that have a meaning in a file: URL.
	dir := filepath.Join(t.TempDir(), strings.Join([]string{"a b", "50%", "x?y=z", "#1", "扫码", "it's"}, "/"))
	require.NoError(t, os.MkdirAll(dir, 0o700))
	s := open(t, Target{Dir: dir})
	addRules(t, s, newRule(t, "wxa", "https://h.example/"))
	assert.NoError(t, assert.ErrorOf(os.Stat(filepath.Join(dir, "qrjump.db"))))
}

func TestDataFolder_RelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("qrjump-data", 0o700))
	s := open(t, Target{Dir: "./qrjump-data"})
	addRules(t, s, newRule(t, "wxa", "https://h.example/"))
	assert.NoError(t, assert.ErrorOf(os.Stat("qrjump-data/qrjump.db")))
}

func TestDataFolder_Missing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	_, err := Open(t.Context(), Target{Dir: dir})
	assert.True(t, err != nil && strings.Contains(err.Error(), dir), "Open() = %v, want an error with the directory", err)
}

func TestDataFolder_NotDatabaseFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "qrjump.db")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("this is no database\n", 1000)), 0o600))
	_, err := Open(t.Context(), Target{Dir: dir})
	assert.True(t, err != nil && strings.Contains(err.Error(), dir), "Open() = %v, want an error with the directory", err)
	require.NoError(t, os.Remove(file))
	open(t, Target{Dir: dir})
}

// TestSQLite_ConnectionPragmas verifies the settings that make commits durable: see docs/decisions/0001-sqlite-driver.md.
func TestSQLite_ConnectionPragmas(t *testing.T) {
	s := open(t, newEmbedded(t))
	pragma := func(db interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}, name, wanted string) {
		t.Helper()
		var got string
		require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got))
		check(t, name, got, wanted)
	}
	pragma(s.write, "journal_mode", "wal")
	pragma(s.write, "synchronous", "2") // FULL
	pragma(s.write, "foreign_keys", "1")
	check(t, "writers", s.write.Stats().MaxOpenConnections, 1)
	// Every connection of the pool, not only the first.
	for range 8 {
		c := require.Value(s.read.Conn(t.Context()))(t)
		defer c.Close()
		pragma(c, "query_only", "1")
		pragma(c, "journal_mode", "wal")
	}
}

func TestSQLite_ReplacedWriterSettings(t *testing.T) {
	s := open(t, newEmbedded(t))
	// database/sql replaces a broken connection.
	c := require.Value(s.write.Conn(t.Context()))(t)
	c.Raw(func(any) error { return fmt.Errorf("broken: %w", driver.ErrBadConn) })
	c.Close()
	var synchronous int
	require.NoError(t, s.write.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous))
	check(t, "synchronous", synchronous, 2)
}

func TestStatements_NumberedArguments(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		var got string
		view(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.row(ctx, `SELECT CAST($2 AS TEXT) || CAST($1 AS TEXT) || CAST($2 AS TEXT)`, "a", "b").Scan(&got)
		})
		check(t, "text", got, "bab")
	})
}

// TestSQLite_LibcVersionMatchesDriver verifies that modernc.org/libc has the version in go.mod of modernc.org/sqlite, which works with no
// other: see docs/decisions/0001-sqlite-driver.md.
func TestSQLite_LibcVersionMatchesDriver(t *testing.T) {
	module := func(path string) (m struct{ Version, GoMod string }) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-json", path).Output()
		require.NoErrorf(t, err, "go list -m %s", path)
		require.NoError(t, json.Unmarshal(out, &m))
		return m
	}
	text := require.Value(os.ReadFile(module("modernc.org/sqlite").GoMod))(t)
	version := regexp.MustCompile(`(?m)^\s*(?:require\s+)?modernc\.org/libc\s+(v\S+)`).FindSubmatch(text)
	require.True(t, version != nil, "go.mod of the driver does not require modernc.org/libc")
	check(t, "modernc.org/libc", module("modernc.org/libc").Version, string(version[1]))
}
