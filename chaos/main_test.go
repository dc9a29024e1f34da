package chaos_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/qrjump/qrjump/internal/infra/tracing/otlp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// childConfig is the configuration of a server that runs as a child process.
type childConfig struct {
	server.Config
	// ReadsUntilKill is the number of reads of random bytes after which the process kills itself; 0 = never.
	ReadsUntilKill int
	// NoFiles sets the limit on file sizes to 0, so that the process dies when it writes to a file.
	NoFiles bool
	// PowerCut ends the process while it writes to SQLite.
	PowerCut *powerCut
	// Clock is the file with the offset of the process's wall clock; "" = none.
	Clock string
	// LakeEvery is the interval between two writes to the lake; 0 = default.
	LakeEvery time.Duration
	// PrimariesEvery is the interval between two searches for a second primary; 0 = default.
	PrimariesEvery time.Duration
	// LaterVersion makes the process a later version, which has one more schema.
	LaterVersion bool
	// Collector receives the spans of the process, under the name Instance; "" = no export.
	Collector, Instance string

	logDir string // "" = the parent of Data
}

// databaseURL returns a URL with which a test accesses the server's database.
func (c childConfig) databaseURL() string {
	return cmp.Or(c.Database, "file:"+filepath.Join(c.Data, "qrjump.db")+"?_pragma=busy_timeout(600000)")
}

// laterMigration is the migration of a later version: it changes a table that every node writes to.
const laterMigration = `-- +goose Up
-- postgres strongest lock: LOCK TABLE rules IN ACCESS EXCLUSIVE MODE;
ALTER TABLE rules ADD COLUMN later TEXT NOT NULL DEFAULT 'as before';
CREATE INDEX rules_by_age ON rules (created_at, id);
CREATE TABLE of_later (id BIGINT NOT NULL PRIMARY KEY);
`

// laterMigrations returns all migrations of the later version.
func laterMigrations() (fs.FS, error) {
	files := fstest.MapFS{fmt.Sprintf("migrations/%05d_later.sql", store.NewestSchema()+1): {Data: []byte(laterMigration)}}
	names, err := fs.Glob(store.Migrations, "migrations/*.sql")
	for _, name := range names {
		text, problem := fs.ReadFile(store.Migrations, name)
		files[name], err = &fstest.MapFile{Data: text}, errors.Join(err, problem)
	}
	return files, err
}

func TestMain(m *testing.M) {
	proctest.Roles{"server": proctest.Role(serve), "stream": proctest.Role(serveStream), "scanlog": proctest.Role(writeScanLog)}.Run()
	code := dbtest.Run(m)
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

var buildDir string // the directory of the built program

// build builds qrjump once for all tests and returns the path.
var build = sync.OnceValues(func() (file string, err error) {
	if buildDir, err = os.MkdirTemp("", "qrjump"); err != nil {
		return "", err
	}
	file = filepath.Join(buildDir, "qrjump")
	text, err := exec.Command("go", "build", "-o", file, "../cmd/qrjump").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return file, os.Chmod(buildDir, 0o755) // tests run it as other users
})

// program returns the path of qrjump.
func program(t testing.TB) string {
	t.Helper()
	file, err := build()
	require.NoError(t, err)
	return file
}

// serve runs "qrjump serve" with the faults of c.
func serve(ctx context.Context, c childConfig) error {
	if c.LaterVersion {
		var err error
		if store.Migrations, err = laterMigrations(); err != nil {
			return err
		}
	}
	if c.Collector != "" {
		if err := os.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id="+c.Instance); err != nil {
			return err
		}
		recorder, err := otlp.New(c.Collector, "test")
		if err != nil {
			return err
		}
		c.Tracing = recorder
	}
	if c.NoFiles {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{}); err != nil {
			return err
		}
	}
	var stdout io.Writer = os.Stdout
	if c.PowerCut != nil {
		d, err := simulateDisk(c.Data, *c.PowerCut)
		if err != nil {
			return err
		}
		stdout = readyWriter{d}
	}
	hooks := server.TestHooks{LakeEvery: c.LakeEvery, PrimariesEvery: c.PrimariesEvery}
	if c.ReadsUntilKill != 0 {
		hooks.Random = &killingReader{left: c.ReadsUntilKill}
	}
	if c.Clock != "" {
		var err error
		if hooks.RealNow, err = newMappedClock(c.Clock); err != nil {
			return err
		}
	}
	err := server.Run(ctx, c.Config, hooks, stdout, os.Stderr)
	if errors.Is(err, server.ErrUsage) {
		fmt.Fprintln(os.Stderr, "qrjump:", err)
		os.Exit(2)
	}
	return err
}

// killingReader returns random bytes and kills the process at the last of so many reads.
type killingReader struct{ left int }

func (m *killingReader) Read(p []byte) (int, error) {
	if m.left--; m.left <= 0 {
		err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		return 0, errors.Join(errors.New("this process should be dead"), err)
	}
	return rand.Read(p)
}
