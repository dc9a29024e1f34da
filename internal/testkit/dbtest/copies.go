package dbtest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Copies creates databases as copies of a model. A copy costs a fraction of the creation of the model. It is meant for tests that need all
// tables and do not test the migrations.
type Copies struct {
	postgres, embedded model
	fill               func(url, folder string) error
}

type model struct {
	once  sync.Once
	name  string            // of the PostgreSQL database
	files map[string][]byte // of the embedded database
	err   error
}

// NewCopies returns Copies whose model is created by fill: it fills an empty database and closes it. If url is "", this is the embedded
// database in folder.
func NewCopies(fill func(url, folder string) error) *Copies { return &Copies{fill: fill} }

// Postgres creates a copy on PostgreSQL and returns its URL, as DatabaseWithoutTimeouts. The copy is dropped when the test ends. The
// package's TestMain must call Run.
func (c *Copies) Postgres(t testing.TB) string {
	t.Helper()
	server, name := Server(t), newName()
	m := &c.postgres
	m.once.Do(func() {
		m.name = newName()
		Exec(t, server, `CREATE DATABASE `+m.name)
		shared.Lock()
		shared.server, shared.models = server, append(shared.models, m.name)
		shared.Unlock()
		m.err = c.fill(patient(databaseURL(server, m.name)), "")
	})
	require.NoError(t, m.err)
	// Two thirds of the cost of the default strategy, which writes each page to the WAL.
	onServer(t, server, `CREATE DATABASE `+name+` TEMPLATE `+m.name+` STRATEGY file_copy`)
	t.Cleanup(func() { onServer(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return patient(databaseURL(server, name))
}

// Embedded writes a copy of the embedded database to a folder.
func (c *Copies) Embedded(t testing.TB, folder string) {
	t.Helper()
	m := &c.embedded
	m.once.Do(func() { m.files, m.err = c.readModel() })
	err := m.err
	for name, content := range m.files {
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), content, 0o600)
		}
	}
	require.NoError(t, err)
}

// readModel fills an embedded database and returns its files.
func (c *Copies) readModel() (map[string][]byte, error) {
	folder, err := os.MkdirTemp("", "model")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	if err := c.fill("", folder); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if err == nil && e.Type().IsRegular() {
			files[e.Name()], err = os.ReadFile(filepath.Join(folder, e.Name()))
		}
	}
	return files, err
}
