package chaos_test

import (
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

// childConfig is what a server in a process of its own runs with.
type childConfig struct {
	server.Config
	// DrawsToLive is after how many draws of random bytes the process kills
	// itself; 0 = never.
	DrawsToLive int
	// NoFiles: the process dies when it writes to a file.
	NoFiles bool
	// PowerCut ends the process while it writes to the embedded database.
	PowerCut *powerCut
	// Clock is the file that says how far the wall clock of the process is ahead;
	// "" = it is right.
	Clock string
	// LakeEvery is how often scans are written to the lake; 0 = as it is.
	LakeEvery time.Duration
	// PrimariesEvery is how often servers of the database are asked whether they take writes; 0 = as it is.
	PrimariesEvery time.Duration
	// Later makes the process a later version, with one schema more.
	Later bool
	// Collector receives the spans of the process, under the name Instance; "" = no export.
	Collector, Instance string
}

// later is the migration of a version that is to come: it changes a table that every node writes to.
const later = `-- +goose Up
-- postgres strongest lock: LOCK TABLE rules IN ACCESS EXCLUSIVE MODE;
ALTER TABLE rules ADD COLUMN later TEXT NOT NULL DEFAULT 'as before';
CREATE INDEX rules_by_age ON rules (created_at, id);
CREATE TABLE of_later (id BIGINT NOT NULL PRIMARY KEY);
`

// upgraded are the migrations of that version.
func upgraded() (fs.FS, error) {
	files := fstest.MapFS{fmt.Sprintf("migrations/%05d_later.sql", store.NewestSchema()+1): {Data: []byte(later)}}
	names, err := fs.Glob(store.Migrations, "migrations/*.sql")
	for _, name := range names {
		text, problem := fs.ReadFile(store.Migrations, name)
		files[name], err = &fstest.MapFile{Data: text}, errors.Join(err, problem)
	}
	return files, err
}

func TestMain(m *testing.M) {
	proctest.Roles{"server": proctest.Role(serve), "stream": proctest.Role(serveStream), "ledger": proctest.Role(writeLedger)}.Play()
	code := dbtest.Run(m)
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

var builtIn string // the folder of the program

// build builds qrjump, once for all tests, and returns the file.
var build = sync.OnceValues(func() (file string, err error) {
	if builtIn, err = os.MkdirTemp("", "qrjump"); err != nil {
		return "", err
	}
	file = filepath.Join(builtIn, "qrjump")
	text, err := exec.Command("go", "build", "-o", file, "../cmd/qrjump").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return file, os.Chmod(builtIn, 0o755) // users of other tests run it
})

// program returns the file of qrjump.
func program(t testing.TB) string {
	t.Helper()
	file, err := build()
	require.NoError(t, err)
	return file
}

// serve is what "qrjump serve" does.
func serve(ctx context.Context, c childConfig) error {
	if c.Later {
		var err error
		if store.Migrations, err = upgraded(); err != nil {
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
		d, err := putDiskUnder(c.Data, *c.PowerCut)
		if err != nil {
			return err
		}
		stdout = untilReady{d}
	}
	seams := server.TestHooks{LakeEvery: c.LakeEvery, PrimariesEvery: c.PrimariesEvery}
	if c.DrawsToLive != 0 {
		seams.Random = &mortal{left: c.DrawsToLive}
	}
	if c.Clock != "" {
		var err error
		if seams.RealNow, err = movedClock(c.Clock); err != nil {
			return err
		}
	}
	if seams.Random == nil && seams.RealNow == nil {
		err := server.Run(ctx, c.Config, seams, stdout, os.Stderr)
		if errors.Is(err, server.ErrUsage) {
			fmt.Fprintln(os.Stderr, "qrjump:", err)
			os.Exit(2)
		}
		return err
	}
	s, err := server.Start(ctx, c.Config, os.Stderr, seams)
	if err != nil {
		return err
	}
	fmt.Printf("qrjump ready %s\n", s.URL)
	<-ctx.Done()
	return s.Close()
}

// mortal is randomness that ends with the process.
type mortal struct{ left int }

func (m *mortal) Read(p []byte) (int, error) {
	if m.left--; m.left <= 0 {
		err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		return 0, errors.Join(errors.New("this process should be dead"), err)
	}
	return rand.Read(p)
}
