package chaos_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// lives counts processes.
var lives atomic.Int64

// anyPort is where servers listen: an address of the loopback network that no
// other program uses. On 127.0.0.1 somebody else could get the port of a server
// that was killed, while it is still being called.
var anyPort = fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))

// process is a server in a process of its own.
type process struct {
	*proctest.Child
	URL string
	// life tells this process from all others of the test.
	life int64

	t   testing.TB
	log string
}

// newChild returns the configuration of a server with the emulator, whose data directory and seed file are in a new directory.
func newChild(t testing.TB, database, seed string) (c childConfig) {
	dir := t.TempDir()
	c.Data, c.Database, c.Listen, c.LogFormat = filepath.Join(dir, "data"), database, anyPort, "text"
	c.Emulator, c.AdminToken, c.Seed = true, adminToken, filepath.Join(dir, "seed.yaml")
	require.NoError(t, os.WriteFile(c.Seed, []byte(seed), 0o600))
	return c
}

// start runs a server until it is ready.
func start(t testing.TB, c childConfig) *process {
	t.Helper()
	p, ready := try(t, c)
	require.True(t, ready, "the server did not become ready: %v\n%s", p.ProcessState, p.lastLog())
	return p
}

// try runs a server until it is ready or has ended.
func try(t testing.TB, c childConfig) (p *process, ready bool) {
	t.Helper()
	return tryIn(t, c, filepath.Dir(c.Data))
}

// tryIn is try with the log in another folder.
func tryIn(t testing.TB, c childConfig, logs string) (p *process, ready bool) {
	t.Helper()
	return begin(t, proctest.Command("server", c), logs)
}

// begin runs a program that is a server until it is ready or has ended.
func begin(t testing.TB, cmd *exec.Cmd, logs string) (p *process, ready bool) {
	t.Helper()
	p = &process{t: t, life: lives.Add(1), log: filepath.Join(logs, "server.log")}
	if _, err := os.Stat(p.log); err != nil { // the first process of this folder: each appends to one log
		testdiag.Log(t, p.log, func() string { return string(p.wholeLog()) })
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	cmd.Stderr = log
	p.Child = proctest.Start(t, cmd)
	p.URL, ready = p.Ready()
	return p, ready
}

// kill is kill -9. It may be called from any goroutine.
func (p *process) kill() {
	if err := p.Process.Kill(); err != nil {
		p.t.Errorf("kill -9: %v", err)
	}
}

// pause stops the process for a while, as a machine that is too busy does.
func (p *process) pause(d time.Duration) {
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Errorf("stopping a process: %v", err)
	}
	time.Sleep(d) // real time is what is missing to a process that stands still
	if err := p.Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Errorf("letting a process go on: %v", err)
	}
}

// arm lets the planned power cut come.
func (p *process) arm() {
	if err := p.Process.Signal(syscall.SIGUSR1); err != nil {
		p.t.Errorf("arming the power cut: %v", err)
	}
}

// gone waits until the process has ended.
func (p *process) gone() { p.Wait() }

// stop asks the server to end and wants exit code 0.
func (p *process) stop() {
	p.t.Helper()
	if _, err := p.Stop(); err != nil {
		p.t.Errorf("after SIGTERM: %v\n%s", err, p.lastLog())
	}
}

func (p *process) wholeLog() []byte {
	b, _ := os.ReadFile(p.log)
	return b
}

// lastLog is the end of the server's log.
func (p *process) lastLog() []byte {
	b, _ := os.ReadFile(p.log)
	lines := bytes.Split(b, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-40):], []byte("\n"))
}
