package dbtest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Copies makes databases that begin as copies of a model. A copy costs a fraction of what making the model again does: most tests want
// every table, and none of them is about how the tables come to be.
type Copies struct {
	postgres, embedded model
	fill               func(url, folder string) error
}

type model struct {
	once  sync.Once
	name  string            // the database on PostgreSQL
	files map[string][]byte // those of the embedded one
	err   error
}

// CopiesOf says how the model is made: fill fills an empty database and closes it. An empty url means the embedded database, in a folder.
func CopiesOf(fill func(url, folder string) error) *Copies { return &Copies{fill: fill} }

// Postgres returns a copy on PostgreSQL that ends with the test; as patient as Patient. The package's TestMain must call Run.
func (c *Copies) Postgres(t testing.TB) string {
	t.Helper()
	server, name := Server(t), newName()
	m := &c.postgres
	m.once.Do(func() {
		m.name = newName()
		Exec(t, server, `CREATE DATABASE `+m.name)
		ran.Lock()
		ran.server, ran.models = server, append(ran.models, m.name)
		ran.Unlock()
		m.err = c.fill(patient(in(server, m.name)), "")
	})
	require.NoError(t, m.err)
	onServer(t, server, `CREATE DATABASE `+name+` TEMPLATE `+m.name)
	t.Cleanup(func() { onServer(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return patient(in(server, name))
}

// Embedded puts a copy of the embedded database into a folder.
func (c *Copies) Embedded(t testing.TB, folder string) {
	t.Helper()
	m := &c.embedded
	m.once.Do(func() { m.files, m.err = c.filled() })
	err := m.err
	for name, content := range m.files {
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), content, 0o600)
		}
	}
	require.NoError(t, err)
}

// filled returns the files of a folder that was filled.
func (c *Copies) filled() (map[string][]byte, error) {
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
