// Package proctest starts programs under test as processes of their own, which a test can kill: the test binary
// itself in another role, which needs no build step, or any other.
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

// variable makes a run of a test binary play a role: its name, a line break, its orders as JSON.
const variable = "QRJUMP_TEST_ROLE"

// Roles are the functions that a test binary can run instead, by name. A role's context ends with SIGTERM.
type Roles map[string]func(ctx context.Context, orders []byte) error

// Role returns a role with orders of its own type.
func Role[T any](play func(context.Context, T) error) func(context.Context, []byte) error {
	return func(ctx context.Context, text []byte) error {
		var orders T
		if err := json.Unmarshal(text, &orders); err != nil {
			return err
		}
		return play(ctx, orders)
	}
}

// Play ends the process when it was started in a role; a TestMain calls it first.
func (r Roles) Play() {
	name, orders, child := strings.Cut(os.Getenv(variable), "\n")
	if !child {
		return
	}
	go func() {
		// The parent never writes: the pipe ends with the parent.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once, as that of qrjump
	if err := r[name](ctx, []byte(orders)); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command is this test binary in a role, maybe run by another program: oldNames are its name and its arguments.
func Command(role string, orders any, oldNames ...string) *exec.Cmd {
	text, err := json.Marshal(orders)
	if err != nil {
		panic(err)
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	oldNames = append(oldNames, self)
	cmd := exec.Command(oldNames[0], oldNames[1:]...)
	cmd.Env = append(os.Environ(), variable+"="+role+"\n"+string(text))
	return cmd
}

// T is the part of a test that is used.
type T interface {
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Child is a running process.
type Child struct {
	*exec.Cmd
	// Out is its standard output.
	Out  *bufio.Reader
	t    T
	logs bytes.Buffer
}

// Start starts a process that ends with the test at the latest: shortly before the test itself would end, so that
// what it waits for is shown.
func Start(t T, cmd *exec.Cmd) *Child {
	c := &Child{Cmd: cmd, t: t}
	if cmd.Stderr == nil {
		cmd.Stderr = &c.logs
	}
	if _, err := cmd.StdinPipe(); err != nil { // open as long as this process lives
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
	if bounded, is := t.(interface{ Deadline() (time.Time, bool) }); is {
		if end, is := bounded.Deadline(); is {
			hung := time.AfterFunc(time.Until(end)-10*time.Second, kill)
			t.Cleanup(func() { hung.Stop() })
		}
	}
	return c
}

// Line returns the next line of its standard output; false = it has ended, or ends.
func (c *Child) Line() (string, bool) {
	line, err := c.Out.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err == nil
}

// Ready waits until a qrjump server is ready; false = it has ended instead.
func (c *Child) Ready() (url string, ready bool) {
	line, complete := c.Line()
	if url, ready = strings.CutPrefix(line, "qrjump ready "); !complete || !ready {
		_ = c.Wait()
		return "", false
	}
	return url, true
}

// Signal sends a signal.
func (c *Child) Signal(s os.Signal) {
	if err := c.Process.Signal(s); err != nil {
		c.t.Fatalf("%v: %v", s, err)
	}
}

// Stop asks for an end. It returns the standard output until then, with how the process ended.
func (c *Child) Stop() (rest string, err error) {
	_ = c.Process.Signal(syscall.SIGTERM) // one that is gone shows by its end
	return c.End()
}

// End waits for the end and returns what came on standard output until then.
func (c *Child) End() (rest string, err error) {
	text, _ := io.ReadAll(c.Out)
	return string(text), c.Wait()
}

// Log returns standard error, of a process that has ended.
func (c *Child) Log() string { return c.logs.String() }
