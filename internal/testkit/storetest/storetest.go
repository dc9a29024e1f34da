// Package storetest gives tests databases that have the newest schema already: a copy costs a fraction of making the tables again.
package storetest

import (
	"context"
	"testing"

	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
)

// Copies are databases that have their tables and no rows.
var Copies = dbtest.CopiesOf(func(url, folder string) error {
	s, err := store.Open(context.Background(), store.Target{URL: url, Dir: folder})
	if err != nil {
		return err
	}
	return s.Close()
})

// Folder returns a new folder with an embedded database that has its tables and no rows.
func Folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	Copies.Embedded(t, dir)
	return dir
}

// Postgres is such a database on PostgreSQL, which ends with the test. The package's TestMain must call dbtest.Run.
func Postgres(t testing.TB) string {
	t.Helper()
	return Copies.Postgres(t)
}
