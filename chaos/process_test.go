package chaos_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// processes counts the processes that tests have started.
var processes atomic.Int64

// loopbackAddress is the address on which servers listen: an address of the loopback network that no other program uses. On 127.0.0.1
// another program could get the port of a killed server while clients still call it.
var loopbackAddress = fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))

// process is a server that runs as a child process.
type process struct {
	*proctest.Child
	URL string
	// incarnation is unique among all processes of the test.
	incarnation int64

	t       testing.TB
	logFile string
}

// newChild returns the configuration of a server with the emulator, whose data directory and seed file are in a new directory.
func newChild(t testing.TB, database, seed string) (c childConfig) {
	dir := keptDir(t)
	c.Data, c.Database, c.Listen, c.LogFormat = filepath.Join(dir, "data"), database, loopbackAddress, "text"
	c.Emulator, c.AdminToken, c.Seed = true, adminToken, filepath.Join(dir, "seed.yaml")
	require.NoError(t, os.WriteFile(c.Seed, []byte(seed), 0o600))
	return c
}

// keptDir returns a new directory that is removed at the end of the test unless the test fails.
func keptDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qrjump-chaos-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data and logs are kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return dir
}

// start starts a server and waits until it is ready.
func start(t testing.TB, c childConfig) *process {
	t.Helper()
	p, ready := tryStart(t, c)
	require.True(t, ready, "the server did not become ready: %v\n%s", p.ProcessState, p.logTail())
	return p
}

// restart waits for the end of a killed server, ends its database sessions, and starts the server again.
func (p *process) restart(c childConfig) *process {
	p.t.Helper()
	p.wait()
	terminateSessions(p.t, c.Database)
	return start(p.t, c)
}

// tryStart starts a server and waits until it is ready or has ended.
func tryStart(t testing.TB, c childConfig) (p *process, ready bool) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(c.Data), 0o700))
	return startCommand(t, proctest.Command("server", c), cmp.Or(c.logDir, filepath.Dir(c.Data)))
}

// startCommand starts a program that is a server and waits until it is ready or has ended. The log is appended to a file in logDir.
func startCommand(t testing.TB, cmd *exec.Cmd, logDir string) (p *process, ready bool) {
	t.Helper()
	p = &process{t: t, incarnation: processes.Add(1), logFile: filepath.Join(logDir, "server.log")}
	if _, err := os.Stat(p.logFile); err != nil { // the first process that logs to this directory
		testdiag.Log(t, p.logFile, p.readLog)
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	cmd.Stderr = log
	p.Child = proctest.Start(t, cmd)
	p.URL, ready = p.Ready()
	return p, ready
}

// kill sends SIGKILL. It may be called from any goroutine.
func (p *process) kill() {
	if err := p.Process.Kill(); err != nil {
		p.t.Errorf("kill -9: %v", err)
	}
}

// signal sends a signal. After SIGSTOP it waits until all threads are stopped.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if s == syscall.SIGSTOP {
		// A stopped process does not end with its parent.
		p.t.Cleanup(func() { _ = p.Process.Signal(syscall.SIGCONT) })
	}
	require.NoErrorf(p.t, p.Process.Signal(s), "%v", s)
	if s == syscall.SIGSTOP && runtime.GOOS == "linux" {
		waitFor(p.t, "all threads of the process to stop", func() bool {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Process.Pid))
			return len(threads) > 0 && !slices.ContainsFunc(threads, func(file string) bool {
				text, err := os.ReadFile(file)
				return err == nil && !strings.Contains(string(text), ") T ")
			})
		})
	}
}

// pause stops the process for a duration, like a machine without free CPU time.
func (p *process) pause(d time.Duration) {
	p.t.Helper()
	require.NoError(p.t, p.Process.Signal(syscall.SIGSTOP)) // without waiting for its threads: some pauses are shorter than a poll
	time.Sleep(d)                                           // real time passes for the clients of a stopped process
	p.signal(syscall.SIGCONT)
}

// wait blocks until the process has ended.
func (p *process) wait() { p.Wait() }

// stop sends SIGTERM and checks that the exit code is 0.
func (p *process) stop() {
	p.t.Helper()
	if _, err := p.Stop(); err != nil {
		p.t.Errorf("after SIGTERM: %v\n%s", err, p.logTail())
	}
}

func (p *process) readLog() string {
	b, _ := os.ReadFile(p.logFile)
	return string(b)
}

// logTail returns the last 40 lines of the log.
func (p *process) logTail() string {
	lines := strings.Split(p.readLog(), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
