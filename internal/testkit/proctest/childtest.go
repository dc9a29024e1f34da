// Package proctest starts programs under test as separate processes, which a test can kill: any program, or the test binary itself in a
// role, which needs no build step.
package proctest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// variable is the environment variable with the role of a test binary: the role's name, a line break, its arguments as JSON.
const variable = "QRJUMP_TEST_ROLE"

// Roles are functions that a test binary can run instead of its tests, by name. SIGTERM cancels the context of a role.
type Roles map[string]func(ctx context.Context, orders []byte) error

// Role returns a role whose JSON arguments are decoded as T.
func Role[T any](run func(context.Context, T) error) func(context.Context, []byte) error {
	return func(ctx context.Context, text []byte) error {
		var orders T
		if err := json.Unmarshal(text, &orders); err != nil {
			return err
		}
		return run(ctx, orders)
	}
}

// Run runs the role in which the process was started and exits. It returns if there is none. TestMain must call it first.
func (r Roles) Run() {
	name, orders, isChild := strings.Cut(os.Getenv(variable), "\n")
	if !isChild {
		return
	}
	go func() {
		// The parent never writes. The pipe is closed when the parent ends.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // as in qrjump, a second SIGTERM ends the process immediately
	if err := r[name](ctx, []byte(orders)); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command returns a command that runs this test binary in a role. wrapper is a program, with its arguments, that runs the binary; it may be
// empty.
func Command(role string, orders any, wrapper ...string) *exec.Cmd {
	text, err := json.Marshal(orders)
	if err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	wrapper = append(wrapper, self)
	cmd := exec.Command(wrapper[0], wrapper[1:]...)
	cmd.Env = append(os.Environ(), variable+"="+role+"\n"+string(text))
	return cmd
}

// T is implemented by *testing.T and *testing.B.
type T interface {
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Child is a running process.
type Child struct {
	*exec.Cmd
	// Out is the standard output.
	Out  *bufio.Reader
	t    T
	logs bytes.Buffer
}

// Start starts a process and kills it when the test ends, or ten seconds before the deadline of the test, so that the failure of a test
// that waits for the process is printed.
func Start(t T, cmd *exec.Cmd) *Child {
	c := &Child{Cmd: cmd, t: t}
	if cmd.Stderr == nil {
		cmd.Stderr = &c.logs
	}
	if _, err := cmd.StdinPipe(); err != nil { // stays open while this process runs
		t.Fatalf("%v", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("%v", err)
	}
	c.Out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v", err)
	}
	kill := func() { _ = cmd.Process.Kill() }
	t.Cleanup(kill)
	if test, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := test.Deadline(); ok {
			timer := time.AfterFunc(time.Until(end)-10*time.Second, kill)
			t.Cleanup(func() { timer.Stop() })
		}
	}
	return c
}

// Line returns the next line of standard output, or false at its end.
func (c *Child) Line() (string, bool) {
	line, err := c.Out.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err == nil
}

// Ready waits until a qrjump server is ready and returns its URL, or false if the process ended instead.
func (c *Child) Ready() (url string, ready bool) {
	line, complete := c.Line()
	if url, ready = strings.CutPrefix(line, "qrjump ready "); !complete || !ready {
		_ = c.Wait()
		return "", false
	}
	return url, true
}

// Signal sends a signal to the process.
func (c *Child) Signal(s os.Signal) {
	if err := c.Process.Signal(s); err != nil {
		c.t.Fatalf("%v: %v", s, err)
	}
}

// Stop sends SIGTERM. It returns the rest of standard output and the error of Wait.
func (c *Child) Stop() (rest string, err error) {
	_ = c.Process.Signal(syscall.SIGTERM) // if the process has ended, Wait returns its error
	return c.End()
}

// End waits until the process ends. It returns the rest of standard output and the error of Wait.
func (c *Child) End() (rest string, err error) {
	text, _ := io.ReadAll(c.Out)
	return string(text), c.Wait()
}

// Log returns standard error. The process must have ended.
func (c *Child) Log() string { return c.logs.String() }
