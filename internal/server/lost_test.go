package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// fileNames returns the names of the files in a directory.
func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	list := require.Value(os.ReadDir(dir))(t)
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

// TestStart_RejectsMissingSQLiteFile verifies that a start does not create a new embedded database if qrjump.db is missing or empty in a
// used data directory, whichever other files remain.
func TestStart_RejectsMissingSQLiteFile(t *testing.T) {
	t.Parallel()
	p := newSQLite(t)
	o := servertest.Options{Seed: brand}
	s := p.start(t, o)
	batch := applyForCodes(t, s, s.Token("svc"), "order-1", 10_000)
	_, text, body := lookupCode(t, s, batch, 7)
	s.Stop()
	file := filepath.Join(p.data, "qrjump.db")
	wantRejected := func(state string) {
		t.Helper()
		before := fileNames(t, p.data)
		_, err := p.tryStart(t, o)
		assert.True(t, err != nil && errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "qrjump.db is missing or empty") &&
			strings.Contains(err.Error(), "restore qrjump.db") && !strings.Contains(err.Error(), "\n"), "%s: %v", state, err)
		after := fileNames(t, p.data)
		assert.True(t, slices.Equal(before, after), "%s: the folder had %v and has %v", state, before, after)
	}
	move := func(from, to string) {
		t.Helper()
		require.NoError(t, os.Rename(from, to))
	}
	saved := file + ".kept"
	move(file, saved)
	wantRejected("it is missing")
	wantRejected("and the second time")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := p.tryStart(t, o)
	assert.True(t, err != nil && strings.Contains(err.Error(), "is missing or empty"), "an empty file: %v", err)
	require.NoError(t, os.Remove(file))
	// A partial copy of the directory may lack these files as well.
	for _, name := range []string{"database", "clock", "rules.snapshot"} {
		err := os.Remove(filepath.Join(p.data, name))
		require.True(t, err == nil || os.IsNotExist(err), "%v", err)
		wantRejected("without " + name)
	}
	move(saved, file)
	s = p.start(t, o)
	_, restoredText, restoredBody := lookupCode(t, s, batch, 7)
	assert.True(t, restoredText == text && restoredBody == body, "code 7 after qrjump.db was restored = %s, want %s", restoredBody, body)
	s.Stop()
	// A new directory may contain the secrets before the first start.
	newDir := newSQLite(t)
	require.NoError(t, os.MkdirAll(newDir.data, 0o700))
	for name, text := range map[string]string{"master.key": strings.Repeat("5a", 32), "admin-token": "a-token-of-24-characters"} {
		require.NoError(t, os.WriteFile(filepath.Join(newDir.data, name), []byte(text+"\n"), 0o600))
	}
	newDir.start(t, o).Stop()
	newDir.start(t, o).Stop()
}

// TestStart_RejectsOmittedDatabaseFlag verifies that a server on PostgreSQL does not start without --database.
func TestStart_RejectsOmittedDatabaseFlag(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	p.start(t, servertest.Options{Seed: brand}).Stop()
	_, err := (instance{data: p.data}).tryStart(t, servertest.Options{})
	assert.True(t, err != nil && strings.Contains(err.Error(), "give --database"), "start = %v, want \"give --database\"", err)
	p.start(t, servertest.Options{}).Stop()
}

// TestDatabaseFile_OwnerOnlyMode verifies that the database files have mode 0600, whatever mode the directory or an existing file has.
func TestDatabaseFile_OwnerOnlyMode(t *testing.T) {
	t.Parallel()
	p := newSQLite(t)
	require.NoError(t, os.Mkdir(p.data, 0o755))
	require.NoError(t, os.Chmod(p.data, 0o777))
	checkModes := func(state string) {
		t.Helper()
		found := 0
		for _, name := range fileNames(t, p.data) {
			if !strings.HasPrefix(name, "qrjump.db") {
				continue
			}
			found++
			info := require.Value(os.Stat(filepath.Join(p.data, name)))(t)
			assert.Equal(t, info.Mode().Perm(), 0o600, "%s: %s", state, name)
		}
		assert.True(t, found >= 2, "%s: %d database files in %v, want at least 2", state, found, fileNames(t, p.data))
	}
	s := p.start(t, servertest.Options{Seed: brand})
	checkModes("new")
	s.Stop()
	require.NoError(t, os.Chmod(filepath.Join(p.data, "qrjump.db"), 0o666))
	s = p.start(t, servertest.Options{Seed: brand})
	checkModes("with other rights")
	s.Stop()
}
