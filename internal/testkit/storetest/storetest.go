// Package storetest provides databases with the current schema for tests. A copy costs a fraction of running the migrations.
package storetest

import (
	"context"
	"testing"

	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
)

// Copies creates databases with all tables and without rows.
var Copies = dbtest.NewCopies(func(url, folder string) error {
	s, err := store.Open(context.Background(), store.Target{URL: url, Dir: folder})
	if err != nil {
		return err
	}
	return s.Close()
})

// Folder returns a new folder with an embedded database that has all tables and no rows.
func Folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	Copies.Embedded(t, dir)
	return dir
}

// Postgres creates such a database on PostgreSQL and returns its URL. The database is dropped when the test ends. The package's TestMain
// must call dbtest.Run.
func Postgres(t testing.TB) string {
	t.Helper()
	return Copies.Postgres(t)
}
