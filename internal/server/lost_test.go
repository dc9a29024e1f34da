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

// names are the files of a folder.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range list {
		all = append(all, f.Name())
	}
	return all
}

// Issue 12, 7: where the file of the embedded database is gone and everything
// else is there, no new one takes its place, whatever is left to tell it by.
func TestStart_RejectsMissingSQLiteFile(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	o := servertest.Options{Seed: brand}
	s := p.start(t, o)
	batch := apply(t, s, s.Token("svc"), "order-1", 10_000)
	_, text, whole := look(t, s, batch, 7)
	s.Stop()
	file := filepath.Join(p.data, "qrjump.db")
	refused := func(why string) {
		t.Helper()
		before := names(t, p.data)
		_, err := p.try(t, o)
		assert.True(t, err != nil && errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "qrjump.db is missing or empty") &&
			strings.Contains(err.Error(), "restore qrjump.db") && !strings.Contains(err.Error(), "\n"), "%s: %v", why, err)
		after := names(t, p.data)
		assert.True(t, slices.Equal(before, after), "%s: the folder had %v and has %v", why, before, after)
	}
	move := func(from, to string) {
		t.Helper()
		require.NoError(t, os.Rename(from, to))
	}
	kept := file + ".kept"
	move(file, kept)
	refused("it is missing")
	refused("and the second time")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := p.try(t, o)
	assert.True(t, err != nil && strings.Contains(err.Error(), "is missing or empty"), "an empty file: %v", err)
	require.NoError(t, os.Remove(file))
	// A copy of a part of the folder knows less.
	for _, mark := range []string{"database", "clock", "rules.snapshot"} {
		err := os.Remove(filepath.Join(p.data, mark))
		require.True(t, err == nil || os.IsNotExist(err), "%v", err)
		refused("without " + mark)
	}
	move(kept, file)
	s = p.start(t, o)
	_, again, now := look(t, s, batch, 7)
	assert.True(t, again == text && now == whole, "put back, it says %s", now)
	s.Stop()
	// A new folder may have its secrets already.
	fresh := onSQLite(t)
	require.NoError(t, os.MkdirAll(fresh.data, 0o700))
	for name, text := range map[string]string{"master.key": strings.Repeat("5a", 32), "admin-token": "a-token-of-24-characters"} {
		require.NoError(t, os.WriteFile(filepath.Join(fresh.data, name), []byte(text+"\n"), 0o600))
	}
	fresh.start(t, o).Stop()
	fresh.start(t, o).Stop()
}

// Issue 12, 7: a folder that works with PostgreSQL makes no embedded database beside it because --database was forgotten.
func TestStart_RejectsOmittedDatabaseFlag(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	p.start(t, servertest.Options{Seed: brand}).Stop()
	_, err := (place{data: p.data}).try(t, servertest.Options{})
	assert.True(t, err != nil && strings.Contains(err.Error(), "give --database"), "%v", err)
	p.start(t, servertest.Options{}).Stop()
}

// Issue 12, 10: the database is its owner's alone, whatever the folder is and whatever the mode was that it was made with.
func TestDatabaseFile_OwnerOnlyMode(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	require.NoError(t, os.Mkdir(p.data, 0o755))
	require.NoError(t, os.Chmod(p.data, 0o777))
	private := func(when string) {
		t.Helper()
		found := 0
		for _, name := range names(t, p.data) {
			if !strings.HasPrefix(name, "qrjump.db") {
				continue
			}
			found++
			info, err := os.Stat(filepath.Join(p.data, name))
			require.NoError(t, err)
			assert.Equal(t, info.Mode().Perm(), 0o600, "%s: %s", when, name)
		}
		assert.True(t, found >= 2, "%s: only %d files of the database in %v", when, found, names(t, p.data))
	}
	s := p.start(t, servertest.Options{Seed: brand})
	private("new")
	s.Stop()
	require.NoError(t, os.Chmod(filepath.Join(p.data, "qrjump.db"), 0o666))
	s = p.start(t, servertest.Options{Seed: brand})
	private("with other rights")
	s.Stop()
}
